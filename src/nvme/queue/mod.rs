//! One NVMe queue over one TCP connection.
//!
//! ```text
//! new ─► Initializing ─ICResp─► Connecting ─Connect's response─► Ready ─► Failed
//!              └──────────────────────┴── anything wrong ──────────────────┘
//! ```
//!
//! Life of a read, with the offload:
//!
//! 1. `allocate_cid` gives the command its identifier, which is the device's tag.
//! 2. The owner binds the tag to the destination buffer, then calls `submit`: no byte of the command exists before, so the
//!    device knows the tag before data can come.
//! 3. `receive` walks C2HData; data that the device placed is recognized by the payload memory.
//! 4. [`Event::Completed`]: the protocol is done with the command. The owner unbinds the tag; the caller gets the buffer
//!    after that.
//! 5. `release`: only now may the identifier be used again.
//!
//! A command that was submitted completes exactly once, whatever happens. The memory of its data is used by the queue
//! until then; [`HostQueue::cancel`] ends that earlier where the protocol allows it.

mod commands;
mod counters;
mod following;
mod reason;
mod receive;
mod transmit;

pub use counters::Counters;
pub use reason::{BadQueue, Reason, ReasonKind, SubmitError};

use super::command::{CONTROL_DATA_MAX, Data, FLAGS_SGL, Request, SglDescriptor};
use super::fabrics::{Connect, HostIdentity};
use super::pdu::{IcReq, Negotiated, digest_option};
use super::status::Status;
use commands::{Commands, DEPTH_MAX, Kind, State};
use receive::Receiver;
use std::collections::VecDeque;
use std::time::Duration;
use transmit::{Limits, Sender};

/// What a queue is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Who connects to what.
    pub identity: HostIdentity,
    /// Controller; [`CNTLID_ANY`](super::fabrics::CNTLID_ANY) on the admin queue.
    pub controller_id: u16,
    /// 0 for the admin queue.
    pub queue_id: u16,
    /// Commands outstanding at once, 1 to 65,534: identifiers are 0 to `depth - 1`. SQSIZE of the Connect command.
    pub depth: u16,
    /// Keep-alive timeout in milliseconds, 0 for none; admin queue only.
    pub keep_alive_ms: u32,
    /// Ask for header digests. The controller must grant exactly what is asked for.
    pub header_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// HPDA: data of C2HData starts at multiples of `4 * (hpda + 1)`, 0 to 31. 0 for queues that are to be offloaded
    /// (`nvme-tcp-offload.md` §12: other values are unknown territory).
    pub hpda: u8,
    /// Bytes of write data that go in the command capsule; from IOCCSZ.
    pub in_capsule_bytes: u32,
    /// Most bytes of data per command; from MDTS.
    pub max_transfer: u32,
    /// How long initialization and Connect may take together.
    pub initialize_timeout: Duration,
    /// How long any command may take.
    pub command_timeout: Duration,
}

/// Who checked a command's data digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestBy {
    /// There were none.
    None,
    /// The device vouched for all of them.
    Hardware,
    /// Software checked at least one.
    Software,
}

/// A command that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Its identifier; not free until released.
    pub cid: u16,
    /// How it went. [`Status::TRANSIENT_TRANSPORT_ERROR`] if a data digest did not match, [`Status::ABORTED_BY_HOST`] if it
    /// was never sent, or is a read that was cancelled and succeeded all the same: data may have been thrown away.
    pub status: Status,
    /// Dwords 0 and 1 of the completion queue entry; 0 if the SUCCESS flag stood for it.
    pub result: u64,
    /// Bytes of a read that were in place already.
    pub placed: u32,
    /// Bytes of a read that were copied. With `placed` the length of the read, if it succeeded and was not cancelled.
    pub copied: u32,
    /// Who checked the data digests.
    pub digest_by: DigestBy,
    /// The command had been cancelled.
    pub cancelled: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The queue is connected and takes commands.
    Ready {
        /// Controller id that Connect returned.
        controller_id: u16,
    },
    /// A command is done. Its memory is not used any more.
    Completed(Completion),
    /// A PDU does start at `seq`, as the device guessed: tell it (`resync` of the offload).
    Resync {
        /// TCP sequence number.
        seq: u32,
    },
    /// The queue is broken; `Completed` of every outstanding command follows. What [`HostQueue::transmit`] still has
    /// (H2CTermReq) should be sent before the connection is closed.
    Failed(Reason),
}

/// What cancelling a command meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It was never sent. Its `Completed` is there already.
    NotSent,
    /// The controller has it. Its data is discarded when it comes and its memory is not used any more; `Completed` comes
    /// with the controller's response.
    Discarding,
    /// It is a write that the controller has: its memory is used until `Completed`. Who cannot wait ends the connection.
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Initializing,
    /// Connect was submitted under this identifier.
    Connecting(u16),
    Ready,
    Failed,
}

/// The host's end of one queue.
pub struct HostQueue {
    config: QueueConfig,
    phase: Phase,
    created: Duration,
    negotiated: Negotiated,
    limits: Limits,
    commands: Commands,
    receiver: Receiver,
    sender: Sender,
    events: VecDeque<Event>,
    counters: Counters,
}

