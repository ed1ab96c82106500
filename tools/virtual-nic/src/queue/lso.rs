//! Large send offload: one header and much payload become many TCP segments (`mlx5-bringup.md` §8.4).

use super::WorkError;
use crate::packet::{ETHERTYPE_CVLAN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SVLAN, PROTOCOL_TCP, fill_checksums};

/// TCP flags that only the last segment carries (FIN, PSH), and only the first (CWR).
const LAST_ONLY: u8 = 0x01 | 0x08;
const FIRST_ONLY: u8 = 0x80;

/// Where the headers are in the template.
struct Headers {
    ip: usize,
    version4: bool,
    tcp: usize,
}

impl Headers {
    fn find(header: &[u8]) -> Option<Headers> {
        let be16 = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
        let mut at = 12;
        let mut ethertype = be16(at)?;
        for _ in 0..2 {
            if ethertype == ETHERTYPE_CVLAN || ethertype == ETHERTYPE_SVLAN {
                at += 4;
                ethertype = be16(at)?;
            }
        }
        let ip = at + 2;
        let (version4, tcp, protocol) = match ethertype {
            ETHERTYPE_IPV4 => (true, ip + usize::from(*header.get(ip)? & 0xf) * 4, *header.get(ip + 9)?),
            ETHERTYPE_IPV6 => (false, ip + 40, *header.get(ip + 6)?),
            _ => return None,
        };
        let tcp_len = usize::from(*header.get(tcp + 12)? >> 4) * 4;
        (protocol == PROTOCOL_TCP && tcp_len >= 20 && tcp + tcp_len == header.len()).then_some(Headers {
            ip,
            version4,
            tcp,
        })
    }
}

/// Cuts `payload` into frames of at most `mss` bytes of payload behind a copy of `header`: lengths, IPv4 identification,
/// sequence number, flags and checksums are each segment's own.
pub(crate) fn segment(
    header: &[u8],
    payload: &[u8],
    mss: usize,
    mut frame_out: impl FnMut(Vec<u8>),
) -> Result<(), WorkError> {
    let headers = Headers::find(header).ok_or(WorkError::LSO)?;
    if mss == 0 || payload.is_empty() {
        return Err(WorkError::LSO);
    }
    let count = payload.len().div_ceil(mss);
    for (index, chunk) in payload.chunks(mss).enumerate() {
        let mut frame = Vec::with_capacity(header.len() + chunk.len());
        frame.extend_from_slice(header);
        frame.extend_from_slice(chunk);
        let add16 = |frame: &mut [u8], at: usize, by: u16| {
            let value = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add(by);
            frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        };
        let ip_len = frame.len() - headers.ip;
        if headers.version4 {
            frame[headers.ip + 2..headers.ip + 4].copy_from_slice(&(ip_len as u16).to_be_bytes());
            add16(&mut frame, headers.ip + 4, index as u16);
        } else {
            frame[headers.ip + 4..headers.ip + 6].copy_from_slice(&((ip_len - 40) as u16).to_be_bytes());
        }
        let at = headers.tcp + 4;
        let sequence = u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let sequence = sequence.wrapping_add((index * mss) as u32);
        frame[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
        if index + 1 < count {
            frame[headers.tcp + 13] &= !LAST_ONLY;
        }
        if index > 0 {
            frame[headers.tcp + 13] &= !FIRST_ONLY;
        }
        fill_checksums(&mut frame, headers.version4, true);
        frame_out(frame);
    }
    Ok(())
}
