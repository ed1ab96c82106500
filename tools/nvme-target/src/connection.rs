//! One connection: from ICReq to its end.
//!
//! ```text
//! socket's receive buffer ─► Assembler ─► PDU ─► Subsystem::execute ─► Answers ─┐
//!                                       │                                    ▼
//!                                       └► open R2Ts ─► control PDUs ─► Transmitter ─► its send buffer
//! ```
//!
//! Control PDUs (ICResp, R2T) go before answers; a PDU that is begun is finished first, for the stream's framing.

use crate::answers::{Answer, Answers, Data, Next};
use crate::errors::{ConnectionError, Reason};
use crate::nvme::{Completion, Sqe, Status, opcode};
use crate::pdu::{CH, PduType, TERM_DATA, flag, u16_at, u32_at};
use crate::random::Random;
use crate::receive::{Assembler, Rules, Shape, Step, data_digest, field};
use crate::script::{At, Fault, Kind, On};
use crate::stack::Socket;
use crate::subsystem::{Outcome, Queue, Source, Subsystem};
use crate::transmit::{Layout, Pdu, Transmitter, Written};
use crate::wire::Wire;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

/// In-capsule data of admin and Fabrics commands, bytes (NVMe/TCP, "In-capsule data").
const ADMIN_CAPSULE_DATA: u32 = 8192;

/// Commands that may be outstanding before Connect says how long the queue is.
const EARLY_COMMANDS: u32 = 4;

/// What all connections work with.
pub(crate) struct Shared<'a> {
    pub(crate) subsystem: &'a mut Subsystem,
    pub(crate) wire: &'a mut Wire,
    pub(crate) faults: &'a mut [Scripted],
    pub(crate) errors: &'a mut VecDeque<ConnectionError>,
    pub(crate) now: Duration,
}

/// A fault and whether it has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scripted {
    pub(crate) fault: Fault,
    pub(crate) happened: bool,
}

/// A write whose data come by R2T.
#[derive(Debug)]
struct Write {
    /// Byte of the image.
    image: u64,
    len: u32,
    fua: bool,
    /// Bytes asked for, and received.
    asked: u32,
    received: u32,
    open: Vec<OpenR2t>,
    status: Status,
    since: Duration,
}

/// An R2T that the host has not answered in full.
#[derive(Clone, Copy, Debug)]
struct OpenR2t {
    tag: u16,
    offset: u32,
    len: u32,
    received: u32,
}

/// How the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Works.
    Open,
    /// A C2HTermReq goes out, then FIN.
    Terminating,
    /// FIN is queued; what the host still sends is ignored until this time, then RST.
    Closing(Duration),
    /// RST.
    Dead,
}

/// PDUs sent, by kind.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    all: u64,
    data: u64,
    responses: u64,
    r2ts: u64,
}

/// One TCP connection of a host.
pub(crate) struct Connection {
    number: u64,
    peer: SocketAddrV4,
    accepted: Duration,
    life: Life,
    stalled: bool,
    initialized: bool,
    queue: Option<Queue>,
    /// Digests that were agreed on, and the alignment that the host asked for.
    layout: Layout,
    /// R2Ts of one command that the host accepts at once.
    max_r2t: u32,
    assembler: Assembler,
    /// Command identifiers in use, one bit each.
    in_use: Vec<u64>,
    /// Commands without an answer.
    outstanding: u32,
    /// Commands taken from the submission queue, modulo its size.
    head: u32,
    /// Asynchronous Event Requests.
    held: Vec<u16>,
    writes: BTreeMap<u16, Write>,
    next_tag: u16,
    control: VecDeque<Pdu>,
    answers: Answers,
    transmitter: Transmitter,
    /// What happens to the PDU that is being sent when its budget is used up.
    strike: Option<(At, Kind)>,
    sent: Sent,
    random: Random,
    /// Bytes that the host had acknowledged when it last acknowledged some, and when.
    acknowledged: u64,
    progress: Duration,
}

