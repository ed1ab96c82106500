//! A controller's bring-up against a scripted one that answers capsules by the specification's numbers.
//!
//! | property | test |
//! |---|---|
//! | bring-up goes step by step and ends with limits and namespaces | `bring_up_ends_with_limits_and_namespaces` |
//! | a controller that is enabled already is disabled first | `an_enabled_controller_is_disabled_first` |
//! | RDY and SHST are waited for no longer than the controller said | `waits_end_when_the_controller_said` |
//! | a command that is never answered ends the procedure, at every step | `silence_at_any_step_ends_the_procedure` |
//! | a refused command ends the procedure by name, at every step | `refusal_at_any_step_names_the_command` |
//! | a fatal status, and capabilities that cannot be served, end it | `a_fatal_status_is_noticed`, `capabilities_that_cannot_be_served_are_refused` |
//! | keep-alives go out twice per timeout, and one that is not answered is noticed | `keep_alives_go_out_and_are_awaited` |
//! | a shutdown is orderly, and a connection lost before its end is a failure | `shutdown_is_orderly`, `a_closed_connection_is_a_failure` |
//! | I/O queues beyond the controller's limits are refused, naming the limit | `io_queues_stay_within_limits` |
use super::*;
use crate::nvme::fabrics::Nqn;
use crate::nvme::queue::Reason;
use crate::nvme::queue::tests::{Memory, Script};
use crate::nvme::status::Status;

/// The other side.
struct Peer {
    script: Script,
    cap: u64,
    csts: u64,
    /// Looks at CSTS that RDY or SHST still take.
    slow: u32,
    queues: u32,
    /// Names of the commands seen.
    log: Vec<String>,
    /// Answer the command with this index with a status, or not at all.
    refuse: Option<usize>,
    silent_from: usize,
}

struct Rig {
    controller: Controller,
    memory: Memory,
    peer: Peer,
    seq: u32,
    now: Duration,
    heard: Vec<u8>,
}

fn config() -> ControllerConfig {
    let nqn = |name| Nqn::new(name).expect("a name");
    ControllerConfig {
        identity: HostIdentity { host_id: [1; 16], host_nqn: nqn("nqn.h"), subsystem_nqn: nqn("nqn.s") },
        header_digest: true,
        data_digest: true,
        io_queues: 4,
        max_namespaces: 2,
        keep_alive: Duration::from_secs(10),
        timeout: Duration::from_secs(3),
    }
}

impl Rig {
    fn new() -> Rig {
        Rig {
            controller: Controller::new(config(), Duration::ZERO).expect("legal"),
            memory: Memory::default(),
            peer: Peer {
                script: Script::new(true, true),
                // MQES 127, TO 2 s, NVM command set.
                cap: 127 | 4 << 24 | 1 << 37,
                csts: 0,
                slow: 2,
                queues: 0x0001_0002,
                log: Vec::new(),
                refuse: None,
                silent_from: usize::MAX,
            },
            seq: 5,
            now: Duration::ZERO,
            heard: Vec::new(),
        }
    }

    /// Moves bytes both ways and polls until something happened or nothing is left to do before `until`.
    fn run(&mut self, until: Duration) -> Option<ControllerEvent> {
        for _ in 0..10_000 {
            let mut out = [0; 700];
            let n = self.controller.queue().transmit(&self.memory, &mut out);
            self.heard.extend(&out[..n]);
            self.peer.answer(&mut self.heard);
            if !self.peer.script.stream.is_empty() {
                let bytes = std::mem::take(&mut self.peer.script.stream);
                let len = bytes.len() as u32;
                let buffer = self.memory.ring.len() as u32;
                self.memory.ring.push(bytes);
                let range = crate::frame::Range::Ring { buffer, offset: 0, len };
                self.controller.queue().receive(self.seq, false, [range], &mut self.memory);
                self.seq = self.seq.wrapping_add(len);
            } else if n == 0 && !self.controller.queue().has_output() {
                match self.controller.next_deadline() {
                    Some(at) if at <= until => self.now = self.now.max(at),
                    _ => return None,
                }
            }
            if let Some(event) = self.controller.poll(self.now) {
                return Some(event);
            }
        }
        panic!("no end: {:?}", self.peer.log);
    }

