//! The caller's requests, over the connections that come and go.
//!
//! ```text
//!  read, write ─► waiting ─► submitted ─► answered ──────────────────────────────► completed
//!                    ▲           │ connection lost                                     ▲
//!                    │           ├─► buffer back ─► may it be submitted again? ── no ──┤
//!                    │           │                     │ yes                           │
//!                    ├───────────┼─────────────────────┘                               │
//!                    │           └─► kept: the device may still write the buffer ──────┘ if the session ends:
//!                    └─── yes ──────────┘ after the reset                                without the buffer
//! ```
//!
//! | | submitted again |
//! |---|---|
//! | a read | always: reading twice harms nobody |
//! | a write of which no byte was sent | yes: the controller has never seen it |
//! | a write that the controller answered with an error that asks for it | yes: its first execution is over |
//! | either, if its namespace is not what it was | no ([`RequestError::NamespaceChanged`]) |
//! | a write that went out, at least in part, without an answer | no ([`RequestError::WriteUncertain`]) |

use super::event::{Completion, RequestError};
use super::{Counters, Difference};
use crate::ddp::why::Reasons;
use crate::dma::IoBuf;
use crate::nvme::command::Request;
use crate::nvme::queue::DigestBy;
use crate::nvme::status::Status;
use crate::shard;
use std::collections::VecDeque;

/// Statuses after which the same request may succeed: (SCT << 8 | SC).
const TRANSIENT: [u16; 7] = [
    // Command Interrupted, Transient Transport Error, Namespace Not Ready.
    0x021, 0x022, 0x082, // Internal Path Error, Controller Pathing Error.
    0x300, 0x360, // The host's own: Host Pathing Error, Command Aborted By Host.
    0x370, 0x371,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its turn to be submitted comes.
    Waiting,
    /// The shard has it.
    Submitted,
    /// It was not answered, and the device may still write its buffer.
    Kept,
    /// The caller was told that it failed; its buffer is still with the device.
    Over,
}

#[derive(Debug)]
struct Entry {
    token: u64,
    request: Request,
    write: bool,
    /// Present while waiting.
    buffer: Option<IoBuf>,
    state: State,
    attempts: u32,
    /// How the last attempt ended.
    status: Status,
}

/// All requests that are not over, by the token under which the shard knows them.
#[derive(Debug)]
pub(super) struct Requests {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    waiting: VecDeque<u32>,
    /// Those whose end the caller was not told.
    open: usize,
    max_attempts: u32,
}

/// True if the same request may well be taken a little later.
pub(super) fn passes(why: &shard::Refused) -> bool {
    match why {
        shard::Refused::Busy | shard::Refused::NotReady => true,
        shard::Refused::NotBound(why) => why.passes(),
        _ => false,
    }
}

/// What becomes of a request whose attempt failed.
enum Verdict {
    Again,
    Fail(RequestError),
}

impl Entry {
    fn verdict(&self, max_attempts: u32) -> Verdict {
        let Entry { status, attempts, .. } = *self;
        let code = u16::from(status.code_type()) << 8 | u16::from(status.code());
        if self.write && status.is(Status::HOST_PATHING_ERROR) {
            return Verdict::Fail(RequestError::WriteUncertain);
        }
        match !status.do_not_retry() && TRANSIENT.contains(&code) && attempts < max_attempts {
            true => Verdict::Again,
            false => Verdict::Fail(RequestError::Status { status, attempts }),
        }
    }

    fn failed(self, error: RequestError, buffer: Option<IoBuf>) -> Completion {
        Completion {
            token: self.token,
            result: Err(error),
            placed: 0,
            copied: 0,
            why_copied: Reasons::default(),
            digest_by: DigestBy::None,
            queue: 0,
            attempts: self.attempts,
            buffer,
        }
    }
}

impl Requests {
    pub fn new(max_attempts: u32) -> Requests {
        Requests { entries: Vec::new(), free: Vec::new(), waiting: VecDeque::new(), open: 0, max_attempts }
    }

    /// Requests whose end the caller was not told.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Takes a request.
    pub fn add(&mut self, token: u64, request: Request, write: bool, buffer: IoBuf) {
        let status = Status::ABORTED_BY_HOST;
        let state = State::Waiting;
        let entry = Some(Entry { token, request, write, buffer: Some(buffer), state, attempts: 0, status });
        let index = self.free.pop().unwrap_or(self.entries.len() as u32);
        match self.entries.get_mut(index as usize) {
            Some(slot) => *slot = entry,
            None => self.entries.push(entry),
        }
        self.waiting.push_back(index);
        self.open += 1;
    }

    fn remove(&mut self, index: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(entry)
    }

