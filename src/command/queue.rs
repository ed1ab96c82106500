//! The live command queue.

use super::mailbox::{Chain, MAX_BYTES, Pool};
use super::wire::{self, EntryFields};
use super::{
    CommandError, CommandPort, Fault, FaultKind, FirmwareVersion, Function, INLINE_BYTES, Object, Outcome, Output,
    Place, Request, Ticket,
};
use crate::dma::{DmaBuf, DmaError, DmaHeap};
use crate::observe::counter::counters;
use crate::platform::{Deadline, Platform};
use cxddp_trace::{Dump, Fact, Sink};
use firmware_iface::command::OutHeader;
use firmware_iface::{Opcode, Status};
use hw_regs::barrier;
use hw_regs::command_queue::{CommandEntry, DeliveryStatus};
use hw_regs::init_segment::InitSegment;
use hw_regs::layout::{Access, Field, Layout};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// Command interface revision that this driver speaks (`mlx5-bringup.md` §2).
pub const CMDIF_REVISION: u16 = 5;
/// Slots that a doorbell word can name.
const MAX_SLOTS: usize = 32;
/// A wait looks whether the device is still there this often; a register read costs about as much as a thousand looks at
/// memory.
const PRESENCE_CHECK: Duration = Duration::from_millis(1);
/// Byte of an entry that holds delivery status and owner.
const STATUS_OWN: usize = 63;

/// Byte offset in BAR0 of the word that holds a field of the initialization segment.
pub(crate) const fn register(field: Field<InitSegment>) -> u64 {
    (field.offset() / 32 * 4) as u64
}

/// A field of the initialization segment out of the word that holds it.
pub(crate) fn field_of(field: Field<InitSegment>, word: u32) -> u32 {
    let width = 32 - field.max().leading_zeros();
    (word >> (32 - field.offset() % 32 - width)) & field.max()
}

/// Why the command queue could not be started.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// The function is not there.
    #[error("{0}: the function is gone: its registers read all ones; look for a surprise removal or a failed reset")]
    DeviceGone(Arc<Function>),
    /// Firmware speaks another command interface.
    #[error("{function}: command interface revision {found}; this driver speaks {CMDIF_REVISION}: update the firmware")]
    Revision {
        /// Which function.
        function: Arc<Function>,
        /// What the initialization segment says.
        found: u16,
    },
    /// The device asks for a queue that cannot exist.
    #[error(
        "{function}: a command queue of 2^{log_size} entries of 2^{log_stride} bytes cannot exist (2 to 32 entries of at \
         least 64 bytes, at most 4096 bytes together)"
    )]
    Geometry {
        /// Which function.
        function: Arc<Function>,
        /// log2 of the entries.
        log_size: u32,
        /// log2 of the bytes between entries.
        log_stride: u32,
    },
    /// No memory for the queue.
    #[error("{0}: {1}")]
    Memory(Arc<Function>, Arc<DmaError>),
    /// Firmware did not become ready.
    #[error("{function}: firmware still initializing after {waited:?} ({when}); a reset, or a power cycle, is needed")]
    Initializing {
        /// Which function.
        function: Arc<Function>,
        /// How long was waited.
        waited: Duration,
        /// At which step.
        when: &'static str,
    },
}

counters! {
    /// What the queue has seen; never goes back.
    pub struct CommandCounters {
        /// Commands posted.
        pub posted: Commands,
        /// Commands that completed with status OK.
        pub succeeded: Commands,
        /// Commands that completed otherwise.
        pub failed: Commands,
        /// Commands that missed their deadline.
        pub timed_out: Commands,
        /// Why commands failed, missed their deadline, or were not posted at all.
        pub faults: Commands by FaultKind,
        /// Completions of commands that had missed their deadline.
        pub late: Commands,
        /// Completions of commands whose ticket had been dropped.
        pub abandoned: Commands,
        /// Event bits for slots that held no command.
        pub stray_events: Events,
        /// Event bits that came before the entry was given back.
        pub early_events: Events,
        /// Commands found complete at their deadline although no event had come.
        pub missed_events: Commands,
    }
}

