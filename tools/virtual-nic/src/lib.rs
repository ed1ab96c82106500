//! A ConnectX in software: registers, firmware commands, queues, steering and the NVMe/TCP receive offload.
//!
//! ```text
//!             BAR0                      host memory (DMA)
//!  host ──► registers ──► command queue ◄──► mailboxes        firmware: state, pages, capabilities, objects
//!                │
//!                ├──► SQ ──► WQE ──► SEND, LSO ─────────────► wire
//!                │             └──► UMR, SET_PSV ──► memory keys, offload contexts
//!                └──► EQ, CQ arming ──► events ──► interrupt
//!
//!  wire ──► address filter ──► flow tables ──► TIR ──► offload context ──► payload to the tag's buffer (the hole)
//!                                               └────► RSS ──► RQ ──► rest of the frame to the receive buffer ──► CQE
//! ```
//!
//! One [`VirtualNic`] is one PCI function. It is written from documents about the hardware, never from the driver, and
//! knows nothing of it. Everything happens inside the calls: no threads, no clock, no state outside the value; what is to
//! happen later happens in [`VirtualNic::advance`]. What the host does wrong is answered as firmware would, or counted
//! ([`Counters::misuse`]), never trusted.
//!
//! What is not known about the hardware is a switch ([`Switches`]); what goes wrong on purpose is a fault ([`faults`]); and
//! a device can be made to write wherever it may ([`hostile`]).

pub mod capabilities;
mod command_queue;
pub mod config;
pub mod counters;
pub mod dma;
pub mod effort;
pub mod faults;
mod firmware;
mod host;
pub mod hostile;
pub mod inventory;
pub mod mkey;
pub mod offload;
pub mod packet;
pub mod pci;
mod queue;
mod receive;
pub mod refusal;
mod registers;
pub mod reject;
pub mod rss;
pub mod steering;
pub mod switches;
mod table;
pub mod trace;
mod transmit;
mod vendor;
pub mod wqe;

#[cfg(test)]
mod tests;

pub use capabilities::Capabilities;
pub use config::{Config, PageDemand, Switches};
pub use counters::{Counters, Misuse};
pub use dma::{DmaError, DmaFault};
pub use effort::{Effort, Session};
pub use faults::{CommandFault, Fault, Faults, Role};
pub use hostile::{Hostile, Written};
pub use inventory::Inventory;
pub use trace::Tracing;

use command_queue::{Answer, CommandQueue};
use firmware::objects::Objects;
use firmware::{Command, Firmware};
use host::Host;
use hw_regs::eqe::{EqeCmd, EventType};
use hw_regs::layout::{Access, Layout};
use registers::Registers;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use vm_memory::MmapRegion;

/// One virtual PCI function.
pub struct VirtualNic {
    config: Config,
    host: Host,
    registers: Registers,
    commands: CommandQueue,
    firmware: Firmware,
    objects: Objects,
    /// Objects that were held when TEARDOWN_HCA came.
    abandoned: inventory::Objects,
    /// Frames on their way out.
    wire: VecDeque<Vec<u8>>,
    /// Send queues that were rung, and when they are looked at.
    rung: VecDeque<(Duration, u32)>,
    hostile: Option<Box<hostile::Writer>>,
    scratch: receive::Scratch,
}

impl VirtualNic {
    /// A function that was just powered on.
    pub fn new(config: Config) -> VirtualNic {
        VirtualNic {
            host: Host::default(),
            registers: Registers::reset(Duration::ZERO, config.boot_time),
            commands: CommandQueue::default(),
            firmware: Firmware::new(&config),
            objects: Objects::new(&config),
            abandoned: inventory::Objects::default(),
            wire: VecDeque::new(),
            rung: VecDeque::new(),
            hostile: None,
            scratch: receive::Scratch::default(),
            config,
        }
    }

    /// How it was made.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// PCI device id.
    pub fn device_id(&self) -> u16 {
        self.config.device_id
    }

    /// Bytes of BAR0.
    pub fn bar_size(&self) -> u64 {
        self.config.bar_size
    }

    /// Interrupt vectors.
    pub fn vectors(&self) -> u16 {
        self.config.vectors
    }

