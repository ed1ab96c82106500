//! The command queue: 32 slots in host memory, mailbox chains, answers by ownership bit and, once a command EQ exists,
//! by event (`mlx5-bringup.md` §2).
//!
//! ```text
//! doorbell bit n ─► entry n: owner = 1? ─► input (16 bytes inline + mailboxes by inlen) ─► firmware ─► answer
//!                                                                                                    │ now or later
//!   event (vector of slots) ◄─ owner = 0 with delivery status ◄─ output (16 inline + mailboxes by outlen) ◄┘
//! ```
//!
//! Lenient as firmware is: chains are followed by the lengths alone, so stale pointers of short commands and chains that
//! are too long do no harm; signatures are written but never checked. Strict where delivery statuses exist: tokens, block
//! numbers, alignment.

use crate::dma::DmaSpace;
use crate::faults::CommandFault;
use crate::firmware::{Command, Reply};
use crate::host::Host;
use firmware_iface::Opcode;
use hw_regs::command_queue::{CommandEntry, DeliveryStatus, Mailbox};
use hw_regs::layout::{Access, Layout};
use std::time::Duration;

/// Slots of the queue, as the initialization segment says: 1 << 5.
pub(crate) const LOG_SIZE: u32 = 5;
/// Bytes of a slot, as the initialization segment says: 1 << 6.
pub(crate) const LOG_STRIDE: u32 = 6;
/// `type` of an entry that travels over PCIe.
const TYPE_PCIE: u32 = 7;
/// Bytes of input and output that lie in the entry itself.
pub(crate) const INLINE: usize = 16;
/// Bytes of payload in a mailbox.
pub(crate) const BLOCK: usize = 512;
/// Longest input and output: an answer with more pages than a command could carry does not exist.
const MAX_LEN: usize = 1 << 20;
/// Offset of a mailbox's control part, and of its signatures.
const CONTROL: usize = BLOCK;
const CTRL_SIG: usize = 574;
const SIG: usize = 575;

/// Answers on their way, and where the queue is.
#[derive(Default)]
pub(crate) struct CommandQueue {
    /// Device address of slot 0; 0 until the driver wrote it.
    pub(crate) base: u64,
    /// Slots that are being worked on.
    busy: u32,
    waiting: Vec<Waiting>,
    accepted: u64,
}

/// A command that was read.
pub(crate) struct Accepted {
    pub(crate) slot: u32,
    entry: CommandEntry,
    /// Addresses of the output mailboxes.
    output: Vec<u64>,
    /// The input, or why it could not be read.
    pub(crate) input: Result<Vec<u8>, DeliveryStatus>,
}

/// An answer, now or later.
pub(crate) struct Answer {
    accepted: Accepted,
    delivery: DeliveryStatus,
    reply: Vec<u8>,
    token: u8,
    written: usize,
    /// An event announces it if there is somebody to hear.
    announce: bool,
}

struct Waiting {
    due: Duration,
    order: u64,
    answer: Answer,
}

impl Accepted {
    /// Opcode of the input; 0 if there is none.
    pub(crate) fn opcode(&self) -> Opcode {
        self.input.as_ref().map_or(Opcode(0), |input| Command::new(input).opcode())
    }

    /// The answer to it. `fault` bends it.
    pub(crate) fn answer(self, outcome: Result<Reply, DeliveryStatus>, fault: Option<CommandFault>) -> Answer {
        let (delivery, mut reply) = match outcome {
            Ok(reply) => (DeliveryStatus::OK, reply.into_bytes()),
            Err(delivery) => (delivery, Vec::new()),
        };
        let outlen = self.entry.get(CommandEntry::OUTLEN) as usize;
        // An output that is longer than asked for is cut, a shorter one zero-filled.
        reply.resize(outlen.clamp(INLINE, MAX_LEN), 0);
        let mut token = self.entry.get(CommandEntry::TOKEN) as u8;
        let mut written = reply.len();
        match fault {
            Some(CommandFault::WrongToken) => token = token.wrapping_add(1),
            Some(CommandFault::Truncated(bytes)) => written = written.min(bytes),
            Some(CommandFault::Garbage(seed)) => {
                let mut noise = Noise::new(seed);
                reply[8..].iter_mut().for_each(|byte| *byte = noise.next() as u8);
            }
            _ => {}
        }
        Answer { accepted: self, delivery, reply, token, written, announce: true }
    }
}

