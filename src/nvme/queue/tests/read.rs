use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// One read of the random test: its length, sizes of its C2HData, how it ends.
#[derive(Clone, Debug)]
struct Plan {
    len: usize,
    sizes: Vec<usize>,
    success_flag: bool,
    /// Send the PDUs last to first.
    backwards: bool,
    pdo: usize,
}

/// (CCCID, DATAO, data, flags, PDO).
type DataPdu = (u16, u32, Vec<u8>, u8, u8);

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (1usize..3000, proptest::collection::vec(1usize..1200, 1..8), any::<bool>(), any::<bool>(), 0usize..3)
        .prop_map(|(len, sizes, success_flag, backwards, pdo)| Plan { len, sizes, success_flag, backwards, pdo });
    proptest::collection::vec(plan, 1..5)
}

proptest! {
    #[test]
    fn any_layout_delivers_the_bytes(
        plans in plans(),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 64),
        frames in proptest::collection::vec((1usize..1500, any::<bool>(), any::<bool>(), 0usize..40, 0usize..40), 1..60),
        header_digest: bool, data_digest: bool,
    ) {
        let mut rig = Rig::ready(config(header_digest, data_digest));
        let mut lists: Vec<Vec<DataPdu>> = Vec::new();
        let mut wanted = BTreeMap::new();
        for (i, plan) in plans.iter().enumerate() {
            let cid = rig.read(plan.len as u32);
            let bytes = pattern(plan.len, i as u8);
            let mut list = Vec::new();
            let (mut at, mut sizes) = (0, plan.sizes.iter().cycle());
            while at < plan.len {
                let n = sizes.next().copied().unwrap_or(1).min(plan.len - at);
                list.push((cid, at as u32, bytes[at..at + n].to_vec(), 0, [0, 32, 128][plan.pdo]));
                at += n;
            }
            if plan.backwards && list.len() < 16 {
                list.reverse();
            }
            if let Some(last) = list.last_mut() {
                last.3 = if plan.success_flag { 12 } else { 4 };
            }
            list.reverse();
            wanted.insert(cid, bytes);
            lists.push(list);
        }
        // PDUs of the commands interleaved; a command's own keep their order.
        let mut picks = order.iter().cycle();
        while !lists.is_empty() {
            let i = picks.next().map_or(0, |pick| pick.index(lists.len()));
            match lists[i].pop() {
                Some((cid, datao, bytes, flags, pdo)) => {
                    rig.peer.data(cid, datao, &bytes, flags, pdo);
                    if flags == 4 {
                        rig.peer.response(cid, 0, 0);
                    }
                }
                None => drop(lists.swap_remove(i)),
            }
        }
        // Commands of which software has to check something: some frame with data or digest has no credit.
        let (mut placed_bytes, mut software) = (BTreeMap::new(), BTreeSet::new());
        let mut frames = frames.iter().cycle();
        while !rig.peer.stream.is_empty() {
            let &(len, place, digest_ok, skip, short) = frames.next().expect("cycle");
            let len = len.min(rig.peer.stream.len());
            let run = rig.peer.payload.first().copied().filter(|run| place && run.at < len).and_then(|run| {
                // Somewhere in the run, not always all of it.
                let n = run.len.min(len - run.at);
                let (skip, short) = (skip.min(n - 1), short.min(n - 1));
                let kept = n.saturating_sub(skip + short).max(1);
                let (at, offset) = (run.at + skip, run.offset + skip as u32);
                (skip + kept <= n).then_some(Payload { at, offset, len: kept, ..run })
            });
            if let Some(run) = run {
                *placed_bytes.entry(run.cid).or_insert(0) += run.len as u32;
            }
            if !digest_ok {
                software.extend(rig.peer.digested.iter().filter(|run| run.at < len).map(|run| run.cid));
            }
            rig.frame(len, run, digest_ok);
        }
        let mut done = BTreeMap::new();
        for event in rig.events() {
            let Event::Completed(completion) = event else { panic!("{event:?}") };
            prop_assert!(done.insert(completion.cid, completion).is_none());
        }
        prop_assert_eq!(done.len(), plans.len());
        for (cid, bytes) in wanted {
            let completion = done[&cid];
            prop_assert_eq!(completion.status, Status::SUCCESS);
            prop_assert_eq!(&rig.memory.tags[&cid].1, &bytes);
            prop_assert_eq!((completion.placed + completion.copied) as usize, bytes.len());
            prop_assert_eq!(completion.placed, placed_bytes.get(&cid).copied().unwrap_or(0));
            let by = match (data_digest, software.contains(&cid)) {
                (false, _) => DigestBy::None,
                (true, false) => DigestBy::Hardware,
                (true, true) => DigestBy::Software,
            };
            prop_assert_eq!(completion.digest_by, by, "command {}", cid);
        }
    }

    #[test]
    fn a_range_per_byte_is_the_same_stream(len in 1usize..300, header_digest: bool, data_digest: bool) {
        let mut rig = Rig::ready(config(header_digest, data_digest));
        let cid = rig.read(len as u32);
        rig.peer.data(cid, 0, &pattern(len, 3), 12, 0);
        while !rig.peer.stream.is_empty() {
            rig.frame(1, None, true);
        }
        prop_assert_eq!(rig.completion().status, Status::SUCCESS);
        prop_assert_eq!(&rig.memory.tags[&cid].1, &pattern(len, 3));
    }
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut cut = 1;
        loop {
            let mut rig = Rig::ready(config(header_digest, data_digest));
            let (a, b) = (rig.read(100), rig.read(40));
            rig.peer.data(a, 0, &pattern(60, 1), 0, 0);
            rig.peer.data(b, 0, &pattern(40, 2), 12, 32);
            rig.peer.data(a, 60, &pattern(100, 1)[60..], 4, 0);
            rig.peer.response(a, 0, 0x1_2345);
            if cut >= rig.peer.stream.len() {
                break;
            }
            let rest = rig.peer.stream.len() - cut;
            rig.frame(cut, None, true);
            rig.frame(rest, None, true);
            let events = rig.events();
            let [Event::Completed(first), Event::Completed(second)] = events.as_slice() else {
                panic!("cut at {cut}: {events:?}")
            };
            assert_eq!((first.cid, first.status, first.copied), (b, Status::SUCCESS, 40));
            assert_eq!((second.cid, second.status, second.copied), (a, Status::SUCCESS, 100));
            assert_eq!(second.result, 0x1_2345);
            assert_eq!(rig.memory.tags[&a].1, pattern(100, 1));
            assert_eq!(rig.memory.tags[&b].1, pattern(40, 2));
            assert_eq!(rig.memory.digests.get(), 0, "every frame had credit");
            cut += 1;
        }
        assert!(cut > 200);
    }
}

