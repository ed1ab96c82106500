//! The other end of the stats socket.

use super::dump::{Bad, Dump, SectionName};
use super::frame::{self, MAX_ANSWER, PROTOCOL};
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("{path}: {error}; a driver must run with --stats-socket {path}, as the same user")]
    Connect {
        /// Where.
        path: String,
        /// Why not.
        error: io::Error,
    },
    /// The connection failed.
    #[error("the driver did not answer: {0}")]
    Transport(#[from] io::Error),
    /// It says why not.
    #[error("the driver says: {0}")]
    Refused(String),
    /// The answer is not one to the question.
    #[error("the answer is none: {0}")]
    Shape(String),
    /// The dump in it is none.
    #[error(transparent)]
    Dump(#[from] Bad),
}

/// A connection to a running driver.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the driver that serves `path`.
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        let connect = |error| ClientError::Connect { path: path.display().to_string(), error };
        let stream = UnixStream::connect(path).map_err(connect)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream })
    }

    /// Asks, and returns member `member` of the answer.
    fn ask(&mut self, mut question: Value, member: &str) -> Result<Value, ClientError> {
        question["version"] = PROTOCOL.into();
        frame::write(&mut self.stream, question.to_string().as_bytes())?;
        let answer = match frame::read(&mut self.stream, MAX_ANSWER) {
            Ok(answer) => answer.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("nothing came for {PATIENCE:?}")).into());
            }
            Err(error) => return Err(error.into()),
        };
        let mut answer: Value =
            serde_json::from_slice(&answer).map_err(|error| ClientError::Shape(error.to_string()))?;
        if let Some(why) = answer["error"].as_str() {
            return Err(ClientError::Refused(why.to_owned()));
        }
        match answer.get_mut(member) {
            Some(value) => Ok(value.take()),
            None => Err(ClientError::Shape(format!("there is no {member:?} in it"))),
        }
    }

    /// Every number of the driver, in the shape of `docs/stats.md`.
    pub fn statistics(&mut self) -> Result<Value, ClientError> {
        self.ask(json!({ "ask": "statistics" }), "statistics")
    }

    /// The same for people, those that are 0 too if `all`.
    pub fn text(&mut self, all: bool) -> Result<String, ClientError> {
        let text = self.ask(json!({ "ask": if all { "textall" } else { "text" } }), "text")?;
        text.as_str().map(str::to_owned).ok_or_else(|| ClientError::Shape("its text is none".into()))
    }

    /// What happened, one by one, in the shape of `docs/stats.md`.
    pub fn events(&mut self) -> Result<Vec<Value>, ClientError> {
        match self.ask(json!({ "ask": "events" }), "events")? {
            Value::Array(events) => Ok(events),
            _ => Err(ClientError::Shape("its events are none".into())),
        }
    }

    /// The same for people, a line each.
    pub fn event_lines(&mut self) -> Result<Vec<String>, ClientError> {
        let lines = self.ask(json!({ "ask": "events" }), "lines")?;
        serde_json::from_value(lines).map_err(|error| ClientError::Shape(error.to_string()))
    }

    /// A dump of these sections.
    pub fn dump(&mut self, sections: &[SectionName]) -> Result<Dump, ClientError> {
        let question = json!({ "ask": "dump", "sections": sections });
        let dump = self.ask(question, "dump")?;
        Ok(Dump::from_json(dump.to_string().as_bytes())?)
    }
}
