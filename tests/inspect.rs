//! The stats socket of a running driver, and the desk in its loop.
//!
//! | property | test |
//! |---|---|
//! | questions are answered, one after the other on one connection; nonsense gets a reason and costs nobody else anything | `questions_are_answered_and_nonsense_is_not` |
//! | the socket is its owner's only; it takes no name that somebody has, but one that a dead process left | `the_socket_is_its_owners` |
//! | clients that say nothing, go away, or are too many do not hold the driver up | `clients_do_not_hold_the_driver_up` |
//! | a command that firmware loses costs its item and nothing else | `a_lost_command_costs_its_item` |
//! | a driver that has ended says so | `a_driver_that_has_ended_says_so` |

#![cfg(feature = "demo")]

use connectx_ddp::demo::{Config, Moment, Outcome, Tap, run_watched};
use connectx_ddp::inspect::{Client, ClientError, Desk, MAX_REQUEST, SectionName, Server};
use connectx_ddp::observe::Direction;
use connectx_ddp::platform::Platform;
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::session::Session;
use firmware_iface::Opcode;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use virtual_nic::VirtualNic;
use virtual_nic::faults::CommandFault;

/// A path of our own that nothing has.
fn path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("cxddp-inspect-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

/// Answers in the loop of a demonstration, and keeps it up until everybody has looked.
struct Answering {
    desk: Desk,
    enough: Arc<AtomicBool>,
    /// A command of this kind is lost.
    loses: Option<Opcode>,
}

impl Tap for Answering {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}

    fn device(&mut self, nic: &mut VirtualNic) {
        if let Some(opcode) = self.loses {
            nic.faults().schedule(Some(opcode), CommandFault::Lost, 1, 1);
        }
    }

    fn session(&mut self, session: &mut Session<VirtualPlatform>, moment: Moment) {
        self.desk.poll(session);
        while moment == Moment::Done && !self.enough.load(Ordering::Acquire) {
            session.poll();
            self.desk.poll(session);
            session.platform().pause();
        }
    }
}

/// Runs a demonstration while `look` looks at it.
fn while_it_runs<R>(loses: Option<Opcode>, look: impl FnOnce(&Path) -> R) -> (R, Outcome) {
    let socket = path();
    let (server, desk) = Server::start(&socket).expect("a path of our own");
    let enough = Arc::new(AtomicBool::new(false));
    let mut answering = Answering { desk, enough: Arc::clone(&enough), loses };
    let config = Config { size: 4 << 20, ..Config::default() };
    let both = std::thread::scope(|scope| {
        let run = scope.spawn(|| run_watched(&config, &mut answering, &mut |_| {}));
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&socket)));
        enough.store(true, Ordering::Release);
        let outcome = run.join().expect("the run panicked").expect("it begins");
        (looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), outcome)
    });
    drop(server);
    assert!(!socket.exists(), "the socket goes with its server");
    both
}

fn send(stream: &mut UnixStream, bytes: &[u8]) {
    stream.write_all(&(bytes.len() as u32).to_be_bytes()).expect("it takes it");
    stream.write_all(bytes).expect("it takes it");
}

fn receive(stream: &mut UnixStream) -> Value {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes).expect("all of it");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn ask(stream: &mut UnixStream, question: &Value) -> Value {
    send(stream, question.to_string().as_bytes());
    receive(stream)
}

#[test]
fn questions_are_answered_and_nonsense_is_not() {
    let ((), outcome) = while_it_runs(None, |socket| {
        let mut stream = UnixStream::connect(socket).expect("it listens");
        for (question, word) in [
            (json!({ "version": 2, "ask": "events" }), "version 2"),
            (json!({ "version": 1, "ask": "everything" }), "everything"),
            (json!({ "version": 1, "ask": "dump", "sections": ["nothing"] }), "nothing"),
            (json!({ "version": 1, "ask": "dump", "reset": true }), "reset"),
            (json!(["version", 1]), "no question"),
        ] {
            let answer = ask(&mut stream, &question);
            assert!(answer["error"].as_str().is_some_and(|why| why.contains(word)), "{question}: {answer}");
        }
        send(&mut stream, b"\xff\xfe");
        assert!(receive(&mut stream)["error"].is_string());
        // The same connection goes on.
        let answer = ask(&mut stream, &json!({ "version": 1, "ask": "statistics" }));
        assert_eq!(answer["statistics"]["version"], 1);
        let answer = ask(&mut stream, &json!({ "version": 1, "ask": "events" }));
        assert_eq!(answer["events"].as_array().map(Vec::len), answer["lines"].as_array().map(Vec::len));
        let answer = ask(&mut stream, &json!({ "version": 1, "ask": "dump", "sections": ["health", "health"] }));
        assert_eq!(answer["dump"]["sections"].as_array().map(Vec::len), Some(1), "{answer}");
        // A promise of more than is allowed is not waited for.
        stream.write_all(&(MAX_REQUEST as u32 + 1).to_be_bytes()).expect("it takes it");
        assert!(receive(&mut stream)["error"].as_str().is_some_and(|why| why.contains("at most")));
        assert_eq!(stream.read(&mut [0]).expect("its end"), 0);
    });
    assert!(outcome.verified, "{:?}", outcome.problems);
}

