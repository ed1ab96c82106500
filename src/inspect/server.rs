//! The stats socket: a unix stream socket that a running driver answers on, in threads of its own.
//!
//! Only its owner can connect (mode 0600), and nothing that is asked changes anything. It trusts nobody all the same: a
//! question has 4 KiB, a client ten seconds between two of them, four are served at once, and dumps are made one after the
//! other and not more than twenty a second. Frames: [`frame`](super::frame); questions and answers: `docs/regdump.md`.

use super::desk::{Answer, Asker, Desk, NoAnswer, Wanted};
use super::dump::SectionName;
use super::frame::{self, MAX_ANSWER, MAX_REQUEST, PROTOCOL};
use crate::observe::{Zeros, event_json, snapshot_json, snapshot_text};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long the owner may take.
const OWNER_PATIENCE: Duration = Duration::from_secs(15);
/// How long a client may say nothing, or not take its answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
/// Clients served at once.
const MAX_CLIENTS: usize = 4;
/// Between two looks at the listening socket.
const PACE: Duration = Duration::from_millis(20);
/// After an answer, before the next question of a client is read.
const REST: Duration = Duration::from_millis(50);
/// Number of a session's only shard.
const SHARD: u32 = 0;

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct ServerError {
    /// Where.
    pub path: String,
    /// Why not, and what to do.
    pub why: String,
}

/// A server, until it is dropped. The socket goes with it.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Makes the socket at `path`. The desk is for the loop that owns the session.
    pub fn start(path: &Path) -> Result<(Server, Desk), ServerError> {
        let listener = listen(path)?;
        let (desk, asker) = Desk::new();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || accept(&listener, &Arc::new(asker), &stopped);
        let thread = thread::Builder::new().name("stats socket".into()).spawn(work);
        let mut server = Server { path: path.to_owned(), stop, thread: None };
        server.thread = Some(thread.map_err(|error| refused(path, error))?);
        Ok((server, desk))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the stats socket has panicked");
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> ServerError {
    ServerError { path: path.display().to_string(), why: why.to_string() }
}

/// Listens at `path` so that nobody else can ever connect: the socket gets its mode under another name, and then its own,
/// which it takes only if that is free or left over from a process that has ended.
fn listen(path: &Path) -> Result<UnixListener, ServerError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", std::process::id()));
    let aside = PathBuf::from(aside);
    let _ = fs::remove_file(&aside);
    let listener =
        UnixListener::bind(&aside).map_err(|error| refused(path, format!("no socket can be made there: {error}")))?;
    let named = fs::set_permissions(&aside, Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(|error| refused(path, error))
        .and_then(|()| take_name(&aside, path));
    let _ = fs::remove_file(&aside);
    named.map(|()| listener)
}

fn take_name(aside: &Path, path: &Path) -> Result<(), ServerError> {
    match fs::hard_link(aside, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        outcome => return outcome.map_err(|error| refused(path, error)),
    }
    let is_socket = fs::symlink_metadata(path).is_ok_and(|what| what.file_type().is_socket());
    if !is_socket {
        return Err(refused(path, "there is a file that is no socket; choose another path"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        _ => return Err(refused(path, "another process listens there; choose another path")),
    }
    fs::rename(aside, path).map_err(|error| refused(path, error))
}

fn accept(listener: &UnixListener, asker: &Arc<Asker>, stop: &Arc<AtomicBool>) {
    let clients = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::Acquire) {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    log::debug!("stats socket: {error}");
                }
                thread::sleep(PACE);
                continue;
            }
        };
        if clients.fetch_add(1, Ordering::AcqRel) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::AcqRel);
            // What fits the socket's buffer is said, without waiting.
            let _ = stream.set_nonblocking(true);
            let _ = frame::write(&mut stream, error_text("too many clients; try again").as_bytes());
            continue;
        }
        let (asker, place) = (Arc::clone(asker), Place(Arc::clone(&clients)));
        let work = move || {
            let _place = place;
            if let Err(error) = serve(stream, &asker) {
                log::debug!("stats socket: {error}");
            }
        };
        if let Err(error) = thread::Builder::new().name("stats client".into()).spawn(work) {
            log::warn!("stats socket: no thread for a client: {error}");
        }
    }
}

/// A place among the clients that are served.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(mut stream: UnixStream, asker: &Asker) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
    stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
    loop {
        let question = match frame::read(&mut stream, MAX_REQUEST) {
            Ok(Some(question)) => question,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return frame::write(&mut stream, error_text(&error.to_string()).as_bytes());
            }
            Err(error) => return Err(error),
        };
        let answer = match Question::parse(&question).and_then(|question| question.answer(asker)) {
            Ok(answer) => answer.to_string(),
            Err(why) => error_text(&why),
        };
        match answer.len() {
            ..=MAX_ANSWER => frame::write(&mut stream, answer.as_bytes())?,
            bytes => {
                let why =
                    format!("the answer has {bytes} bytes, at most {MAX_ANSWER} are sent: ask for fewer sections");
                frame::write(&mut stream, error_text(&why).as_bytes())?;
            }
        }
        thread::sleep(REST);
    }
}

fn error_text(why: &str) -> String {
    json!({ "version": PROTOCOL, "error": why }).to_string()
}

/// What a client asks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    version: u32,
    ask: Ask,
    #[serde(default)]
    sections: Vec<SectionName>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ask {
    Statistics,
    /// The same for people: what is not 0, or all of it.
    Text,
    TextAll,
    Events,
    Dump,
}

impl Question {
    fn parse(bytes: &[u8]) -> Result<Question, String> {
        let question: Question =
            serde_json::from_slice(bytes).map_err(|error| format!("this is no question: {error}"))?;
        match question.version {
            PROTOCOL => Ok(question),
            version => Err(format!("version {version} is asked, {PROTOCOL} is spoken")),
        }
    }

    fn answer(self, asker: &Asker) -> Result<Value, String> {
        let mut sections = self.sections;
        sections.sort_unstable();
        sections.dedup();
        if sections.is_empty() {
            sections = SectionName::ALL.to_vec();
        }
        let wanted = match self.ask {
            Ask::Statistics | Ask::Text | Ask::TextAll => Wanted::Statistics,
            Ask::Events => Wanted::Events,
            Ask::Dump => Wanted::Dump(sections),
        };
        let answer = asker.ask(wanted, OWNER_PATIENCE).map_err(|why| match why {
            NoAnswer::Over => "the driver has ended".to_owned(),
            NoAnswer::Late => format!("the driver has not answered for {OWNER_PATIENCE:?}: its loop stands still"),
        })?;
        let mut object = json!({ "version": PROTOCOL });
        let (name, value) = match (answer, self.ask) {
            (Answer::Statistics(snapshot), Ask::Text) => ("text", snapshot_text(&snapshot, Zeros::Hidden).into()),
            (Answer::Statistics(snapshot), Ask::TextAll) => ("text", snapshot_text(&snapshot, Zeros::Shown).into()),
            (Answer::Statistics(snapshot), _) => ("statistics", snapshot_json(&snapshot)),
            (Answer::Events(events, ring), _) => {
                object["events_forgotten"] = ring.forgotten.into();
                object["lines"] = events.iter().map(ToString::to_string).collect();
                ("events", events.iter().map(|event| event_json(SHARD, event)).collect())
            }
            (Answer::Dump(dump), _) => ("dump", serde_json::to_value(&*dump).map_err(|error| error.to_string())?),
        };
        object[name] = value;
        Ok(object)
    }
}
