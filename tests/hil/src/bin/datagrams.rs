//! Datagrams whose content is known, for scripts in the guest: whoever receives one compares every byte.
//!
//! ```text
//!  datagrams echo 10.1.0.2:7                   answers each datagram with itself
//!  datagrams exchange 10.1.0.2:7 0 1 1472 ...  sends datagrams of these sizes and compares what comes back
//!  datagrams send 239.1.1.1:7 20               sends so many
//!  datagrams count 239.1.1.1:7 10.1.0.1 20     joins the group at the interface with this address, prints "joined", and
//!                                              ends well when so many have come that are right, and no other
//! ```

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest payload of UDP over IPv4.
const LARGEST: usize = 65507;
/// Payload of the datagrams of `send`, and what they are told by.
const SENT: usize = 700;
/// Seed of the content of the datagrams of `send`.
const SENT_SEED: u64 = 77;

/// Bytes that depend on length and seed (xorshift64).
fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = (seed << 17 ^ len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

fn parse<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse().map_err(|_| bad(format!("{text:?} is no number and no address")))
}

fn echo(at: SocketAddrV4) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..len], from)?;
    }
}

fn exchange(to: SocketAddrV4, sizes: &[String]) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; LARGEST + 1];
    for (seed, size) in sizes.iter().enumerate() {
        let sent = content(parse(size)?, seed as u64);
        socket.send(&sent)?;
        let len = socket.recv(&mut buffer).map_err(|error| bad(format!("{size} bytes did not come back: {error}")))?;
        if buffer[..len] != sent {
            return Err(bad(format!("{size} bytes came back as {len} others")));
        }
    }
    println!("{} datagrams came back from {to} as they were", sizes.len());
    Ok(())
}

fn send(to: SocketAddrV4, times: u32) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    for _ in 0..times {
        socket.send_to(&content(SENT, SENT_SEED), to)?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn count(group: SocketAddrV4, interface: Ipv4Addr, times: u32) -> io::Result<()> {
    let socket = UdpSocket::bind(group)?;
    socket.join_multicast_v4(group.ip(), &interface)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    println!("joined {group}");
    let mut buffer = vec![0; LARGEST + 1];
    for n in 0..times {
        let len = socket.recv(&mut buffer).map_err(|error| bad(format!("{n} of {times} came to {group}: {error}")))?;
        if buffer[..len] != content(SENT, SENT_SEED) {
            return Err(bad(format!("{len} bytes came to {group} that nobody sent")));
        }
    }
    println!("{times} datagrams came to {group}");
    Ok(())
}

fn run(arguments: &[String]) -> io::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["echo", at] => echo(parse(at)?),
        ["exchange", to, _, ..] => exchange(parse(to)?, &arguments[2..]),
        ["send", to, times] => send(parse(to)?, parse(times)?),
        ["count", group, interface, times] => count(parse(group)?, parse(interface)?, parse(times)?),
        _ => Err(bad(
            "echo ADDRESS:PORT, exchange ADDRESS:PORT SIZE..., send ADDRESS:PORT N, count GROUP:PORT ADDRESS N",
        )),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("datagrams: {error}");
            ExitCode::FAILURE
        }
    }
}