    /// Gives waiting requests to `submit` (request, write, buffer, token) until it takes no more. One that it refuses for
    /// good comes back failed, and so does one whose namespace is not what it was, as `changed` says of its number.
    pub fn submit(
        &mut self,
        changed: impl Fn(u32) -> Option<Difference>,
        counters: &mut Counters,
        done: &mut VecDeque<Completion>,
        mut submit: impl FnMut(Request, bool, IoBuf, u64) -> Result<(), (shard::Refused, IoBuf)>,
    ) -> bool {
        let mut any = false;
        while let Some(&index) = self.waiting.front() {
            let entry = self.entries.get_mut(index as usize).and_then(Option::as_mut);
            let Some((entry, buffer)) = entry.and_then(|entry| entry.buffer.take().map(|buffer| (entry, buffer)))
            else {
                self.waiting.pop_front();
                continue;
            };
            let nsid = entry.request.sqe.nsid.get();
            if let Some(what) = changed(nsid) {
                self.waiting.pop_front();
                if let Some(entry) = self.remove(index) {
                    self.open -= 1;
                    counters.namespace_changed += 1;
                    done.push_back(entry.failed(RequestError::NamespaceChanged { nsid, what }, Some(buffer)));
                }
                continue;
            }
            match submit(entry.request.clone(), entry.write, buffer, index.into()) {
                Ok(()) => {
                    counters.resubmitted += u64::from(entry.attempts != 0);
                    entry.attempts += 1;
                    entry.state = State::Submitted;
                    self.waiting.pop_front();
                    any = true;
                }
                Err((why, buffer)) if passes(&why) => {
                    entry.buffer = Some(buffer);
                    break;
                }
                Err((why, buffer)) => {
                    self.waiting.pop_front();
                    if let Some(entry) = self.remove(index) {
                        self.open -= 1;
                        done.push_back(entry.failed(RequestError::Refused(why), Some(buffer)));
                    }
                }
            }
        }
        any
    }

    /// The shard is done with a request of I/O queue number `queue`. Returns what the caller is told, if it is over.
    pub fn completed(
        &mut self,
        completion: shard::Completion,
        queue: u16,
        counters: &mut Counters,
    ) -> Option<Completion> {
        let index = u32::try_from(completion.token).ok()?;
        let entry = self.entries.get_mut(index as usize).and_then(Option::as_mut);
        let Some(entry) = entry.filter(|entry| entry.state == State::Submitted) else {
            log::error!("a completion for request {index}, which was not submitted");
            return None;
        };
        entry.status = completion.status;
        let Some(buffer) = completion.buffer else {
            entry.state = State::Kept;
            counters.quarantined += 1;
            return None;
        };
        if !completion.status.is_success() {
            return self.failed(index, buffer, counters);
        }
        let entry = self.remove(index)?;
        self.open -= 1;
        Some(Completion {
            token: entry.token,
            result: Ok(()),
            placed: completion.placed,
            copied: completion.copied,
            why_copied: completion.why_copied,
            digest_by: completion.digest_by,
            queue,
            attempts: entry.attempts,
            buffer: Some(buffer),
        })
    }

    /// A reset has made a buffer safe. Returns what the caller is told, if its request is over with it.
    pub fn returned(&mut self, index: u64, buffer: IoBuf, counters: &mut Counters) -> Option<Returned> {
        let index = u32::try_from(index).ok()?;
        match self.entries.get(index as usize)?.as_ref()?.state {
            State::Kept => self.failed(index, buffer, counters).map(Returned::Completed),
            State::Over => Some(Returned::Buffer(self.remove(index)?.token, buffer)),
            State::Waiting | State::Submitted => None,
        }
    }

    /// An attempt failed and the buffer is back.
    fn failed(&mut self, index: u32, buffer: IoBuf, counters: &mut Counters) -> Option<Completion> {
        let entry = self.entries.get_mut(index as usize)?.as_mut()?;
        match entry.verdict(self.max_attempts) {
            Verdict::Again => {
                (entry.state, entry.buffer) = (State::Waiting, Some(buffer));
                self.waiting.push_back(index);
                None
            }
            Verdict::Fail(error) => {
                counters.uncertain_writes += u64::from(error == RequestError::WriteUncertain);
                let entry = self.remove(index)?;
                self.open -= 1;
                Some(entry.failed(error, Some(buffer)))
            }
        }
    }

    /// Nothing will be submitted any more: what waits, and what waits for a reset, is over. What the shard has still comes
    /// back from it.
    pub fn give_up(&mut self, counters: &mut Counters, done: &mut VecDeque<Completion>) {
        self.waiting.clear();
        for index in 0..self.entries.len() as u32 {
            let Some(entry) = self.entries[index as usize].as_mut() else { continue };
            let error = match entry.verdict(self.max_attempts) {
                Verdict::Fail(error) if entry.attempts != 0 => error,
                _ => RequestError::GivenUp,
            };
            match entry.state {
                State::Submitted | State::Over => continue,
                State::Waiting => {
                    if let Some(mut entry) = self.remove(index) {
                        let buffer = entry.buffer.take();
                        done.push_back(entry.failed(error.clone(), buffer));
                    }
                }
                State::Kept => {
                    entry.state = State::Over;
                    let (token, attempts) = (entry.token, entry.attempts);
                    let digest_by = DigestBy::None;
                    let (placed, copied, why_copied, buffer) = (0, 0, Reasons::default(), None);
                    let result = Err(error.clone());
                    done.push_back(Completion {
                        token,
                        result,
                        placed,
                        copied,
                        why_copied,
                        digest_by,
                        queue: 0,
                        attempts,
                        buffer,
                    });
                }
            }
            counters.given_up += u64::from(error == RequestError::GivenUp);
            self.open -= 1;
        }
    }
}

/// What a buffer that is safe again belongs to.
pub(super) enum Returned {
    /// A request that is over with it.
    Completed(Completion),
    /// One that was over before: the caller's token, and the buffer.
    Buffer(u64, IoBuf),
}
