//! The NVM subsystem: controllers, the namespace, and what commands do. Transport-free: it sees submission queue entries and
//! in-capsule data, and says what is to be sent or received.

use crate::backing::Backing;
use crate::config::{Config, NQN_MAX};
use crate::controller::{self, AER_LIMIT, Change, Controller, NSID, PAGE};
use crate::counters::Counters;
use crate::nvme::{Completion, DataPointer, Sqe, Status, fctype, opcode};
use crate::pdu::u16_at;
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes of the data of Connect.
const CONNECT_DATA: usize = 1024;

/// CNTLID that asks for any controller.
const DYNAMIC: u16 = 0xffff;

/// All that the connections share.
pub(crate) struct Subsystem {
    pub(crate) config: Config,
    pub(crate) backing: Box<dyn Backing>,
    pub(crate) counters: Counters,
    controllers: BTreeMap<u16, Controller>,
    /// (controller, I/O queue) pairs in use.
    queues: Vec<(u16, u16)>,
    last_id: u16,
    /// Controllers that were reset or removed since the connections were last told: their I/O queues are gone.
    pub(crate) ended: Vec<u16>,
}

/// The queue that a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) controller: u16,
    pub(crate) id: u16,
    /// Entries.
    pub(crate) size: u32,
    /// False if the host disabled SQ flow control: then SQHD means nothing and SUCCESS flags are allowed.
    pub(crate) flow_control: bool,
}

/// Bytes that go to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Bytes of the image from this offset.
    Image(u64),
    /// These.
    Bytes(Vec<u8>),
}

/// What a command leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done.
    Done(Completion),
    /// Data go to the host, then it is done.
    Send { cid: u16, source: Source, len: u32 },
    /// Data come from the host to this offset of the image.
    Receive { cid: u16, offset: u64, len: u32, fua: bool },
    /// Connect succeeded: the connection carries this queue now.
    Connected(Queue, Completion),
    /// The command stays outstanding (Asynchronous Event Request).
    Held,
}

/// Why a command fails: status and result dwords.
struct Failure(Status, u64);

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure(status, 0)
    }
}

type Executed = Result<Outcome, Failure>;

fn done(sqe: Sqe<'_>, result: u64) -> Executed {
    Ok(Outcome::Done(Completion { cid: sqe.cid(), result, status: Status::SUCCESS }))
}

/// Invalid parameter of Connect: its offset, in the data or in the submission queue entry.
fn connect_invalid(in_data: bool, offset: u16) -> Failure {
    Failure(Status::CONNECT_PARAMETERS, u64::from(offset) | u64::from(in_data) << 16)
}

impl Subsystem {
    pub(crate) fn new(config: Config, backing: Box<dyn Backing>) -> Subsystem {
        Subsystem {
            config,
            backing,
            counters: Counters::default(),
            controllers: BTreeMap::new(),
            queues: Vec::new(),
            last_id: 0,
            ended: Vec::new(),
        }
    }

    /// The connection of this queue is over.
    pub(crate) fn disconnect(&mut self, queue: Queue) {
        if queue.id == 0 {
            self.controllers.remove(&queue.controller);
            self.queues.retain(|&(controller, _)| controller != queue.controller);
            self.ended.push(queue.controller);
        } else {
            self.queues.retain(|&pair| pair != (queue.controller, queue.id));
        }
    }

    /// When the keep-alive timer of a controller runs out.
    pub(crate) fn expires(&self, controller: u16) -> Option<Duration> {
        self.controllers.get(&controller)?.expires()
    }

    /// How long the controller of `queue` has not heard a Keep Alive.
    pub(crate) fn silence(&self, queue: Queue, now: Duration) -> Duration {
        self.controllers
            .get(&queue.controller)
            .map_or(Duration::ZERO, |controller| now.saturating_sub(controller.alive))
    }

    /// Executes a command of `queue` (`None` before Connect). `data` is the capsule's data; `held` is how many Asynchronous
    /// Event Requests the queue has outstanding.
    pub(crate) fn execute(
        &mut self,
        queue: Option<Queue>,
        sqe: Sqe<'_>,
        data: &[u8],
        held: usize,
        now: Duration,
    ) -> Outcome {
        let executed = match (queue, sqe.opcode()) {
            (_, opcode::FABRICS) => self.fabrics(queue, sqe, data, now),
            (None, _) => Err(Status::COMMAND_SEQUENCE.into()),
            (Some(queue), _) => match self.controllers.get(&queue.controller) {
                None => Err(Status::INTERNAL.into()),
                Some(controller) if !controller.ready() => Err(Status::COMMAND_SEQUENCE.into()),
                Some(_) if queue.id == 0 => self.admin(queue, sqe, held, now),
                Some(_) => self.io(sqe, data),
            },
        };
        executed.unwrap_or_else(|Failure(status, result)| Outcome::Done(Completion { cid: sqe.cid(), result, status }))
    }