    /// Function-level reset: all objects, pages and answers under way are forgotten, frames that wait are lost. Memory
    /// stays mapped, the interrupt callback, counters and faults stay.
    pub fn reset(&mut self) {
        self.host.end_session();
        self.registers = Registers::reset(self.host.now, self.config.boot_time);
        self.commands.reset();
        self.firmware = Firmware::new(&self.config);
        self.objects = Objects::new(&self.config);
        self.objects.offload.advance(self.host.now);
        self.abandoned = inventory::Objects::default();
        self.wire.clear();
        self.rung.clear();
        self.trust_all();
    }

    /// Maps the first `len` bytes of `file` at `iova`: the device sees what its owner sees.
    pub fn dma_map(&mut self, iova: u64, file: &File, len: u64) -> Result<(), DmaError> {
        self.host.dma.map(iova, file, len)
    }

    /// Maps memory of this process at `iova`, all of it. The region is kept until it is unmapped.
    pub fn dma_map_region(&mut self, iova: u64, region: Arc<MmapRegion>) -> Result<(), DmaError> {
        self.host.dma.map_region(iova, region)
    }

    /// Removes a mapping. What the device still does there fails, as behind an IOMMU.
    pub fn dma_unmap(&mut self, iova: u64, len: u64) -> Result<(), DmaError> {
        self.host.dma.unmap(iova, len)
    }

    /// Maps `len` bytes of `file` from `offset` at `iova`, for reading only or for writing too.
    pub fn dma_map_at(
        &mut self,
        iova: u64,
        file: &File,
        offset: u64,
        len: u64,
        writable: bool,
    ) -> Result<(), DmaError> {
        self.host.dma.map_at(iova, file, offset, len, writable)
    }

    /// Takes a range of addresses away, whatever is mapped there, as an IOMMU's invalidation does.
    pub fn dma_revoke(&mut self, iova: u64, len: u64) {
        self.host.dma.revoke(iova, len);
    }

    /// Turns bus mastering on (as it is after [`VirtualNic::new`]: nobody has to know of PCI) or off.
    pub fn set_bus_master(&mut self, on: bool) {
        self.host.dma.set_enabled(on);
    }

    /// Takes all memory away.
    pub fn dma_clear(&mut self) {
        self.host.dma.clear();
    }

    /// Writes as a device would that was told, or believes, a wrong address. Refused, and recorded, if nothing is mapped there.
    pub fn dma_write(&mut self, iova: u64, bytes: &[u8]) -> Result<(), DmaFault> {
        self.host.dma.write(iova, bytes)
    }

    /// Accesses to memory that were refused since power-on, and the last of them, which are forgotten: what an IOMMU would
    /// report.
    pub fn dma_faults(&mut self) -> (u64, Vec<DmaFault>) {
        (self.host.dma.refused(), self.host.dma.faults())
    }

    /// Accesses since power-on that were not begun because bus mastering was off.
    pub fn dma_blocked(&self) -> u64 {
        self.host.dma.blocked()
    }

    /// `callback` is called with a vector's number when its interrupt fires, from inside the call that made it fire; it
    /// must not call back into the device.
    pub fn on_interrupt(&mut self, callback: Box<dyn FnMut(u16) + Send>) {
        self.host.interrupt = Some(callback);
    }

    /// Lets simulated time pass up to `now` (it never goes back) and does what became due.
    pub fn advance(&mut self, now: Duration) {
        self.host.now = self.host.now.max(now);
        self.objects.offload.advance(self.host.now);
        self.host.faults.advance(self.host.now);
        self.occasion();
        self.end_rows();
        while self.rung.front().is_some_and(|(at, _)| *at <= self.host.now)
            && let Some((_, sqn)) = self.rung.pop_front()
        {
            self.run_rung(sqn);
        }
        while let Some(answer) = self.commands.due(self.host.now) {
            self.deliver(answer);
        }
    }

    /// When something is due next, if anything is.
    pub fn next_event(&self) -> Option<Duration> {
        let ready = Some(self.registers.ready_at()).filter(|at| *at > self.host.now);
        let rung = self.rung.front().map(|(at, _)| *at);
        let rows = self.objects.completions.has_rows().then_some(self.host.now);
        [ready, self.commands.next_due(), rung, rows, self.host.faults.back_at()].into_iter().flatten().min()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.host.counters
    }

    /// What each of the last drivers did until its first frames, and in all; the last of them may not have ended.
    pub fn sessions(&self) -> Vec<Session> {
        self.host.sessions.list(&self.host.counters)
    }