impl Connection {
    pub(crate) fn new(number: u64, peer: SocketAddrV4, seed: u64, now: Duration) -> Connection {
        Connection {
            number,
            peer,
            accepted: now,
            life: Life::Open,
            stalled: false,
            initialized: false,
            queue: None,
            layout: Layout::default(),
            max_r2t: 1,
            assembler: Assembler::new(),
            in_use: vec![0; 1024],
            outstanding: 0,
            head: 0,
            held: Vec::new(),
            writes: BTreeMap::new(),
            next_tag: 0,
            control: VecDeque::new(),
            answers: Answers::default(),
            transmitter: Transmitter::default(),
            strike: None,
            sent: Sent::default(),
            random: Random::new(seed, number.wrapping_add(2)),
            acknowledged: 0,
            progress: now,
        }
    }

    pub(crate) fn queue(&self) -> Option<Queue> {
        self.queue
    }

    /// Receives, executes and sends as far as buffers allow. True if anything moved.
    pub(crate) fn poll(&mut self, socket: &mut dyn Socket, shared: &mut Shared<'_>) -> bool {
        let mut moved = false;
        if let Err(reason) = self.receive(socket, shared, &mut moved) {
            self.fail(reason, socket, shared);
        }
        self.check_time(socket, shared);
        let before = (self.transmitter.enqueued, self.life);
        self.send(socket, shared);
        moved || before != (self.transmitter.enqueued, self.life)
    }

    /// The connection is over as far as TCP is concerned: accounts for what is left.
    pub(crate) fn closed(mut self, socket: &mut dyn Socket, shared: &mut Shared<'_>) {
        if self.life == Life::Open {
            let commands = self.outstanding - self.held.len() as u32;
            if let Some(reason) = self.left_over(commands) {
                self.fail(reason, socket, shared);
            }
        }
        if let Some(queue) = self.queue {
            shared.subsystem.disconnect(queue);
        }
        shared.wire.forget(self.peer);
    }

    /// Its controller was reset or is gone.
    pub(crate) fn controller_ended(&mut self, socket: &mut dyn Socket, shared: &mut Shared<'_>) {
        match self.queue {
            Some(Queue { id: 0, .. }) => {
                for cid in std::mem::take(&mut self.held) {
                    self.release(cid);
                }
            }
            Some(queue) if self.life == Life::Open => {
                self.fail(Reason::ControllerGone(queue.controller), socket, shared);
            }
            _ => {}
        }
    }

    /// When `poll` has to be called even if nothing arrives.
    pub(crate) fn deadline(&self, socket: &dyn Socket, subsystem: &Subsystem) -> Option<Duration> {
        let patience = subsystem.config.patience;
        let waiting = match (self.life, self.queue) {
            (Life::Closing(deadline), _) => Some(deadline),
            (Life::Open, None) => Some(self.accepted + patience),
            (Life::Open, Some(queue)) if queue.id == 0 => subsystem.expires(queue.controller),
            _ => None,
        };
        let unacknowledged = (self.life != Life::Dead && socket.unacknowledged() > 0).then(|| self.progress + patience);
        let gathering = match (self.life, self.stalled) {
            (Life::Open, false) => self.answers.deadline(self.gather(subsystem)),
            _ => None,
        };
        [waiting, unacknowledged, gathering].into_iter().flatten().min()
    }

    fn gather(&self, subsystem: &Subsystem) -> Option<crate::script::Gather> {
        subsystem.config.script.gather.filter(|_| self.queue.is_some_and(|queue| queue.id != 0))
    }

    fn left_over(&self, commands: u32) -> Option<Reason> {
        match self.assembler.bytes().len() {
            0 if commands > 0 => Some(Reason::ClosedWithCommands { commands }),
            0 => None,
            received => Some(Reason::ClosedInsidePdu { received }),
        }
    }

    // --- the end ---------------------------------------------------------------------------------------------------

