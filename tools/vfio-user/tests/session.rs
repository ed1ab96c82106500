//! Client and server against each other, and each against nonsense.
//!
//! | property | test |
//! |---|---|
//! | every call reaches the device as it was meant, and its answer comes back | `every_call_reaches_the_device` |
//! | an access that is not inside its region never reaches the device | `an_access_outside_a_region_is_refused` |
//! | posted writes are written before whatever is read later | `posted_writes_are_not_overtaken` |
//! | a server announces no more than its client accepts (QEMU refuses it otherwise) | `a_server_announces_no_more_than_its_client` |
//! | all vectors can be set in one message, and each signals its own eventfd | `each_vector_has_its_eventfd` |
//! | memory and interrupts of a client that is gone are taken from the device, and another may come | `a_client_that_is_gone_leaves_nothing` |
//! | a server that does not answer costs a caller its patience, not for ever; later calls fail at once | `a_silent_server_is_given_up` |
//! | whatever bytes a client sends, the server neither panics nor hangs, and serves the next one | `nonsense_ends_the_connection_only` |

mod support;

use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use support::{BAR, Serving, VECTORS, count, eventfd};
use vfio_user::message::{Command, region};
use vfio_user::{Client, ClientError, Errno, Limits};

const PATIENCE: Duration = Duration::from_secs(5);

fn connect(serving: &Serving) -> Client {
    Client::connect(&serving.path, PATIENCE).expect("the server listens")
}

#[test]
fn every_call_reaches_the_device() {
    let serving = Serving::start();
    let mut client = connect(&serving);
    assert_eq!(client.limits(), Limits::OURS);
    let info = client.device_info().expect("info");
    assert!(info.resettable && info.regions == 9 && info.irqs == 5, "{info:?}");
    assert_eq!(client.region_size(region::BAR0).expect("size"), BAR);
    assert_eq!(client.region_size(region::CONFIG).expect("size"), 4096);
    assert_eq!(client.region_size(3).expect("size"), 0, "a BAR that does not exist");
    assert_eq!(client.irq_count(2).expect("count"), VECTORS);
    assert_eq!(client.irq_count(0).expect("count"), 0);

    client.write(region::BAR0, 0x10, &[1, 2, 3, 4]).expect("inside");
    let mut read = [0; 6];
    client.read(region::BAR0, 0xf, &mut read).expect("inside");
    assert_eq!(read, [0, 1, 2, 3, 4, 0]);
    client.read(region::CONFIG, 0, &mut read).expect("inside");
    assert_eq!(read, [0xc0; 6]);

    let file = std::fs::File::open("/dev/zero").expect("a file");
    client.map(0x1_0000_0000, 0x3000, file.as_fd(), 0x5000).expect("lent");
    client.unmap(0x1_0000_0000, 0x3000).expect("taken back");
    client.reset().expect("reset");
    client.clear_irqs(2).expect("cleared");
    {
        let seen = serving.device.seen();
        let map = &seen.maps[0];
        assert_eq!(
            (map.iova, map.len, map.offset, map.readable, map.writable),
            (0x1_0000_0000, 0x3000, 0x5000, true, true)
        );
        let mut byte = [9];
        map.file.as_ref().expect("came along").read_exact(&mut byte).expect("it is the file");
        assert_eq!(byte, [0]);
        assert_eq!(seen.unmaps, [(0x1_0000_0000, 0x3000)]);
        assert_eq!(seen.resets, 1);
    }
    drop(client);
    assert_eq!(serving.ends(1), [None], "an orderly end");
}

#[test]
fn an_access_outside_a_region_is_refused() {
    let serving = Serving::start();
    let mut client = connect(&serving);
    let refused = |outcome: Result<(), ClientError>| match outcome {
        Err(ClientError::Refused { errno, .. }) => errno,
        other => panic!("{other:?}"),
    };
    let invalid = Errno::INVAL.0;
    assert_eq!(refused(client.read(region::BAR0, BAR - 4, &mut [0; 8])), invalid);
    assert_eq!(refused(client.read(region::BAR0, u64::MAX, &mut [0; 8])), invalid);
    assert_eq!(refused(client.read(region::BAR0, 0, &mut [])), invalid);
    assert_eq!(refused(client.write(region::BAR0, BAR, &[1])), invalid);
    assert_eq!(refused(client.write(region::CONFIG, 4, &[1])), invalid, "not writable");
    assert_eq!(refused(client.read(1, 0, &mut [0; 4])), invalid, "no such BAR");
    assert_eq!(refused(client.read(99, 0, &mut [0; 4])), invalid);
    assert_eq!(refused(client.read(region::BAR0, 0x3ff8, &mut [0; 8])), Errno::IO.0, "the device said so");
    assert!(matches!(client.region_size(9), Err(ClientError::Refused { .. })));
    let fd = eventfd();
    assert_eq!(refused(client.set_irqs(2, VECTORS, &[fd.as_fd()])), invalid);
    assert_eq!(refused(client.set_irqs(7, 0, &[fd.as_fd()])), invalid);
    assert_eq!(refused(client.map(u64::MAX - 0xfff, 0x2000, fd.as_fd(), 0)), invalid);
    assert_eq!(refused(client.map(0, 0, fd.as_fd(), 0)), invalid);
    // And the connection works.
    client.read(region::BAR0, 0, &mut [0; 8]).expect("inside");
}

