use super::*;
use crate::nvme::command::Data;

#[test]
fn handshake() {
    let mut rig = Rig::new(QueueConfig { keep_alive_ms: 5000, ..config(true, true) });
    assert!(rig.queue.allocate_cid().is_none(), "no commands before the queue is ready");
    let icreq = rig.sent();
    let mut expected = [0; 128];
    (expected[2], expected[4], expected[11]) = (128, 128, 3);
    assert_eq!(icreq, expected);
    rig.peer.icresp(0, 131_072);
    rig.hear();
    let connect = rig.sent();
    assert_eq!(connect.len(), 76 + 1024 + 4);
    assert_eq!(connect[..8], [4, 3, 72, 76, 0x50, 4, 0, 0]);
    assert_eq!(connect[8..13], [0x7f, 0x40, 0, 0, 1]);
    assert_eq!(connect[32..48], [0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1], "SGL: 1024 bytes in the capsule");
    assert_eq!(connect[48..60], [0, 0, 2, 0, 8, 0, 4, 0, 0x88, 0x13, 0, 0], "QID 2, SQSIZE 8, KATO 5000");
    assert_eq!(connect[76 + 16..76 + 18], [1, 0]);
    assert_eq!(&connect[76 + 256..76 + 262], b"nqn.s\0");
    rig.peer.response(0, 0, 0x0009);
    rig.hear();
    assert_eq!(rig.events(), [Event::Ready { controller_id: 9 }]);
    let cids: Vec<_> = std::iter::from_fn(|| rig.queue.allocate_cid()).collect();
    assert_eq!(cids, [0, 1, 2, 3, 4, 5, 6, 7], "linear, from 0, all of them");
}

#[test]
fn refused_connections_say_why() {
    let connect = |status, result| {
        let mut rig = Rig::new(config(false, false));
        rig.peer.icresp(0, 4096);
        rig.hear();
        rig.sent();
        rig.peer.response(0, status, result);
        rig.hear();
        let (reason, term) = rig.failure();
        assert_eq!(term, None);
        assert_eq!(rig.events(), [], "Connect is nobody's command");
        reason.to_string()
    };
    let text = connect(0x182, 1 << 16 | 256);
    assert!(text.contains("SUBNQN") && text.contains("nqn.s") && text.contains("queue 2"), "{text}");
    assert!(connect(0x182, 44).contains("SQSIZE"));
    assert!(connect(0x181, 0).contains("Connect Controller Busy"));
    assert!(connect(0, 0x2_0001).contains("authentication"));
}

#[test]
fn an_identifier_is_used_again_only_after_release() {
    let mut rig = Rig::ready(QueueConfig { depth: 1, ..config(false, false) });
    for _ in 0..3 {
        let cid = rig.read(512);
        assert_eq!((cid, rig.queue.allocate_cid()), (0, None));
        assert!(rig.queue.release(cid).is_err(), "outstanding");
        rig.peer.data(cid, 0, &[1; 512], 12, 0);
        rig.hear();
        assert_eq!(rig.queue.allocate_cid(), None, "completed, and perhaps still bound");
        assert_eq!(rig.completion().cid, 0);
        assert!(rig.queue.submit(cid, Request::flush(1), rig.now).is_err());
        rig.queue.release(cid).expect("completed");
        assert!(rig.queue.release(cid).is_err());
    }
    let cid = rig.queue.allocate_cid().expect("free");
    rig.queue.release(cid).expect("allocated, never submitted");
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let mut rig = Rig::ready(config(false, false));
    let cid = rig.queue.allocate_cid().expect("free");
    let too_long = Request::read(1, 0, 1 << 12, 512).expect("legal");
    let error = rig.queue.submit(cid, too_long, rig.now).expect_err("longer than MDTS");
    assert_eq!(error, SubmitError::Length { len: 1 << 21, least: 1, most: 1 << 20 });
    let nothing = Request { data: Data::ControlRead { len: 0 }, ..Request::identify(1, 0) };
    assert!(rig.queue.submit(cid, nothing, rig.now).is_err());
    assert!(rig.queue.submit(9, Request::flush(1), rig.now).is_err());
    rig.queue.submit(cid, Request::flush(1), rig.now).expect("the identifier is as it was");
    assert!(HostQueue::new(QueueConfig { depth: 0, ..config(false, false) }, Duration::ZERO).is_err());
    assert!(HostQueue::new(QueueConfig { hpda: 32, ..config(false, false) }, Duration::ZERO).is_err());
}