    /// Ends the connection: records why, tells the host if the reason is one that it is told, and closes.
    fn fail(&mut self, reason: Reason, socket: &mut dyn Socket, shared: &mut Shared<'_>) {
        if !matches!(self.life, Life::Open) {
            return;
        }
        log::debug!("connection {} from {}: {reason}", self.number, self.peer);
        self.control.clear();
        self.answers.clear();
        self.writes.clear();
        if self.stalled {
            // A stalled connection sends nothing more, not even why it ends.
            self.abort(socket);
        } else if let Some((fes, fei)) = reason.termination() {
            let erring = match reason {
                Reason::Scripted { .. } => Vec::new(),
                _ => self.assembler.bytes().iter().copied().take(TERM_DATA).collect(),
            };
            self.control.push_back(Pdu::Term { fes, fei, erring });
            self.life = Life::Terminating;
        } else {
            match reason {
                Reason::TimedOut { .. }
                | Reason::Backing { .. }
                | Reason::Scripted { kind: Kind::Reset { .. }, .. } => self.abort(socket),
                _ => self.close(socket, shared),
            }
        }
        let queue = self.queue.map(|queue| queue.id);
        if shared.errors.len() >= crate::target::ERRORS_KEPT {
            shared.errors.pop_front();
            shared.subsystem.counters.errors_lost += 1;
        }
        shared.errors.push_back(ConnectionError { connection: self.number, peer: self.peer, queue, reason });
    }

    fn close(&mut self, socket: &mut dyn Socket, shared: &Shared<'_>) {
        socket.close();
        self.life = Life::Closing(shared.now + shared.subsystem.config.patience);
    }

    fn abort(&mut self, socket: &mut dyn Socket) {
        socket.abort();
        self.life = Life::Dead;
    }

    fn check_time(&mut self, socket: &mut dyn Socket, shared: &mut Shared<'_>) {
        let patience = shared.subsystem.config.patience;
        let acknowledged = self.transmitter.enqueued - socket.unacknowledged() as u64;
        if acknowledged > self.acknowledged || socket.unacknowledged() == 0 {
            (self.acknowledged, self.progress) = (acknowledged, shared.now);
        }
        let timed_out = |awaited, after| Some(Reason::TimedOut { awaited, after });
        let reason = match (self.life, self.queue) {
            (Life::Closing(deadline), _) if deadline <= shared.now => return self.abort(socket),
            _ if self.progress + patience <= shared.now && socket.unacknowledged() > 0 => {
                timed_out("acknowledgement", patience)
            }
            (Life::Open, None) if self.accepted + patience <= shared.now => {
                timed_out(if self.initialized { "Connect" } else { "ICReq" }, patience)
            }
            (Life::Open, Some(queue)) if queue.id == 0 => match shared.subsystem.expires(queue.controller) {
                Some(at) if at <= shared.now => timed_out("Keep Alive", shared.subsystem.silence(queue, shared.now)),
                _ => None,
            },
            _ => None,
        };
        match reason {
            Some(reason) if self.life == Life::Open => self.fail(reason, socket, shared),
            Some(_) => self.abort(socket),
            None => {}
        }
    }

    // --- receiving -------------------------------------------------------------------------------------------------

    fn receive(&mut self, socket: &mut dyn Socket, shared: &mut Shared<'_>, moved: &mut bool) -> Result<(), Reason> {
        if self.life != Life::Open {
            while let Some(discarded) = socket.recv(&mut |stream| stream.len()) {
                if discarded == 0 {
                    break;
                }
                *moved = true;
            }
            return Ok(());
        }
        loop {
            match socket.recv(&mut |stream| self.assembler.take(stream)) {
                Some(0) => return Ok(()),
                Some(_) => *moved = true,
                None => {
                    // The host closed its half: an NVMe/TCP connection ends as a whole.
                    let commands = self.outstanding - self.held.len() as u32;
                    match self.left_over(commands) {
                        Some(reason) => return Err(reason),
                        None => self.close(socket, shared),
                    }
                    return Ok(());
                }
            }
            loop {
                match self.assembler.step(&self.rules(shared.subsystem))? {
                    Step::More => break,
                    Step::Header(shape) => self.header(shape, shared)?,
                    Step::Whole(shape) => {
                        shared.subsystem.counters.pdus_received += 1;
                        self.whole(shape, shared)?;
                        self.assembler.next();
                    }
                }
            }
        }
    }

