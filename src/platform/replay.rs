//! A function that answers as a recorded trace says: the driver's bring-up without the card, from what a card once answered.
//!
//! ```text
//! trace ─► Replay: doorbell ─► input in memory ─► the recorded command that is next ─► its output, and an event if there is a
//!                                                  │ not the same                          command EQ
//!                                                  └► Divergence: told, and then the function is gone
//! ```
//!
//! Registers are those of a healthy function, time passes while the driver waits, nothing else happens. Addresses of memory
//! differ from run to run and are not compared; pages that firmware gives back are those that this run has given. What a
//! trace does not have, such as packets, is not there.

use super::{Identity, Platform, PlatformError, check_register};
use crate::command::register;
use crate::dma::{Arena, DmaError, DmaHeap, DmaMapper, Iova, IovaAllocator};
use cxddp_trace::{Exchange, Fact, FileError, Key, Trace, first_difference};
use firmware_iface::command::OutHeader;
use firmware_iface::command::device::{ManagePagesIn, ManagePagesOpMod, ManagePagesOut};
use firmware_iface::command::object::{CreateEqIn, CreateEqOut, DestroyEqIn};
use firmware_iface::context::Eqc;
use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::eqe::{Eqe, EqeCmd, EventType};
use hw_regs::init_segment::InitSegment;
use hw_regs::layout::{Access, Layout};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Addresses that a ConnectX can reach, as over vfio-user.
const IOVA: RangeInclusive<u64> = 0..=(1 << 48) - 1;
/// Bytes of BAR0 of a physical function (`mlx5-bringup.md` §1).
const BAR_BYTES: u64 = 32 << 20;
/// Slots and stride of the command queue, log2 (`mlx5-bringup.md` §2).
const GEOMETRY: u32 = 5 << 4 | 6;
const LOG_STRIDE: u32 = 6;
const CMDIF_REVISION: u32 = 5;
/// Time that passes between two looks of a driver that waits.
const PAUSE: Duration = Duration::from_micros(50);
/// Bytes of data in a mailbox, and inline.
const BLOCK: usize = 512;
const INLINE: usize = 16;
/// Longest message; longer than any that the driver posts.
const MAX_LEN: usize = 1 << 21;
/// Divergences that are kept when commands are looked for out of order.
const MAX_DIVERGENCES: usize = 1000;
/// PCI ids of a trace that does not say them: a ConnectX-7.
const DEFAULT_ID: (u16, u16) = (0x15b3, 0x1021);

/// How closely the driver must follow the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Command by command. The first that is not the recorded one ends the replay.
    #[default]
    Exact,
    /// Each command is answered as the next one of its kind was, if there is one: another driver's trace. A command that the
    /// trace does not have is refused with BAD_OP.
    Kind,
}

/// Where the driver did not do what the trace has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Number of the driver's command, from 0.
    pub command: usize,
    /// What it was.
    pub key: Key,
    /// Line of the trace where the recorded command begins.
    pub line: Option<usize>,
    /// How they differ.
    pub how: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command {}, {}", self.command, self.key)?;
        if let Some(line) = self.line {
            write!(f, " (line {line} of the trace)")?;
        }
        write!(f, ": {}", self.how)
    }
}

/// Memory of the driver, reached through the files behind it.
#[derive(Default)]
pub(crate) struct FileMemory(Mutex<BTreeMap<u64, (u64, Arc<File>)>>);

impl DmaMapper for FileMemory {
    fn map(&self, iova: Iova, arena: &Arena) -> Result<(), DmaError> {
        self.lock().insert(iova.get(), (arena.len() as u64, Arc::clone(arena.file())));
        Ok(())
    }
    fn unmap(&self, iova: Iova, _: u64) -> Result<(), DmaError> {
        self.lock().remove(&iova.get());
        Ok(())
    }
}

impl FileMemory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, Arc<File>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, at: u64, len: usize) -> Option<(Arc<File>, u64)> {
        let map = self.lock();
        let (base, (size, file)) = map.range(..=at).next_back()?;
        (at.checked_add(len as u64)? <= base + size).then(|| (Arc::clone(file), at - base))
    }

    /// `len` bytes at `at`; `None` if not all of it is mapped.
    pub(crate) fn read(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        let (file, offset) = self.find(at, len)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// Writes `bytes` at `at`; `None` if not all of it is mapped.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Option<()> {
        let (file, offset) = self.find(at, bytes.len())?;
        file.write_all_at(bytes, offset).ok()
    }

    /// Ranges mapped.
    #[cfg(test)]
    pub(crate) fn mappings(&self) -> usize {
        self.lock().len()
    }
}

/// The driver's command EQ.
struct CommandEq {
    number: u32,
    pages: Vec<u64>,
    page_bytes: u64,
    log_size: u32,
    producer: u32,
}

