//! What must be undone whatever else happens: the state of the function between ENABLE_HCA and DISABLE_HCA.

use super::firmware::Firmware;
use super::log::{Handle, ObjectLog, Refused};
use super::objects::{Creation, Logged, Objects};
use super::pages::{PageError, PageStore};
use super::{AdapterError, Config};
use crate::command::{
    CommandError, CommandPort, CommandQueue, Failures, Function, Output, Request, call, field_of, register, wait_ready,
};
use crate::dma::DmaHeap;
use crate::platform::{Deadline, Platform};
use firmware_iface::command::device::{DisableHcaIn, TeardownHcaIn, TeardownProfile};
use hw_regs::init_segment::InitSegment;
use hw_regs::layout::{Access, Layout};
use std::fmt;
use std::sync::Arc;

/// How far the function was brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Firmware knows the command queue.
    Started,
    /// ENABLE_HCA was done; firmware may hold pages.
    Enabled,
    /// INIT_HCA was done; objects exist.
    Initialized,
    /// Nothing is left to undo.
    Down,
}

pub(super) struct Base<P> {
    pub platform: Arc<P>,
    pub heap: DmaHeap,
    pub firmware: Firmware<P>,
    pub log: ObjectLog,
    pub stage: Stage,
}

/// Proof that a function was reset, so that it holds nothing that it was told of before: no object, no memory.
#[derive(Debug)]
pub struct FunctionReset(());

/// What a teardown did, and what it could not do.
#[derive(Debug, Default)]
pub struct Teardown {
    /// Objects destroyed.
    pub objects_destroyed: usize,
    /// Pages that firmware returned.
    pub pages_returned: usize,
    /// Pages that firmware did not return; their memory is never used again.
    pub pages_kept: usize,
    /// Commands that never completed; their memory is never used again.
    pub commands_stuck: usize,
    /// Objects that may have been created, but whose creation got no answer: TEARDOWN_HCA ended them, if it succeeded.
    pub objects_unknown: usize,
    /// Objects that firmware refused to destroy.
    pub refused: Vec<Refused>,
    /// What went wrong with pages.
    pub page_errors: Vec<PageError>,
    /// TEARDOWN_HCA and DISABLE_HCA, if they failed.
    pub command_errors: Vec<CommandError>,
}

impl Teardown {
    /// True if nothing is left behind.
    pub fn is_clean(&self) -> bool {
        self.pages_kept == 0
            && self.objects_unknown == 0
            && self.commands_stuck == 0
            && self.refused.is_empty()
            && self.page_errors.is_empty()
            && self.command_errors.is_empty()
    }
}

impl fmt::Display for Teardown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} objects destroyed, {} pages returned", self.objects_destroyed, self.pages_returned)?;
        if self.commands_stuck > 0 {
            write!(f, "\n{} commands never completed", self.commands_stuck)?;
        }
        if self.objects_unknown > 0 {
            write!(
                f,
                "\n{} creations got no answer: their objects were not destroyed one by one",
                self.objects_unknown
            )?;
        }
        if !self.refused.is_empty() {
            let errors = self.refused.iter().map(|refused| &refused.error);
            write!(f, "\n{} objects not destroyed: {}", self.refused.len(), Failures::of(errors))?;
        }
        for error in &self.page_errors {
            write!(f, "\n{error}")?;
        }
        for error in &self.command_errors {
            write!(f, "\n{error}")?;
        }
        Ok(())
    }
}

impl<P: Platform> Base<P> {
    /// Steps 1 to 4 of `mlx5-bringup.md` §3.
    pub fn start(platform: Arc<P>, config: &Config) -> Result<Base<P>, AdapterError> {
        let heap = platform.dma_heap();
        let deadline = Deadline::after(&*platform, config.ready_timeout);
        let mut queue = CommandQueue::start(Arc::clone(&platform), &heap, deadline)?;
        if let Some(sink) = &config.trace {
            queue.trace(sink.clone());
        }
        let firmware = Firmware::new(Arc::clone(&platform), queue, PageStore::new(heap.clone(), config.page_limit));
        Ok(Base { platform, heap, firmware, log: ObjectLog::default(), stage: Stage::Started })
    }

    /// Whom all this is about.
    pub fn function(&self) -> Arc<Function> {
        Arc::clone(self.firmware.queue.function())
    }

    pub fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, AdapterError> {
        Ok(self.firmware.exec(request, deadline)?)
    }

