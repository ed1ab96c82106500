//! One function, brought up: firmware's demands served, its objects logged, its events collected, torn down in order.
//!
//! ```text
//! Adapter
//!  ├ firmware   command queue + command EQ + pages EQ: a CommandPort that serves firmware while it waits
//!  ├ log        every object, its destroy command, the memory that the device uses because of it
//!  ├ parts      capabilities, UAR, protection domain, transport domain, data mkey, EQs, MAC
//!  └ monitor    health
//! ```
//!
//! Life: [`Adapter::bring_up`] → objects of the queues, of steering and of the offload through [`Objects`] →
//! [`Adapter::poll`] for events, [`Adapter::check_health`] now and then → [`Adapter::teardown`], or [`Adapter::reset`]
//! when the function no longer answers. An adapter that is dropped without either leaves objects in firmware: that is
//! logged, and the memory that the device may still access is never used again.

mod base;
mod bring_up;
mod capabilities;
mod control;
mod eq;
mod error;
mod event;
mod firmware;
mod health;
mod inspection;
mod log;
pub mod model;
mod objects;
mod pages;
mod port;
mod report;
mod share;
#[cfg(test)]
mod tests;

pub use base::{FunctionReset, Teardown};
pub use capabilities::{Capabilities, OffloadCaps, Reason};
pub use control::Control;
pub use error::AdapterError;
pub use event::{Event, EventCounters};
pub use health::{Ailment, AilmentKind, HealthCounters};
pub use inspection::Inspection;
pub use log::{Handle, ObjectLog, Refused};
pub use objects::{Creation, Logged, Objects};
pub use pages::{PAGE_BYTES, PageError};
pub use port::HARDWARE_MTU_OVERHEAD;
pub use report::Report;
pub use share::{Host, HostCounters, Remote};

use crate::command::{CommandCounters, CommandError, CommandPort, FirmwareVersion, Function, Output, Request, Ticket};
use crate::dma::DmaHeap;
use crate::observe::FunctionStats;
use crate::observe::counter::gauges;
use crate::platform::{Deadline, Platform};
use crate::queue::RingView;
use base::Base;
use bring_up::Parts;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

/// How a function is brought up.
#[derive(Clone, Debug)]
pub struct Config {
    /// IP MTU.
    pub mtu: u16,
    /// MAC address instead of the permanent one; needed on a virtual function that was given none.
    pub mac: Option<[u8; 6]>,
    /// Pages of 4 KiB that firmware may hold.
    pub page_limit: usize,
    /// Completion EQs at most; there are never more than vectors.
    pub completion_eqs: u16,
    /// Learn of completed commands by events instead of looking at the command queue.
    pub command_events: bool,
    /// How long firmware may take to become ready.
    pub ready_timeout: Duration,
    /// How long one command may take.
    pub command_timeout: Duration,
    /// How long the link may take to come up; `None` does not wait for it.
    pub link_timeout: Option<Duration>,
    /// Where every command is written down.
    pub trace: Option<cxddp_trace::Sink>,
}

impl Default for Config {
    /// Timeouts are those of Linux (`mlx5-numbers.md`).
    fn default() -> Config {
        Config {
            mtu: 1500,
            mac: None,
            page_limit: (512 << 20) / PAGE_BYTES,
            completion_eqs: 16,
            command_events: true,
            ready_timeout: Duration::from_secs(120),
            command_timeout: Duration::from_secs(60),
            link_timeout: Some(Duration::from_secs(30)),
            trace: None,
        }
    }
}

gauges! {
    /// What a function has at the moment.
    pub struct Gauges {
        /// Commands in flight, overdue ones included.
        pub commands_in_flight: Commands,
        /// Most commands in flight at a time so far.
        pub commands_in_flight_most: Commands,
        /// Command slots lost for now or for good: their commands missed the deadline, or came back as something else.
        pub commands_stuck: Commands,
        /// Firmware objects of the driver.
        pub objects: Objects,
        /// Pages of 4 KiB that firmware holds.
        pub pages: Pages,
    }
}

/// Everything that is counted about a function since it was brought up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Firmware commands.
    pub commands: CommandCounters,
    /// Event queues.
    pub events: EventCounters,
    /// Health.
    pub health: HealthCounters,
    /// Lists and events of shards that share the function.
    pub host: HostCounters,
}

impl AddAssign<&Totals> for Totals {
    fn add_assign(&mut self, other: &Totals) {
        // Taken apart, so that a new one is not forgotten.
        let Totals { commands, events, health, host } = other;
        self.commands += commands;
        self.events += events;
        self.health += health;
        self.host += host;
    }
}

/// One function, brought up.
pub struct Adapter<P> {
    base: Base<P>,
    parts: Parts,
    monitor: health::Monitor,
    config: Config,
}