struct State {
    order: Order,
    commands: Vec<Exchange>,
    used: Vec<bool>,
    next: usize,
    asked: usize,
    queue: (u32, u32),
    health: u32,
    gone: bool,
    now: Duration,
    eq: Option<CommandEq>,
    /// Where a page of the trace is in this run.
    pages: HashMap<u64, u64>,
    divergences: Vec<Divergence>,
}

/// A function that answers as a trace says.
pub struct Replay {
    identity: Identity,
    firmware: (u16, u16, u16),
    vectors: u16,
    memory: Arc<FileMemory>,
    heap: DmaHeap,
    state: Mutex<State>,
}

impl Replay {
    /// Answers as a file says, which may be packed with gzip, command by command. What differs is logged.
    pub fn open(path: &Path) -> Result<Replay, PlatformError> {
        let address = format!("trace:{}", path.display());
        let refused = |cause: String| PlatformError::Open {
            address: address.clone(),
            cause,
            advice: "record one with cxddp probe --trace FILE; cxddp-regdump trace show FILE tells what is in it"
                .into(),
        };
        let text = cxddp_trace::read_file(path).map_err(|error: FileError| refused(error.to_string()))?;
        let trace = Trace::parse(&text).map_err(|error| refused(error.to_string()))?;
        let names: Vec<String> = trace.functions().into_iter().map(str::to_owned).collect();
        match &names[..] {
            [_] => Ok(Replay::new(&address, trace, Order::Exact)),
            names => Err(refused(format!(
                "it has {} functions ({}), and one can be replayed",
                names.len(),
                names.join(", ")
            ))),
        }
    }