struct InFlight {
    opcode: Opcode,
    op_mod: u16,
    object: Option<Object>,
    token: u8,
    output_len: usize,
    input: Chain,
    output: Chain,
    posted_at: Duration,
    answer: Weak<OnceLock<Outcome>>,
    /// Nobody waits any more; the device may still execute it.
    overdue: bool,
    /// What came back was not an answer to this command: the slot and its memory are never used again.
    poisoned: bool,
}

/// The command queue of one function.
pub struct CommandQueue<P> {
    platform: Arc<P>,
    function: Arc<Function>,
    entries: DmaBuf,
    stride: usize,
    slots: Vec<Option<InFlight>>,
    pool: Pool,
    next_token: u8,
    /// Completions are announced by the command EQ; entries are looked at only when named.
    events: bool,
    gone: bool,
    counters: CommandCounters,
    most_in_flight: usize,
    trace: Option<Sink>,
}

impl<P: Platform> CommandQueue<P> {
    /// Steps 2 to 4 of `mlx5-bringup.md` §3: waits until firmware is ready, checks what it asks for, and gives it a queue.
    pub fn start(platform: Arc<P>, heap: &DmaHeap, deadline: Deadline) -> Result<CommandQueue<P>, StartError> {
        let p = &*platform;
        wait_ready(p, deadline, "before the command queue was set")?;
        let function = identify(p);
        let revision = p.read32(register(InitSegment::CMDIF_REV_FW_SUB));
        let found = field_of(InitSegment::CMDIF_REV_FW_SUB_CMDIF_REV, revision) as u16;
        if found != CMDIF_REVISION {
            return Err(StartError::Revision { function, found });
        }
        let geometry = p.read32(register(InitSegment::CMDQ_ADDR_L_SZ));
        let log_size = field_of(InitSegment::CMDQ_ADDR_L_SZ_LOG_CMDQ_SIZE, geometry);
        let log_stride = field_of(InitSegment::CMDQ_ADDR_L_SZ_LOG_CMDQ_STRIDE, geometry);
        if !(1..=5).contains(&log_size) || log_stride < 6 || log_size + log_stride > 12 {
            return Err(StartError::Geometry { function, log_size, log_stride });
        }
        let entries = heap.allocate(4096, 4096).map_err(|e| StartError::Memory(Arc::clone(&function), e.into()))?;
        let address = entries.iova().get();
        barrier::before_doorbell();
        // High half first: firmware takes the address with the write of the low half, whose low 12 bits say "full driver".
        p.write32(register(InitSegment::CMDQ_ADDR_H), (address >> 32) as u32);
        p.write32(register(InitSegment::CMDQ_ADDR_L_SZ), address as u32);
        wait_ready(p, deadline, "after the command queue was set")?;
        let slots = 1usize << log_size;
        Ok(CommandQueue {
            function,
            entries,
            stride: 1 << log_stride,
            slots: (0..slots).map(|_| None).collect(),
            pool: Pool::new(heap.clone()),
            next_token: 0,
            events: false,
            gone: false,
            counters: CommandCounters::default(),
            most_in_flight: 0,
            trace: None,
            platform,
        })
    }

    /// Writes down every command from now on, as it was posted and as it came back.
    pub fn trace(&mut self, sink: Sink) {
        let Function { identity, firmware } = &*self.function;
        let firmware = Fact::Firmware(firmware.major, firmware.minor, firmware.sub_minor);
        for fact in [Fact::Id(identity.vendor, identity.device), firmware] {
            sink.fact(self.platform.now(), &identity.address, &fact);
        }
        self.trace = Some(sink);
    }

    /// What was seen so far.
    pub fn counters(&self) -> CommandCounters {
        self.counters
    }

    /// Most commands in flight at a time so far.
    pub fn most_in_flight(&self) -> usize {
        self.most_in_flight
    }

