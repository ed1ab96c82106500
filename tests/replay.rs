//! Recorded bring-ups are played back to the driver.
//!
//! | property | test |
//! |---|---|
//! | what our driver writes down is bit for bit what the device sees in memory | `what_we_write_down_is_what_the_device_saw` |
//! | our own bring-up, question and teardown replay from their own trace, and the trace is used up | `our_own_recording_replays` |
//! | what a driver does otherwise is told at the first command that differs, by field, and ends the replay | `the_first_difference_is_told` |
//! | a trace that ends early, or lacks an answer, is told | `a_trace_that_ends_is_told` |
//! | on the recorded answers of a real ConnectX-4 our bring-up comes as far as the recording goes: to the event queues | `a_real_cards_answers_bring_us_up` |
//! | a trace that cannot be replayed is refused with what is wrong | `what_cannot_be_replayed_is_refused` |

mod support;

use connectx_ddp::adapter::{Adapter, Config};
use connectx_ddp::platform::Platform;
use connectx_ddp::platform::replay::{Order, Replay};
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use cxddp_trace::{Sink, Trace};
use firmware_iface::Opcode;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A file in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `cxddp probe` does. The report's text, or the error's.
fn probe(platform: Arc<impl Platform>, config: Config) -> Result<String, String> {
    let mut adapter = Adapter::bring_up(platform, config).map_err(|error| error.to_string())?;
    let deadline = adapter.command_deadline();
    let report = adapter.report(deadline).map_err(|error| error.to_string())?.to_string();
    let teardown = adapter.teardown(deadline);
    assert!(teardown.is_clean(), "{teardown}");
    Ok(report)
}

/// A trace of [`probe`] on the virtual ConnectX, and what it said.
fn recording() -> (String, String) {
    let memory = Memory::default();
    let mut config = virtual_nic::Config::default();
    (config.pages.boot, config.pages.init) = (6, 40);
    let platform = Arc::new(VirtualPlatform::new("recorded", config));
    let config = Config { trace: Some(Sink::to(memory.clone(), u64::MAX)), ..Config::default() };
    let report = probe(platform, config).expect("it comes up");
    let text = String::from_utf8(memory.0.lock().expect("lock").clone()).expect("UTF-8");
    (text, report)
}

fn replay(trace: Trace) -> Arc<Replay> {
    Arc::new(Replay::new("recorded", trace, Order::Exact))
}

#[test]
fn what_we_write_down_is_what_the_device_saw() {
    let (ours, theirs) = (Memory::default(), Memory::default());
    let platform = Arc::new(VirtualPlatform::new("recorded", virtual_nic::Config::default()));
    let (sink, function) = (Sink::to(theirs.clone(), u64::MAX), "recorded".to_owned());
    platform.nic().trace(virtual_nic::Tracing { sink, function, commands: true, wqes: false, cqes: false });
    let config = Config { trace: Some(Sink::to(ours.clone(), u64::MAX)), ..Config::default() };
    probe(platform, config).expect("it comes up");
    let read = |memory: &Memory| {
        let text = String::from_utf8(memory.0.lock().expect("lock").clone()).expect("UTF-8");
        let trace = Trace::parse(&text).expect("a trace");
        let sides = trace.commands.into_iter().map(|command| (command.input, command.output));
        (sides.collect::<Vec<_>>(), trace.facts)
    };
    let ((ours, our_facts), (theirs, their_facts)) = (read(&ours), read(&theirs));
    assert_eq!(our_facts, their_facts);
    assert_eq!(ours.len(), theirs.len());
    for (n, ((our_input, our_output), (their_input, their_output))) in ours.iter().zip(&theirs).enumerate() {
        // Entries and mailboxes, tokens, signatures, addresses and all.
        assert_eq!(our_input, their_input, "input {n}");
        assert_eq!(our_output, their_output, "output {n}");
    }
}

#[test]
fn our_own_recording_replays() {
    let (text, live) = recording();
    let trace = Trace::parse(&text).expect("a trace");
    let commands = trace.commands.len();
    assert!(trace.commands.iter().all(|command| command.output.is_some()));
    assert!(trace.commands.iter().any(|command| command.opcode() == Opcode::MANAGE_PAGES));
    let platform = replay(trace);
    let replayed = probe(Arc::clone(&platform), Config::default()).expect("it comes up");
    assert_eq!(platform.divergences(), []);
    assert_eq!(platform.progress(), (commands, 0));
    // All that firmware says. Vectors that no event queue fires are not in a trace.
    let lines = |text: &str| text.replace("17 vectors", "64 vectors").lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&replayed), lines(&live));
}