    /// Answers as `trace` says, in the name of `address`.
    pub fn new(address: &str, trace: Trace, order: Order) -> Replay {
        let (mut firmware, mut id) = ((0, 0, 0), DEFAULT_ID);
        for (_, fact) in &trace.facts {
            match *fact {
                Fact::Firmware(major, minor, sub) => firmware = (major, minor, sub),
                Fact::Id(vendor, device) => id = (vendor, device),
            }
        }
        let eqs = trace.commands.iter().filter(|command| command.opcode() == Opcode::CREATE_EQ);
        let vector = eqs.map(|command| {
            CreateEqIn::from_prefix(&command.input()).nested(CreateEqIn::EQ_CONTEXT_ENTRY).get(Eqc::INTR) as u16
        });
        let vectors = vector.max().unwrap_or_default().saturating_add(1);
        let memory = Arc::<FileMemory>::default();
        let heap = DmaHeap::new(Arc::clone(&memory) as Arc<dyn DmaMapper>, IovaAllocator::new(&[IOVA]));
        let state = State {
            order,
            used: vec![false; trace.commands.len()],
            commands: trace.commands,
            next: 0,
            asked: 0,
            queue: (0, 0),
            health: 0,
            gone: false,
            now: Duration::ZERO,
            eq: None,
            pages: HashMap::new(),
            divergences: Vec::new(),
        };
        let identity = Identity { address: address.to_owned(), vendor: id.0, device: id.1 };
        Replay { identity, firmware, vectors, memory, heap, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the driver did not do what the trace has, in order; a thousand at most.
    pub fn divergences(&self) -> Vec<Divergence> {
        self.state().divergences.clone()
    }

    /// Commands of the driver so far, and commands of the trace that were not asked for.
    pub fn progress(&self) -> (usize, usize) {
        let state = self.state();
        (state.asked, state.used.iter().filter(|used| !**used).count())
    }

    /// The input of the command in a slot.
    fn input(&self, entry: &CommandEntry) -> Option<Vec<u8>> {
        let len = (entry.get(CommandEntry::INLEN) as usize).min(MAX_LEN);
        let mut input = entry.bytes()[16..32].to_vec();
        let mut next = entry.get_wide(CommandEntry::IN_PTR);
        while input.len() < len {
            let block = Mailbox::from_prefix(&self.memory.read(next, Mailbox::SIZE)?);
            input.extend_from_slice(&block.bytes()[..BLOCK]);
            next = block.get_wide(Mailbox::NEXT);
        }
        input.truncate(len);
        Some(input)
    }

    /// Takes the command in a slot. `None` if it gets no answer.
    fn run(&self, state: &mut State, slot: u32) -> Option<()> {
        let at = (u64::from(state.queue.0) << 32 | u64::from(state.queue.1 & !0xfff)) + (u64::from(slot) << LOG_STRIDE);
        let mut entry = CommandEntry::from_prefix(&self.memory.read(at, CommandEntry::SIZE)?);
        let input = self.input(&entry)?;
        let mut output = state.answer(&self.identity, &input)?;
        output.resize((entry.get(CommandEntry::OUTLEN) as usize).clamp(INLINE, MAX_LEN), 0);
        let mut next = entry.get_wide(CommandEntry::OUT_PTR);
        for data in output[INLINE..].chunks(BLOCK) {
            let block = Mailbox::from_prefix(&self.memory.read(next, Mailbox::SIZE)?);
            self.memory.write(next, data)?;
            next = block.get_wide(Mailbox::NEXT);
        }
        entry.bytes_mut()[32..48].copy_from_slice(&output[..INLINE]);
        entry.set(CommandEntry::STATUS_OWN, 0);
        self.memory.write(at, entry.bytes())?;
        // The answer that makes the command EQ is looked for by polling.
        if let Some(eq) = &mut state.eq {
            self.announce(eq, slot)?;
        }
        state.follow(&input, &output);
        Some(())
    }

    fn announce(&self, eq: &mut CommandEq, slot: u32) -> Option<()> {
        let mut eqe = Eqe::zeroed().with(Eqe::TYPE, u32::from(EventType::CMD.0));
        let data = EqeCmd::zeroed().with(EqeCmd::VECTOR, 1u32.checked_shl(slot)?);
        eqe.blob_mut(Eqe::DATA)[..EqeCmd::SIZE].copy_from_slice(data.bytes());
        eqe.set(Eqe::OWNER, eq.producer >> eq.log_size & 1);
        let at = u64::from(eq.producer & ((1u32 << eq.log_size) - 1)) * Eqe::SIZE as u64;
        let page = eq.pages.get(usize::try_from(at / eq.page_bytes).ok()?)?;
        eq.producer = eq.producer.wrapping_add(1);
        self.memory.write(page + at % eq.page_bytes, eqe.bytes())
    }
}

/// The 64-bit addresses that follow at `at`.
fn list(bytes: &[u8], at: usize) -> impl Iterator<Item = u64> + '_ {
    let (words, _) = bytes.get(at..).unwrap_or_default().as_chunks::<8>();
    words.iter().map(|word| u64::from_be_bytes(*word))
}

impl State {
    /// The output of a command; `None` if the replay ends here.
    fn answer(&mut self, identity: &Identity, input: &[u8]) -> Option<Vec<u8>> {
        let (key, command) = (Key::of(input), self.asked);
        self.asked += 1;
        let found = match self.order {
            Order::Exact => Some(self.next).filter(|next| *next < self.commands.len()),
            // The same one if it is there, else the next of its kind.
            Order::Kind => {
                let alike = |n: &usize| !self.used[*n] && self.commands[*n].key() == key;
                let same = |n: &usize| first_difference(key, &self.commands[*n].input(), input).is_none();
                let mut kind = (0..self.commands.len()).filter(alike);
                kind.clone().find(same).or_else(|| kind.next())
            }
        };
        let (line, how) = match found {
            None if self.order == Order::Exact => (None, Some("the trace has ended".to_owned())),
            None => (None, Some("the trace has none, or no more".to_owned())),
            Some(n) => {
                let (exchange, line) = (&self.commands[n], Some(self.commands[n].line));
                (self.next, self.used[n]) = (n + 1, true);
                match (exchange.key(), &exchange.output) {
                    (recorded, _) if recorded != key => (line, Some(format!("the trace has {recorded}"))),
                    (_, None) => (line, Some("the trace has no answer to it".to_owned())),
                    // A log without its mailboxes: what is there is compared.
                    (_, Some(_)) => {
                        let recorded = exchange.input();
                        let ours = if recorded.len() < exchange.input_len() && recorded.len() <= input.len() {
                            &input[..recorded.len()]
                        } else {
                            input
                        };
                        let how = first_difference(key, &recorded, ours);
                        (line, how.map(|how| format!("{how} (trace, driver)")))
                    }
                }
            }
        };
        let diverged = how.is_some();
        if let Some(how) = how {
            let divergence = Divergence { command, key, line, how };
            match self.order {
                Order::Exact => log::error!("{}: the driver leaves the trace: {divergence}", identity.address),
                Order::Kind => log::info!("{}: {divergence}", identity.address),
            }
            if self.divergences.len() < MAX_DIVERGENCES {
                self.divergences.push(divergence);
            }
        }
        if diverged && self.order == Order::Exact {
            self.gone = true;
            return None;
        }
        let output = found.and_then(|n| self.commands[n].output.as_ref()).map(|dump| dump.output());
        let refusal = || OutHeader::zeroed().with(OutHeader::STATUS, u32::from(Status::BAD_OP_ERR.0)).bytes().to_vec();
        let mut output = output.unwrap_or_else(refusal);
        if let Some(n) = found.filter(|_| key.opcode == Opcode::MANAGE_PAGES) {
            self.translate_pages(n, key, input, &mut output);
        }
        Some(output)
    }

