//! What the device sees of its driver.
//!
//! | property | test |
//! |---|---|
//! | every command is written down as the driver posted it and found it answered, WQEs and CQEs as they lie in memory | `what_is_seen_is_written_down` |
//! | only what is asked for is written down, and tracing changes no answer | `only_what_is_asked_for_is_written_down` |
//! | commands, register accesses and doorbells are counted until a driver's first frames, for each driver by itself | `the_effort_until_the_first_frame_is_counted` |

use super::host::Host;
use super::traffic::{config, receiver};
use crate::packet::build::Build;
use crate::trace::Tracing;
use crate::{Effort, VirtualNic};
use cxddp_trace::{Dump, EntryKind, Fact, Sink, Trace};
use firmware_iface::Opcode;
use firmware_iface::caps::CapGroup;
use firmware_iface::command::InHeader;
use firmware_iface::command::device::{QueryHcaCapIn, QueryHcaCapOut};
use hw_regs::command_queue::CommandEntry;
use hw_regs::layout::{Access, Layout};
use std::io;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes down what a device sees, and reads it again.
struct Watch(Memory);

impl Watch {
    fn on(nic: &mut VirtualNic, commands: bool, wqes: bool, cqes: bool) -> Watch {
        let memory = Memory::default();
        let sink = Sink::to(memory.clone(), u64::MAX);
        nic.trace(Tracing { sink, function: "pf".into(), commands, wqes, cqes });
        Watch(memory)
    }

    fn trace(&self) -> Trace {
        Trace::parse(std::str::from_utf8(&self.0.0.lock().unwrap()).unwrap()).unwrap()
    }
}

#[test]
fn what_is_seen_is_written_down() {
    let (mut host, mut cq, mut rq) = receiver(4, |_| ());
    let watch = Watch::on(&mut host.nic, true, true, true);
    // A command with mailboxes on its way out, and one that is refused.
    let op_mod = u32::from(CapGroup::GENERAL.0 << 1);
    let mut input = QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OP_MOD, op_mod);
    input.set(QueryHcaCapIn::OPCODE, u32::from(Opcode::QUERY_HCA_CAP.0));
    let answered = host.send(Opcode::QUERY_HCA_CAP, input.bytes(), QueryHcaCapOut::SIZE);
    let (status, _) = host.refused(Opcode(0xfff), &InHeader::zeroed(), &[0; 1000]);
    let at = rq.at(rq.counter);
    host.post_receives(&mut rq, 1, 2048);
    host.nic.receive(&Build::tcp(1, &[7; 100]).frame());
    let cqe = host.next_cqe(&mut cq).expect("a completion");

    let trace = watch.trace();
    assert_eq!(trace.facts[0].1, Fact::Id(0x15b3, 0x1021));
    let [caps, refused] = &trace.commands[..] else { panic!("{} commands", trace.commands.len()) };
    assert_eq!(caps.input(), input.bytes());
    assert_eq!(caps.output.as_ref().map(Dump::output), Some(answered));
    assert_eq!(refused.input_len(), 1016);
    assert_eq!(refused.input().len(), 1016, "with its mailboxes");
    let output = refused.output.as_ref().expect("answered");
    assert_eq!((output.output()[0], output.entry.get(CommandEntry::STATUS_OWN)), (status.0, 0));
    let entries: Vec<_> = trace.entries.iter().map(|e| (e.kind, e.queue, e.index, e.bytes.clone())).collect();
    assert_eq!(
        entries,
        [(EntryKind::ReceiveWqe, rq.number, 0, host.read(at, 16)), (EntryKind::Cqe, cq.number, 0, cqe)]
    );
}

#[test]
fn only_what_is_asked_for_is_written_down() {
    let run = |watch: Option<(bool, bool, bool)>| {
        let (mut host, mut cq, mut rq) = receiver(4, |_| ());
        let watch = watch.map(|(commands, wqes, cqes)| Watch::on(&mut host.nic, commands, wqes, cqes));
        host.post_receives(&mut rq, 1, 2048);
        host.nic.receive(&Build::tcp(1, &[7; 100]).frame());
        host.exec::<_, InHeader>(Opcode::NOP, &InHeader::zeroed());
        (host.next_cqe(&mut cq), host.nic.counters().clone(), watch.map(|watch| watch.trace()))
    };
    let (cqe, counters, _) = run(None);
    for (what, commands, entries) in [
        ((true, false, false), 1, 0),
        ((false, true, false), 0, 1),
        ((false, false, true), 0, 1),
        ((true, true, true), 1, 2),
    ] {
        let (traced_cqe, traced_counters, trace) = run(Some(what));
        let trace = trace.expect("it was asked for");
        assert_eq!((trace.commands.len(), trace.entries.len()), (commands, entries), "{what:?}");
        assert_eq!((&traced_cqe, &traced_counters), (&cqe, &counters), "{what:?}");
    }
}

#[test]
fn the_effort_until_the_first_frame_is_counted() {
    let (mut host, mut cq, mut rq) = receiver(4, |_| ());
    let before = host.nic.counters().clone();
    host.nic.read32(0x1010);
    host.nic.read_bytes(0, &mut [0; 8]);
    host.post_receives(&mut rq, 2, 2048);
    host.nic.receive(&Build::tcp(1, &[7; 100]).frame());
    host.next_cqe(&mut cq).expect("a completion");
    let received = host.nic.sessions()[0].first_received.expect("one came");
    let expected = Effort {
        commands: before.commands,
        reads: before.register_reads + 2,
        health_reads: before.health_reads + 1,
        writes: before.register_writes,
        command_doorbells: before.commands,
        ..Effort::default()
    };
    assert_eq!(received, expected);
    // The queue address, high and low, and a doorbell for each command.
    assert_eq!(received.writes, 2 + received.command_doorbells);
    // What comes later changes it no more, but counts in all.
    host.nic.receive(&Build::tcp(1, &[7; 100]).frame());
    host.exec::<_, InHeader>(Opcode::NOP, &InHeader::zeroed());
    let session = host.nic.sessions()[0];
    assert_eq!((session.first_received, session.first_sent), (Some(expected), None));
    assert_eq!(session.all.commands, expected.commands + 1);
    // The next driver begins anew; one that does nothing is none.
    host.nic.reset();
    host.nic.reset();
    host.start_command_queue();
    host.start();
    let sessions = host.nic.sessions();
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[0], session);
    assert!(sessions[1].first_received.is_none() && sessions[1].all.commands < 20, "{sessions:?}");
    let other = Host::running(config());
    assert_eq!(other.nic.sessions()[0].all.commands, other.nic.counters().commands);
}