impl<P: Platform> Adapter<P> {
    /// Brings the function up, steps 1 to 20 and 25 to 27 of `mlx5-bringup.md` §3. On failure all is undone,
    /// by a reset of the function if it cannot be done in order.
    pub fn bring_up(platform: Arc<P>, config: Config) -> Result<Adapter<P>, AdapterError> {
        bring_up::bring_up(platform, config)
    }

    /// Destroys every object in reverse order of creation, takes firmware's pages back and disables the function. What
    /// could not be undone is in the report; its memory is never used again.
    pub fn teardown(mut self, deadline: Deadline) -> Teardown {
        self.base.teardown(deadline)
    }

    /// Resets the function (FLR): firmware forgets everything, and all memory is free again. Nothing can be done with the
    /// adapter then but to drop it; the function can be brought up anew. If the function cannot be reset, it may be tried
    /// again.
    pub fn reset(&mut self, deadline: Deadline) -> Result<FunctionReset, AdapterError> {
        self.base.reset(deadline)
    }

    /// [`Adapter::teardown`]. If that leaves anything behind, or `reset` says so, [`Adapter::reset`] follows, under the
    /// time-out of bring-up.
    pub fn take_down(
        mut self,
        deadline: Deadline,
        reset: bool,
    ) -> (Teardown, Option<Result<FunctionReset, AdapterError>>) {
        let report = self.base.teardown(deadline);
        if report.is_clean() && !reset {
            return (report, None);
        }
        let deadline = Deadline::after(&*self.base.platform, self.config.ready_timeout);
        let reset = self.base.reset(deadline);
        (report, Some(reset))
    }

    /// Another page of doorbell registers, for queues whose owner shares none with others. Returns its number.
    pub fn allocate_uar(&mut self, deadline: Deadline) -> Result<u32, AdapterError> {
        bring_up::allocate_uar(&mut self.base, deadline)
    }