    /// Pages are elsewhere in this run: what is given is remembered, what is given back is translated.
    fn translate_pages(&mut self, recorded: usize, key: Key, input: &[u8], output: &mut [u8]) {
        match ManagePagesOpMod(key.op_mod) {
            ManagePagesOpMod::ALLOCATION_SUCCESS => {
                let theirs = self.commands[recorded].input();
                self.pages.extend(list(&theirs, ManagePagesIn::SIZE).zip(list(input, ManagePagesIn::SIZE)));
            }
            ManagePagesOpMod::HCA_RETURN_PAGES => {
                let pages = output.get_mut(ManagePagesOut::SIZE..).unwrap_or_default();
                for bytes in pages.as_chunks_mut::<8>().0 {
                    if let Some(page) = self.pages.remove(&u64::from_be_bytes(*bytes)) {
                        *bytes = page.to_be_bytes();
                    }
                }
            }
            _ => {}
        }
    }

    /// What a command changes here: the EQ on which commands are announced comes or goes.
    fn follow(&mut self, input: &[u8], output: &[u8]) {
        if OutHeader::from_prefix(output).status() != Status::OK {
            return;
        }
        match Key::of(input).opcode {
            Opcode::CREATE_EQ => {
                let asked = CreateEqIn::from_prefix(input);
                let event = usize::from(EventType::CMD.0);
                if asked.get_at(CreateEqIn::EVENT_BITMASK, event / 64) >> (event % 64) & 1 == 0 {
                    return;
                }
                let context = asked.nested(CreateEqIn::EQ_CONTEXT_ENTRY);
                let shift = 12 + context.get(Eqc::LOG_PAGE_SIZE);
                self.eq = Some(CommandEq {
                    number: CreateEqOut::from_prefix(output).get(CreateEqOut::EQ_NUMBER),
                    pages: list(input, CreateEqIn::SIZE).collect(),
                    page_bytes: 1u64.checked_shl(shift).unwrap_or(1 << 12),
                    log_size: context.get(Eqc::LOG_EQ_SIZE),
                    producer: 0,
                });
            }
            Opcode::DESTROY_EQ => {
                let number = DestroyEqIn::from_prefix(input).get(DestroyEqIn::EQ_NUMBER);
                self.eq = self.eq.take().filter(|eq| eq.number != number);
            }
            _ => {}
        }
    }
}

impl Platform for Replay {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn bar_size(&self) -> u64 {
        BAR_BYTES
    }

    fn read32(&self, offset: u64) -> u32 {
        check_register(offset, 4, BAR_BYTES);
        let mut state = self.state();
        if state.gone {
            return u32::MAX;
        }
        let (major, minor, sub) = self.firmware;
        match offset {
            o if o == register(InitSegment::FW_REV) => u32::from(minor) << 16 | u32::from(major),
            o if o == register(InitSegment::CMDIF_REV_FW_SUB) => CMDIF_REVISION << 16 | u32::from(sub),
            o if o == register(InitSegment::CMDQ_ADDR_H) => state.queue.0,
            o if o == register(InitSegment::CMDQ_ADDR_L_SZ) => state.queue.1 & !0xfff | GEOMETRY,
            o if o == register(InitSegment::HEALTH_COUNTER) => {
                state.health = (state.health + 1) & 0xff_ffff;
                state.health
            }
            _ => 0,
        }
    }

    fn write32(&self, offset: u64, value: u32) {
        check_register(offset, 4, BAR_BYTES);
        let mut state = self.state();
        if state.gone {
            return;
        }
        match offset {
            o if o == register(InitSegment::CMDQ_ADDR_H) => state.queue.0 = value,
            o if o == register(InitSegment::CMDQ_ADDR_L_SZ) => state.queue.1 = value,
            o if o == register(InitSegment::CMD_DBELL) => {
                for slot in (0..32).filter(|slot| value >> slot & 1 != 0) {
                    if self.run(&mut state, slot).is_none() {
                        log::debug!("{}: slot {slot} gets no answer", self.identity.address);
                    }
                }
            }
            // Doorbells of queues: nothing moves.
            _ => {}
        }
    }

    fn write64(&self, offset: u64, _: u64) {
        check_register(offset, 8, BAR_BYTES);
    }

    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::clone(&self.memory) as Arc<dyn DmaMapper>
    }

    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![IOVA]
    }

    /// The trace goes on where it is: a recorded reset left no commands behind.
    fn reset(&self) -> Result<(), PlatformError> {
        self.state().eq = None;
        Ok(())
    }

    fn vectors(&self) -> u16 {
        self.vectors
    }

    fn take_interrupt(&self, _: u16) -> bool {
        false
    }

    fn now(&self) -> Duration {
        self.state().now
    }

    fn pause(&self) {
        self.state().now += PAUSE;
    }

    fn dma_heap(&self) -> DmaHeap {
        self.heap.clone()
    }
}
