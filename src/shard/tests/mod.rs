//! A shard against the virtual ConnectX and the embedded target; see [`world`] for what is looked at all the time.
//!
//! | property | test |
//! |---|---|
//! | `life`: opening, reading and closing leaves nothing; identifiers, ports, deadlines, counters | |
//! | `ending`: every way in which a connection ends gives everything back, and says why | |
//! | `device`: every way in which the device fails does, too | |

mod device;
mod ending;
mod life;
mod world;