    fn fabrics(&mut self, queue: Option<Queue>, sqe: Sqe<'_>, data: &[u8], now: Duration) -> Executed {
        match (sqe.fctype(), queue) {
            (fctype::CONNECT, None) => self.connect(sqe, data, now),
            (_, None) | (fctype::CONNECT, Some(_)) => Err(Status::COMMAND_SEQUENCE.into()),
            (fctype::PROPERTY_GET, Some(queue)) if queue.id == 0 => {
                let controller = self.controllers.get(&queue.controller).ok_or(Status::INTERNAL)?;
                let (value, size) = controller.property(&self.config, sqe.cdw(11)).ok_or(Status::INVALID_FIELD)?;
                match sqe.u8_at(40) & 7 {
                    0 if size == 4 => done(sqe, value),
                    1 if size == 8 => done(sqe, value),
                    _ => Err(Status::INVALID_FIELD.into()),
                }
            }
            (fctype::PROPERTY_SET, Some(queue)) if queue.id == 0 => {
                let controller = self.controllers.get_mut(&queue.controller).ok_or(Status::INTERNAL)?;
                if sqe.u8_at(40) & 7 != 0 || sqe.cdw(11) != controller::property::CC {
                    return Err(Status::INVALID_FIELD.into());
                }
                if controller.configure(sqe.cdw(12)) == Change::Reset {
                    self.ended.push(queue.controller);
                    self.queues.retain(|&(controller, _)| controller != queue.controller);
                }
                done(sqe, 0)
            }
            _ => Err(Status::INVALID_FIELD.into()),
        }
    }

    fn connect(&mut self, sqe: Sqe<'_>, data: &[u8], now: Duration) -> Executed {
        let start = match sqe.data_pointer()? {
            DataPointer::Transport { .. } => return Err(Status::SGL_TYPE.into()),
            DataPointer::InCapsule { len, .. } if len as usize != CONNECT_DATA => {
                return Err(Status::SGL_LENGTH.into());
            }
            DataPointer::InCapsule { offset, .. } => {
                if offset.checked_add(CONNECT_DATA as u64).is_none_or(|end| end > data.len() as u64) {
                    return Err(Status::SGL_OFFSET.into());
                }
                offset as usize
            }
        };
        let data = &data[start..start + CONNECT_DATA];
        let (format, id, sqsize, attributes, kato) =
            (sqe.u16_at(40), sqe.u16_at(42), sqe.u16_at(44), sqe.u8_at(46), sqe.cdw(12));
        if format != 0 {
            return Err(Status::CONNECT_FORMAT.into());
        }
        if sqsize == 0 || u32::from(sqsize) >= self.config.max_queue_depth {
            return Err(connect_invalid(false, 44));
        }
        let host_id: [u8; 16] = data[..16].try_into().expect("sixteen bytes");
        let cntlid = u16_at(data, 16);
        let subsystem = name(&data[256..512]).ok_or_else(|| connect_invalid(true, 256))?;
        let host = name(&data[512..768]).ok_or_else(|| connect_invalid(true, 512))?;
        if subsystem != self.config.subsystem_nqn.as_bytes() {
            return Err(connect_invalid(true, 256));
        }
        let controller = if id == 0 {
            if cntlid != DYNAMIC {
                return Err(connect_invalid(true, 16));
            }
            let granted = self.config.max_queues;
            let controller = self.new_id().ok_or(Status::CONNECT_BUSY)?;
            let new = Controller::new(controller, host, host_id, kato, granted, now);
            self.controllers.insert(controller, new);
            controller
        } else {
            let controller = self.controllers.get(&cntlid).ok_or_else(|| connect_invalid(true, 16))?;
            if controller.host_nqn != host || controller.host_id != host_id {
                return Err(Status::CONNECT_HOST.into());
            }
            if id > controller.queues {
                return Err(connect_invalid(false, 42));
            }
            if !controller.ready() || self.queues.contains(&(cntlid, id)) {
                return Err(Status::COMMAND_SEQUENCE.into());
            }
            self.queues.push((cntlid, id));
            cntlid
        };
        let queue = Queue { controller, id, size: u32::from(sqsize) + 1, flow_control: attributes & 1 << 2 == 0 };
        let completion = Completion { cid: sqe.cid(), result: controller.into(), status: Status::SUCCESS };
        Ok(Outcome::Connected(queue, completion))
    }