    fn rules(&self, subsystem: &Subsystem) -> Rules {
        let config = &subsystem.config;
        let io = self.queue.is_some_and(|queue| queue.id != 0);
        Rules {
            initializing: !self.initialized,
            header_digest: self.layout.header_digest,
            data_digest: self.layout.data_digest,
            align: 4 * (usize::from(config.cpda) + 1),
            capsule_limit: if io { config.in_capsule_data } else { ADMIN_CAPSULE_DATA },
            h2c_limit: config.max_h2c_data,
        }
    }

    /// A header is complete: checks what must hold before data are taken.
    fn header(&mut self, shape: Shape, shared: &mut Shared<'_>) -> Result<(), Reason> {
        if shape.head > shape.hlen {
            shared.subsystem.counters.header_digests_ok += 1;
        }
        if shape.kind != PduType::H2cData {
            return Ok(());
        }
        let pdu = self.assembler.bytes();
        let (cid, tag, offset, len) = (u16_at(pdu, 8), u16_at(pdu, 10), u32_at(pdu, 12), u32_at(pdu, 16));
        let write = self.writes.get(&cid);
        let write = write.ok_or_else(|| field(shape.kind, "CCCID", 8, cid, "a command with an open R2T"))?;
        let r2t = write.open.iter().find(|r2t| r2t.tag == tag);
        let r2t = r2t.ok_or_else(|| field(shape.kind, "TTAG", 10, tag, "that of an open R2T"))?;
        if len as usize != shape.data_len {
            return Err(field(shape.kind, "DATAL", 16, len, format!("{} as PLEN and PDO say", shape.data_len)));
        }
        let (awaited_offset, awaited_len) = (r2t.offset + r2t.received, r2t.len - r2t.received);
        if offset != awaited_offset || len > awaited_len {
            return Err(Reason::OutOfRange { cid, offset, len, awaited_offset, awaited_len });
        }
        if (shape.flags & flag::LAST != 0) != (len == awaited_len) {
            let expected = format!("LAST_PDU {}", u8::from(len == awaited_len));
            return Err(field(shape.kind, "FLAGS", 1, shape.flags, expected));
        }
        Ok(())
    }

    fn whole(&mut self, shape: Shape, shared: &mut Shared<'_>) -> Result<(), Reason> {
        let digest = data_digest(self.assembler.bytes(), &shape);
        match digest {
            Some(true) => shared.subsystem.counters.data_digests_ok += 1,
            Some(false) => shared.subsystem.counters.data_digests_bad += 1,
            None => {}
        }
        let intact = digest != Some(false);
        match shape.kind {
            PduType::IcReq => self.initialize(shared),
            PduType::CapsuleCmd => self.command(shape, intact, shared),
            PduType::H2cData => self.data(shape, intact, shared),
            _ => {
                shared.subsystem.counters.terminations_received += 1;
                let pdu = self.assembler.bytes();
                Err(Reason::HostTerminated { fes: u16_at(pdu, CH), fei: u32_at(pdu, CH + 2) })
            }
        }
    }

    fn initialize(&mut self, shared: &mut Shared<'_>) -> Result<(), Reason> {
        let config = &shared.subsystem.config;
        let pdu = self.assembler.bytes();
        let (version, hpda, digests, max_r2t) = (u16_at(pdu, 8), pdu[10], pdu[11], u32_at(pdu, 12));
        if version != 0 {
            let value = version.into();
            return Err(Reason::Unsupported { field: "PFV", offset: 8, value, supported: "0" });
        }
        if hpda > 31 {
            return Err(field(PduType::IcReq, "HPDA", 10, hpda, "0 to 31"));
        }
        self.layout = Layout {
            header_digest: digests & 1 != 0 && config.header_digest,
            data_digest: digests & 2 != 0 && config.data_digest,
            align: 4 * (usize::from(hpda) + 1),
            extra_padding: config.script.extra_padding,
        };
        self.max_r2t = max_r2t.saturating_add(1);
        self.initialized = true;
        self.control.push_back(Pdu::IcResp {
            cpda: config.cpda,
            digests: u8::from(self.layout.header_digest) | u8::from(self.layout.data_digest) << 1,
            max_h2c_data: config.max_h2c_data,
        });
        Ok(())
    }