#[test]
fn nothing_of_a_command_exists_before_it_is_submitted() {
    let mut rig = Rig::ready(config(false, false));
    let cid = rig.queue.allocate_cid().expect("free");
    assert!(!rig.queue.has_output() && rig.sent().is_empty());
    rig.queue.submit(cid, Request::read(1, 5, 1, 512).expect("legal"), rig.now).expect("allocated");
    let capsule = rig.sent();
    assert_eq!((capsule.len(), capsule[8], capsule[10]), (72, 2, cid as u8));
}

#[test]
fn failure_completes_every_command_once() {
    let mut rig = Rig::ready(config(false, false));
    let (sent, done) = (rig.read(100), rig.read(100));
    rig.peer.data(done, 0, &[0; 100], 12, 0);
    rig.hear();
    assert_eq!(rig.completion().cid, done);
    let waiting = rig.submit(Request::flush(1));
    rig.queue.connection_closed();
    rig.queue.connection_closed();
    let events = rig.events();
    assert_eq!(events[0], Event::Failed(Reason::Closed));
    let completed = |event: &Event| match event {
        Event::Completed(c) => (c.cid, c.status),
        other => panic!("{other:?}"),
    };
    let completed: Vec<_> = events[1..].iter().map(completed).collect();
    assert_eq!(completed, [(sent, Status::HOST_PATHING_ERROR), (waiting, Status::ABORTED_BY_HOST)]);
    assert!(rig.sent().is_empty());
    assert_eq!(rig.queue.next_deadline(), None);
    assert_eq!(rig.queue.allocate_cid(), None);
    for cid in [sent, waiting, done] {
        rig.queue.release(cid).expect("completed");
    }
}

#[test]
fn every_wait_has_a_deadline() {
    let mut rig = Rig::new(config(false, false));
    rig.sent();
    assert_eq!(rig.queue.next_deadline(), Some(Duration::from_secs(5)));
    rig.queue.poll_deadline(Duration::from_millis(4999));
    assert_eq!(rig.events(), []);
    rig.queue.poll_deadline(Duration::from_secs(5));
    assert!(rig.failure().0.to_string().contains("ICResp within 5s"));

    let mut rig = Rig::new(config(false, false));
    rig.peer.icresp(0, 4096);
    rig.hear();
    rig.queue.poll_deadline(Duration::from_secs(6));
    assert!(rig.failure().0.to_string().contains("response to Connect"));

    let mut rig = Rig::ready(config(false, false));
    assert_eq!(rig.queue.next_deadline(), None);
    rig.now = Duration::from_secs(10);
    let first = rig.read(100);
    rig.now = Duration::from_secs(20);
    let second = rig.read(100);
    assert_eq!(rig.queue.next_deadline(), Some(Duration::from_secs(40)));
    rig.peer.data(first, 0, &[0; 100], 12, 0);
    rig.hear();
    assert_eq!(rig.queue.next_deadline(), Some(Duration::from_secs(50)));
    rig.completion();
    rig.queue.poll_deadline(Duration::from_secs(50));
    let waited = Duration::from_secs(30);
    assert_eq!(rig.failure(), (Reason::CommandTimeout { cid: second, opcode: 2, waited }, None));
}

#[test]
fn cancelled_before_sending_is_never_sent() {
    let mut rig = Rig::ready(config(false, false));
    let (a, b) = (rig.submit(Request::flush(1)), rig.submit(Request::flush(2)));
    assert_eq!(rig.queue.cancel(a), Ok(Cancelled::NotSent));
    let completion = rig.completion();
    assert_eq!((completion.cid, completion.status, completion.cancelled), (a, Status::ABORTED_BY_HOST, true));
    assert!(rig.queue.cancel(a).is_err(), "completed");
    let sent = rig.sent();
    assert_eq!((sent.len(), sent[10], sent[12]), (72, b as u8, 2));
}