    fn failure(&mut self) -> ControllerError {
        match self.run(Duration::from_secs(1000)) {
            Some(ControllerEvent::Failed(error)) => error,
            other => panic!("{other:?} after {:?}", self.peer.log),
        }
    }
}

impl Peer {
    fn answer(&mut self, heard: &mut Vec<u8>) {
        while heard.len() >= 8 {
            let plen = u32::from_le_bytes([heard[4], heard[5], heard[6], heard[7]]) as usize;
            if heard.len() < plen {
                return;
            }
            let pdu: Vec<u8> = heard.drain(..plen).collect();
            match pdu[0] {
                0 => self.script.icresp(0, 4096),
                4 => self.command(&pdu[8..72]),
                other => panic!("PDU type {other}"),
            }
        }
    }

    fn command(&mut self, sqe: &[u8]) {
        let cid = u16::from_le_bytes([sqe[2], sqe[3]]);
        let dword = |at: usize| u32::from_le_bytes([sqe[at], sqe[at + 1], sqe[at + 2], sqe[at + 3]]);
        let (mut page, mut result) = (None, 0);
        let name = match (sqe[0], sqe[4]) {
            (0x7f, 1) => {
                assert_eq!((dword(40) >> 16, dword(48)), (0, 10_000), "QID 0, KATO 10 s");
                result = 0x42;
                "connect".to_owned()
            }
            (0x7f, 4) => {
                assert_eq!(sqe[40], u8::from(dword(44) == 0));
                result = match dword(44) {
                    0 => self.cap,
                    8 => 0x0001_0400,
                    0x1c => {
                        self.slow = self.slow.saturating_sub(1);
                        self.csts
                    }
                    other => panic!("property {other:#x}"),
                };
                if dword(44) == 0x1c && self.slow > 0 {
                    // Still as before the last write of CC.
                    result ^= if self.csts & 0xc != 0 { 0xc } else { 1 };
                    if self.log.iter().all(|l| !l.starts_with("cc")) {
                        result = self.csts;
                    }
                }
                format!("get {:#x}", dword(44))
            }
            (0x7f, 0) => {
                assert_eq!(dword(44), 0x14);
                let cc = dword(48);
                self.csts = u64::from(cc & 1) | if cc >> 14 & 3 == 1 { 0b1000 } else { 0 };
                self.slow = 3;
                format!("cc {cc:#x}")
            }
            (6, _) => {
                let mut bytes = vec![0; 4096];
                match (dword(40), dword(4)) {
                    (1, 0) => {
                        (bytes[77], bytes[78]) = (5, 0x42);
                        bytes[88..92].copy_from_slice(&7_000_000u32.to_le_bytes());
                        bytes[514..516].copy_from_slice(&100u16.to_le_bytes());
                        bytes[1792..1796].copy_from_slice(&516u32.to_le_bytes());
                    }
                    (2, 0) => (bytes[0], bytes[4], bytes[8]) = (1, 5, 9),
                    (0, nsid) => {
                        bytes[0] = 100 + nsid as u8;
                        // Namespace 5 has metadata.
                        bytes[128] = if nsid == 5 { 8 } else { 0 };
                        bytes[130] = 9;
                    }
                    other => panic!("identify {other:?}"),
                }
                page = Some(bytes);
                format!("identify {} {}", dword(40), dword(4))
            }
            (9, _) => {
                assert_eq!((dword(40), dword(44)), (7, 0x0003_0003));
                result = self.queues.into();
                "queues".to_owned()
            }
            (0x18, _) => "keep alive".to_owned(),
            other => panic!("command {other:?}"),
        };
        let index = self.log.len();
        self.log.push(name);
        if index >= self.silent_from {
            return;
        }
        if self.refuse == Some(index) {
            return self.script.response(cid, 0x4002, 0);
        }
        match page {
            Some(bytes) => self.script.data(cid, 0, &bytes, 12, 0),
            None => self.script.response(cid, 0, result),
        }
    }
}

