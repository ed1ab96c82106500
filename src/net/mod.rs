//! Ethernet, ARP and IPv4.