impl Answer {
    /// The output, to be bent; empty if the command was not delivered.
    pub(crate) fn output_mut(&mut self) -> &mut [u8] {
        match self.delivery {
            DeliveryStatus::OK => &mut self.reply,
            _ => &mut [],
        }
    }

    /// The slot that it is for.
    pub(crate) fn slot(&self) -> u32 {
        self.accepted.slot
    }

    /// No event announces this one: it answers the command that made the command EQ.
    pub(crate) fn silent(mut self) -> Answer {
        self.announce = false;
        self
    }
}

impl CommandQueue {
    /// Forgets everything: FLR.
    pub(crate) fn reset(&mut self) {
        *self = CommandQueue::default();
    }

    /// Reads the entry of a slot. `None` if the entry is not for the device.
    pub(crate) fn accept(&mut self, host: &mut Host, slot: u32) -> Option<Accepted> {
        let at = self.base + (u64::from(slot) << LOG_STRIDE);
        if self.base == 0 || self.busy & 1 << slot != 0 {
            host.counters.misuse.command_slot += 1;
            return None;
        }
        let mut entry = CommandEntry::zeroed();
        let read = host.dma.read(at, entry.bytes_mut());
        host.checked(read)?;
        if !entry.is_set(CommandEntry::STATUS_OWN_OWNER) {
            host.counters.misuse.command_slot += 1;
            return None;
        }
        self.busy |= 1 << slot;
        self.accepted += 1;
        host.trace_input(slot, &entry, MAX_LEN);
        let mut output = Vec::new();
        let input = read_input(host, &entry).and_then(|input| {
            output = output_blocks(host, &entry)?;
            Ok(input)
        });
        Some(Accepted { slot, entry, output, input })
    }

    /// A number that differs for every command and is the same in every run with the same seed.
    pub(crate) fn draw(&self, seed: u64) -> u64 {
        Noise::new(seed ^ self.accepted.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next()
    }

    /// Answers at `due`.
    pub(crate) fn postpone(&mut self, due: Duration, answer: Answer) {
        self.waiting.push(Waiting { due, order: self.accepted, answer });
    }

    /// Takes the first answer that is due.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Answer> {
        let (index, _) =
            self.waiting.iter().enumerate().filter(|(_, w)| w.due <= now).min_by_key(|(_, w)| (w.due, w.order))?;
        Some(self.waiting.swap_remove(index).answer)
    }

    /// When the next answer is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.waiting.iter().map(|w| w.due).min()
    }

    /// Writes an answer and gives the slot back. Returns the slot if an event is to announce it.
    pub(crate) fn deliver(&mut self, host: &mut Host, answer: Answer, sign: bool) -> Option<u32> {
        let Answer { accepted: Accepted { slot, mut entry, output, .. }, delivery, reply, token, written, announce } =
            answer;
        self.busy &= !(1 << slot);
        let (inline, blocks) = reply.split_at(INLINE);
        if delivery == DeliveryStatus::OK {
            for (index, (block, bytes)) in output.iter().zip(blocks.chunks(BLOCK)).enumerate() {
                let start = INLINE + index * BLOCK;
                let bytes = &bytes[..bytes.len().min(written.saturating_sub(start))];
                let done = write_block(&host.dma, *block, bytes, token, sign);
                host.checked(done);
            }
            let at = self.base + (u64::from(slot) << LOG_STRIDE);
            let done = host.dma.write(at + 32, &inline[..INLINE.min(written)]);
            host.checked(done);
        }
        let inline = &inline[..if delivery == DeliveryStatus::OK { INLINE.min(written) } else { 0 }];
        entry.bytes_mut()[32..][..inline.len()].copy_from_slice(inline);
        entry.set(CommandEntry::TOKEN, u32::from(token));
        entry.set(CommandEntry::STATUS_OWN, u32::from(delivery.0) << 1);
        if sign {
            entry.set(CommandEntry::SIG, 0);
            let signature = !xor(entry.bytes());
            entry.set(CommandEntry::SIG, u32::from(signature));
        }
        // Token to ownership; everything before is visible with the last byte.
        let at = self.base + (u64::from(slot) << LOG_STRIDE);
        let done = host.dma.publish(at + 60, &entry.bytes()[60..]);
        host.checked(done)?;
        host.trace_output(at, MAX_LEN);
        announce.then_some(slot)
    }
}

