//! Captures: Ethernet frames into a pcapng file that Wireshark and tshark read.
//!
//! Three block types of the format (draft-ietf-opsawg-pcapng): a section header, one interface description with
//! nanosecond timestamps, and one enhanced packet block per frame. Blocks are little-endian and padded to 4 bytes.

use std::io::{self, Write};
use std::time::Duration;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const LINKTYPE_ETHERNET: u16 = 1;
const OPTION_END: u16 = 0;
const OPTION_USER_APPLICATION: u16 = 4;
const OPTION_NAME: u16 = 2;
const OPTION_TIMESTAMP_RESOLUTION: u16 = 9;
const OPTION_PACKET_FLAGS: u16 = 2;
/// `if_tsresol`: ten to the minus nine seconds.
const NANOSECONDS: u8 = 9;

/// Which way a frame went, as seen from the host under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the host.
    Inbound,
    /// From the host.
    Outbound,
}

/// Writes a pcapng capture.
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    out: W,
}

fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    block.extend(code.to_le_bytes());
    block.extend((value.len() as u16).to_le_bytes());
    block.extend(value);
    block.resize(block.len().next_multiple_of(4), 0);
}

impl<W: Write> PcapWriter<W> {
    /// Starts a capture on an interface called `interface`.
    pub fn new(out: W, interface: &str) -> io::Result<PcapWriter<W>> {
        let mut writer = PcapWriter { out };
        let mut section = Vec::new();
        section.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        section.extend(1u16.to_le_bytes());
        section.extend(0u16.to_le_bytes());
        section.extend(u64::MAX.to_le_bytes()); // length of the section: not known
        option(&mut section, OPTION_USER_APPLICATION, concat!("cxddp ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut section, OPTION_END, &[]);
        writer.block(SECTION_HEADER, &section)?;
        let mut description = Vec::new();
        description.extend(LINKTYPE_ETHERNET.to_le_bytes());
        description.extend(0u16.to_le_bytes());
        description.extend(0u32.to_le_bytes()); // no snapshot limit
        option(&mut description, OPTION_NAME, interface.as_bytes());
        option(&mut description, OPTION_TIMESTAMP_RESOLUTION, &[NANOSECONDS]);
        option(&mut description, OPTION_END, &[]);
        writer.block(INTERFACE_DESCRIPTION, &description)?;
        Ok(writer)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let len = (body.len() as u32 + 12).to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&len)?;
        self.out.write_all(body)?;
        self.out.write_all(&len)
    }

    /// Writes one Ethernet frame (without frame check sequence), captured at `at`.
    pub fn frame(&mut self, at: Duration, direction: Direction, frame: &[u8]) -> io::Result<()> {
        let nanoseconds = at.as_nanos() as u64;
        let mut body = Vec::with_capacity(frame.len() + 40);
        body.extend(0u32.to_le_bytes()); // interface
        body.extend(((nanoseconds >> 32) as u32).to_le_bytes());
        body.extend((nanoseconds as u32).to_le_bytes());
        body.extend((frame.len() as u32).to_le_bytes());
        body.extend((frame.len() as u32).to_le_bytes());
        body.extend(frame);
        body.resize(body.len().next_multiple_of(4), 0);
        let flags: u32 = match direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        option(&mut body, OPTION_PACKET_FLAGS, &flags.to_le_bytes());
        option(&mut body, OPTION_END, &[]);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Ends the capture: everything is written through.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the file is a chain of blocks whose lengths agree at both ends, and frames come out as they went in | `blocks_chain_and_frames_survive` |
    use super::*;

    #[test]
    fn blocks_chain_and_frames_survive() {
        let mut writer = PcapWriter::new(Vec::new(), "wire").expect("a vector takes everything");
        let frames: Vec<Vec<u8>> = (0..5).map(|n| vec![n; 60 + n as usize]).collect();
        for (n, frame) in frames.iter().enumerate() {
            writer.frame(Duration::new(n as u64, 7), Direction::Inbound, frame).expect("as above");
        }
        let file = writer.finish().expect("as above");
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
        let (mut at, mut found, mut kinds) = (0, Vec::new(), Vec::new());
        while at < file.len() {
            let len = word(at + 4) as usize;
            assert_eq!(len % 4, 0);
            assert_eq!(word(at + len - 4) as usize, len);
            kinds.push(word(at));
            if word(at) == ENHANCED_PACKET {
                let n = found.len() as u64;
                let time = u64::from(word(at + 12)) << 32 | u64::from(word(at + 16));
                assert_eq!(time, n * 1_000_000_000 + 7);
                found.push(file[at + 28..at + 28 + word(at + 20) as usize].to_vec());
            }
            at += len;
        }
        assert_eq!(kinds[..2], [SECTION_HEADER, INTERFACE_DESCRIPTION]);
        assert_eq!(found, frames);
    }
}