#[test]
fn the_first_difference_is_told() {
    let (text, _) = recording();
    let trace = Trace::parse(&text).expect("a trace");
    let at = trace.commands.iter().position(|command| command.key().to_string() == "ACCESS_REG write PMTU (0x5003)");
    let (at, line) = at.map(|at| (at, trace.commands[at].line)).expect("it sets the MTU");
    let platform = replay(trace);
    let error = probe(Arc::clone(&platform), Config { mtu: 4000, ..Config::default() }).expect_err("another MTU");
    assert!(error.contains("gone"), "{error}");
    let divergences = platform.divergences();
    assert_eq!((divergences.len(), divergences[0].command, divergences[0].line), (1, at, Some(line)));
    let said = divergences[0].to_string();
    assert!(said.contains("admin_mtu is 0x5f2 and 0xfb6"), "{said}");
}

#[test]
fn a_trace_that_ends_is_told() {
    let (text, _) = recording();
    let whole = Trace::parse(&text).expect("a trace");
    let mut short = whole.clone();
    short.commands.truncate(9);
    let platform = replay(short);
    probe(Arc::clone(&platform), Config::default()).expect_err("it is short");
    let divergences = platform.divergences();
    assert_eq!(divergences.len(), 1);
    assert!(divergences[0].command == 9 && divergences[0].how.contains("the trace has ended"), "{divergences:?}");
    let mut unanswered = whole;
    unanswered.commands[5].output = None;
    let platform = replay(unanswered);
    probe(Arc::clone(&platform), Config::default()).expect_err("an answer is missing");
    let divergences = platform.divergences();
    assert!(divergences[0].command == 5 && divergences[0].how.contains("no answer"), "{divergences:?}");
}

#[test]
fn a_real_cards_answers_bring_us_up() {
    let test = "a_real_cards_answers_bring_us_up";
    let Some(folder) = support::reference(test) else { return };
    let path = folder.join("traces/mlx5_core-connectx4-commands.txt.gz");
    if !path.is_file() {
        support::skip(test, &format!("{} is absent", path.display()));
        return;
    }
    let trace = Trace::parse(&cxddp_trace::read_file(&path).expect("a file")).expect("a trace");
    let eqs = trace.commands.iter().filter(|command| command.opcode() == Opcode::CREATE_EQ).count();
    assert_eq!(eqs, 15, "it ends at the event queues");
    let platform = Arc::new(Replay::new("card", trace, Order::Kind));
    let error = probe(Arc::clone(&platform), Config::default()).expect_err("the recording ends at the event queues");
    // Linux goes on with event queues where we make a protection domain: that it never posted.
    assert!(error.contains("ALLOC_PD"), "{error}");
    let divergences = platform.divergences();
    let until = divergences.iter().position(|divergence| divergence.key.opcode == Opcode::ALLOC_PD).expect("it is one");
    assert_eq!(divergences[until].command, 21, "every step before had an answer of the card");
    let told: Vec<String> = divergences[..until].iter().map(|it| format!("{}: {}", it.key, it.how)).collect();
    assert_eq!(
        told,
        [
            "SET_HCA_CAP GENERAL: log_max_qp is 0x11 and 0xe (trace, driver)",
            // A Linux of 2016 has no identifier of the owner.
            "INIT_HCA: sw_owner_id is nothing and [0, 0, 0, 0] (trace, driver)",
            "QUERY_PAGES REGULAR_PAGES: the trace has none, or no more",
            "CREATE_EQ for commands: eq_context_entry.intr is 0x1 and 0x0 (trace, driver)",
            "CREATE_EQ for asynchronous events: eq_context_entry.log_eq_size is 0x9 and 0xa (trace, driver)",
            "CREATE_EQ for page requests: eq_context_entry.log_page_size is 0x2 and 0x0 (trace, driver)",
        ]
    );
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let folder = std::env::temp_dir().join(format!("cxddp-replay-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let refused = |text: &str, says: &str| {
        let path = folder.join("trace");
        std::fs::write(&path, text).expect("a file");
        let error = Replay::open(&path).err().expect(says).to_string();
        assert!(error.contains(says) && !error.contains('\n'), "{says}: {error}");
    };
    refused("nothing", "there is no command in it");
    let (text, _) = recording();
    refused(&text.replacen("000: 07", "000: 0x", 1), "line 4: expected four words");
    refused(&format!("{text}{}", text.replace("recorded", "another")), "it has 2 functions (recorded, another)");
    assert!(Replay::open(Path::new("/nonexistent/trace")).is_err());
    std::fs::remove_dir_all(&folder).expect("ours");
}
