//! What the device sees of its driver, written down: commands, work requests, completions (`cxddp-trace` has the form).

use crate::VirtualNic;
use crate::command_queue::INLINE;
use crate::dma::DmaSpace;
use crate::host::Host;
use cxddp_trace::{Dump, EntryKind, Fact, Sink};
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::{Access, Layout};

/// What is written down, and where.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Where.
    pub sink: Sink,
    /// What the function is called there.
    pub function: String,
    /// Every command, input and output with their mailboxes.
    pub commands: bool,
    /// Work requests, as they are executed.
    pub wqes: bool,
    /// Completions.
    pub cqes: bool,
}

impl VirtualNic {
    /// Writes down what happens from now on. It changes nothing else: what cannot be read or written is left out.
    pub fn trace(&mut self, tracing: Tracing) {
        let (major, minor, sub) = self.config.firmware;
        let facts = [Fact::Id(crate::pci::VENDOR_ID, self.config.device_id), Fact::Firmware(major, minor, sub)];
        facts.iter().for_each(|fact| tracing.sink.fact(self.host.now, &tracing.function, fact));
        self.host.tracing = Some(tracing);
    }
}

/// A chain of mailboxes as it lies in memory, as many as a message of `len` bytes needs and as can be read.
fn chain(dma: &DmaSpace, mut at: u64, len: usize) -> Vec<u8> {
    let mut blocks = Vec::new();
    for _ in 0..len.saturating_sub(INLINE).div_ceil(crate::command_queue::BLOCK) {
        let mut block = Mailbox::zeroed();
        if at == 0 || dma.read(at, block.bytes_mut()).is_err() {
            break;
        }
        blocks.extend_from_slice(block.bytes());
        at = block.get_wide(Mailbox::NEXT);
    }
    blocks
}

impl Host {
    fn traced(&self, what: impl Fn(&Tracing) -> bool) -> Option<&Tracing> {
        self.tracing.as_ref().filter(|tracing| what(tracing))
    }

    /// The command in a slot, as it was posted. `len` is what its input may have at most.
    pub(crate) fn trace_input(&self, slot: u32, entry: &CommandEntry, most: usize) {
        let Some(tracing) = self.traced(|tracing| tracing.commands) else { return };
        let len = (entry.get(CommandEntry::INLEN) as usize).min(most);
        let dump = Dump::new(*entry, chain(&self.dma, entry.get_wide(CommandEntry::IN_PTR), len));
        tracing.sink.input(self.now, &tracing.function, slot as usize, &dump);
    }

    /// The command whose entry is at `at`, as it was answered.
    pub(crate) fn trace_output(&self, at: u64, most: usize) {
        let Some(tracing) = self.traced(|tracing| tracing.commands) else { return };
        let mut entry = CommandEntry::zeroed();
        if self.dma.read(at, entry.bytes_mut()).is_err() {
            return;
        }
        let len = (entry.get(CommandEntry::OUTLEN) as usize).min(most);
        let dump = Dump::new(entry, chain(&self.dma, entry.get_wide(CommandEntry::OUT_PTR), len));
        tracing.sink.output(self.now, &tracing.function, &dump);
    }

    /// A work request.
    pub(crate) fn trace_wqe(&self, kind: EntryKind, queue: u32, index: u32, bytes: &[u8]) {
        let Some(tracing) = self.traced(|tracing| tracing.wqes) else { return };
        if !bytes.is_empty() {
            tracing.sink.entry(self.now, &tracing.function, kind, queue, index, bytes);
        }
    }

    /// A completion.
    pub(crate) fn trace_cqe(&self, queue: u32, index: u32, bytes: &[u8]) {
        if let Some(tracing) = self.traced(|tracing| tracing.cqes) {
            tracing.sink.entry(self.now, &tracing.function, EntryKind::Cqe, queue, index, bytes);
        }
    }
}