    /// What the offload counted since the function was reset or torn down last.
    pub fn offload_counters(&self) -> &offload::OffloadCounters {
        self.objects.offload.counters()
    }

    /// The sequence numbers that offload contexts wait to have confirmed, with the TIRs of the contexts.
    pub fn awaited(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.objects.offload.awaited()
    }

    /// The episodes without framing that ended since the last call, oldest first, and how many were forgotten since the
    /// last reset because nobody took them.
    pub fn take_episodes(&mut self) -> (Vec<offload::Episode>, u64) {
        self.objects.offload.take_episodes()
    }

    /// Scripted faults.
    pub fn faults(&mut self) -> &mut Faults {
        &mut self.host.faults
    }

    /// Writes an event of any type and content to whoever subscribed to it; false if nobody did. `data` is cut to 28
    /// bytes.
    pub fn inject_event(&mut self, event: EventType, sub_type: u8, data: &[u8]) -> bool {
        let data = &data[..data.len().min(28)];
        self.objects.completions.eqs.notify(&mut self.host, event, sub_type, data)
    }

    /// Takes the next frame that goes to the wire, without FCS, at least 60 bytes.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        if self.host.faults.is_gone() {
            return None;
        }
        self.wire.pop_front()
    }

    /// Writes completions that wait to be compressed; a function that is off the bus cannot.
    fn end_rows(&mut self) {
        match self.host.faults.is_gone() {
            true => self.objects.completions.drop_rows(),
            false => self.objects.completions.end_rows(&mut self.host),
        }
    }

    /// Reads and executes the command in a slot, and answers it now or later.
    fn run_command(&mut self, slot: u32) {
        let Some(accepted) = self.commands.accept(&mut self.host, slot) else { return };
        let fault = match &accepted.input {
            Ok(_) => self.host.faults.take(accepted.opcode()),
            Err(_) => None,
        };
        if fault == Some(CommandFault::Lost) {
            return;
        }
        self.occasion();
        self.end_rows();
        let before = self.before(accepted.opcode());
        let events_before = self.command_events();
        let outcome = match (&accepted.input, fault) {
            (Err(delivery), _) => {
                self.host.counters.commands_undelivered += 1;
                Err(*delivery)
            }
            (Ok(_), Some(CommandFault::Undelivered(delivery))) => {
                self.host.counters.commands_undelivered += 1;
                Err(delivery)
            }
            (Ok(_), Some(CommandFault::Refuse { status, syndrome })) => {
                self.host.counters.commands += 1;
                self.host.counters.commands_refused += 1;
                Ok(firmware::Reply::refused(reject::Reject { status, syndrome: reject::Syndrome(syndrome) }))
            }
            (Ok(input), _) => Ok(self.execute(&Command::new(input))),
        };
        self.doubt(slot, before);
        self.occasion();
        if fault == Some(CommandFault::NeverAnswered) {
            return;
        }
        // The driver waits for the answer that makes its command EQ by polling: that EQ does not announce itself.
        let made_events = !events_before && self.command_events();
        let opcode = accepted.opcode();
        let mut answer = accepted.answer(outcome, fault);
        self.host.faults.tamper_answer(opcode, answer.output_mut());
        let answer = if made_events { answer.silent() } else { answer };
        let mut latency = self.config.command_latency;
        if !self.config.command_jitter.is_zero() {
            let most = self.config.command_jitter.as_nanos() as u64;
            latency += Duration::from_nanos(self.commands.draw(self.config.seed) % (most + 1));
        }
        if let Some(CommandFault::Late(by)) = fault {
            latency += by;
        }
        match latency.is_zero() {
            true => self.deliver(answer),
            false => self.commands.postpone(self.host.now + latency, answer),
        }
    }

    /// Writes an answer, then the event that announces it.
    fn deliver(&mut self, answer: Answer) {
        if self.host.faults.is_gone() {
            return;
        }
        self.occasion();
        self.trust(answer.slot());
        let Some(slot) = self.commands.deliver(&mut self.host, answer, self.config.switches.sign_answers) else {
            return;
        };
        let data = EqeCmd::zeroed().with(EqeCmd::VECTOR, 1 << slot);
        self.objects.completions.eqs.notify(&mut self.host, EventType::CMD, 0, data.bytes());
    }
}