#[test]
fn the_socket_is_its_owners() {
    let socket = path();
    let (server, _desk) = Server::start(&socket).expect("a path of our own");
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let refused = Server::start(&socket).expect_err("somebody listens").to_string();
    assert!(
        refused.contains("another process listens there") && refused.contains(socket.to_str().expect("UTF-8")),
        "{refused}"
    );
    assert!(UnixStream::connect(&socket).is_ok(), "who was there first still is");
    drop(server);
    assert!(!socket.exists());
    // What a process that was killed leaves behind.
    drop(UnixListener::bind(&socket).expect("a path of our own"));
    assert!(socket.exists());
    let (server, _desk) = Server::start(&socket).expect("nobody listens any more");
    drop(server);
    std::fs::write(&socket, "somebody's").expect("a path of our own");
    let refused = Server::start(&socket).expect_err("a file is there").to_string();
    assert!(refused.contains("no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&socket).expect("it is still there"), "somebody's");
    std::fs::remove_file(&socket).expect("it is ours");
    let folder = socket.parent().expect("a folder");
    let left = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name());
    let name = socket.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(!left.into_iter().any(|other| other.to_string_lossy().starts_with(&name)), "nothing is left aside");
}

#[test]
fn clients_do_not_hold_the_driver_up() {
    let ((), outcome) = while_it_runs(None, |socket| {
        let mut driver = Client::connect(socket).expect("it listens");
        driver.statistics().expect("it answers");
        // Asks for everything and does not wait for it.
        let mut gone = UnixStream::connect(socket).expect("it listens");
        send(&mut gone, json!({ "version": 1, "ask": "dump" }).to_string().as_bytes());
        drop(gone);
        // Those who say nothing are served until there are too many of them.
        let mut silent = Vec::new();
        let answer = loop {
            let mut stream = UnixStream::connect(socket).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket");
            if stream.read_exact(&mut [0; 4]).is_ok() {
                let mut text = String::new();
                stream.read_to_string(&mut text).expect("why");
                break text;
            }
            silent.push(stream);
            assert!(silent.len() < 10, "none is refused");
        };
        assert!(answer.contains("too many clients"), "{answer}");
        assert!(driver.dump(SectionName::ALL).expect("others do not matter").problems.is_empty());
        drop(silent);
    });
    assert!(outcome.verified, "{:?}", outcome.problems);
}

#[test]
fn a_lost_command_costs_its_item() {
    let (dump, _) = while_it_runs(Some(Opcode::QUERY_ADAPTER), |socket| {
        // The bring-up asks too, and comes first: the fault is for later ones.
        Client::connect(socket).expect("it listens").dump(&[SectionName::Caps, SectionName::Rings])
    });
    let dump = dump.expect("it answers");
    let failed: Vec<_> =
        dump.sections.iter().flat_map(|section| &section.items).filter(|item| item.problem.is_some()).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].name, "adapter");
    assert!(failed[0].problem.as_ref().is_some_and(|why| why.contains("no answer within 5s")), "{failed:?}");
    assert!(dump.section(SectionName::Caps).expect("asked for").item("NVMEOTCP").is_some());
}

#[test]
fn a_driver_that_has_ended_says_so() {
    let socket = path();
    let (_server, desk) = Server::start(&socket).expect("a path of our own");
    drop(desk);
    let mut driver = Client::connect(&socket).expect("it listens");
    assert!(matches!(driver.statistics(), Err(ClientError::Refused(why)) if why.contains("has ended")));
    let nobody = Client::connect("/nonexistent/socket".as_ref()).expect_err("nobody").to_string();
    assert!(nobody.contains("/nonexistent/socket") && nobody.contains("--stats-socket"), "{nobody}");
}