    fn command(&mut self, shape: Shape, intact: bool, shared: &mut Shared<'_>) -> Result<(), Reason> {
        let now = shared.now;
        shared.subsystem.counters.commands += 1;
        let size = self.queue.map_or(EARLY_COMMANDS, |queue| queue.size);
        if self.outstanding >= size {
            return Err(Reason::Sequence { pdu: shape.kind, why: "came while the queue was full" });
        }
        self.outstanding += 1;
        self.head = (self.head + 1) % size;
        let pdu = self.assembler.bytes();
        let entry: &[u8; 64] = pdu[CH..].first_chunk().expect("the header was checked");
        let sqe = Sqe(entry);
        let cid = sqe.cid();
        let owns_cid = !self.is_used(cid);
        let refused = match (owns_cid, intact) {
            (false, _) => Some(Status::CID_CONFLICT),
            (_, false) => Some(Status::TRANSIENT_TRANSPORT),
            _ => None,
        };
        if let Some(status) = refused {
            if owns_cid {
                self.mark_used(cid);
            }
            self.answer(Completion { cid, result: 0, status }, owns_cid, None, now);
            return Ok(());
        }
        let data = &pdu[shape.data..shape.data + shape.data_len];
        let outcome = shared.subsystem.execute(self.queue, sqe, data, self.held.len(), now);
        let read = sqe.opcode() == opcode::READ && self.queue.is_some_and(|queue| queue.id != 0);
        self.mark_used(cid);
        match outcome {
            Outcome::Done(completion) => self.answer(completion, true, None, now),
            Outcome::Send { cid, source, len } => {
                if read {
                    shared.subsystem.counters.reads += 1;
                    shared.subsystem.counters.bytes_read += u64::from(len);
                }
                let completion = Completion { cid, result: 0, status: Status::SUCCESS };
                self.answer(completion, true, Some(Data { source, len, sent: 0 }), now);
            }
            Outcome::Receive { cid, offset, len, fua } => {
                let (open, status) = (Vec::new(), Status::SUCCESS);
                let write = Write { image: offset, len, fua, asked: 0, received: 0, open, status, since: now };
                self.writes.insert(cid, write);
                self.ask(cid, shared.subsystem);
            }
            Outcome::Connected(queue, completion) => {
                self.queue = Some(queue);
                self.head = 1;
                let (data, since) = (None, now);
                self.answers.push(Answer { completion, data, owns_cid: true, connect: true, since });
            }
            Outcome::Held => self.held.push(cid),
        }
        Ok(())
    }

    fn answer(&mut self, completion: Completion, owns_cid: bool, data: Option<Data>, since: Duration) {
        self.answers.push(Answer { completion, data, owns_cid, connect: false, since });
    }

    /// Sends R2Ts for a write as far as the limits allow.
    fn ask(&mut self, cid: u16, subsystem: &Subsystem) {
        let script = &subsystem.config.script;
        let limit = script.r2t_outstanding.clamp(1, 256).min(self.max_r2t) as usize;
        let Some(write) = self.writes.get_mut(&cid) else { return };
        while write.open.len() < limit && write.asked < write.len {
            let (tag, offset) = (self.next_tag, write.asked);
            let len = script.r2t.piece(write.len - offset, &mut self.random);
            self.next_tag = self.next_tag.wrapping_add(1);
            write.asked += len;
            write.open.push(OpenR2t { tag, offset, len, received: 0 });
            self.control.push_back(Pdu::R2t { cid, tag, offset, len });
        }
    }