const BRING_UP: [&str; 13] = [
    "connect",
    "get 0x0",
    "get 0x8",
    "get 0x1c",
    "cc 0x460001",
    "get 0x1c",
    "get 0x1c",
    "get 0x1c",
    "identify 1 0",
    "identify 2 0",
    "identify 0 1",
    "identify 0 5",
    "queues",
];

#[test]
fn bring_up_ends_with_limits_and_namespaces() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(Duration::from_secs(60)), Some(ControllerEvent::Ready));
    assert_eq!(rig.peer.log, BRING_UP);
    let controller = &rig.controller;
    assert_eq!((controller.controller_id(), controller.version()), (0x42, 0x1_0400));
    let expected = ControllerLimits { io_queues: 2, depth: 100, max_transfer: 131_072, in_capsule_bytes: 8192 };
    assert_eq!(controller.limits(), Some(expected));
    let [first, second] = controller.namespaces() else { panic!("two are looked at, of three") };
    assert_eq!((first.id, first.page.as_ref().map(|page| page.blocks)), (1, Ok(101)));
    assert_eq!(second.id, 5);
    assert!(second.page.as_ref().expect_err("has metadata").to_string().contains("LBAF.MS"));
}

#[test]
fn an_enabled_controller_is_disabled_first() {
    let mut rig = Rig::new();
    rig.peer.csts = 1;
    assert_eq!(rig.run(Duration::from_secs(60)), Some(ControllerEvent::Ready));
    let start = rig.peer.log.iter().position(|l| l == "cc 0x0").expect("disabled");
    assert_eq!(rig.peer.log[start + 1..start + 5], ["get 0x1c", "get 0x1c", "get 0x1c", "cc 0x460001"]);
}

#[test]
fn waits_end_when_the_controller_said() {
    let mut rig = Rig::new();
    while !rig.peer.log.iter().any(|l| l.starts_with("cc")) {
        assert_eq!(rig.run(rig.now), None);
        rig.now += Duration::from_millis(1);
    }
    rig.peer.slow = u32::MAX;
    let started = rig.now;
    let error = rig.failure();
    assert_eq!(error, ControllerError::Status { awaited: "RDY (bit 0)", csts: 0, waited: Duration::from_secs(2) });
    assert!(rig.now - started <= Duration::from_millis(2010), "CAP.TO");
    assert_eq!(rig.controller.poll(rig.now), None, "one failure");

    let mut rig = Rig::new();
    assert_eq!(rig.run(Duration::from_secs(60)), Some(ControllerEvent::Ready));
    let started = rig.now;
    rig.controller.shutdown(rig.now);
    assert_eq!(rig.run(rig.now), None);
    rig.peer.slow = u32::MAX;
    assert!(matches!(rig.failure(), ControllerError::Status { awaited, .. } if awaited.contains("SHST")));
    let waited = rig.now - started;
    assert!(waited >= Duration::from_secs(7) && waited <= Duration::from_millis(7010), "RTD3E, not {waited:?}");
}

#[test]
fn a_fatal_status_is_noticed() {
    let mut rig = Rig::new();
    while !rig.peer.log.iter().any(|l| l.starts_with("cc")) {
        assert_eq!(rig.run(rig.now), None);
        rig.now += Duration::from_millis(1);
    }
    rig.peer.csts = 3;
    assert!(matches!(rig.failure(), ControllerError::Fatal { .. }));
}

#[test]
fn silence_at_any_step_ends_the_procedure() {
    for (step, command) in BRING_UP.into_iter().enumerate() {
        let mut rig = Rig::new();
        rig.peer.silent_from = step;
        let error = rig.failure();
        let ControllerError::Queue(reason) = &error else { panic!("step {step}: {error}") };
        match (step, reason) {
            (0, Reason::Initialization { awaited: "response to Connect", .. }) => {}
            (1.., Reason::CommandTimeout { .. }) => {}
            _ => panic!("step {step}: {reason}"),
        }
        assert_eq!(rig.peer.log.len(), step + 1, "nothing was sent after {command}");
    }
}