    /// Slots, the one of MANAGE_PAGES included.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Commands in flight, overdue ones included.
    pub fn in_flight(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Slots lost for now or for good: commands that missed their deadline and have not completed yet, and slots that
    /// came back with something else than their command's answer.
    pub fn stuck(&self) -> usize {
        self.slots.iter().flatten().filter(|command| command.overdue || command.poisoned).count()
    }

    /// Mailbox blocks that commands in flight hold.
    pub fn mailboxes_in_use(&self) -> usize {
        self.pool.in_use()
    }

    /// From now on completions are announced by events ([`CommandQueue::complete`]), or again by the entries themselves.
    pub fn use_events(&mut self, events: bool) {
        self.events = events;
    }

    /// True if completions are announced by events.
    pub fn uses_events(&self) -> bool {
        self.events
    }

    /// The slot of MANAGE_PAGES.
    fn pages_slot(&self) -> usize {
        self.slots.len() - 1
    }

    fn free_slot(&self, opcode: Opcode) -> Option<usize> {
        let pages = self.pages_slot();
        let mut candidates = if opcode == Opcode::MANAGE_PAGES { pages..pages + 1 } else { 0..pages };
        candidates.find(|slot| self.slots[*slot].is_none())
    }

    /// The command was not posted.
    fn error(&mut self, request: &Request, fault: Fault) -> CommandError {
        self.counters.faults.count(fault.kind());
        CommandError {
            function: Arc::clone(&self.function),
            opcode: request.opcode(),
            op_mod: request.op_mod(),
            object: request.object(),
            fault,
        }
    }

    /// Looks at entries that may have completed. With events on these are only overdue ones, whose event may be lost;
    /// [`CommandQueue::complete`] names the others.
    pub fn poll(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|command| !command.poisoned && (command.overdue || !self.events))
                && !self.owned_by_device(slot)
            {
                self.finish(slot);
            }
        }
    }

    fn owned_by_device(&self, slot: usize) -> bool {
        self.entries.load_acquire(slot * self.stride + STATUS_OWN) & 1 != 0
    }

    /// Takes the slots that a command EQE names: bit n is slot n.
    pub fn complete(&mut self, vector: u32) {
        for slot in 0..MAX_SLOTS {
            if vector & (1 << slot) == 0 {
                continue;
            }
            match self.slots.get(slot) {
                // A slot may have been polled before its event came.
                None | Some(None) => self.counters.stray_events += 1,
                Some(Some(command)) if command.poisoned => self.counters.stray_events += 1,
                // Its deadline will look again.
                Some(Some(_)) if self.owned_by_device(slot) => self.counters.early_events += 1,
                Some(Some(_)) => self.finish(slot),
            }
        }
    }

    /// Copies the answer out, checks it, hands it to whoever waits, and frees the slot.
    fn finish(&mut self, slot: usize) {
        let Some(mut command) = self.slots[slot].take() else { return };
        if let Some(sink) = &self.trace {
            let entry = CommandEntry(self.entries.read_array(slot * self.stride));
            let dump = Dump::new(entry, command.output.bytes());
            sink.output(self.platform.now(), &self.function.identity.address, &dump);
        }
        let outcome = self.judge(slot, &command).map_err(|fault| CommandError {
            function: Arc::clone(&self.function),
            opcode: command.opcode,
            op_mod: command.op_mod,
            object: command.object,
            fault,
        });
        let mut unsound = false;
        match &outcome {
            Ok(_) => self.counters.succeeded += 1,
            Err(error) => {
                self.counters.failed += 1;
                self.counters.faults.count(error.fault.kind());
                unsound = error.may_still_run();
                if unsound {
                    log::error!("{error}: slot {slot} is not used any more");
                }
            }
        }
        let named = command.object.map_or_else(String::new, |object| format!(" for {object}"));
        if command.overdue {
            self.counters.late += 1;
            let after = self.platform.now().saturating_sub(command.posted_at);
            log::warn!("{}: {}{named} completed late, after {after:?}", self.function, command.opcode);
        }
        match command.answer.upgrade() {
            Some(answer) => _ = answer.set(outcome),
            None if !command.overdue => {
                self.counters.abandoned += 1;
                log::debug!("{}: nobody waits for {}{named}", self.function, command.opcode);
            }
            None => {}
        }
        if unsound {
            command.poisoned = true;
            self.slots[slot] = Some(command);
        } else {
            self.pool.give(command.input);
            self.pool.give(command.output);
        }
    }

    fn judge(&self, slot: usize, command: &InFlight) -> Result<Output, Fault> {
        let entry = CommandEntry(self.entries.read_array(slot * self.stride));
        let delivery = DeliveryStatus(entry.get(CommandEntry::STATUS_OWN_DELIVERY_STATUS) as u8);
        if delivery != DeliveryStatus::OK {
            return Err(Fault::Delivery(delivery));
        }
        let found = entry.get(CommandEntry::TOKEN) as u8;
        if found != command.token {
            return Err(Fault::Token { place: Place::Entry, expected: command.token, found });
        }
        let found = entry.get(CommandEntry::OUTLEN) as usize;
        if found != command.output_len {
            return Err(Fault::Length { expected: command.output_len, found });
        }
        let mut bytes = Vec::with_capacity(command.output_len);
        for index in 0..INLINE_BYTES / 4 {
            bytes.extend((entry.get_at(CommandEntry::OUT, index) as u32).to_be_bytes());
        }
        command.output.collect(&mut bytes, command.output_len, command.token)?;
        let output = Output::new(bytes);
        let header = output.header();
        match header.status() {
            Status::OK => Ok(output),
            status => Err(Fault::Status { status, syndrome: header.get(OutHeader::SYNDROME) }),
        }
    }

    fn start_command(&mut self, request: &Request, slot: usize) -> Result<Ticket, Fault> {
        let output_len = request.expected_output();
        for bytes in [request.input().len(), output_len] {
            if bytes > MAX_BYTES {
                return Err(Fault::TooLong { bytes, limit: MAX_BYTES });
            }
        }
        if self.is_gone() {
            return Err(Fault::DeviceGone);
        }
        let input = self.pool.take(request.input().len())?;
        let output = match self.pool.take(output_len) {
            Ok(output) => output,
            Err(fault) => {
                self.pool.give(input);
                return Err(fault);
            }
        };
        // 0 is what memory holds that nobody wrote.
        self.next_token = self.next_token.checked_add(1).unwrap_or(1);
        let token = self.next_token;
        input.fill(request.input(), token);
        output.fill(&[], token);
        let entry = wire::entry(&EntryFields {
            input: request.input(),
            input_mailbox: input.address(),
            output_len,
            output_mailbox: output.address(),
            token,
        });
        let at = slot * self.stride;
        let owner = entry.bytes()[STATUS_OWN];
        self.entries.write(at, &entry.bytes()[..STATUS_OWN]);
        barrier::dma_write();
        self.entries.store_release(at + STATUS_OWN, owner);
        if let Some(sink) = &self.trace {
            let dump = Dump::new(entry, input.bytes());
            sink.input(self.platform.now(), &self.function.identity.address, slot, &dump);
        }
        let (ticket, answer) = Ticket::new();
        self.slots[slot] = Some(InFlight {
            opcode: request.opcode(),
            op_mod: request.op_mod(),
            object: request.object(),
            token,
            output_len,
            input,
            output,
            posted_at: self.platform.now(),
            answer,
            overdue: false,
            poisoned: false,
        });
        let in_flight = self.in_flight();
        self.counters.posted += 1;
        self.most_in_flight = self.most_in_flight.max(in_flight);
        barrier::before_doorbell();
        self.platform.write32(register(InitSegment::CMD_DBELL), 1 << slot);
        Ok(ticket)
    }

    /// True once the function has been seen to be gone. Sticky: what comes back after a removal is another function.
    fn is_gone(&mut self) -> bool {
        if !self.gone && is_gone(&*self.platform) {
            self.gone = true;
            log::error!("{}: registers read all ones: the function is gone", self.function);
        }
        self.gone
    }

    /// Waits for a ticket, calling `serve` before every look; with events on, `serve` must hand the command EQ's bits in
    /// ([`CommandQueue::complete`]).
    pub(crate) fn wait_serving<C>(
        context: &mut C,
        queue: impl Fn(&mut C) -> &mut CommandQueue<P>,
        mut serve: impl FnMut(&mut C),
        ticket: Ticket,
        deadline: Deadline,
    ) -> Result<Output, CommandError> {
        let platform = Arc::clone(&queue(context).platform);
        let mut ticket = Some(ticket);
        let mut check_at = platform.now() + PRESENCE_CHECK;
        let outcome = deadline.wait(&*platform, || {
            serve(context);
            let queue = queue(context);
            queue.poll();
            match ticket.take()?.take() {
                Ok(outcome) => return Some(Ok(outcome)),
                Err(unanswered) => ticket = Some(unanswered),
            }
            if platform.now() >= check_at {
                check_at = platform.now() + PRESENCE_CHECK;
                if queue.is_gone() {
                    return ticket.take().map(Err);
                }
            }
            None
        });
        let queue = queue(context);
        match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(unanswered)) => queue.give_up(unanswered),
            None => match ticket {
                Some(unanswered) => queue.give_up(unanswered),
                None => unreachable!("a ticket leaves the loop only with its answer"),
            },
        }
    }

    /// A wait is over: a last look at the entry itself, then the slot is left to its late completion.
    fn give_up(&mut self, ticket: Ticket) -> Result<Output, CommandError> {
        let slot = self.slot_of(&ticket);
        if let Some(slot) = slot
            && !self.owned_by_device(slot)
        {
            // Events are lost when the command EQ overruns or its interrupt is masked.
            self.counters.missed_events += u64::from(self.events);
            self.finish(slot);
        }
        let ticket = match ticket.take() {
            Ok(outcome) => return outcome,
            Err(ticket) => ticket,
        };
        let (busy, gone) = (self.in_flight(), self.is_gone());
        let slot = self.slot_of(&ticket);
        let Some((slot, command)) = slot.and_then(|slot| Some((slot, self.slots[slot].as_mut()?))) else {
            panic!("a ticket of another command queue");
        };
        command.overdue = true;
        let waited = self.platform.now().saturating_sub(command.posted_at);
        let error = CommandError {
            function: Arc::clone(&self.function),
            opcode: command.opcode,
            op_mod: command.op_mod,
            object: command.object,
            fault: if gone { Fault::DeviceGone } else { Fault::TimedOut { waited, slot: slot as u8, busy } },
        };
        self.counters.timed_out += 1;
        self.counters.faults.count(error.fault.kind());
        Err(error)
    }

    fn slot_of(&self, ticket: &Ticket) -> Option<usize> {
        self.slots.iter().position(|slot| slot.as_ref().is_some_and(|command| ticket.answers(&command.answer)))
    }

    /// Waits until a slot for `request` is free.
    pub(crate) fn wait_slot_serving<C>(
        context: &mut C,
        queue: impl Fn(&mut C) -> &mut CommandQueue<P>,
        mut serve: impl FnMut(&mut C),
        request: &Request,
        deadline: Deadline,
    ) {
        let platform = Arc::clone(&queue(context).platform);
        // Whether there is one at the end shows when it is used.
        let mut check_at = platform.now() + PRESENCE_CHECK;
        _ = deadline.wait(&*platform, || {
            serve(context);
            let queue = queue(context);
            queue.poll();
            if platform.now() >= check_at {
                check_at = platform.now() + PRESENCE_CHECK;
                if queue.is_gone() {
                    return Some(());
                }
            }
            queue.free_slot(request.opcode()).map(drop)
        });
    }

    /// The device was reset: no command is in flight any more, and its memory is free.
    pub(crate) fn forget(&mut self) {
        for command in self.slots.iter_mut().filter_map(Option::take) {
            self.pool.give(command.input);
            self.pool.give(command.output);
        }
    }
}

