//! A device in plain Rust for tests: registers, the command queue, and a script that says what becomes of each command.
//!
//! It is written against the reference, reads the memory of the driver through the files behind it, and can do what no
//! sane device does.

use crate::command::Request;
use crate::command::wire::BLOCK_BYTES as BLOCK;
use crate::dma::DmaMapper;
use crate::platform::replay::FileMemory;
use crate::platform::{Identity, Platform, PlatformError};
use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::{Access, Layout};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

const DOORBELL: u64 = 0x18;

/// A command as the device reads it.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub slot: usize,
    pub input: Vec<u8>,
    pub output_len: usize,
    pub token: u8,
    entry: CommandEntry,
    at: u64,
}

impl Posted {
    pub fn opcode(&self) -> Opcode {
        Request::from_bytes(&self.input, 16).opcode()
    }

    pub fn op_mod(&self) -> u16 {
        Request::from_bytes(&self.input, 16).op_mod()
    }

    /// The entry as it was posted.
    pub fn entry(&self) -> &CommandEntry {
        &self.entry
    }

    /// The big-endian word at byte `at` of the input.
    pub fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.input[at..at + 4].try_into().expect("four bytes"))
    }
}

/// What becomes of a command.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// Output bytes, padded with zeros.
    Answer(Vec<u8>),
    /// A status other than OK.
    Refuse(Status, u32),
    /// A delivery status other than OK.
    Undelivered(u8),
    /// Nothing, ever.
    Nothing,
    /// Another fate, that much later.
    After(Duration, Box<Fate>),
    /// An answer whose entry, or whose first output block, was changed.
    Entry(fn(&mut CommandEntry)),
    Block(fn(&mut Mailbox)),
}

impl Fate {
    /// Status OK and these bytes from byte 8 on.
    pub fn ok(rest: &[u8]) -> Fate {
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(rest);
        Fate::Answer(bytes)
    }

    pub fn later(self, by: Duration) -> Fate {
        Fate::After(by, Box::new(self))
    }
}

type Script = Box<dyn FnMut(&Posted) -> Fate>;

/// Memory of the driver. A test whose device reads where nothing is has found a bug.
#[derive(Default)]
pub(crate) struct Memory(Arc<FileMemory>);

impl Memory {
    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        self.0.read(at, len).unwrap_or_else(|| panic!("{len} bytes at {at:#x} are not mapped"))
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.0.write(at, bytes).unwrap_or_else(|| panic!("{} bytes at {at:#x} are not mapped", bytes.len()));
    }

    /// Ranges mapped.
    pub fn mappings(&self) -> usize {
        self.0.mappings()
    }
}

pub(crate) struct Fake {
    identity: Identity,
    pub memory: Arc<Memory>,
    /// Words of the BAR that differ from zero.
    pub registers: RefCell<BTreeMap<u64, u32>>,
    pub writes: RefCell<Vec<(u64, u32)>>,
    pub posted: RefCell<Vec<Posted>>,
    pub gone: Cell<bool>,
    now: Cell<Duration>,
    script: RefCell<Script>,
    due: RefCell<Vec<(Duration, Posted, Fate)>>,
    pub resets: Cell<u32>,
}

impl Fake {
    /// A healthy device of 32 slots whose commands meet the fates of `script`.
    pub fn new(script: impl FnMut(&Posted) -> Fate + 'static) -> Fake {
        let registers =
            BTreeMap::from([(0x0, 39 << 16 | 28), (0x4, 5 << 16 | 1002), (0x14, 5 << 4 | 6), (0x230, 1), (0x1010, 1)]);
        Fake {
            identity: Identity { address: "fake0".into(), vendor: 0x15b3, device: 0x1021 },
            memory: Arc::default(),
            registers: RefCell::new(registers),
            writes: RefCell::default(),
            posted: RefCell::default(),
            gone: Cell::new(false),
            now: Cell::default(),
            script: RefCell::new(Box::new(script)),
            due: RefCell::default(),
            resets: Cell::new(0),
        }
    }

    /// The device as the driver takes it.
    #[expect(clippy::arc_with_non_send_sync, reason = "the driver takes an Arc; a test is one thread")]
    pub fn shared(self) -> Arc<Fake> {
        Arc::new(self)
    }

    /// From now on commands meet the fates of another script.
    pub fn script(&self, script: impl FnMut(&Posted) -> Fate + 'static) {
        *self.script.borrow_mut() = Box::new(script);
    }

    /// Lets time pass without anybody looking.
    pub fn sleep(&self, by: Duration) {
        self.now.set(self.now.get() + by);
        self.work();
    }

    fn queue_address(&self) -> u64 {
        let registers = self.registers.borrow();
        let word = |at| u64::from(registers.get(&at).copied().unwrap_or(0));
        word(0x10) << 32 | word(0x14) & !0xfff
    }