    /// A whole H2CData PDU, whose header was checked.
    fn data(&mut self, shape: Shape, intact: bool, shared: &mut Shared<'_>) -> Result<(), Reason> {
        let pdu = self.assembler.bytes();
        let (cid, tag, offset) = (u16_at(pdu, 8), u16_at(pdu, 10), u32_at(pdu, 12));
        let data = &pdu[shape.data..shape.data + shape.data_len];
        let Some(write) = self.writes.get_mut(&cid) else { return Ok(()) };
        if !intact {
            write.status = Status::TRANSIENT_TRANSPORT;
        } else if write.status == Status::SUCCESS {
            write.status = shared.subsystem.write(write.image + u64::from(offset), data);
        }
        shared.subsystem.counters.bytes_written += data.len() as u64;
        write.received += data.len() as u32;
        if let Some(r2t) = write.open.iter_mut().find(|r2t| r2t.tag == tag) {
            r2t.received += data.len() as u32;
        }
        write.open.retain(|r2t| r2t.received < r2t.len);
        if write.received < write.len {
            self.ask(cid, shared.subsystem);
        } else if let Some(write) = self.writes.remove(&cid) {
            let completion = shared.subsystem.written(cid, write.image, write.status, write.fua);
            self.answer(completion, true, None, write.since);
        }
        Ok(())
    }

    // --- sending ---------------------------------------------------------------------------------------------------

    fn send(&mut self, socket: &mut dyn Socket, shared: &mut Shared<'_>) {
        while matches!(self.life, Life::Open | Life::Terminating) && !self.stalled {
            if !self.transmitter.is_idle() || self.strike.is_some() {
                let written = self.transmitter.write(socket, &*shared.subsystem.backing);
                if let Some(failed) = self.transmitter.failed.take() {
                    let (offset, error) = (failed.offset, failed.error);
                    log::warn!("read at byte {offset} of the image failed: {error}");
                    if failed.promised {
                        return self.fail(Reason::Backing { offset, error }, socket, shared);
                    }
                    self.answers.fail(failed.cid);
                }
                match (written, self.strike.take()) {
                    (Written::Blocked, strike) => {
                        self.strike = strike;
                        return;
                    }
                    // A PDU that a fault cuts short cannot be followed by the C2HTermReq of another error.
                    (Written::Cut, _) if self.life != Life::Open => return self.abort(socket),
                    (Written::Cut, Some((_, Kind::Stall { .. }))) => self.stalled = true,
                    // RST throws away what TCP has not delivered: that comes first.
                    (Written::Cut, strike @ Some((_, Kind::Reset { .. }))) if socket.unacknowledged() > 0 => {
                        self.strike = strike;
                        return;
                    }
                    (Written::Cut, Some((at, kind))) => {
                        return self.fail(Reason::Scripted { at, kind }, socket, shared);
                    }
                    _ => {}
                }
                continue;
            }
            let pdu = match self.control.pop_front() {
                Some(pdu) => pdu,
                None if self.life == Life::Terminating => return self.close(socket, shared),
                None => match self.next_answer(shared) {
                    Some(pdu) => pdu,
                    None => return,
                },
            };
            if let Some(reason) = self.start(pdu, socket, shared) {
                self.fail(reason, socket, shared);
            }
        }
    }

    fn next_answer(&mut self, shared: &mut Shared<'_>) -> Option<Pdu> {
        let gather = self.gather(shared.subsystem);
        let success_allowed = self.queue.is_some_and(|queue| !queue.flow_control);
        let script = &shared.subsystem.config.script;
        match self.answers.next(script, gather, success_allowed, shared.now, &mut self.random)? {
            Next::Data(index, piece) => {
                let cid = self.answers.cid(index);
                let source = match self.answers.source(index)? {
                    Source::Image(start) => Source::Image(start + u64::from(piece.offset)),
                    Source::Bytes(bytes) => {
                        let from = piece.offset as usize;
                        Source::Bytes(bytes[from..from + piece.len as usize].to_vec())
                    }
                };
                let last = if piece.last { flag::LAST } else { 0 };
                let success = if piece.success { flag::SUCCESS } else { 0 };
                if piece.success
                    && let Some(answer) = self.answers.finish(index)
                {
                    self.finish(&answer, shared);
                }
                Some(Pdu::Data { cid, offset: piece.offset, len: piece.len, flags: last | success, source })
            }
            Next::Response(answer) => {
                self.finish(&answer, shared);
                let flow_control = self.queue.is_none_or(|queue| queue.flow_control);
                let sqhd = match (flow_control, answer.connect) {
                    (true, _) => self.head as u16,
                    (false, true) => 0xffff,
                    (false, false) => 0,
                };
                Some(Pdu::Response(answer.completion.entry(sqhd)))
            }
        }
    }