impl<P> CommandQueue<P> {
    /// Who is asked.
    pub fn function(&self) -> &Arc<Function> {
        &self.function
    }

    /// Keeps the memory of the queue and of all commands in flight from ever being used again: the device may still
    /// access it. Returns how many pieces.
    pub(crate) fn leak(&mut self) -> usize {
        std::mem::forget(self.entries.hold());
        let commands = self.slots.iter_mut().filter_map(Option::take);
        1 + commands.map(|command| command.input.leak() + command.output.leak()).sum::<usize>()
    }
}

impl<P> Drop for CommandQueue<P> {
    fn drop(&mut self) {
        let busy = self.slots.iter().flatten().count();
        if busy > 0 {
            let pieces = self.leak();
            log::error!("{}: {busy} commands in flight: {pieces} pieces of DMA memory are never reused", self.function);
        }
    }
}

impl<P: Platform> CommandPort for CommandQueue<P> {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        let Some(slot) = self.free_slot(request.opcode()) else {
            let full = Fault::NoSlot { busy: self.in_flight(), stuck: self.stuck() };
            return Err(self.error(request, if self.gone { Fault::DeviceGone } else { full }));
        };
        self.start_command(request, slot).map_err(|fault| self.error(request, fault))
    }

    /// # Panics
    /// If the ticket belongs to another queue.
    fn wait(&mut self, ticket: Ticket, deadline: Deadline) -> Result<Output, CommandError> {
        Self::wait_serving(self, |queue| queue, |_| (), ticket, deadline)
    }

    fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, CommandError> {
        Self::wait_slot_serving(self, |queue| queue, |_| (), request, deadline);
        let ticket = self.post(request)?;
        self.wait(ticket, deadline)
    }

    fn free_slots(&self) -> usize {
        self.slots[..self.pages_slot()].iter().filter(|slot| slot.is_none()).count()
    }
}