#[test]
fn credit_must_cover_every_frame() {
    // Header 28, data 100, digest 4; frames end at these places.
    let ends = [10, 28, 70, 128, 130, 132];
    for without in 0..ends.len() {
        let mut rig = Rig::ready(config(true, true));
        let cid = rig.read(100);
        rig.peer.data(cid, 0, &pattern(100, 1), 12, 0);
        assert_eq!(rig.peer.stream.len(), 132);
        let mut from = 0;
        for (i, &end) in ends.iter().enumerate() {
            rig.frame(end - from, None, i != without);
            from = end;
        }
        let completion = rig.completion();
        assert_eq!(completion.status, Status::SUCCESS);
        // Frames 0 and 1 carry header bytes only.
        let (by, digests) = if without < 2 { (DigestBy::Hardware, 0) } else { (DigestBy::Software, 1) };
        assert_eq!((completion.digest_by, rig.memory.digests.get()), (by, digests), "no credit on frame {without}");
        let counters = rig.queue.counters();
        assert_eq!(counters.digests_hardware + counters.digests_software, 1);
    }
}

#[test]
fn credit_is_per_pdu() {
    let mut rig = Rig::ready(config(false, true));
    let cid = rig.read(200);
    rig.peer.data(cid, 0, &pattern(200, 1)[..120], 0, 0);
    rig.peer.data(cid, 120, &pattern(200, 1)[120..], 12, 0);
    rig.frame(24 + 120 + 4, None, true);
    rig.hear();
    assert_eq!(rig.completion().digest_by, DigestBy::Software);
    assert_eq!((rig.queue.counters().digests_hardware, rig.queue.counters().digests_software), (1, 1));
}