/// Gathers an input from the entry and its mailboxes.
fn read_input(host: &mut Host, entry: &CommandEntry) -> Result<Vec<u8>, DeliveryStatus> {
    if entry.get(CommandEntry::TYPE) != TYPE_PCIE {
        return Err(DeliveryStatus::CMD_DESCR_ERR);
    }
    let len = entry.get(CommandEntry::INLEN) as usize;
    if !(INLINE..=MAX_LEN).contains(&len) {
        return Err(DeliveryStatus::IN_LENGTH_ERR);
    }
    let mut input = Vec::with_capacity(len);
    input.extend_from_slice(&entry.bytes()[16..32]);
    let mut next = entry.get_wide(CommandEntry::IN_PTR);
    let mut number = 0;
    while input.len() < len {
        let block = read_block(host, next, number, entry, DeliveryStatus::IN_PTR_ALIGN_ERR)?;
        let take = BLOCK.min(len - input.len());
        input.extend_from_slice(&block.bytes()[..take]);
        next = block.get_wide(Mailbox::NEXT);
        number += 1;
    }
    Ok(input)
}

/// Walks the output mailboxes and returns their addresses.
fn output_blocks(host: &mut Host, entry: &CommandEntry) -> Result<Vec<u64>, DeliveryStatus> {
    let len = entry.get(CommandEntry::OUTLEN) as usize;
    if len > MAX_LEN {
        return Err(DeliveryStatus::OUT_LENGTH_ERR);
    }
    let count = len.saturating_sub(INLINE).div_ceil(BLOCK);
    let mut blocks = Vec::with_capacity(count);
    let mut next = entry.get_wide(CommandEntry::OUT_PTR);
    for number in 0..count as u32 {
        let block = read_block(host, next, number, entry, DeliveryStatus::OUT_PTR_ALIGN_ERR)?;
        blocks.push(next);
        next = block.get_wide(Mailbox::NEXT);
    }
    Ok(blocks)
}

fn read_block(
    host: &mut Host,
    at: u64,
    number: u32,
    entry: &CommandEntry,
    misaligned: DeliveryStatus,
) -> Result<Mailbox, DeliveryStatus> {
    if at == 0 || !at.is_multiple_of(BLOCK as u64) {
        return Err(misaligned);
    }
    let mut block = Mailbox::zeroed();
    let read = host.dma.read(at, block.bytes_mut());
    host.checked(read).ok_or(DeliveryStatus::FW_ERR)?;
    if block.get(Mailbox::TOKEN) != entry.get(CommandEntry::TOKEN) {
        return Err(DeliveryStatus::TOK_ERR);
    }
    if block.get(Mailbox::BLOCK_NUM) != number {
        return Err(DeliveryStatus::BAD_BLK_NUM_ERR);
    }
    Ok(block)
}

/// Writes the data of an output mailbox; the chain stays as the driver made it.
fn write_block(dma: &DmaSpace, at: u64, bytes: &[u8], token: u8, sign: bool) -> Result<(), crate::dma::DmaFault> {
    dma.write(at, bytes)?;
    let mut block = Mailbox::zeroed();
    dma.read(at, block.bytes_mut())?;
    block.set(Mailbox::TOKEN, u32::from(token));
    if sign {
        let control = !xor(&block.bytes()[CONTROL..CTRL_SIG]);
        block.set(Mailbox::CTRL_SIG, u32::from(control));
        let whole = !xor(&block.bytes()[..SIG]);
        block.set(Mailbox::SIG, u32::from(whole));
    }
    dma.write(at + CONTROL as u64, &block.bytes()[CONTROL..])
}

fn xor(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

/// Numbers that look random and are the same in every run: splitmix64.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