    pub fn bad_answer(&self, what: String) -> AdapterError {
        AdapterError::BadAnswer { function: self.function(), what }
    }

    /// True if this is the embedded CPU's function of a BlueField.
    pub fn embedded_cpu(&self) -> bool {
        let word = self.platform.read32(register(InitSegment::INITIALIZING));
        word != u32::MAX && field_of(InitSegment::INITIALIZING_EMBEDDED_CPU, word) != 0
    }

    /// Memory for something of the driver's own.
    pub fn memory<T>(&self, what: &'static str, memory: Result<T, crate::dma::DmaError>) -> Result<T, AdapterError> {
        memory.map_err(|error| AdapterError::Memory { function: self.function(), what, error })
    }

    /// Creates an object and logs it.
    pub fn create(&mut self, creation: Creation, deadline: Deadline) -> Result<Handle, AdapterError> {
        Ok(Logged { port: &mut self.firmware, log: &mut self.log }.create(creation, deadline)?)
    }

    /// Undoes everything in reverse order (`mlx5-bringup.md` §9): objects, TEARDOWN_HCA, pages, DISABLE_HCA. What fails is
    /// reported and does not keep the rest from being undone.
    pub fn teardown(&mut self, deadline: Deadline) -> Teardown {
        let mut report = Teardown::default();
        let objects = self.log.len();
        report.refused = self.log.destroy_all(&mut self.firmware, deadline);
        report.objects_unknown = self.log.unknown();
        report.objects_destroyed = objects - self.log.len();
        // An EQ that firmware refused to destroy is not relied on any further.
        self.firmware.queue.use_events(false);
        (self.firmware.command_eq, self.firmware.pages_eq) = (None, None);
        self.firmware.drop_demands();
        let mut down = true;
        if self.stage == Stage::Initialized {
            let profile = u32::from(TeardownProfile::GRACEFUL_CLOSE.0);
            let input = TeardownHcaIn::zeroed().with(TeardownHcaIn::PROFILE, profile);
            if let Err(error) = call(&mut self.firmware, &input, deadline) {
                report.command_errors.push(error);
                down = false;
            }
        }
        if self.stage >= Stage::Enabled {
            (report.pages_returned, report.page_errors) = self.firmware.take_all_pages(deadline);
            let input =
                DisableHcaIn::zeroed().with(DisableHcaIn::EMBEDDED_CPU_FUNCTION, u32::from(self.embedded_cpu()));
            if let Err(error) = call(&mut self.firmware, &input, deadline) {
                report.command_errors.push(error);
                down = false;
            }
        }
        report.pages_kept = self.firmware.pages.held();
        report.commands_stuck = self.firmware.queue.in_flight();
        if down {
            // Firmware has forgotten all objects, also those that it refused to destroy one by one.
            self.log.forget();
            if report.pages_kept == 0 {
                self.stage = Stage::Down;
            }
        }
        report
    }

    /// Undoes everything, by a reset of the function if it cannot be done in order.
    pub fn undo(&mut self, config: &Config) -> Teardown {
        let report = self.teardown(Deadline::after(&*self.platform, config.command_timeout));
        if !report.is_clean() {
            log::error!("{}: undoing the bring-up: {report}; resetting the function", self.function());
            // Firmware then has nothing of ours, and the memory is free.
            if let Err(error) = self.reset(Deadline::after(&*self.platform, config.ready_timeout)) {
                log::error!("{error}");
            }
        }
        report
    }

    /// Function-level reset: firmware forgets everything, so all memory is free.
    pub fn reset(&mut self, deadline: Deadline) -> Result<FunctionReset, AdapterError> {
        self.platform.reset()?;
        wait_ready(&*self.platform, deadline, "after a function-level reset")?;
        self.firmware.forget();
        self.log.forget();
        self.stage = Stage::Down;
        Ok(FunctionReset(()))
    }
}

impl<P> Drop for Base<P> {
    fn drop(&mut self) {
        if self.stage == Stage::Down {
            return;
        }
        let (objects, function) = (self.log.len(), Arc::clone(self.firmware.queue.function()));
        let pages = self.firmware.pages.leak();
        let pieces = self.log.leak() + self.firmware.queue.leak();
        log::error!(
            "{function}: let go without a complete teardown or a reset: {objects} objects and {pages} pages are left in \
             firmware; the memory of these pages and {pieces} more pieces are never used again, because the device may \
             still access them"
        );
    }
}