#[test]
fn refusal_at_any_step_names_the_command() {
    let names = [
        "Connect",
        "Property Get CAP",
        "Property Get VS",
        "Property Get CSTS",
        "Property Set CC = 0x460001",
        "Property Get CSTS",
        "Property Get CSTS",
        "Property Get CSTS",
        "Identify Controller",
        "Identify Active Namespace ID list",
        "Identify Namespace 1",
        "Identify Namespace 5",
        "Set Features, Number of Queues (4)",
    ];
    for (step, name) in names.into_iter().enumerate() {
        let mut rig = Rig::new();
        rig.peer.refuse = Some(step);
        let error = rig.failure();
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("Invalid Field in Command"), "step {step}: {text}");
        if let ControllerError::Command { status, .. } = error {
            assert!(status.do_not_retry() && !status.is(Status::SUCCESS));
        }
    }
}

#[test]
fn capabilities_that_cannot_be_served_are_refused() {
    for (cap, text) in [(1 << 37, "MQES"), (127, "CSS")] {
        let mut rig = Rig::new();
        rig.peer.cap = cap;
        let error = rig.failure().to_string();
        assert!(error.contains("CAP") && error.contains(text), "{error}");
    }
}

#[test]
fn keep_alives_go_out_and_are_awaited() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(Duration::from_secs(1)), Some(ControllerEvent::Ready));
    assert_eq!(rig.run(Duration::from_secs(52)), None);
    let alive = |rig: &Rig| rig.peer.log.iter().filter(|l| *l == "keep alive").count();
    assert_eq!(alive(&rig), 10, "every 5 s");
    rig.peer.silent_from = rig.peer.log.len();
    assert!(matches!(rig.failure(), ControllerError::Queue(Reason::CommandTimeout { opcode: 0x18, .. })));
    assert_eq!(alive(&rig), 11);

    let mut rig = Rig::new();
    assert_eq!(rig.run(Duration::from_secs(1)), Some(ControllerEvent::Ready));
    rig.peer.refuse = Some(rig.peer.log.len());
    assert!(rig.failure().to_string().contains("Keep Alive was refused"));
}

#[test]
fn shutdown_is_orderly() {
    let mut rig = Rig::new();
    rig.controller.shutdown(rig.now);
    assert_eq!(rig.run(Duration::from_secs(60)), Some(ControllerEvent::Ready));
    let before = rig.peer.log.len();
    rig.controller.shutdown(rig.now);
    rig.controller.shutdown(rig.now);
    assert!(rig.controller.io_queue(1, 1).is_err(), "no new queues");
    assert_eq!(rig.run(rig.now + Duration::from_secs(1)), Some(ControllerEvent::Down));
    assert_eq!(rig.peer.log[before..], ["cc 0x464001", "get 0x1c", "get 0x1c", "get 0x1c"]);
    rig.controller.connection_closed();
    assert_eq!((rig.controller.poll(rig.now), rig.controller.next_deadline()), (None, None));
}

#[test]
fn a_closed_connection_is_a_failure() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(Duration::from_secs(60)), Some(ControllerEvent::Ready));
    rig.controller.connection_closed();
    assert_eq!(rig.controller.poll(rig.now), Some(ControllerEvent::Failed(ControllerError::Queue(Reason::Closed))));
}

#[test]
fn io_queues_stay_within_limits() {
    let mut rig = Rig::new();
    assert_eq!(rig.controller.io_queue(1, 1), Err(QueueRefused::NotReady));
    assert_eq!(rig.run(Duration::from_secs(60)), Some(ControllerEvent::Ready));
    let queue = rig.controller.io_queue(2, 100).expect("within the limits");
    assert_eq!((queue.controller_id, queue.queue_id, queue.depth, queue.keep_alive_ms), (0x42, 2, 100, 0));
    assert_eq!((queue.in_capsule_bytes, queue.max_transfer, queue.hpda), (8192, 131_072, 0));
    for id in [0, 3] {
        assert_eq!(rig.controller.io_queue(id, 1), Err(QueueRefused::Id { queue_id: id, most: 2 }));
    }
    for depth in [0, 101] {
        let error = rig.controller.io_queue(1, depth).expect_err("beyond");
        assert_eq!(error, QueueRefused::Depth { depth, most: 100, mqes: 127, maxcmd: 100 });
        assert!(error.to_string().contains("MAXCMD"));
    }
}