impl HostQueue {
    /// A queue on a connection that was just established; its first output is ICReq.
    pub fn new(config: QueueConfig, now: Duration) -> Result<HostQueue, BadQueue> {
        let check = |field, value: u64, least, most| {
            if (least..=most).contains(&value) { Ok(()) } else { Err(BadQueue { field, value, least, most }) }
        };
        check("queue depth", config.depth.into(), 1, DEPTH_MAX.into())?;
        check("HPDA", config.hpda.into(), 0, 31)?;
        check("longest transfer", config.max_transfer.into(), 1, u32::MAX.into())?;
        let icreq = IcReq::new(config.hpda, config.header_digest, config.data_digest);
        Ok(HostQueue {
            phase: Phase::Initializing,
            created: now,
            negotiated: Negotiated { hpda: config.hpda, ..Negotiated::default() },
            limits: Limits { in_capsule: config.in_capsule_bytes, max_h2c_data: 0 },
            commands: Commands::new(config.depth),
            receiver: Receiver::new(),
            sender: Sender::new(icreq),
            // Grows to as many as were ever outstanding: every identifier completes once before it is released.
            events: VecDeque::new(),
            counters: Counters::default(),
            config,
        })
    }

    /// What the queue was made from.
    pub fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// What the two ends agreed on; digests are off until ICResp came.
    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Counts so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// True between `Ready` and `Failed`.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Commands submitted and not completed.
    pub fn outstanding(&self) -> u16 {
        self.commands.outstanding()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes a free command identifier, 0 to depth - 1; `None` if all are in use or the queue is not ready.
    pub fn allocate_cid(&mut self) -> Option<u16> {
        if self.phase != Phase::Ready {
            return None;
        }
        self.commands.allocate()
    }

    /// Gives an identifier back: one that was allocated and not submitted, or whose command has completed and whose tag
    /// is not bound any more.
    pub fn release(&mut self, cid: u16) -> Result<(), SubmitError> {
        self.commands.release(cid)
    }

    /// Submits a command under an allocated identifier.
    pub fn submit(&mut self, cid: u16, request: Request, now: Duration) -> Result<(), SubmitError> {
        if self.phase != Phase::Ready {
            return Err(SubmitError::NotReady);
        }
        self.enqueue(cid, request, now)
    }

    fn enqueue(&mut self, cid: u16, request: Request, now: Duration) -> Result<(), SubmitError> {
        let Request { mut sqe, data } = request;
        self.commands.expect(cid, &[State::Allocated], "allocated")?;
        let len = data.len();
        let most = match data {
            Data::None => 0,
            Data::Read { .. } | Data::Write { .. } => self.config.max_transfer,
            Data::ControlRead { .. } | Data::ControlWrite(_) => CONTROL_DATA_MAX,
        };
        let least = most.min(1);
        if !(least..=most).contains(&len) {
            return Err(SubmitError::Length { len, least, most });
        }
        sqe.cid = cid.into();
        sqe.flags |= FLAGS_SGL;
        sqe.sgl = match data {
            Data::ControlWrite(_) => SglDescriptor::in_capsule(0, len),
            Data::Write { .. } if len <= self.limits.in_capsule => SglDescriptor::in_capsule(0, len),
            _ => SglDescriptor::transport(len),
        };
        self.commands.submit(cid, sqe, data, now);
        self.counters.submitted += 1;
        self.sender.enqueue(cid);
        Ok(())
    }

    /// Gives up on a submitted command.
    pub fn cancel(&mut self, cid: u16) -> Result<Cancelled, SubmitError> {
        if self.phase != Phase::Ready {
            return Err(SubmitError::NotReady);
        }
        let command = *self.commands.expect(cid, &[State::Queued, State::Sent], "submitted")?;
        if let Some(command) = self.commands.get_mut(cid) {
            command.cancelled = true;
        }
        self.counters.cancelled += 1;
        if command.state == State::Queued && self.sender.withdraw(cid) {
            self.finish(cid, Status::ABORTED_BY_HOST, 0);
            return Ok(Cancelled::NotSent);
        }
        if command.kind == Kind::Write {
            return Ok(Cancelled::Running);
        }
        self.receiver.discard(cid);
        Ok(Cancelled::Discarding)
    }

    /// What a command with [`Data::ControlRead`] read. Empty for any other identifier, and when taken twice.
    pub fn take_control_data(&mut self, cid: u16) -> Vec<u8> {
        match self.commands.get(cid) {
            Some(command) if command.state == State::Done => std::mem::take(self.commands.control_mut(cid)),
            _ => Vec::new(),
        }
    }

    /// When [`HostQueue::poll_deadline`] has to be called next.
    pub fn next_deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Failed => None,
            Phase::Ready => self.commands.oldest().map(|(_, since)| since + self.config.command_timeout),
            _ => Some(self.created + self.config.initialize_timeout),
        }
    }

    /// Fails the queue if something has taken too long.
    pub fn poll_deadline(&mut self, now: Duration) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let waited = self.config.initialize_timeout;
        let reason = match (self.phase, self.commands.oldest()) {
            (Phase::Ready, Some((cid, _))) => {
                let opcode = self.commands.sqe(cid).opcode;
                Reason::CommandTimeout { cid, opcode, waited: self.config.command_timeout }
            }
            (Phase::Connecting(_), _) => Reason::Initialization { awaited: "response to Connect", waited },
            _ => Reason::Initialization { awaited: "ICResp", waited },
        };
        self.fail(reason);
    }

    /// The TCP connection is gone.
    pub fn connection_closed(&mut self) {
        self.fail(Reason::Closed);
    }

    fn asked_digests(&self) -> u8 {
        digest_option::byte(self.config.header_digest, self.config.data_digest)
    }

    /// Submits Connect, under an identifier that nobody else can have before the queue is ready.
    fn connect(&mut self) {
        let QueueConfig { identity, controller_id, queue_id, depth, keep_alive_ms, .. } = &self.config;
        let connect = Connect {
            identity: identity.clone(),
            controller_id: *controller_id,
            queue_id: *queue_id,
            sq_size: *depth,
            keep_alive_ms: *keep_alive_ms,
        };
        let (created, request) = (self.created, connect.request());
        let submitted = self.commands.allocate().map(|cid| (cid, self.enqueue(cid, request, created)));
        debug_assert!(matches!(submitted, Some((_, Ok(())))));
        if let Some((cid, _)) = submitted {
            self.phase = Phase::Connecting(cid);
        }
    }

    fn connected(&mut self, cid: u16, status: Status, result: u64) -> Result<(), Reason> {
        self.counters.completed += 1;
        self.counters.completed_with_error += u64::from(!status.is_success());
        self.commands.finish(cid);
        let _ = self.commands.release(cid);
        let (queue_id, subsystem) = (self.config.queue_id, &self.config.identity.subsystem_nqn);
        if !status.is_success() {
            let parameter = Connect::refused_parameter(result);
            return Err(Reason::ConnectRefused { queue_id, subsystem: subsystem.to_string(), status, parameter });
        }
        // Fabrics 3.3: bits 31:16 (AUTHREQ) are not zero if authentication has to follow.
        if result >> 16 & 0xffff != 0 {
            return Err(Reason::AuthenticationRequired { queue_id, subsystem: subsystem.to_string() });
        }
        self.phase = Phase::Ready;
        self.events.push_back(Event::Ready { controller_id: result as u16 });
        Ok(())
    }

    /// The controller has completed a command.
    fn complete(&mut self, cid: u16, status: Status, result: u64) -> Result<(), Reason> {
        if self.phase == Phase::Connecting(cid) {
            return self.connected(cid, status, result);
        }
        self.finish(cid, status, result);
        Ok(())
    }

    /// Done, with the event that says so.
    fn finish(&mut self, cid: u16, status: Status, result: u64) {
        let command = self.commands.finish(cid);
        let status = match status.is_success() {
            true if command.digest_bad => Status::TRANSIENT_TRANSPORT_ERROR,
            // Data may have been thrown away, and digests with it.
            true if command.cancelled && command.kind == Kind::Read => Status::ABORTED_BY_HOST,
            _ => status,
        };
        let digest_by = match (command.digest_software, command.digest_hardware) {
            (true, _) => DigestBy::Software,
            (false, true) => DigestBy::Hardware,
            (false, false) => DigestBy::None,
        };
        let (placed, copied, cancelled) = (command.placed, command.copied, command.cancelled);
        self.counters.completed += 1;
        self.counters.completed_with_error += u64::from(!status.is_success());
        self.counters.bytes_placed += u64::from(placed);
        self.counters.bytes_copied += u64::from(copied);
        let completion = Completion { cid, status, result, placed, copied, digest_by, cancelled };
        self.events.push_back(Event::Completed(completion));
    }

    /// Ends the queue: once, with a terminate request where the reason calls for one.
    #[cold]
    fn fail(&mut self, reason: Reason) {
        if self.phase == Phase::Failed {
            return;
        }
        self.counters.failed.count(reason.kind());
        let begun = self.sender.begun();
        self.sender.terminate(reason.terminate(), self.receiver.header_so_far());
        let connecting = match self.phase {
            Phase::Connecting(cid) => Some(cid),
            _ => None,
        };
        self.phase = Phase::Failed;
        self.events.push_back(Event::Failed(reason));
        while let Some((cid, _)) = self.commands.oldest() {
            if connecting == Some(cid) {
                self.counters.completed += 1;
                self.counters.completed_with_error += 1;
                self.commands.finish(cid);
                let _ = self.commands.release(cid);
                continue;
            }
            // Whoever wants to submit a command again has to know whether the controller may have seen it.
            let queued = self.commands.get(cid).is_some_and(|command| command.state == State::Queued);
            let unseen = queued && begun != Some(cid);
            let status = if unseen { Status::ABORTED_BY_HOST } else { Status::HOST_PATHING_ERROR };
            self.finish(cid, status, 0);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