    /// A controller identifier that is not in use (0001h to FFEFh).
    fn new_id(&mut self) -> Option<u16> {
        // One admin connection per controller: there are never more of them than connections.
        for _ in 0..=self.controllers.len() {
            self.last_id = if self.last_id >= 0xffef { 1 } else { self.last_id + 1 };
            if !self.controllers.contains_key(&self.last_id) {
                return Some(self.last_id);
            }
        }
        None
    }

    fn admin(&mut self, queue: Queue, sqe: Sqe<'_>, held: usize, now: Duration) -> Executed {
        let Some(controller) = self.controllers.get_mut(&queue.controller) else {
            return Err(Status::INTERNAL.into());
        };
        match sqe.opcode() {
            opcode::IDENTIFY => {
                let nsid = sqe.nsid();
                let blocks = self.backing.len() / u64::from(self.config.block_size);
                let known = |nsid| if nsid == NSID { Ok(()) } else { Err(Status::INVALID_NAMESPACE) };
                let page = match sqe.cdw(10) & 0xff {
                    0x00 => {
                        known(nsid)?;
                        controller::identify_namespace(&self.config, blocks, self.backing.writable())
                    }
                    0x01 => controller.identify(&self.config),
                    0x02 if nsid >= 0xffff_fffe => return Err(Status::INVALID_NAMESPACE.into()),
                    0x02 => controller::identify_list(nsid),
                    0x03 => {
                        known(nsid)?;
                        controller::identify_descriptors(&self.config)
                    }
                    _ => return Err(Status::INVALID_FIELD.into()),
                };
                send(sqe, page, PAGE)
            }
            opcode::GET_LOG_PAGE => {
                let (dw10, dw11) = (sqe.cdw(10), sqe.cdw(11));
                let page = controller::log_page(dw10 as u8).ok_or(Status::INVALID_LOG_PAGE)?;
                let dwords = (u64::from(dw10 >> 16) | u64::from(dw11 & 0xffff) << 16) + 1;
                let (len, offset) = (dwords * 4, sqe.u64_at(48));
                if len > u64::from(self.config.max_transfer()) || offset > page.len() as u64 || offset % 4 != 0 {
                    return Err(Status::INVALID_FIELD.into());
                }
                let mut part = page[offset as usize..].to_vec();
                part.resize(len as usize, 0);
                send(sqe, part, len as usize)
            }
            opcode::SET_FEATURES if sqe.cdw(10) & 1 << 31 != 0 => Err(Status::FEATURE_NOT_SAVEABLE.into()),
            opcode::SET_FEATURES => {
                let value = sqe.cdw(11);
                match sqe.cdw(10) as u8 {
                    feature::QUEUES => {
                        if self.queues.iter().any(|&(controller, _)| controller == queue.controller) {
                            return Err(Status::COMMAND_SEQUENCE.into());
                        }
                        if value & 0xffff == 0xffff || value >> 16 == 0xffff {
                            return Err(Status::INVALID_FIELD.into());
                        }
                        let wanted = (value & 0xffff).min(value >> 16) + 1;
                        controller.queues = wanted.min(self.config.max_queues.into()) as u16;
                        done(sqe, queues(controller.queues))
                    }
                    feature::ASYNC_EVENTS => {
                        controller.event_config = value;
                        done(sqe, 0)
                    }
                    feature::KEEP_ALIVE => {
                        controller.kato = value;
                        controller.alive = now;
                        done(sqe, 0)
                    }
                    _ => Err(Status::INVALID_FIELD.into()),
                }
            }
            opcode::GET_FEATURES => {
                let (current, default, changeable) = match sqe.cdw(10) as u8 {
                    feature::VOLATILE_CACHE => (1, 1, false),
                    feature::QUEUES => (queues(controller.queues), queues(self.config.max_queues), true),
                    feature::ASYNC_EVENTS => (controller.event_config.into(), 0, true),
                    feature::KEEP_ALIVE => (controller.kato.into(), 0, true),
                    _ => return Err(Status::INVALID_FIELD.into()),
                };
                match sqe.cdw(10) >> 8 & 7 {
                    0 => done(sqe, current),
                    1 | 2 => done(sqe, default), // nothing is ever saved
                    3 => done(sqe, u64::from(changeable) << 2),
                    _ => Err(Status::INVALID_FIELD.into()),
                }
            }
            // Commands finish as fast as the wire takes them, so there is never one left to abort.
            opcode::ABORT => done(sqe, 1),
            opcode::ASYNC_EVENT if held >= AER_LIMIT => Err(Status::ASYNC_EVENT_LIMIT.into()),
            opcode::ASYNC_EVENT => Ok(Outcome::Held),
            opcode::KEEP_ALIVE => {
                controller.alive = now;
                done(sqe, 0)
            }
            _ => Err(Status::INVALID_OPCODE.into()),
        }
    }