#[test]
fn data_of_a_cancelled_read_is_discarded() {
    // Cancelled before the first byte of data, inside the header, inside the data, inside the digest.
    for heard in [0, 10, 28, 60, 28 + 100 + 2] {
        let mut rig = Rig::ready(config(true, true));
        let (cid, other) = (rig.read(200), rig.read(50));
        rig.peer.data(cid, 0, &[1; 100], 0, 0);
        rig.peer.data(cid, 100, &[1; 100], 4, 0);
        rig.peer.response(cid, 0, 0);
        rig.peer.data(other, 0, &pattern(50, 4), 12, 0);
        rig.frame(heard, None, false);
        assert_eq!(rig.queue.cancel(cid), Ok(Cancelled::Discarding));
        // The owner may unbind and reuse the memory at once.
        rig.memory.tags.remove(&cid);
        assert_eq!(rig.queue.allocate_cid(), Some(2), "the controller still uses the identifier");
        rig.hear();
        let events = rig.events();
        let [Event::Completed(first), Event::Completed(second)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((first.cid, first.cancelled, first.status), (cid, true, Status::ABORTED_BY_HOST));
        assert_eq!((second.cid, second.status), (other, Status::SUCCESS));
        assert_eq!(rig.memory.tags[&other].1, pattern(50, 4));
        let counters = rig.queue.counters();
        assert_eq!(counters.bytes_discarded + u64::from(first.copied), 200);
    }
}

#[test]
fn a_cancelled_write_runs_to_its_end() {
    let mut rig = Rig::ready(config(false, false));
    let cid = rig.submit(Request::write(1, 0, 10_000, 1).expect("legal"));
    rig.sent();
    assert_eq!(rig.queue.cancel(cid), Ok(Cancelled::Running));
    rig.peer.r2t(cid, 3, 0, 10_000);
    rig.hear();
    assert_eq!(rig.sent().len(), 24 + 8192 + 24 + 10_000 - 8192);
    rig.peer.response(cid, 0, 0);
    rig.hear();
    let completion = rig.completion();
    assert_eq!((completion.status, completion.cancelled), (Status::SUCCESS, true));
}

#[test]
fn resync_questions_are_answered_as_soon_as_positions_are_known() {
    let mut rig = Rig::ready(config(true, true));
    let cid = rig.read(300);
    let start = rig.seq;
    let at = |offset: u32| start.wrapping_add(offset);
    assert_eq!(rig.queue.next_pdu_seq(), Some(start));
    rig.peer.data(cid, 0, &[1; 100], 0, 0);
    rig.peer.data(cid, 100, &[1; 200], 12, 0);
    let yes = |rig: &mut Rig, seq| assert_eq!(rig.events(), [Event::Resync { seq }]);
    // The place where the next PDU starts is known already.
    rig.queue.resync_request(start);
    yes(&mut rig, start);
    // The second PDU's start is known when the first one's header is whole.
    rig.queue.resync_request(at(132));
    rig.frame(27, None, true);
    assert_eq!((rig.events(), rig.queue.next_pdu_seq()), (vec![], None));
    rig.frame(1, None, true);
    yes(&mut rig, at(132));
    assert_eq!((rig.queue.pdu_seq(), rig.queue.next_pdu_seq()), (Some(start), Some(at(132))));
    // Inside the first PDU: no, and at once.
    rig.queue.resync_request(at(60));
    assert_eq!((rig.events(), rig.queue.counters().resync_refuted), (vec![], 1));
    // A PDU's own start, although its data is being read.
    rig.queue.resync_request(start);
    yes(&mut rig, start);
    // Inside the second PDU: refuted when that is known, not before.
    rig.queue.resync_request(at(140));
    rig.frame(104 + 28 - 1, None, true);
    assert_eq!((rig.events(), rig.queue.counters().resync_refuted), (vec![], 1));
    rig.frame(1, None, true);
    assert_eq!((rig.events(), rig.queue.counters().resync_refuted), (vec![], 2));
    // Only the newest question counts.
    rig.queue.resync_request(at(1_000_000));
    rig.queue.resync_request(at(132 + 232));
    yes(&mut rig, at(132 + 232));
    // Long past.
    rig.queue.resync_request(start.wrapping_sub(5));
    assert_eq!((rig.events(), rig.queue.counters().resync_refuted), (vec![], 3));
}

#[test]
fn resync_questions_inside_a_partial_header_wait() {
    let mut rig = Rig::ready(config(false, false));
    let cid = rig.read(100);
    let start = rig.seq;
    rig.peer.data(cid, 0, &[1; 100], 12, 0);
    rig.frame(10, None, false);
    rig.queue.resync_request(start.wrapping_add(10));
    assert_eq!(rig.events(), [], "the stream's position is not a PDU's start");
    rig.frame(14, None, false);
    assert_eq!((rig.events(), rig.queue.counters().resync_refuted), (vec![], 1));
}
