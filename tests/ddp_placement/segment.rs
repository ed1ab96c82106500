//! TCP segments over IPv4 with right checksums, written by hand.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes of Ethernet, IPv4 and TCP headers, the latter with a timestamp option.
pub const HEADERS: usize = 14 + 20 + 32;

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(0, |sum, word| {
        let sum = sum + (u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
        (sum & 0xffff) + (sum >> 16)
    })
}

/// One end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    pub mac: [u8; 6],
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
}

impl Wire {
    /// A connection to the function with address `mac`, port `port`.
    pub fn new(mac: [u8; 6], port: u16) -> Wire {
        let source = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4420);
        Wire { mac, source, destination: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), port) }
    }

    /// A segment with `payload` at `sequence`.
    pub fn segment(&self, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = [&self.mac[..], &[2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0]].concat();
        frame.extend((52 + payload.len() as u16).to_be_bytes());
        frame.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.source.ip().octets());
        frame.extend(self.destination.ip().octets());
        frame.extend(self.source.port().to_be_bytes());
        frame.extend(self.destination.port().to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0x80, 0x10, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 8]);
        assert_eq!(frame.len(), HEADERS);
        frame.extend(payload);
        let check = !(sum(&frame[14..34]) as u16);
        frame[24..26].copy_from_slice(&check.to_be_bytes());
        let pseudo = [&frame[26..34], &[0, 6], &(32 + payload.len() as u16).to_be_bytes()].concat();
        let check = !(sum(&[&pseudo[..], &frame[34..]].concat()) as u16);
        frame[50..52].copy_from_slice(&check.to_be_bytes());
        frame
    }
}