#[test]
fn posted_writes_are_not_overtaken() {
    let serving = Serving::start();
    let mut client = connect(&serving);
    for n in 0..2000u64 {
        client.post(region::BAR0, 8 * (n % 64), &n.to_le_bytes()).expect("posted");
        if n % 97 == 0 {
            let mut read = [0; 8];
            client.read(region::BAR0, 8 * (n % 64), &mut read).expect("inside");
            assert_eq!(u64::from_le_bytes(read), n);
        }
    }
    // A posted write that is refused is not answered either.
    client.post(region::BAR0, BAR, &[1]).expect("posted");
    client.read(region::BAR0, 0, &mut [0; 8]).expect("the answer to this question");
}

#[test]
fn a_server_announces_no_more_than_its_client() {
    let serving = Serving::start();
    let mut stream = UnixStream::connect(&serving.path).expect("it listens");
    let text = b"{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":65536}}\0";
    let mut greeting = vec![1, 0, 1, 0, 20 + text.len() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    greeting.extend_from_slice(text);
    stream.write_all(&greeting).expect("sent");
    let mut header = [0; 16];
    stream.read_exact(&mut header).expect("an answer");
    let mut answer = vec![0; usize::from(header[4]) - 16];
    stream.read_exact(&mut answer).expect("its payload");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("\"max_msg_fds\":16") && answer.contains("\"max_data_xfer_size\":65536"), "{answer}");
}

#[test]
fn each_vector_has_its_eventfd() {
    let serving = Serving::start();
    let mut client = connect(&serving);
    let fds: Vec<_> = (0..VECTORS).map(|_| eventfd()).collect();
    let borrowed: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    client.set_irqs(2, 0, &borrowed).expect("all at once");
    for vector in [0, 17, 63, 17] {
        serving.device.raise(vector);
    }
    let counted: Vec<u64> = fds.iter().map(count).collect();
    let expected: Vec<u64> = (0..VECTORS)
        .map(|vector| [(0, 1), (17, 2), (63, 1)].iter().find(|e| e.0 == vector).map_or(0, |e| e.1))
        .collect();
    assert_eq!(counted, expected);
}

#[test]
fn a_client_that_is_gone_leaves_nothing() {
    let serving = Serving::start();
    let fd = eventfd();
    for n in 1..=3 {
        let mut client = connect(&serving);
        client.set_irqs(2, 5, &[fd.as_fd()]).expect("set");
        assert!(serving.device.seen().vectors[5].is_some());
        drop(client);
        serving.ends(n);
        let seen = serving.device.seen();
        assert!(seen.vectors.iter().all(Option::is_none));
        assert_eq!(seen.unmapped_all, n as u32);
    }
}

#[test]
fn a_silent_server_is_given_up() {
    let path = support::path();
    let listener = UnixListener::bind(&path).expect("a path of our own");
    let short = Duration::from_millis(50);
    assert!(matches!(Client::connect(&path, short), Err(ClientError::Transport { .. })), "no answer to VERSION");
    drop(listener);
    std::fs::remove_file(&path).expect("ours");
    assert!(matches!(Client::connect(&path, short), Err(ClientError::Connect { .. })));

    // One that answers VERSION and nothing else.
    let listener = UnixListener::bind(&path).expect("a path of our own");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut header = [0; 16];
        stream.read_exact(&mut header).expect("VERSION");
        let size = u32::from_le_bytes(header[4..8].try_into().expect("four"));
        stream.read_exact(&mut vec![0; size as usize - 16]).expect("its payload");
        header[4..8].copy_from_slice(&20u32.to_le_bytes());
        header[8] = 1;
        stream.write_all(&header).expect("an answer");
        stream.write_all(&[0; 4]).expect("0.0");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("what follows");
        rest.len()
    });
    let mut client = Client::connect(&path, short).expect("VERSION was answered");
    assert_eq!(client.limits().fds, 1, "a peer that says nothing takes one file at a time");
    assert!(matches!(client.reset(), Err(ClientError::Transport { command: Command::DEVICE_RESET, .. })));
    assert!(matches!(client.reset(), Err(ClientError::Broken(_))));
    assert!(matches!(client.post(0, 0, &[0]), Err(ClientError::Broken(_))));
    drop(client);
    assert_eq!(thread.join().expect("no panic"), 16, "one question");
    std::fs::remove_file(&path).expect("ours");
}

/// A message with any payload, of a command that exists or not, its size right or not.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![8 => Just(None), 1 => any::<u32>().prop_map(Some), 1 => (0u32..64).prop_map(Some)];
    let flags = prop_oneof![4 => Just(0u32), 1 => Just(0x10), 1 => any::<u32>()];
    let payload = prop_oneof![prop::collection::vec(any::<u8>(), 0..64), prop::collection::vec(0u8..4, 0..64)];
    (any::<u16>(), 0u16..20, size, flags, payload).prop_map(|(id, command, size, flags, payload)| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&command.to_le_bytes());
        bytes.extend_from_slice(&size.unwrap_or(16 + payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&payload);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nonsense_ends_the_connection_only(greets in any::<bool>(), messages in prop::collection::vec(message(), 1..12)) {
        let serving = Serving::start();
        let mut stream = UnixStream::connect(&serving.path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        if greets {
            let mut greeting = vec![1, 0, 1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            greeting.extend_from_slice(&[0; 4]);
            stream.write_all(&greeting).expect("sent");
        }
        for bytes in &messages {
            // The server may have given up already.
            if stream.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answers = Vec::new();
        // A reset connection is an end as well.
        let _ = stream.read_to_end(&mut answers);
        drop(stream);
        serving.ends(1);
        let mut client = connect(&serving);
        client.write(region::BAR0, 0, &[7]).expect("the next client is served");
    }
}
