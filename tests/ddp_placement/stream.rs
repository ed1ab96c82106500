//! An NVMe/TCP stream written by hand, cut into TCP segments, with a map of what every byte is.

use crc_fast::{CrcAlgorithm, checksum};

/// What a byte of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Byte {
    /// A PDU header, a digest, or a PDU without data.
    Other,
    /// Payload of a read: command and offset in its buffer.
    Data(u16, u32),
}

/// A stream from the controller to the host.
#[derive(Clone, Debug)]
pub struct Stream {
    /// TCP sequence number of the first byte.
    pub first: u32,
    pub bytes: Vec<u8>,
    pub map: Vec<Byte>,
    data_digest: bool,
}

impl Stream {
    pub fn new(first: u32, data_digest: bool) -> Stream {
        Stream { first, bytes: Vec::new(), map: Vec::new(), data_digest }
    }

    fn other(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.map.resize(self.bytes.len(), Byte::Other);
    }

    /// Appends a C2HData PDU (NVMe/TCP 3.6.2.11): 24 bytes of header, data, digest. Returns where in the stream its digest
    /// begins.
    pub fn data(&mut self, cid: u16, offset: u32, data: &[u8]) -> usize {
        let flags = if self.data_digest { 0x02 } else { 0 };
        let plen = 24 + data.len() as u32 + if self.data_digest { 4 } else { 0 };
        let mut header = vec![0x07, flags, 24, 24];
        header.extend(plen.to_le_bytes());
        header.extend(cid.to_le_bytes());
        header.extend([0, 0]);
        header.extend(offset.to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend([0; 4]);
        self.other(&header);
        self.bytes.extend_from_slice(data);
        self.map.extend((0..data.len() as u32).map(|n| Byte::Data(cid, offset + n)));
        let digest = self.bytes.len();
        if self.data_digest {
            self.other(&(checksum(CrcAlgorithm::Crc32Iscsi, data) as u32).to_le_bytes());
        }
        digest
    }

    /// Appends a CapsuleResp PDU: status 0 of a command.
    pub fn response(&mut self, cid: u16) {
        let mut pdu = vec![0x05, 0, 24, 0, 24, 0, 0, 0];
        pdu.extend([0; 12]);
        pdu.extend(cid.to_le_bytes());
        pdu.extend([0, 0]);
        self.other(&pdu);
    }

    /// Runs of payload in `[from, to)`: (offset in the range, command, offset in its buffer, bytes).
    pub fn runs(&self, from: usize, to: usize) -> Vec<(usize, u16, u32, usize)> {
        let mut runs: Vec<(usize, u16, u32, usize)> = Vec::new();
        for (at, byte) in self.map[from..to].iter().enumerate() {
            let Byte::Data(cid, offset) = *byte else { continue };
            match runs.last_mut() {
                Some((start, tag, first, len))
                    if *tag == cid && *start + *len == at && *first + *len as u32 == offset =>
                {
                    *len += 1;
                }
                _ => runs.push((at, cid, offset, 1)),
            }
        }
        runs
    }
}