    fn accept(&self, slot: usize) {
        let stride = 1 << (self.registers.borrow()[&0x14] & 0xf);
        let at = self.queue_address() + slot as u64 * stride;
        let entry = CommandEntry::from_prefix(&self.memory.read(at, 64));
        assert_eq!(entry.get(CommandEntry::STATUS_OWN), 1, "slot {slot} was not given to the device");
        assert_eq!(entry.bytes().iter().fold(0, |x, b| x ^ b), 0xff, "signature of slot {slot}");
        assert_eq!(entry.get(CommandEntry::TYPE), 7);
        let len = entry.get(CommandEntry::INLEN) as usize;
        let token = entry.get(CommandEntry::TOKEN) as u8;
        let mut input = entry.bytes()[16..32].to_vec();
        let mut next = entry.get_wide(CommandEntry::IN_PTR);
        for number in 0.. {
            if input.len() >= len {
                break;
            }
            let block = self.block(next, number, token);
            next = block.get_wide(Mailbox::NEXT);
            input.extend_from_slice(&block.bytes()[..BLOCK]);
        }
        assert_eq!(next, 0, "the chain ends with the input");
        assert!(input[len.max(16)..].iter().all(|byte| *byte == 0), "bytes behind the input are zero");
        input.truncate(len);
        let output_len = entry.get(CommandEntry::OUTLEN) as usize;
        let posted = Posted { slot, input, output_len, token, entry, at };
        self.posted.borrow_mut().push(posted.clone());
        let fate = self.script.borrow_mut()(&posted);
        self.meet(posted, fate);
    }

    fn block(&self, at: u64, number: u32, token: u8) -> Mailbox {
        assert!(at != 0 && at.is_multiple_of(1024), "block {number} at {at:#x}");
        let block = Mailbox::from_prefix(&self.memory.read(at, 576));
        assert_eq!(block.get(Mailbox::BLOCK_NUM), number);
        assert_eq!(block.get(Mailbox::TOKEN) as u8, token);
        assert_eq!(block.bytes().iter().fold(0, |x, b| x ^ b), 0xff, "signature of block {number}");
        block
    }

    fn meet(&self, posted: Posted, fate: Fate) {
        match fate {
            Fate::Nothing => {}
            Fate::After(by, fate) => self.due.borrow_mut().push((self.now.get() + by, posted, *fate)),
            Fate::Answer(bytes) => self.answer(&posted, &bytes, 0, |_| (), |_| ()),
            Fate::Refuse(status, syndrome) => {
                let mut bytes = vec![0; 8];
                bytes[0] = status.0;
                bytes[4..].copy_from_slice(&syndrome.to_be_bytes());
                self.answer(&posted, &bytes, 0, |_| (), |_| ());
            }
            Fate::Undelivered(status) => self.answer(&posted, &[], status, |_| (), |_| ()),
            Fate::Entry(change) => self.answer(&posted, &[], 0, change, |_| ()),
            Fate::Block(change) => self.answer(&posted, &[], 0, |_| (), change),
        }
    }

    fn answer(
        &self,
        posted: &Posted,
        bytes: &[u8],
        delivery: u8,
        change_entry: fn(&mut CommandEntry),
        change_block: fn(&mut Mailbox),
    ) {
        let mut output = bytes.to_vec();
        output.resize(posted.output_len.max(16), 0);
        let mut next = posted.entry.get_wide(CommandEntry::OUT_PTR);
        for (number, data) in output[16..].chunks(BLOCK).enumerate() {
            let mut block = self.block(next, number as u32, posted.token);
            let at = next;
            next = block.get_wide(Mailbox::NEXT);
            block.bytes_mut()[..data.len()].copy_from_slice(data);
            if number == 0 {
                change_block(&mut block);
            }
            self.memory.write(at, block.bytes());
        }
        assert_eq!(next, 0, "the chain ends with the output");
        let mut entry = posted.entry;
        entry.bytes_mut()[32..48].copy_from_slice(&output[..16]);
        entry.set(CommandEntry::STATUS_OWN, u32::from(delivery) << 1);
        change_entry(&mut entry);
        self.memory.write(posted.at, entry.bytes());
    }

    fn work(&self) {
        loop {
            let next = {
                let mut due = self.due.borrow_mut();
                let now = self.now.get();
                let index = due.iter().position(|(at, ..)| *at <= now);
                index.map(|index| due.remove(index))
            };
            let Some((_, posted, fate)) = next else { break };
            self.meet(posted, fate);
        }
    }
}

impl Platform for Fake {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    fn bar_size(&self) -> u64 {
        1 << 20
    }
    fn read32(&self, offset: u64) -> u32 {
        match self.gone.get() {
            true => u32::MAX,
            false => self.registers.borrow().get(&offset).copied().unwrap_or(0),
        }
    }
    fn write32(&self, offset: u64, value: u32) {
        if self.gone.get() {
            return;
        }
        self.writes.borrow_mut().push((offset, value));
        match offset {
            DOORBELL => (0..32).filter(|slot| value & 1 << slot != 0).for_each(|slot| self.accept(slot)),
            // The geometry stays readable behind the address.
            0x14 => {
                let geometry = self.registers.borrow()[&0x14] & 0xff;
                self.registers.borrow_mut().insert(0x14, value & !0xff | geometry);
            }
            _ => _ = self.registers.borrow_mut().insert(offset, value),
        }
    }
    fn write64(&self, offset: u64, value: u64) {
        self.writes.borrow_mut().push((offset, (value >> 32) as u32));
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        Arc::clone(&self.memory.0) as Arc<dyn DmaMapper>
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX >> 16]
    }
    fn reset(&self) -> Result<(), PlatformError> {
        self.resets.set(self.resets.get() + 1);
        self.due.borrow_mut().clear();
        Ok(())
    }
    fn vectors(&self) -> u16 {
        2
    }
    fn take_interrupt(&self, _: u16) -> bool {
        false
    }
    fn now(&self) -> Duration {
        self.now.get()
    }
    fn pause(&self) {
        self.sleep(Duration::from_micros(50));
    }
}