    fn io(&mut self, sqe: Sqe<'_>, data: &[u8]) -> Executed {
        let all_namespaces = sqe.opcode() == opcode::FLUSH && sqe.nsid() == 0xffff_ffff;
        if !matches!(sqe.opcode(), opcode::FLUSH | opcode::READ | opcode::WRITE) {
            return Err(Status::INVALID_OPCODE.into());
        }
        if sqe.nsid() != NSID && !all_namespaces {
            return Err(Status::INVALID_NAMESPACE.into());
        }
        if sqe.opcode() == opcode::FLUSH {
            self.backing.flush().map_err(|error| self.write_failed(0, &error))?;
            return done(sqe, 0);
        }
        let block = u64::from(self.config.block_size);
        let blocks = u64::from(sqe.cdw(12) & 0xffff) + 1;
        let len = blocks * block;
        if len > u64::from(self.config.max_transfer()) {
            return Err(Status::INVALID_FIELD.into());
        }
        let first = sqe.u64_at(40);
        if first.checked_add(blocks).is_none_or(|end| end > self.backing.len() / block) {
            return Err(Status::LBA_OUT_OF_RANGE.into());
        }
        let (offset, len, cid) = (first * block, len as u32, sqe.cid());
        let fua = sqe.cdw(12) & 1 << 30 != 0;
        match (sqe.opcode(), sqe.data_pointer()?) {
            (_, DataPointer::Transport { len: given } | DataPointer::InCapsule { len: given, .. }) if given != len => {
                Err(Status::SGL_LENGTH.into())
            }
            (opcode::READ, DataPointer::Transport { .. }) => {
                Ok(Outcome::Send { cid, source: Source::Image(offset), len })
            }
            (opcode::READ, DataPointer::InCapsule { .. }) => Err(Status::SGL_TYPE.into()),
            _ if !self.backing.writable() => Err(Status::WRITE_PROTECTED.into()),
            (_, DataPointer::Transport { .. }) => Ok(Outcome::Receive { cid, offset, len, fua }),
            (_, DataPointer::InCapsule { offset: start, .. }) => {
                let end = start.checked_add(len.into()).filter(|&end| end <= data.len() as u64);
                let end = end.ok_or(Status::SGL_OFFSET)?;
                let status = self.write(offset, &data[start as usize..end as usize]);
                self.counters.bytes_written += u64::from(len);
                Ok(Outcome::Done(self.written(cid, offset, status, fua)))
            }
        }
    }

    /// Writes to the image.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Status {
        match self.backing.write_at(offset, data) {
            Ok(()) => Status::SUCCESS,
            Err(error) => self.write_failed(offset, &error),
        }
    }

    /// The completion of a write whose data are in the image.
    pub(crate) fn written(&mut self, cid: u16, offset: u64, mut status: Status, fua: bool) -> Completion {
        if status == Status::SUCCESS && fua {
            status = self.backing.flush().map_or_else(|error| self.write_failed(offset, &error), |()| status);
        }
        if status == Status::SUCCESS {
            self.counters.writes += 1;
        }
        Completion { cid, result: 0, status }
    }

    fn write_failed(&self, offset: u64, error: &std::io::Error) -> Status {
        log::warn!("write or flush at byte {offset} of the image failed: {error}");
        Status::WRITE_FAULT
    }
}

/// Feature identifiers.
mod feature {
    pub(super) const VOLATILE_CACHE: u8 = 0x06;
    pub(super) const QUEUES: u8 = 0x07;
    pub(super) const ASYNC_EVENTS: u8 = 0x0b;
    pub(super) const KEEP_ALIVE: u8 = 0x0f;
}

/// Number of Queues result: submission and completion queues, from zero.
fn queues(count: u16) -> u64 {
    let count = u64::from(count - 1);
    count | count << 16
}

/// Data of an admin command for the host: exactly `len` bytes, if its SGL has room for them.
fn send(sqe: Sqe<'_>, bytes: Vec<u8>, len: usize) -> Executed {
    match sqe.data_pointer()? {
        DataPointer::InCapsule { .. } => Err(Status::SGL_TYPE.into()),
        DataPointer::Transport { len: given } if (given as usize) < len => Err(Status::SGL_LENGTH.into()),
        DataPointer::Transport { .. } => {
            Ok(Outcome::Send { cid: sqe.cid(), source: Source::Bytes(bytes), len: len as u32 })
        }
    }
}

/// A qualified name in its 256-byte field, or `None` if it is none.
fn name(field: &[u8]) -> Option<&[u8]> {
    let len = field.iter().position(|&byte| byte == 0)?;
    (1..=NQN_MAX).contains(&len).then(|| &field[..len])
}