/// True if the registers of the function read all ones. The version word of a working function never does.
pub(crate) fn is_gone(platform: &impl Platform) -> bool {
    platform.read32(register(InitSegment::FW_REV)) == u32::MAX
}

/// Who the function is and what runs on it.
pub(crate) fn identify(platform: &impl Platform) -> Arc<Function> {
    let revision = platform.read32(register(InitSegment::FW_REV));
    let sub = platform.read32(register(InitSegment::CMDIF_REV_FW_SUB));
    Arc::new(Function {
        identity: platform.identity().clone(),
        firmware: FirmwareVersion {
            major: field_of(InitSegment::FW_REV_MAJOR, revision) as u16,
            minor: field_of(InitSegment::FW_REV_MINOR, revision) as u16,
            sub_minor: field_of(InitSegment::CMDIF_REV_FW_SUB_FW_REV_SUBMINOR, sub) as u16,
        },
    })
}

/// Waits until firmware says that it is initialized.
pub(crate) fn wait_ready(platform: &impl Platform, deadline: Deadline, when: &'static str) -> Result<(), StartError> {
    let started = platform.now();
    let ready = deadline.wait(platform, || {
        let word = platform.read32(register(InitSegment::INITIALIZING));
        if word == u32::MAX {
            return Some(false);
        }
        (field_of(InitSegment::INITIALIZING_BUSY, word) == 0).then_some(true)
    });
    match ready {
        Some(true) => Ok(()),
        Some(false) => Err(StartError::DeviceGone(identify(platform))),
        None => {
            let waited = platform.now().saturating_sub(started);
            Err(StartError::Initializing { function: identify(platform), waited, when })
        }
    }
}
