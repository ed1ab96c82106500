//! What the target is: addresses, limits, and the script.

use crate::script::Script;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Longest qualified name, bytes (NVM Express Base, "NVMe Qualified Names": 223 and a null).
pub(crate) const NQN_MAX: usize = 223;

/// Configuration of a target. [`Config::default`] is a working one.
#[derive(Clone, Debug)]
pub struct Config {
    /// Ethernet address.
    pub mac: [u8; 6],
    /// IPv4 address.
    pub ip: Ipv4Addr,
    /// Length of the network prefix of `ip`, bits.
    pub prefix_len: u8,
    /// Router for hosts outside that network.
    pub gateway: Option<Ipv4Addr>,
    /// TCP port.
    pub port: u16,
    /// Largest IP packet, bytes, header included (576 to 9216).
    pub mtu: usize,
    /// Subsystem qualified name, at most 223 bytes.
    pub subsystem_nqn: String,
    /// Which disk the namespace is: its NGUID and EUI64 follow from this and the name. `None`: it has neither.
    pub disk: Option<u64>,
    /// I/O queues per controller, 1 to 64.
    pub max_queues: u16,
    /// TCP connections that are served at once; further ones are refused. `None`: one controller with all its queues, and
    /// two more for hosts that come back before their old connections are gone.
    pub max_connections: Option<usize>,
    /// Entries of a submission queue, 2 to 65536. SQSIZE counts from zero: a host may ask for `max_queue_depth - 1`.
    pub max_queue_depth: u32,
    /// Bytes of one logical block: 512 or 4096.
    pub block_size: u32,
    /// In-capsule data of I/O commands, bytes, a multiple of 16 (0: none). Admin and Fabrics commands always may have 8192.
    pub in_capsule_data: u32,
    /// MAXH2CDATA: payload bytes of one H2CData PDU, 4096 to 4 MiB, a multiple of 4.
    pub max_h2c_data: u32,
    /// CPDA: alignment of payload in PDUs from the host, in dwords, from zero (0 to 31).
    pub cpda: u8,
    /// MDTS: largest transfer of a command is 4096 << `mdts` bytes (1 to 12).
    pub mdts: u8,
    /// Grants the header digest to hosts that ask for it.
    pub header_digest: bool,
    /// Grants the data digest to hosts that ask for it.
    pub data_digest: bool,
    /// Bytes of the send buffer of each connection.
    pub tx_buffer: usize,
    /// Bytes of the receive buffer of each connection.
    pub rx_buffer: usize,
    /// How long the target waits for ICReq, for Connect, for the host to close after a C2HTermReq, and for
    /// acknowledgements before it gives a connection up.
    pub patience: Duration,
    /// Seed of initial sequence numbers.
    pub seed: u64,
    /// PDU layout and faults.
    pub script: Script,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mac: [0x02, 0, 0, 0, 0x44, 0x20],
            ip: Ipv4Addr::new(192, 168, 44, 20),
            prefix_len: 24,
            gateway: None,
            port: 4420,
            mtu: 1500,
            subsystem_nqn: "nqn.2026-01.io.connectx-ddp:target".into(),
            disk: Some(0),
            max_queues: 8,
            max_connections: None,
            max_queue_depth: 1024,
            block_size: 512,
            in_capsule_data: 8192,
            max_h2c_data: 128 << 10,
            cpda: 0,
            mdts: 8,
            header_digest: true,
            data_digest: true,
            tx_buffer: 1 << 20,
            rx_buffer: 512 << 10,
            patience: Duration::from_secs(60),
            seed: 0,
            script: Script::default(),
        }
    }
}

/// A value that the target cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number out of bounds.
    #[error("{name} is {value}, allowed is {allowed}")]
    Value {
        /// Name of the field of [`Config`].
        name: &'static str,
        /// What it was.
        value: u64,
        /// What it may be.
        allowed: &'static str,
    },
    /// Not a qualified name.
    #[error("subsystem_nqn {0:?} is empty, longer than 223 bytes or contains a null byte")]
    Nqn(String),
    /// The image cannot be a namespace.
    #[error("the image has {len} bytes, which is not a positive multiple of the block size {block_size}")]
    ImageSize {
        /// Bytes of the image.
        len: u64,
        /// Bytes of a block.
        block_size: u32,
    },
}

impl Config {
    /// Connections that are served at once.
    pub fn connections(&self) -> usize {
        self.max_connections.unwrap_or(usize::from(self.max_queues) + 3)
    }

    /// Largest transfer of one command, bytes.
    pub(crate) fn max_transfer(&self) -> u32 {
        4096 << self.mdts
    }

    pub(crate) fn check(&self, image_len: u64) -> Result<(), ConfigError> {
        let bound = |name, value: u64, fits: bool, allowed| match fits {
            true => Ok(()),
            false => Err(ConfigError::Value { name, value, allowed }),
        };
        bound("prefix_len", self.prefix_len.into(), self.prefix_len <= 32, "0 to 32")?;
        bound("port", self.port.into(), self.port != 0, "1 to 65535")?;
        bound("mtu", self.mtu as u64, (576..=9216).contains(&self.mtu), "576 to 9216")?;
        bound("max_queues", self.max_queues.into(), (1..=64).contains(&self.max_queues), "1 to 64")?;
        let connections = self.connections();
        bound("max_connections", connections as u64, (1..=1024).contains(&connections), "1 to 1024")?;
        let depth = self.max_queue_depth;
        bound("max_queue_depth", depth.into(), (2..=65536).contains(&depth), "2 to 65536")?;
        bound("block_size", self.block_size.into(), matches!(self.block_size, 512 | 4096), "512 or 4096")?;
        let capsule = self.in_capsule_data;
        bound(
            "in_capsule_data",
            capsule.into(),
            capsule <= 1 << 20 && capsule.is_multiple_of(16),
            "a multiple of 16 to 1 MiB",
        )?;
        let h2c = self.max_h2c_data;
        let fits = (4096..=4 << 20).contains(&h2c) && h2c.is_multiple_of(4);
        bound("max_h2c_data", h2c.into(), fits, "a multiple of 4 from 4096 to 4 MiB")?;
        bound("cpda", self.cpda.into(), self.cpda <= 31, "0 to 31")?;
        bound("mdts", self.mdts.into(), (1..=12).contains(&self.mdts), "1 to 12")?;
        for (name, size) in [("tx_buffer", self.tx_buffer), ("rx_buffer", self.rx_buffer)] {
            bound(name, size as u64, (16384..=1 << 28).contains(&size), "16 KiB to 256 MiB")?;
        }
        let nqn = self.subsystem_nqn.as_bytes();
        if nqn.is_empty() || nqn.len() > NQN_MAX || nqn.contains(&0) {
            return Err(ConfigError::Nqn(self.subsystem_nqn.clone()));
        }
        if image_len == 0 || !image_len.is_multiple_of(u64::from(self.block_size)) {
            return Err(ConfigError::ImageSize { len: image_len, block_size: self.block_size });
        }
        Ok(())
    }
}
