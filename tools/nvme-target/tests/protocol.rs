//! The target behaves as the specifications say.
//!
//! | property | test |
//! |---|---|
//! | properties, Identify pages and features are what a host looks for | `a_host_finds_what_it_looks_for` |
//! | Connect refuses what does not fit, and names the field | `connect_refuses_what_does_not_fit` |
//! | reads give the image's bytes, with every digest and padding combination | `reads_give_the_image_with_all_digests_and_alignments` |
//! | data in the capsule, at an offset in it too, and data by R2T reach the image | `writes_reach_the_image_in_capsule_and_by_r2t` |
//! | several R2Ts, MAXH2CDATA and MAXR2T are kept to | `r2ts_keep_to_the_script_and_to_maxr2t` |
//! | bad commands get the status that says what is wrong | `bad_commands_get_their_status` |
//! | the SUCCESS flag is used when the host disabled flow control, and only then | `success_flag_follows_the_flow_control_choice` |
//! | SQHD counts commands modulo the queue size | `sqhd_counts_commands_modulo_the_queue_size` |
//! | what is wrong in a PDU ends the connection with the right FES and FEI | `every_malformed_pdu_is_answered_with_its_fes` |
//! | data that a digest does not cover fail the command and leave the image alone | `a_bad_data_digest_fails_the_command_only` |
//! | Asynchronous Event Requests stay open and are bounded | `async_events_are_held_up_to_their_limit` |
//! | keep-alive, ICReq, Connect and acknowledgement have deadlines | `every_wait_has_a_deadline` |
//! | a reset controller and a closed admin queue take their I/O queues along | `io_queues_end_with_their_controller` |
//! | connections come back after the old ones ended, forever | `slots_are_used_again` |
//! | a sparse 4 GiB file is served at both ends without being loaded | `a_sparse_four_gigabyte_file_is_served` |
//! | a file that cannot be read or written gives media errors, never a panic | `backing_errors_become_statuses` |
//! | garbage from the wire never panics, and the target goes on serving others | `garbage_never_panics` |
//! | a configuration that cannot work is refused with the name of the field | `bad_configurations_are_refused_by_name` |
//! | a scripted fault is over once it has happened | `a_fault_happens_once` |
//! | the target is `Send` | `a_target_can_move_to_another_thread` |
mod host;

use host::*;
use nvme_target::script::{At, Fault, Kind, On, Size, Success};
use nvme_target::{Backing, Config, ConfigError, FileBacking, Generated, Reason, Script, Target};
use proptest::prelude::*;
use std::io;
use std::time::Duration;

const SEED: u64 = 42;

fn target(config: Config) -> Target {
    Target::new(config, Box::new(Generated::new(SEED, 64 << 20))).unwrap()
}

fn net(config: Config) -> Net {
    let mtu = config.mtu;
    Net::new(target(config), mtu)
}

fn image(offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Generated::fill(SEED, offset, &mut bytes);
    bytes
}