#[test]
fn damaged_data_fails_its_command() {
    for damaged in 0..3 {
        let mut rig = Rig::ready(config(true, true));
        let (a, b) = (rig.read(90), rig.read(30));
        for i in 0..3 {
            let from = rig.peer.stream.len();
            rig.peer.data(a, 30 * i, &pattern(30, i as u8), if i == 2 { 12 } else { 0 }, 0);
            if i == damaged {
                rig.peer.stream[from + 28 + 7] ^= 0x10;
            }
        }
        rig.peer.data(b, 0, &pattern(30, 9), 12, 0);
        rig.hear();
        let events = rig.events();
        let [Event::Completed(first), Event::Completed(second)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((first.cid, first.status), (a, Status::TRANSIENT_TRANSPORT_ERROR));
        assert_eq!((second.cid, second.status), (b, Status::SUCCESS), "the connection lives on");
        assert_eq!((rig.queue.counters().digest_errors, rig.queue.counters().digests_software), (1, 4));
    }
}

#[test]
fn a_vouched_for_digest_is_not_read() {
    let mut rig = Rig::ready(config(false, true));
    let cid = rig.read(30);
    rig.peer.data(cid, 0, &pattern(30, 1), 12, 0);
    let end = rig.peer.stream.len();
    rig.peer.stream[end - 1] ^= 1;
    rig.frame(end, None, true);
    assert_eq!(rig.completion().status, Status::SUCCESS, "the device has checked the bytes that were on the wire");
}

#[test]
fn placed_bytes_elsewhere_are_copied_home() {
    let mut rig = Rig::ready(config(false, false));
    let (a, b) = (rig.read(64), rig.read(64));
    rig.peer.data(a, 0, &pattern(64, 1), 12, 0);
    // The device put them at the right offset of the wrong tag.
    let run = Payload { cid: b, ..rig.peer.payload[0] };
    let len = rig.peer.stream.len();
    rig.frame(len, Some(run), false);
    let completion = rig.completion();
    assert_eq!((completion.placed, completion.copied), (0, 64));
    assert_eq!(rig.memory.tags[&a].1, pattern(64, 1));
}

#[test]
fn an_error_status_needs_no_data() {
    let mut rig = Rig::ready(config(true, true));
    let cid = rig.read(100);
    rig.peer.data(cid, 0, &pattern(40, 1), 0, 0);
    rig.peer.response(cid, 0x281, 0);
    rig.hear();
    let completion = rig.completion();
    assert_eq!(completion.status.name(), "Unrecovered Read Error");
    assert_eq!((completion.placed, completion.copied), (0, 40));
}

#[test]
fn control_reads_go_to_the_queue() {
    for digest_ok in [false, true] {
        let mut rig = Rig::ready(config(true, true));
        let cid = rig.submit(Request::identify(1, 0));
        rig.sent();
        rig.peer.data(cid, 0, &pattern(4096, 5)[..1000], 0, 0);
        rig.peer.data(cid, 1000, &pattern(4096, 5)[1000..], 12, 0);
        rig.frame(500, None, digest_ok);
        let rest = rig.peer.stream.len();
        rig.frame(rest, None, digest_ok);
        let completion = rig.completion();
        assert_eq!((completion.status, completion.copied), (Status::SUCCESS, 0));
        assert_eq!(rig.queue.counters().bytes_control, 4096);
        assert_eq!(rig.queue.take_control_data(cid), pattern(4096, 5));
        assert!(rig.queue.take_control_data(cid).is_empty());
        assert_eq!(rig.memory.tags[&cid].1, vec![0xaa; 4096], "payload memory is not touched");
    }
}

#[test]
fn control_data_does_not_outlive_its_identifier() {
    let mut rig = Rig::ready(QueueConfig { depth: 1, ..config(false, false) });
    let cid = rig.submit(Request::identify(1, 0));
    rig.sent();
    rig.peer.data(cid, 0, &pattern(4096, 5), 12, 0);
    rig.hear();
    rig.completion();
    rig.queue.release(cid).expect("completed");
    let cid = rig.submit(Request::flush(1));
    rig.sent();
    rig.peer.response(cid, 0, 0);
    rig.hear();
    rig.completion();
    assert!(rig.queue.take_control_data(cid).is_empty());
}
