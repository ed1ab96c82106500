//! Frames built and checked without help from driver or model.

use super::function::MAC;
use std::net::{IpAddr, SocketAddr};

/// Ones-complement sum of `bytes` (RFC 1071).
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    words.fold(0, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    })
}

/// Ethernet, IP and TCP headers of a segment with `len` bytes of payload; checksum fields hold rubbish.
pub fn tcp_header(source: SocketAddr, destination: SocketAddr, len: usize) -> Vec<u8> {
    let mut header = [&MAC[..], &[2, 0, 0, 0, 0, 9]].concat();
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([0x08, 0x00, 0x45, 0]);
            header.extend((40 + len as u16).to_be_bytes());
            header.extend([0x12, 0x34, 0x40, 0, 64, 6, 0xaa, 0xbb]);
            header.extend([from.octets(), to.octets()].concat());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            header.extend((20 + len as u16).to_be_bytes());
            header.extend([6, 64]);
            header.extend([from.octets(), to.octets()].concat());
        }
        _ => panic!("two families"),
    }
    header.extend(source.port().to_be_bytes());
    header.extend(destination.port().to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0xcc, 0xdd, 0, 0]);
    header
}

/// Byte offsets of the IP header and of the TCP header of a frame.
fn layers(frame: &[u8]) -> (usize, usize) {
    if frame[12..14] == [0x86, 0xdd] { (14, 54) } else { (14, 34) }
}

/// Fills in the checksums of a frame.
pub fn checksum(frame: &mut [u8]) {
    let (ip, tcp) = layers(frame);
    if tcp == 34 {
        frame[24..26].fill(0);
        let check = !(sum(&frame[ip..tcp]) as u16);
        frame[24..26].copy_from_slice(&check.to_be_bytes());
    }
    frame[tcp + 16..tcp + 18].fill(0);
    let addresses = if tcp == 34 { 26..34 } else { 22..54 };
    let pseudo = [&frame[addresses], &((frame.len() - tcp) as u32).to_be_bytes(), &[0, 6]].concat();
    let check = !(sum(&[&pseudo[..], &frame[tcp..]].concat()) as u16);
    frame[tcp + 16..tcp + 18].copy_from_slice(&check.to_be_bytes());
}

/// A TCP segment whose payload is `len` bytes that depend on `seed`.
pub fn segment(source: SocketAddr, destination: SocketAddr, len: usize, seed: u64) -> Vec<u8> {
    let mut frame = tcp_header(source, destination, len);
    frame.extend(bytes(len, seed));
    checksum(&mut frame);
    frame
}

/// `len` bytes that depend on `seed` (xorshift).
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The Toeplitz hash of a connection's addresses and ports, computed bit by bit.
pub fn toeplitz(key: &[u8; 40], source: SocketAddr, destination: SocketAddr) -> u32 {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let input = [
        octets(source.ip()),
        octets(destination.ip()),
        source.port().to_be_bytes().to_vec(),
        destination.port().to_be_bytes().to_vec(),
    ]
    .concat();
    let key_bit = |n: usize| u32::from(key[n / 8] >> (7 - n % 8) & 1);
    let mut hash = 0;
    for n in 0..input.len() * 8 {
        if input[n / 8] >> (7 - n % 8) & 1 != 0 {
            hash ^= (0..32).fold(0, |window, bit| window << 1 | key_bit(n + bit));
        }
    }
    hash
}