fn read_back(net: &Net, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    net.target.backing().read_at(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_host_finds_what_it_looks_for() {
    let mut net = net(Config { block_size: 4096, in_capsule_data: 16384, max_queues: 4, ..Config::default() });
    let (line, response) = net.connect(&Connect::default());
    assert_eq!((response.status(), response.result()), (0, 1));

    let cap = net.execute(line, &property_get(1, 1, 0), &[]);
    assert_eq!(cap.status(), 0);
    assert_eq!((cap.result() & 0xffff, cap.result() >> 16 & 1, cap.result() >> 37 & 1), (1023, 1, 1));
    assert_eq!(net.execute(line, &property_get(1, 0, 8), &[]).result(), 0x10400);
    assert_eq!(net.execute(line, &property_get(1, 1, 8), &[]).status(), 2, "four bytes read as eight");
    assert_eq!(net.execute(line, &property_get(1, 0, 0x40), &[]).status(), 2, "no such property");
    assert_eq!(net.fetch(line, &identify(1, 1, 0)), Err(0x0c), "before the controller is enabled");

    // CC.EN with wrong entry sizes is a fatal status, disabling clears it; then shutdown is reported as complete.
    net.execute(line, &property_set(1, 0x14, 1), &[]);
    assert_eq!(net.execute(line, &property_get(1, 0, 0x1c), &[]).result(), 2);
    net.execute(line, &property_set(1, 0x14, 0), &[]);
    assert_eq!(net.execute(line, &property_get(1, 0, 0x1c), &[]).result(), 0);
    net.execute(line, &property_set(1, 0x14, 0x46_0001), &[]);
    assert_eq!(net.execute(line, &property_get(1, 0, 0x1c), &[]).result(), 1);
    assert_eq!(net.execute(line, &property_get(1, 0, 0x14), &[]).result(), 0x46_0001);

    let page = net.fetch(line, &identify(1, 1, 0)).unwrap();
    let u16 = |page: &[u8], at: usize| u16::from_le_bytes(page[at..at + 2].try_into().unwrap());
    let u32 = |page: &[u8], at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
    assert_eq!((u16(&page, 78), page[111], u32(&page, 80)), (1, 1, 0x10400), "CNTLID, CNTRLTYPE, VER");
    assert_eq!((u32(&page, 516), page[512], page[513]), (1, 0x66, 0x44), "NN, SQES, CQES");
    assert_eq!((u32(&page, 1792), u32(&page, 1796)), ((64 + 16384) / 16, 1), "IOCCSZ, IORCSZ");
    assert_eq!(u32(&page, 536) & (1 << 20 | 3), 1 << 20 | 1, "SGLS");
    assert!(page[768..].starts_with(NQN.as_bytes()) && page[768 + NQN.len()] == 0);
    assert!(page[4..24].iter().all(|b| b.is_ascii_graphic() || *b == b' '));

    let page = net.fetch(line, &identify(1, 0, 1)).unwrap();
    assert_eq!(u64::from_le_bytes(page[..8].try_into().unwrap()), (64 << 20) / 4096);
    assert_eq!((page[25], page[26], page[130]), (0, 0, 12), "one format of 4096-byte blocks");
    assert_eq!(net.fetch(line, &identify(1, 0, 2)), Err(0x0b));
    let list = net.fetch(line, &identify(1, 2, 0)).unwrap();
    assert_eq!((u32(&list, 0), u32(&list, 4)), (1, 0));
    assert_eq!(u32(&net.fetch(line, &identify(1, 2, 1)).unwrap(), 0), 0);
    let descriptors = net.fetch(line, &identify(1, 3, 1)).unwrap();
    assert_eq!((descriptors[0], descriptors[1], descriptors[12], descriptors[13], descriptors[32]), (1, 8, 2, 16, 0));
    assert_eq!(descriptors[4..12], page[120..128], "EUI-64 as in Identify Namespace");
    assert_eq!(descriptors[16..32], page[104..120], "NGUID as in Identify Namespace");
    assert_eq!(net.fetch(line, &identify(1, 0x1c, 0)), Err(2));

    // Number of Queues: as many as asked for, up to the limit, counted from zero.
    let feature = |opcode, fid, value| with(with(sqe(opcode, 1, 0, 0), 10, fid), 11, value);
    assert_eq!(net.execute(line, &feature(9, 7, 1 << 16 | 2), &[]).result(), 1 << 16 | 1);
    assert_eq!(net.execute(line, &feature(9, 7, 99 << 16 | 99), &[]).result(), 3 << 16 | 3);
    assert_eq!(net.execute(line, &feature(10, 7, 0), &[]).result(), 3 << 16 | 3);
    assert_eq!(net.execute(line, &feature(9, 7, 0xffff), &[]).status(), 2);
    assert_eq!(net.execute(line, &feature(9, 0x0b, 0x1ff), &[]).status(), 0);
    assert_eq!(net.execute(line, &feature(10, 0x0b, 0), &[]).result(), 0x1ff);
    assert_eq!(net.execute(line, &feature(10, 6, 0), &[]).result(), 1, "volatile write cache");
    assert_eq!(net.execute(line, &feature(10, 3 << 8 | 7, 0), &[]).result(), 4, "changeable");
    assert_eq!(net.execute(line, &feature(9, 1 << 31 | 7, 0), &[]).status(), 0x10d, "not saveable");
    assert_eq!(net.execute(line, &feature(9, 0x55, 0), &[]).status(), 2);

    let log = |lid: u32, dwords: u32| with(sqe(2, 1, 0xffff_ffff, dwords * 4), 10, lid | (dwords - 1) << 16);
    assert_eq!(net.fetch(line, &log(1, 16)).unwrap(), vec![0; 64]);
    assert_eq!(net.fetch(line, &log(2, 128)).unwrap().len(), 512);
    let effects = net.fetch(line, &log(5, 1024)).unwrap();
    assert_eq!((u32(&effects, 6 * 4), u32(&effects, 1024 + 4), u32(&effects, 1024 + 5 * 4)), (1, 3, 0));
    assert_eq!(net.fetch(line, &log(0x70, 16)), Err(0x109));
    assert_eq!(net.execute(line, &sqe(8, 1, 0, 0), &[]).result(), 1, "Abort finds nothing");
    assert_eq!(net.execute(line, &sqe(0x77, 1, 0, 0), &[]).status(), 1);

    net.execute(line, &property_set(1, 0x14, 0x46_4001), &[]);
    assert_eq!(net.execute(line, &property_get(1, 0, 0x1c), &[]).result() >> 2 & 3, 2, "shutdown complete");
}

#[test]
fn connect_refuses_what_does_not_fit() {
    let mut net = net(Config { max_queues: 2, max_queue_depth: 128, max_connections: Some(64), ..Config::default() });
    let (_, id) = net.admin(&Connect::default());
    let good = Connect { queue: 1, controller: id, ..Connect::default() };
    let cases: [(&str, Connect, u16, u64); 10] = [
        ("queue 0 asks for a controller", Connect { queue: 0, ..good.clone() }, 0x182, 1 << 16 | 16),
        ("unknown controller", Connect { controller: id + 5, ..good.clone() }, 0x182, 1 << 16 | 16),
        ("too deep", Connect { sqsize: 128, ..good.clone() }, 0x182, 44),
        ("no depth", Connect { sqsize: 0, ..good.clone() }, 0x182, 44),
        ("queue beyond the limit", Connect { queue: 3, ..good.clone() }, 0x182, 42),
        ("other subsystem", Connect { subsystem: "nqn.2014-08.org.x".into(), ..good.clone() }, 0x182, 1 << 16 | 256),
        ("no host name", Connect { host: String::new(), ..good.clone() }, 0x182, 1 << 16 | 512),
        ("another host", Connect { host: "nqn.2014-08.org.x".into(), ..good.clone() }, 0x184, 0),
        ("fits", good.clone(), 0, u64::from(id)),
        ("same queue again", good.clone(), 0x0c, 0),
    ];
    for (name, options, status, result) in cases {
        let (_, response) = net.connect(&options);
        assert_eq!((response.status(), response.result()), (status, result), "{name}");
    }
    // Connect comes first and once; its data are in the capsule, all of them.
    let line = net.initialize(false, false, 0, 0);
    assert_eq!(net.execute(line, &identify(9, 1, 0), &[]).status(), 0x0c);
    let options = Connect { queue: 2, controller: id, ..Connect::default() };
    let (mut other, data) = (connect_sqe(&options), connect_data(&options));
    other[39] = 0x5a;
    assert_eq!(net.execute(line, &other, &data).status(), 0x11);
    assert_eq!(net.execute(line, &connect_sqe(&options), &data[..1000]).status(), 0x16);
    let mut other = connect_sqe(&options);
    other[40] = 1;
    assert_eq!(net.execute(line, &other, &data).status(), 0x180);
    assert_eq!(net.execute(line, &connect_sqe(&options), &data).status(), 0);
    assert_eq!(net.execute(line, &connect_sqe(&options), &data).status(), 0x0c);
    assert_eq!(net.execute(line, &property_get(5, 0, 8), &[]).status(), 2, "properties only on the admin queue");
    assert_eq!(net.target.errors(), []);
}

#[test]
fn reads_give_the_image_with_all_digests_and_alignments() {
    for mtu in [1500, 9000] {
        let mut net = net(Config { mtu, max_connections: Some(64), ..Config::default() });
        let (_, controller) = net.admin(&Connect { header_digest: true, data_digest: true, ..Connect::default() });
        for (n, hpda) in [(0, 0), (1, 3), (2, 31)] {
            for digests in 0..4 {
                let options = Connect {
                    queue: n + 1,
                    controller,
                    hpda,
                    header_digest: digests & 1 != 0,
                    data_digest: digests & 2 != 0,
                    ..Connect::default()
                };
                let (line, response) = net.connect(&options);
                assert_eq!(response.status(), 0);
                assert_eq!(net.lines[line].header_digest, options.header_digest);
                assert_eq!(net.lines[line].data_digest, options.data_digest);
                for (first, blocks) in [(0, 1), (7, 8), (1000, 256), ((64 << 11) - 2048, 2048)] {
                    let data = net.fetch(line, &rw(2, 5, first, blocks)).unwrap();
                    assert_eq!(data, image(first * 512, blocks as usize * 512));
                }
                net.close(line);
                net.wait(Duration::from_secs(1));
            }
        }
        assert_eq!(net.target.counters().reads, 48);
        assert_eq!(net.target.errors(), []);
    }
    // Digests that the target does not grant are not used.
    let mut net = net(Config { header_digest: false, data_digest: false, ..Config::default() });
    let line = net.initialize(true, true, 0, 0);
    assert!(!net.lines[line].header_digest && !net.lines[line].data_digest);
}

#[test]
fn writes_reach_the_image_in_capsule_and_by_r2t() {
    for digests in [false, true] {
        for cpda in [0, 1, 31] {
            let mut net = net(Config { cpda, ..Config::default() });
            let options = Connect { header_digest: digests, data_digest: digests, ..Connect::default() };
            let (_, io) = net.pair(&options);
            let bytes: Vec<u8> = (0..8192u32).map(|i| (i * 7) as u8).collect();
            let response = net.execute(io, &in_capsule(rw(1, 9, 40, 16), 0), &bytes);
            assert_eq!(response.status(), 0);
            assert_eq!(read_back(&net, 40 * 512, 8192), bytes);
            // at an offset in the capsule's data
            let response = net.execute(io, &in_capsule(rw(1, 9, 200, 2), 1536), &bytes);
            assert_eq!(response.status(), 0);
            assert_eq!(read_back(&net, 200 * 512, 1024), bytes[1536..2560]);
            let response = net.execute(io, &in_capsule(rw(1, 9, 200, 2), 8192 - 1023), &bytes);
            assert_eq!(response.status(), 0x16, "offset beyond the data");

            let bytes: Vec<u8> = (0..512 << 10).map(|i: u32| ((i * 11) >> 3) as u8).collect();
            net.command(io, &rw(1, 77, 5000, 1024), &[]);
            assert_eq!(net.write(io, 77, &bytes), (0, 1));
            assert_eq!(read_back(&net, 5000 * 512, bytes.len()), bytes);
            assert_eq!(net.fetch(io, &rw(2, 3, 5000, 1024)).unwrap(), bytes);
            // around it nothing changed
            assert_eq!(read_back(&net, 4999 * 512, 512), image(4999 * 512, 512));
            assert_eq!(read_back(&net, 6024 * 512, 512), image(6024 * 512, 512));
            assert_eq!(net.execute(io, &sqe(0, 4, 1, 0), &[]).status(), 0, "Flush");
            assert_eq!(net.execute(io, &with(in_capsule(rw(1, 9, 0, 1), 0), 12, 1 << 30), &bytes[..512]).status(), 0);
            let counters = net.target.counters();
            assert_eq!((counters.writes, counters.data_digests_bad), (4, 0));
            assert!(!digests || counters.data_digests_ok >= 6);
            assert_eq!(net.target.errors(), []);
        }
    }
}

#[test]
fn r2ts_keep_to_the_script_and_to_maxr2t() {
    for (size, outstanding, max_r2t, together) in
        [(Size::AtMost(10_000), 3, 7, 3), (Size::AtMost(10_000), 9, 1, 2), (Size::Whole, 9, 9, 1)]
    {
        let script = Script { r2t: size, r2t_outstanding: outstanding, ..Script::default() };
        let mut net = net(Config { max_h2c_data: 4096, script, ..Config::default() });
        let (_, io) = net.pair(&Connect { max_r2t, ..Connect::default() });
        assert_eq!(net.lines[io].max_h2c_data, 4096);
        let bytes: Vec<u8> = (0..100 * 512).map(|i: u32| ((i * 13) >> 2) as u8).collect();
        net.command(io, &rw(1, 6, 100, 100), &[]);
        net.wait(Duration::from_secs(5));
        let expected = if size == Size::Whole { 1 } else { 6 };
        assert_eq!(net.target.counters().r2t_sent, together, "open at once");
        assert_eq!(net.write(io, 6, &bytes), (0, expected));
        assert_eq!(read_back(&net, 100 * 512, bytes.len()), bytes);
    }
}

#[test]
fn bad_commands_get_their_status() {
    let mut net = net(Config { mdts: 5, ..Config::default() });
    let (admin, io) = net.pair(&Connect::default());
    let blocks = (64 << 20) / 512;
    let mut prp = rw(2, 1, 0, 8);
    prp[1] = 0;
    let mut segment = rw(2, 1, 0, 8);
    segment[39] = 0x30;
    let cases: [(&str, [u8; 64], u16); 12] = [
        ("opcode", sqe(0x7e, 1, 1, 0), 0x01),
        ("namespace 0", with(rw(2, 1, 0, 8), 1, 0), 0x0b),
        ("namespace 2", with(rw(2, 1, 0, 8), 1, 2), 0x0b),
        ("all namespaces but for Flush", with(rw(2, 1, 0, 8), 1, !0), 0x0b),
        ("beyond the end", rw(2, 1, blocks - 7, 8), 0x80),
        ("far beyond the end", rw(2, 1, u64::MAX - 3, 8), 0x80),
        ("write beyond the end", rw(1, 1, blocks, 1), 0x80),
        ("above MDTS", rw(2, 1, 0, 257), 0x02),
        ("PRP", prp, 0x02),
        ("SGL segment", segment, 0x11),
        ("read into the capsule", in_capsule(rw(2, 1, 0, 8), 0), 0x11),
        ("SGL shorter than the blocks", with(rw(2, 1, 0, 8), 8, 4095), 0x0f),
    ];
    for (name, sqe, status) in cases {
        assert_eq!(net.execute(io, &sqe, &[]).status(), status, "{name}");
    }
    assert_eq!(net.execute(io, &with(sqe(0, 1, 0, 0), 1, !0), &[]).status(), 0, "Flush of all namespaces");
    assert_eq!(net.fetch(io, &rw(2, 1, blocks - 8, 8)).unwrap(), image((blocks - 8) * 512, 4096));
    let short = with(identify(1, 1, 0), 8, 4092);
    assert_eq!(net.execute(admin, &short, &[]).status(), 0x0f);
    // The same identifier while its command is open (the write waits for its data).
    net.command(io, &rw(1, 8, 0, 8), &[]);
    assert_eq!(net.pdu(io).unwrap().kind, 9);
    assert_eq!(net.execute(io, &rw(2, 8, 0, 8), &[]).status(), 0x03);
    assert_eq!(net.target.counters().command_errors, 14);
    assert_eq!(net.target.errors(), []);
}

#[test]
fn success_flag_follows_the_flow_control_choice() {
    for (no_flow_control, success, flag) in [
        (false, Success::WhenAllowed, false),
        (true, Success::WhenAllowed, true),
        (true, Success::Capsule, false),
        (false, Success::Flag, true),
        (false, Success::Random, false),
    ] {
        let mut net = net(Config { script: Script { success, ..Script::default() }, ..Config::default() });
        let (_, io) = net.pair(&Connect { no_flow_control, ..Connect::default() });
        net.command(io, &rw(2, 4, 10, 8), &[]);
        let data = net.pdu(io).unwrap();
        assert_eq!((data.kind, data.flags & 12), (7, if flag { 12 } else { 4 }));
        if flag {
            assert_eq!(net.pdu(io), Err(NoPdu::Silence(0)));
        } else {
            assert_eq!(net.pdu(io).unwrap().status(), 0);
        }
        // An error is never announced by the flag.
        assert_eq!(net.execute(io, &rw(2, 4, 1 << 40, 8), &[]).status(), 0x80);
    }
}

#[test]
fn sqhd_counts_commands_modulo_the_queue_size() {
    for no_flow_control in [false, true] {
        let mut net = net(Config::default());
        let (_, id) = net.admin(&Connect::default());
        let options = Connect { queue: 1, controller: id, sqsize: 3, no_flow_control, ..Connect::default() };
        let (io, response) = net.connect(&options);
        assert_eq!(response.u16(8 + 8), if no_flow_control { 0xffff } else { 1 });
        for n in 2..10 {
            let sqhd = net.execute(io, &sqe(0, n, 1, 0), &[]).u16(8 + 8);
            assert_eq!(sqhd, if no_flow_control { 0 } else { n % 4 });
        }
    }
}

/// Sends `bytes` on a fresh I/O queue (or before ICReq, or on a connection without Connect) and returns the C2HTermReq.
fn terminated(options: &Connect, stage: u8, bytes: impl Fn(&mut Net, usize) -> Vec<u8>) -> (u16, u32, Vec<u8>, Reason) {
    let mut net = net(Config { max_h2c_data: 4096, cpda: 3, ..Config::default() });
    let line = match stage {
        0 => net.open(),
        1 => net.initialize(options.header_digest, options.data_digest, 0, 0),
        _ => net.pair(options).1,
    };
    let bytes = bytes(&mut net, line);
    net.send(line, &bytes);
    let term = net.pdu(line).expect("C2HTermReq");
    assert_eq!(term.kind, 3, "{term:?}");
    assert_eq!(net.pdu(line), Err(NoPdu::Closed(0)), "then the end");
    let error = net.target.errors().pop().expect("a reason");
    assert!(!error.to_string().is_empty());
    // and the target still serves others
    let (_, io) = net.pair(&Connect::default());
    assert_eq!(net.fetch(io, &rw(2, 1, 300, 1)).unwrap(), image(300 * 512, 512));
    (term.u16(8), term.u32(10), term.data, error.reason)
}

#[test]
fn every_malformed_pdu_is_answered_with_its_fes() {
    let plain = Connect::default();
    let digests = Connect { header_digest: true, data_digest: true, ..Connect::default() };
    let patch = |mut bytes: Vec<u8>, at: usize, value: &[u8]| {
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let ic = || ic_req(false, false, 0, 0);
    let check = |name: &str, options: &Connect, stage, fes, fei, bytes: &dyn Fn(&mut Net, usize) -> Vec<u8>| {
        let (got_fes, got_fei, _, reason) = terminated(options, stage, bytes);
        assert_eq!((got_fes, got_fei), (fes, fei), "{name}: {reason}");
    };
    check("ICReq with another PFV", &plain, 0, 6, 8, &|_, _| patch(ic(), 8, &[1]));
    check("ICReq with HPDA 32", &plain, 0, 1, 10, &|_, _| patch(ic(), 10, &[32]));
    check("ICReq with HLEN 127", &plain, 0, 1, 2, &|_, _| patch(ic(), 2, &[127]));
    check("ICReq with PLEN 132", &plain, 0, 1, 4, &|_, _| patch(ic(), 4, &[132]));
    check("ICReq with a digest flag", &plain, 0, 1, 1, &|_, _| patch(ic(), 1, &[1]));
    check("a command before ICReq", &plain, 0, 2, 0, &|net, line| net.capsule(line, &rw(2, 1, 0, 1), &[]));
    check("ICReq twice", &plain, 1, 2, 0, &|_, _| ic());
    for kind in [1, 3, 5, 7, 9, 8, 0x0a, 0xff] {
        check("a type that hosts do not send", &plain, 2, 1, 0, &|net, line| {
            patch(net.capsule(line, &rw(2, 1, 0, 1), &[]), 0, &[kind])
        });
    }
    let read = |net: &mut Net, line: usize| net.capsule(line, &rw(2, 1, 0, 1), &[]);
    check("HLEN of a command", &plain, 2, 1, 2, &|net, line| patch(read(net, line), 2, &[64]));
    check("PLEN below the header", &plain, 2, 1, 4, &|net, line| patch(read(net, line), 4, &[71]));
    check("HDGSTF without digests", &plain, 2, 1, 1, &|net, line| patch(read(net, line), 1, &[1]));
    check("no HDGSTF with digests", &digests, 2, 1, 1, &|net, line| patch(read(net, line), 1, &[0]));
    check("DDGSTF without data", &digests, 2, 1, 1, &|net, line| patch(read(net, line), 1, &[3]));
    let write = |net: &mut Net, line: usize| net.capsule(line, &in_capsule(rw(1, 1, 0, 1), 0), &[5; 512]);
    check("PDO inside the header", &plain, 2, 1, 3, &|net, line| patch(write(net, line), 3, &[64]));
    check("PDO off the alignment", &plain, 2, 1, 3, &|net, line| patch(write(net, line), 3, &[84]));
    check("PDO beyond PLEN", &plain, 2, 1, 4, &|net, line| patch(write(net, line), 4, &[79, 0, 0, 0]));
    check("no DDGSTF with digests", &digests, 2, 1, 1, &|net, line| patch(write(net, line), 1, &[1]));
    check("too much data in a capsule", &plain, 2, 5, 0, &|net, line| {
        net.capsule(line, &in_capsule(rw(1, 1, 0, 17), 0), &[5; 17 * 512])
    });
    check("PLEN of 4 GiB", &plain, 2, 5, 0, &|net, line| patch(write(net, line), 4, &[0xff; 4]));
    let (fes, fei, erring, _) = terminated(&digests, 2, |net, line| patch(read(net, line), 12, &[9]));
    assert_eq!(fes, 3, "header digest");
    assert_eq!(fei, u32::from_le_bytes(erring[72..76].try_into().unwrap()), "FEI is the digest that came");
    assert_eq!(erring[12], 9, "the header that was wrong comes back");

    // H2CData for an R2T of 8192 bytes at 0.
    let data = |net: &mut Net, line: usize, offset: u32, len: usize, last: bool| {
        net.command(line, &rw(1, 7, 0, 16), &[]);
        let r2t = net.pdu(line).unwrap();
        assert_eq!((r2t.kind, r2t.u32(12), r2t.u32(16)), (9, 0, 8192));
        h2c_data(&net.lines[line], 7, r2t.u16(10), offset, &vec![3; len], last)
    };
    for options in [&plain, &Connect { data_digest: true, ..Connect::default() }] {
        check("H2CData for no command", options, 2, 1, 8, &|net, line| {
            h2c_data(&net.lines[line], 7, 0, 0, &[3; 64], false)
        });
        check("other CCCID", options, 2, 1, 8, &|net, line| patch(data(net, line, 0, 4096, false), 8, &[8]));
        check("other TTAG", options, 2, 1, 10, &|net, line| patch(data(net, line, 0, 4096, false), 10, &[99]));
        check("DATAO not the next", options, 2, 4, 0, &|net, line| data(net, line, 4096, 4096, true));
        check("above MAXH2CDATA", options, 2, 5, 0, &|net, line| data(net, line, 0, 8192, true));
        check("DATAL unlike PLEN", options, 2, 1, 16, &|net, line| patch(data(net, line, 0, 4096, false), 16, &[4]));
        check("LAST_PDU too early", options, 2, 1, 1, &|net, line| data(net, line, 0, 4096, true));
        check("more than asked for", options, 2, 4, 0, &|net, line| {
            let mut bytes = data(net, line, 0, 4096, false);
            let tag = u16::from_le_bytes([bytes[10], bytes[11]]);
            bytes.extend(h2c_data(&net.lines[line], 7, tag, 4096, &[3; 4000], false));
            bytes.extend(h2c_data(&net.lines[line], 7, tag, 8096, &[3; 100], true));
            bytes
        });
        check("LAST_PDU missing", options, 2, 1, 1, &|net, line| {
            let mut bytes = data(net, line, 0, 4096, false);
            let tag = u16::from_le_bytes([bytes[10], bytes[11]]);
            bytes.extend(h2c_data(&net.lines[line], 7, tag, 4096, &[3; 4096], false));
            bytes
        });
    }
    check("more commands than the queue has", &Connect { sqsize: 3, ..plain.clone() }, 2, 2, 0, &|net, line| {
        (0..5).flat_map(|cid| net.capsule(line, &rw(1, cid, 0, 1), &[])).collect()
    });

    // H2CTermReq ends it without an answer.
    let mut net = net(Config::default());
    let (_, io) = net.pair(&plain);
    let mut term = vec![0; 24 + 8];
    (term[0], term[2], term[4], term[8], term[10]) = (2, 24, 32, 5, 77);
    net.send(io, &term);
    assert_eq!(net.pdu(io), Err(NoPdu::Closed(0)));
    assert_eq!(net.target.errors().pop().unwrap().reason, Reason::HostTerminated { fes: 5, fei: 77 });
}

#[test]
fn a_bad_data_digest_fails_the_command_only() {
    let mut net = net(Config::default());
    let (_, io) = net.pair(&Connect { data_digest: true, ..Connect::default() });
    let mut capsule = net.capsule(io, &in_capsule(rw(1, 1, 0, 1), 0), &[5; 512]);
    *capsule.last_mut().unwrap() ^= 1;
    net.send(io, &capsule);
    assert_eq!(net.pdu(io).unwrap().status(), 0x22);
    net.command(io, &rw(1, 2, 0, 16), &[]);
    let r2t = net.pdu(io).unwrap();
    let mut data = h2c_data(&net.lines[io], 2, r2t.u16(10), 0, &[5; 4096], false);
    data[30] ^= 1;
    net.send(io, &data);
    let data = h2c_data(&net.lines[io], 2, r2t.u16(10), 4096, &[5; 4096], true);
    net.send(io, &data);
    assert_eq!(net.pdu(io).unwrap().status(), 0x22);
    assert_eq!(read_back(&net, 0, 8192), image(0, 8192));
    assert_eq!(net.fetch(io, &rw(2, 3, 0, 16)).unwrap(), image(0, 8192));
    assert_eq!(net.target.counters().data_digests_bad, 2);
}

#[test]
fn async_events_are_held_up_to_their_limit() {
    let mut net = net(Config::default());
    let (admin, _) = net.pair(&Connect::default());
    for cid in 10..14 {
        net.command(admin, &sqe(0x0c, cid, 0, 0), &[]);
    }
    assert_eq!(net.execute(admin, &sqe(0x0c, 14, 0, 0), &[]).status(), 0x105);
    assert_eq!(net.pdu(admin), Err(NoPdu::Silence(0)));
    assert_eq!(net.execute(admin, &identify(10, 1, 0), &[]).status(), 0x03, "its identifier stays in use");
    // A reset forgets them.
    net.execute(admin, &property_set(1, 0x14, 0), &[]);
    net.execute(admin, &property_set(1, 0x14, 0x46_0001), &[]);
    net.command(admin, &sqe(0x0c, 10, 0, 0), &[]);
    assert_eq!(net.pdu(admin), Err(NoPdu::Silence(0)));
    net.close(admin);
    net.wait(Duration::from_secs(1));
    let reasons: Vec<_> = net.target.errors().into_iter().map(|error| error.reason).collect();
    assert_eq!(reasons, [Reason::ControllerGone(1)], "held requests are not missing answers");
}

#[test]
fn every_wait_has_a_deadline() {
    let patience = Duration::from_secs(20);
    let config = Config { patience, ..Config::default() };
    let awaited = |net: &mut Net| match net.target.errors().swap_remove(0).reason {
        Reason::TimedOut { awaited, .. } => awaited,
        reason => panic!("{reason}"),
    };
    let mut net = net(config);
    let line = net.open();
    net.wait(patience - Duration::from_secs(1));
    assert!(net.is_up(line));
    net.wait(Duration::from_secs(2));
    assert!(!net.is_up(line));
    assert_eq!(awaited(&mut net), "ICReq");

    let line = net.initialize(false, false, 0, 0);
    net.wait(patience + Duration::from_secs(1));
    assert!(!net.is_up(line));
    assert_eq!(awaited(&mut net), "Connect");

    // Keep Alive restarts the timer; without it the controller ends, and its I/O queues with it.
    let (admin, id) = net.admin(&Connect { kato: 5000, ..Connect::default() });
    let (io, _) = net.connect(&Connect { queue: 1, controller: id, ..Connect::default() });
    for _ in 0..4 {
        net.wait(Duration::from_secs(4));
        assert_eq!(net.execute(admin, &sqe(0x18, 1, 0, 0), &[]).status(), 0);
    }
    net.wait(Duration::from_secs(6));
    assert!(!net.is_up(admin) && !net.is_up(io));
    let reasons: Vec<_> = net.target.errors().into_iter().map(|error| error.reason).collect();
    let after = Duration::from_secs(5);
    assert_eq!(reasons, [Reason::TimedOut { awaited: "Keep Alive", after }, Reason::ControllerGone(id)]);

    // A host that is gone while it is owed bytes.
    let (_, io) = net.pair(&Connect::default());
    net.command(io, &rw(2, 1, 0, 2048), &[]);
    net.loss = 1;
    net.wait(patience * 2);
    assert_eq!(awaited(&mut net), "acknowledgement");

    // A host that never closes after a C2HTermReq.
    net.loss = 0;
    let line = net.open();
    net.send(line, &[0xff; 8]);
    assert_eq!(net.pdu(line).unwrap().kind, 3);
    net.wait(patience * 2);
    assert!(net.is_gone(line), "the target resets it in the end");
}

#[test]
fn io_queues_end_with_their_controller() {
    let mut net = net(Config::default());
    let (admin, io) = net.pair(&Connect::default());
    net.execute(admin, &property_set(1, 0x14, 0), &[]);
    assert_eq!(net.pdu(io), Err(NoPdu::Closed(0)));
    assert!(net.is_up(admin));
    net.execute(admin, &property_set(1, 0x14, 0x46_0001), &[]);
    let (io, response) = net.connect(&Connect { queue: 1, controller: 1, ..Connect::default() });
    assert_eq!(response.status(), 0, "the queue identifier is free again");
    net.close(admin);
    assert_eq!(net.pdu(io), Err(NoPdu::Closed(0)));
    let reasons: Vec<_> = net.target.errors().into_iter().map(|error| error.reason).collect();
    assert_eq!(reasons, [Reason::ControllerGone(1), Reason::ControllerGone(1)]);
    let (_, response) = net.connect(&Connect { queue: 1, controller: 1, ..Connect::default() });
    assert_eq!(response.status(), 0x182, "the controller is gone");
}

#[test]
fn slots_are_used_again() {
    let mut net = net(Config { max_connections: Some(2), ..Config::default() });
    for round in 0..20 {
        let (admin, io) = net.pair(&Connect::default());
        assert_eq!(net.fetch(io, &rw(2, 1, round, 1)).unwrap(), image(round * 512, 512));
        let third = net.open();
        net.wait(Duration::from_millis(100));
        assert!(net.is_gone(third), "no room for a third");
        for line in [io, admin] {
            match round % 3 {
                0 => net.close(line),
                1 => net.abort(line),
                _ => {
                    net.send(line, &[0xff; 8]);
                    net.close(line);
                }
            }
        }
        net.wait(Duration::from_secs(1));
    }
    assert_eq!(net.target.counters().connections, 40);
}

#[test]
fn a_sparse_four_gigabyte_file_is_served() {
    let path = std::env::temp_dir().join(format!("nvme-target-4g-{}", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(4 << 30).unwrap();
    let before = resident();
    let backing = FileBacking::open(&path, true).unwrap();
    let mut net = Net::new(Target::new(Config::default(), Box::new(backing)).unwrap(), 1500);
    let (admin, io) = net.pair(&Connect::default());
    let page = net.fetch(admin, &identify(1, 0, 1)).unwrap();
    assert_eq!(u64::from_le_bytes(page[..8].try_into().unwrap()), 8 << 20);
    let last = (8 << 20) - 8;
    let response = net.execute(io, &in_capsule(rw(1, 2, last, 8), 0), &[0x77; 4096]);
    assert_eq!(response.status(), 0);
    assert_eq!(net.fetch(io, &rw(2, 3, last - 8, 16)).unwrap(), [vec![0; 4096], vec![0x77; 4096]].concat());
    assert_eq!(net.fetch(io, &rw(2, 3, 0, 256)).unwrap(), vec![0; 131072]);
    use std::os::unix::fs::MetadataExt;
    let blocks = file.metadata().unwrap().blocks();
    std::fs::remove_file(&path).unwrap();
    assert!(blocks * 512 < 1 << 20, "the file stays sparse");
    assert!(resident() - before < 1 << 30, "far less than the file is kept");
}

/// Bytes of memory that this process holds; other tests of the process count too.
fn resident() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4096
}

/// An image that fails where it is told to.
struct Broken {
    from: u64,
    writable: bool,
}

impl Backing for Broken {
    fn len(&self) -> u64 {
        1 << 20
    }
    fn writable(&self) -> bool {
        self.writable
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(1);
        if offset + out.len() as u64 > self.from { Err(io::Error::other("bad sector")) } else { Ok(()) }
    }
    fn write_at(&mut self, offset: u64, _: &[u8]) -> io::Result<()> {
        if offset >= self.from { Err(io::Error::other("bad sector")) } else { Ok(()) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Err(io::Error::other("no flush"))
    }
}

#[test]
fn backing_errors_become_statuses() {
    let broken = |writable| Box::new(Broken { from: 65536, writable });
    let mut net = Net::new(Target::new(Config::default(), broken(true)).unwrap(), 1500);
    let (_, io) = net.pair(&Connect { data_digest: true, ..Connect::default() });
    assert_eq!(net.fetch(io, &rw(2, 1, 0, 128)), Ok(vec![1; 65536]));
    assert_eq!(net.fetch(io, &rw(2, 1, 64, 128)), Err(0x281));
    assert_eq!(net.execute(io, &in_capsule(rw(1, 1, 128, 1), 0), &[0; 512]).status(), 0x280);
    assert_eq!(net.execute(io, &in_capsule(rw(1, 1, 0, 1), 0), &[0; 512]).status(), 0);
    assert_eq!(net.execute(io, &sqe(0, 1, 1, 0), &[]).status(), 0x280);
    net.command(io, &rw(1, 5, 120, 16), &[]);
    assert_eq!(net.write(io, 5, &[0; 8192]).0, 0, "it begins where writing works");
    assert_eq!(net.target.errors(), []);

    // With the SUCCESS flag already sent, only the end of the connection can tell.
    let (_, io) = net.pair(&Connect { no_flow_control: true, ..Connect::default() });
    net.command(io, &rw(2, 1, 64, 128), &[]);
    while net.pdu(io).is_ok_and(|pdu| pdu.flags & 8 == 0) {}
    assert!(!net.is_up(io));
    assert!(matches!(net.target.errors().pop().unwrap().reason, Reason::Backing { .. }));

    let mut net = Net::new(Target::new(Config::default(), broken(false)).unwrap(), 1500);
    let (admin, io) = net.pair(&Connect::default());
    assert_eq!(net.fetch(admin, &identify(1, 0, 1)).unwrap()[99], 1, "write protected");
    assert_eq!(net.execute(io, &rw(1, 1, 0, 1), &[]).status(), 0x20);
}

#[test]
fn bad_configurations_are_refused_by_name() {
    let refused = |config: Config, len| {
        Target::new(config, Box::new(Generated::new(0, len))).err().expect("an error").to_string()
    };
    assert!(refused(Config { mtu: 100, ..Config::default() }, 512).starts_with("mtu is 100"));
    assert!(refused(Config { block_size: 1024, ..Config::default() }, 512).starts_with("block_size is 1024"));
    assert!(refused(Config { cpda: 32, ..Config::default() }, 512).starts_with("cpda is 32"));
    let nqn = "x".repeat(224);
    assert!(refused(Config { subsystem_nqn: nqn, ..Config::default() }, 512).starts_with("subsystem_nqn"));
    let error = Target::new(Config::default(), Box::new(Generated::new(0, 1000))).err();
    assert_eq!(error, Some(ConfigError::ImageSize { len: 1000, block_size: 512 }));
    assert!(Target::new(Config::default(), Box::new(Generated::new(0, 0))).is_err());
}

#[test]
fn a_target_can_move_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&target(Config::default()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_never_panics(
        stage in 0u8..3, header_digest: bool,
        pieces in prop::collection::vec((0u8..10, any::<u8>(), any::<u8>(), any::<u8>(), 0u32..9000,
            prop::collection::vec(any::<u8>(), 0..300)), 1..20),
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..10),
    ) {
        let mut net = net(Config::default());
        for frame in frames {
            net.target.receive(&frame);
        }
        let options = Connect { header_digest, ..Connect::default() };
        let line = match stage {
            0 => net.open(),
            1 => net.initialize(header_digest, false, 0, 0),
            _ => net.pair(&options).1,
        };
        for (kind, flags, hlen, pdo, plen, rest) in pieces {
            let hlen = match kind { 0 | 1 => 128, 4 => 72, _ if hlen % 4 > 0 => 24, _ => hlen };
            let mut bytes = vec![kind, flags & 0xf, hlen, pdo & 0xfc];
            bytes.extend_from_slice(&plen.to_le_bytes());
            bytes.extend_from_slice(&rest);
            net.send(line, &bytes);
        }
        net.close(line);
        net.wait(Duration::from_secs(200));
        prop_assert!(net.is_gone(line));
        let (_, io) = net.pair(&Connect::default());
        prop_assert_eq!(net.fetch(io, &rw(2, 1, 9, 3)).unwrap(), image(9 * 512, 3 * 512));
    }
}

#[test]
fn a_fault_happens_once() {
    let fault = Fault { on: On::Queue(1), at: At::Data(0), kind: Kind::Close { after: 10 } };
    let mut net = net(Config { script: Script { faults: vec![fault], ..Script::default() }, ..Config::default() });
    let (_, io) = net.pair(&Connect::default());
    net.command(io, &rw(2, 1, 0, 8), &[]);
    assert_eq!(net.pdu(io), Err(NoPdu::Closed(10)));
    let (_, io) = net.pair(&Connect::default());
    assert_eq!(net.fetch(io, &rw(2, 1, 0, 8)).unwrap(), image(0, 4096));
    assert_eq!(net.target.counters().faults, 1);
}