    fn finish(&mut self, answer: &Answer, shared: &mut Shared<'_>) {
        if answer.completion.status != Status::SUCCESS {
            shared.subsystem.counters.command_errors += 1;
        }
        if answer.owns_cid {
            self.release(answer.completion.cid);
        } else {
            self.outstanding -= 1;
        }
    }

    /// Begins to send a PDU, with the fault that the script has for it.
    fn start(&mut self, pdu: Pdu, socket: &dyn Socket, shared: &mut Shared<'_>) -> Option<Reason> {
        let kind = pdu.kind();
        let strike = self.fault(&pdu, shared);
        self.sent.all += 1;
        let counters = &mut shared.subsystem.counters;
        counters.pdus_sent += 1;
        match kind {
            PduType::C2hData => {
                self.sent.data += 1;
                counters.c2h_data_sent += 1;
            }
            PduType::CapsuleResp => self.sent.responses += 1,
            PduType::R2t => {
                self.sent.r2ts += 1;
                counters.r2t_sent += 1;
            }
            PduType::C2hTermReq => counters.terminations_sent += 1,
            _ => {}
        }
        match strike {
            Some((_, Kind::Drop)) => return None,
            Some((at, kind @ Kind::Terminate { .. })) => return Some(Reason::Scripted { at, kind }),
            Some((at, kind @ (Kind::Close { .. } | Kind::Reset { .. } | Kind::Stall { .. }))) => {
                self.strike = Some((at, kind));
            }
            _ => {}
        }
        let acknowledged = self.transmitter.enqueued - socket.unacknowledged() as u64;
        shared.wire.mark(self.peer, self.transmitter.enqueued, acknowledged);
        self.transmitter.start(pdu, self.layout, strike.map(|(_, kind)| kind));
        None
    }

    /// The fault that strikes this PDU, which has then happened.
    fn fault(&self, pdu: &Pdu, shared: &mut Shared<'_>) -> Option<(At, Kind)> {
        if matches!(pdu, Pdu::Term { .. }) {
            return None;
        }
        let (kind, sent) = (pdu.kind(), self.sent);
        let hit = shared.faults.iter_mut().find(|Scripted { fault, happened }| {
            let here = match fault.on {
                On::Connection(number) => number == self.number,
                On::Queue(id) => self.queue.is_some_and(|queue| queue.id == id),
            };
            let now = match fault.at {
                At::Pdu(n) => n == sent.all,
                At::Data(n) => kind == PduType::C2hData && n == sent.data,
                At::Response(n) => kind == PduType::CapsuleResp && n == sent.responses,
                At::R2t(n) => kind == PduType::R2t && n == sent.r2ts,
            };
            here && now && !happened && pdu.suits(fault.kind, self.layout)
        })?;
        hit.happened = true;
        shared.subsystem.counters.faults += 1;
        Some((hit.fault.at, hit.fault.kind))
    }

    // --- command identifiers ---------------------------------------------------------------------------------------

    fn is_used(&self, cid: u16) -> bool {
        self.in_use[usize::from(cid / 64)] & 1 << (cid % 64) != 0
    }

    fn mark_used(&mut self, cid: u16) {
        self.in_use[usize::from(cid / 64)] |= 1 << (cid % 64);
    }

    fn release(&mut self, cid: u16) {
        self.in_use[usize::from(cid / 64)] &= !(1 << (cid % 64));
        self.outstanding -= 1;
    }
}