    /// Its command port and its log, side by side.
    fn logged(&mut self) -> Logged<'_> {
        Logged { port: &mut self.base.firmware, log: &mut self.base.log }
    }

    /// Takes the next event; serves firmware on the way. Never waits.
    pub fn poll(&mut self) -> Option<Event> {
        let firmware = &mut self.base.firmware;
        firmware.serve();
        let platform = &*self.base.platform;
        let queues = std::iter::once((None, &mut self.parts.async_eq))
            .chain(self.parts.completion_eqs.iter_mut().enumerate().map(|(index, eq)| (Some(index as u16), eq)));
        for (completion, eq) in queues {
            let mut seen = 0;
            while seen < eq.len()
                && let Some(eqe) = eq.next()
            {
                seen += 1;
                let event = match completion {
                    None => Some(Event::from_async(&eqe)),
                    Some(index) => Event::from_completion(index, &eqe),
                };
                match event {
                    Some(event) => {
                        firmware.counters.unexpected += u64::from(matches!(event, Event::Other { .. }));
                        firmware.push(event);
                    }
                    None => firmware.counters.unexpected += 1,
                }
            }
            if seen > 0 {
                firmware.counters.entries += seen as u64;
                eq.arm(platform);
            }
        }
        firmware.events.pop_front()
    }

    /// Looks at the function's health; call it every second or so.
    pub fn check_health(&mut self) -> Result<(), AdapterError> {
        let looked = self.monitor.look(&*self.base.platform);
        looked.map_err(|health| AdapterError::Unhealthy { function: self.base.function(), health })
    }

    /// A summary for people.
    pub fn report(&mut self, deadline: Deadline) -> Result<Report, AdapterError> {
        Report::new(self, deadline)
    }

    /// True if the link is up now.
    pub fn link_is_up(&mut self, deadline: Deadline) -> Result<bool, AdapterError> {
        port::link_is_up(&mut self.base, deadline)
    }

    /// The deadline of a command that is posted now.
    pub fn command_deadline(&self) -> Deadline {
        Deadline::after(&*self.base.platform, self.config.command_timeout)
    }

    /// The PCI function.
    pub fn platform(&self) -> &Arc<P> {
        &self.base.platform
    }

    /// Memory that the function can access.
    pub fn heap(&self) -> &DmaHeap {
        &self.base.heap
    }

    /// Who the function is, for messages.
    pub fn function(&self) -> Arc<Function> {
        self.base.function()
    }

    /// Version of the firmware.
    pub fn firmware_version(&self) -> FirmwareVersion {
        self.base.firmware.queue.function().firmware
    }

    /// Parameter set id of the board.
    pub fn psid(&self) -> &str {
        &self.parts.psid
    }

    /// What the function can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.parts.capabilities
    }

    /// Number of the UAR: the page of doorbell registers at BAR0 + number * 4096.
    pub fn uar(&self) -> u32 {
        self.parts.uar
    }

    /// Number of the protection domain.
    pub fn pd(&self) -> u32 {
        self.parts.pd
    }

    /// Number of the transport domain.
    pub fn transport_domain(&self) -> u32 {
        self.parts.transport_domain
    }

    /// Memory key (32 bits, as work requests carry it) to all mapped memory: address equals I/O virtual address.
    pub fn data_mkey(&self) -> u32 {
        self.parts.data_mkey
    }

    /// The reserved key, which needs `rlky` in the queue's context; `None` if firmware does not tell.
    pub fn reserved_lkey(&self) -> Option<u32> {
        self.parts.reserved_lkey
    }

    /// Key that ends the scatter list of a receive WQE.
    pub fn terminate_mkey(&self) -> u32 {
        self.parts.terminate_mkey
    }

    /// Number of completion EQs.
    pub fn completion_eqs(&self) -> u16 {
        self.parts.completion_eqs.len() as u16
    }

    /// EQ number of a completion EQ, for the context of a CQ; `index` is taken modulo their number.
    pub fn completion_eqn(&self, index: u16) -> u32 {
        u32::from(self.parts.completion_eqs[usize::from(index) % self.parts.completion_eqs.len()].number())
    }

    /// MAC address in use.
    pub fn mac(&self) -> [u8; 6] {
        self.parts.mac
    }

    /// IP MTU in use.
    pub fn mtu(&self) -> u16 {
        self.config.mtu
    }

    /// Greatest IP MTU of the port.
    pub fn max_mtu(&self) -> u16 {
        self.parts.max_mtu
    }

    /// Commands posted so far.
    pub fn commands_executed(&self) -> u64 {
        self.base.firmware.queue.counters().posted
    }

    /// What the command queue has seen.
    pub fn command_counters(&self) -> CommandCounters {
        self.base.firmware.queue.counters()
    }

    /// Most commands in flight at a time so far.
    pub fn most_commands_in_flight(&self) -> usize {
        self.base.firmware.queue.most_in_flight()
    }

    /// What the event queues have seen.
    pub fn event_counters(&self) -> EventCounters {
        self.base.firmware.counters
    }

    /// What was seen of the function's health.
    pub fn health_counters(&self) -> HealthCounters {
        self.monitor.counters()
    }

    /// All numbers of the function.
    pub fn stats(&self) -> FunctionStats {
        let queue = &self.base.firmware.queue;
        FunctionStats {
            address: self.base.platform.identity().address.clone(),
            firmware: self.firmware_version().to_string(),
            gauges: Gauges {
                commands_in_flight: queue.in_flight() as u64,
                commands_in_flight_most: queue.most_in_flight() as u64,
                commands_stuck: queue.stuck() as u64,
                objects: self.base.log.len() as u64,
                pages: self.firmware_pages() as u64,
            },
            totals: Totals {
                commands: queue.counters(),
                events: self.base.firmware.counters,
                health: self.monitor.counters(),
                host: HostCounters::default(),
            },
        }
    }

    /// The rings of the event queues, each with what it is for.
    pub fn event_rings(&self) -> impl Iterator<Item = (&'static str, RingView<'_>)> {
        let firmware = &self.base.firmware;
        let own = [("commands", firmware.command_eq.as_ref()), ("pages", firmware.pages_eq.as_ref())];
        let own = own.into_iter().filter_map(|(what, eq)| Some((what, eq?)));
        let completions = self.parts.completion_eqs.iter().map(|eq| ("completions", eq));
        own.chain([("asynchronous events", &self.parts.async_eq)])
            .chain(completions)
            .map(|(what, eq)| (what, eq.view()))
    }

    /// Looks at commands whose completion no event tells; for whoever holds tickets and does not wait.
    #[cfg(feature = "demo")]
    pub(crate) fn look_at_commands(&mut self) {
        self.base.firmware.queue.poll();
    }

    /// Pages that firmware holds.
    pub fn firmware_pages(&self) -> usize {
        self.base.firmware.pages.held()
    }

    /// The objects that exist.
    pub fn objects(&self) -> &ObjectLog {
        &self.base.log
    }
}

impl<P: Platform> CommandPort for Adapter<P> {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        self.base.firmware.post(request)
    }

    fn wait(&mut self, ticket: Ticket, deadline: Deadline) -> Result<Output, CommandError> {
        self.base.firmware.wait(ticket, deadline)
    }

    fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, CommandError> {
        self.base.firmware.exec(request, deadline)
    }

    fn free_slots(&self) -> usize {
        self.base.firmware.free_slots()
    }
}
