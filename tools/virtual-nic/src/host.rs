//! The host side of the device: memory, interrupts, and what is counted on the way.

use crate::counters::Counters;
use crate::dma::{DmaFault, DmaSpace};
use crate::effort::Sessions;
use crate::faults::Faults;
use crate::trace::Tracing;
use std::time::Duration;

/// Called with the vector's number when an interrupt fires.
pub(crate) type Interrupt = Box<dyn FnMut(u16) + Send>;

/// What the device reaches over PCI, with its counters and faults.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) dma: DmaSpace,
    pub(crate) interrupt: Option<Interrupt>,
    pub(crate) counters: Counters,
    pub(crate) faults: Faults,
    pub(crate) sessions: Sessions,
    pub(crate) tracing: Option<Tracing>,
    /// Simulated time.
    pub(crate) now: Duration,
}

impl Host {
    /// Raises an interrupt: a memory write as well, so not without bus mastering.
    pub(crate) fn interrupt(&mut self, vector: u16) {
        if !self.dma.is_enabled() {
            return;
        }
        self.counters.interrupts += 1;
        if let Some(interrupt) = &mut self.interrupt {
            interrupt(vector);
        }
    }

    /// The driver has gone: what comes is another one's.
    pub(crate) fn end_session(&mut self) {
        self.sessions.end(&self.counters);
    }

    /// Counts a failed access.
    pub(crate) fn checked<T>(&mut self, access: Result<T, DmaFault>) -> Option<T> {
        match access {
            Ok(value) => Some(value),
            Err(fault) => {
                log::debug!("{fault}");
                // Who turns bus mastering off does not ask the driver.
                if !matches!(fault, DmaFault::Disabled { .. }) {
                    self.counters.misuse.dma_fault += 1;
                }
                None
            }
        }
    }

    /// Time stamp of a completion: nanoseconds of simulated time.
    pub(crate) fn timestamp(&self) -> u64 {
        self.now.as_nanos() as u64
    }
}
