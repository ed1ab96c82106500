//! The admin queue's procedure: brings a controller up, keeps it alive, shuts it down.
//!
//! ```text
//! Connect ─► CAP ─► VS ─► CSTS ─┬─ RDY ─► CC = 0 ─► wait RDY = 0 ─┐
//!                               └─────────────────────────────────┴─► CC.EN ─► wait RDY ─► Identify controller
//!   ─► active namespaces ─► Identify each ─► Number of Queues ─► Ready ─► CC.SHN ─► wait SHST ─► Down
//! ```
//!
//! One command at a time, keep-alives aside: nothing here is in a hurry. The owner moves bytes between the connection and
//! [`Controller::queue`] exactly as for an I/O queue, then calls [`Controller::poll`]. Every wait ends: commands by the
//! queue's time-out, RDY by CAP.TO, the shutdown by RTD3E or the configured time-out, whichever is longer.
//!
//! When `Ready`, [`Controller::io_queue`] gives what each I/O queue's [`HostQueue`] is made from; its Connect is part of
//! its own start. I/O queues are closed before [`Controller::shutdown`] is called.

mod error;

pub use error::{ControllerError, QueueRefused};

use super::command::Request;
use super::fabrics::{CNTLID_ANY, Capabilities, Configuration, ControllerStatus, HostIdentity, Property};
use super::identify::{ControllerPage, IdentifyError, NamespacePage, cns, namespace_list};
use super::queue::{BadQueue, Completion, Event, HostQueue, QueueConfig};
use std::time::Duration;

/// Outstanding commands of an admin queue: an admin submission queue has 32 entries (Fabrics, queues).
const ADMIN_DEPTH: u16 = 31;
/// Between two looks at CSTS.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What is wanted of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Who connects to what.
    pub identity: HostIdentity,
    /// Header digests on all queues.
    pub header_digest: bool,
    /// Data digests on all queues.
    pub data_digest: bool,
    /// I/O queues wanted; the controller may grant fewer.
    pub io_queues: u16,
    /// Namespaces that are identified, in the order of their ids; further ones are not looked at.
    pub max_namespaces: usize,
    /// KATO: the controller gives up on a host that it has not heard of for so long. Zero for never. A keep-alive is sent
    /// twice in this time.
    pub keep_alive: Duration,
    /// How long a connection's start or one command may take, on the admin queue and on I/O queues.
    pub timeout: Duration,
}

/// An active namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// NSID.
    pub id: u32,
    /// What it is, or why this driver cannot use it.
    pub page: Result<NamespacePage, IdentifyError>,
}

/// What the controller takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerLimits {
    /// I/O queues, ids 1 to this.
    pub io_queues: u16,
    /// Outstanding commands per I/O queue: MQES and MAXCMD.
    pub depth: u16,
    /// Bytes of data per command: MDTS; `u32::MAX` without limit.
    pub max_transfer: u32,
    /// Bytes of write data in a command capsule: IOCCSZ.
    pub in_capsule_bytes: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControllerEvent {
    /// The controller is up: I/O queues may connect.
    Ready,
    /// The shutdown is complete: the connection may be closed.
    Down,
    /// The procedure ended; the connection should be closed once the queue has no output.
    Failed(ControllerError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    ReadCapabilities,
    ReadVersion,
    ReadStatus,
    Disable,
    AwaitDisabled,
    Enable,
    AwaitReady,
    Identify,
    ListNamespaces,
    IdentifyNamespace(usize),
    NumberOfQueues,
    Ready,
    Shutdown,
    AwaitShutdown,
    Down,
    Failed,
}

impl Step {
    /// What the step waits for in CSTS.
    fn awaited(self) -> Option<&'static str> {
        match self {
            Step::AwaitDisabled => Some("RDY (bit 0) to clear"),
            Step::AwaitReady => Some("RDY (bit 0)"),
            Step::AwaitShutdown => Some("SHST (bits 3:2) = 10b, shutdown complete"),
            _ => None,
        }
    }
}

/// A controller, seen over its admin queue.
pub struct Controller {
    config: ControllerConfig,
    queue: HostQueue,
    step: Step,
    /// The step's command.
    pending: Option<u16>,
    /// Steps that wait: since when, how long at most, when to look again, and what was seen last.
    since: Duration,
    patience: Duration,
    look_at: Duration,
    csts: u32,
    keep_alive_at: Option<Duration>,
    keep_alive_pending: Option<u16>,
    controller_id: u16,
    capabilities: Capabilities,
    version: u32,
    configuration: Configuration,
    page: Option<ControllerPage>,
    namespaces: Vec<Namespace>,
    io_queues: u16,
}

impl Controller {
    /// Starts on a connection that was just established.
    pub fn new(config: ControllerConfig, now: Duration) -> Result<Controller, BadQueue> {
        let keep_alive_ms = u32::try_from(config.keep_alive.as_millis()).unwrap_or(u32::MAX);
        let queue = HostQueue::new(
            QueueConfig {
                identity: config.identity.clone(),
                controller_id: CNTLID_ANY,
                queue_id: 0,
                depth: ADMIN_DEPTH,
                keep_alive_ms,
                header_digest: config.header_digest,
                data_digest: config.data_digest,
                hpda: 0,
                in_capsule_bytes: super::command::CONTROL_DATA_MAX,
                max_transfer: super::command::CONTROL_DATA_MAX,
                initialize_timeout: config.timeout,
                command_timeout: config.timeout,
            },
            now,
        )?;
        Ok(Controller {
            config,
            queue,
            step: Step::Connect,
            pending: None,
            since: now,
            patience: Duration::ZERO,
            look_at: Duration::ZERO,
            csts: 0,
            keep_alive_at: None,
            keep_alive_pending: None,
            controller_id: 0,
            capabilities: Capabilities(0),
            version: 0,
            configuration: Configuration(0),
            page: None,
            namespaces: Vec::new(),
            io_queues: 0,
        })
    }

    /// The admin queue: bytes in and out. Its events are the controller's own.
    pub fn queue(&mut self) -> &mut HostQueue {
        &mut self.queue
    }

    /// Counts of the admin queue.
    pub fn counters(&self) -> &crate::nvme::queue::Counters {
        self.queue.counters()
    }

    /// True between `Ready` and the shutdown.
    pub fn is_ready(&self) -> bool {
        self.step == Step::Ready
    }

    /// Controller id; 0 before the admin queue is connected.
    pub fn controller_id(&self) -> u16 {
        self.controller_id
    }

    /// CAP; 0 before it was read.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// VS: major in bits 31:16, minor in 15:8, tertiary in 7:0; 0 before it was read.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The Identify Controller page, once read.
    pub fn page(&self) -> Option<&ControllerPage> {
        self.page.as_ref()
    }

    /// The active namespaces that were identified.
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// What the controller takes, once it is ready.
    pub fn limits(&self) -> Option<ControllerLimits> {
        let page = self.page.as_ref().filter(|_| self.step == Step::Ready)?;
        let depth = match page.max_commands {
            0 => self.capabilities.max_queue_size(),
            most => most.min(self.capabilities.max_queue_size()),
        };
        Some(ControllerLimits {
            io_queues: self.io_queues,
            depth,
            max_transfer: page.max_transfer(self.capabilities.log_min_page()),
            in_capsule_bytes: page.in_capsule_bytes,
        })
    }

    /// What I/O queue `queue_id` (from 1) with `depth` outstanding commands is made from.
    pub fn io_queue(&self, queue_id: u16, depth: u16) -> Result<QueueConfig, QueueRefused> {
        let limits = self.limits().ok_or(QueueRefused::NotReady)?;
        if !(1..=limits.io_queues).contains(&queue_id) {
            return Err(QueueRefused::Id { queue_id, most: limits.io_queues });
        }
        if !(1..=limits.depth).contains(&depth) {
            let maxcmd = self.page.as_ref().map_or(0, |page| page.max_commands);
            let mqes = self.capabilities.max_queue_size();
            return Err(QueueRefused::Depth { depth, most: limits.depth, mqes, maxcmd });
        }
        Ok(QueueConfig {
            controller_id: self.controller_id,
            queue_id,
            depth,
            keep_alive_ms: 0,
            in_capsule_bytes: limits.in_capsule_bytes,
            max_transfer: limits.max_transfer,
            ..self.queue.config().clone()
        })
    }

    /// Begins an orderly shutdown (Base 3.6.2); `Down` or `Failed` follows. Does nothing unless the controller is ready.
    pub fn shutdown(&mut self, now: Duration) {
        if self.step == Step::Ready {
            self.configuration = self.configuration.shutdown();
            self.begin(Step::Shutdown, now);
        }
    }

    /// When [`Controller::poll`] has to be called next, if no bytes arrive before.
    pub fn next_deadline(&self) -> Option<Duration> {
        let waiting = self.step.awaited().filter(|_| self.pending.is_none()).map(|_| self.look_at);
        let keep_alive = self.keep_alive_at.filter(|_| self.keep_alive_pending.is_none());
        [self.queue.next_deadline(), waiting, keep_alive].into_iter().flatten().min()
    }

    /// Goes on with the procedure: after bytes were received, and when [`Controller::next_deadline`] has come. Call until
    /// `None`.
    pub fn poll(&mut self, now: Duration) -> Option<ControllerEvent> {
        if matches!(self.step, Step::Down | Step::Failed) {
            return None;
        }
        self.queue.poll_deadline(now);
        while let Some(event) = self.queue.poll_event() {
            let outcome = match event {
                Event::Ready { controller_id } => {
                    self.controller_id = controller_id;
                    self.begin(Step::ReadCapabilities, now);
                    Ok(None)
                }
                Event::Completed(completion) => self.completed(completion, now),
                Event::Failed(reason) => Err(reason.into()),
                // The admin queue is never offloaded.
                Event::Resync { .. } => Ok(None),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(event)) => return Some(event),
                Err(error) => return Some(self.fail(error)),
            }
        }
        if self.step.awaited().is_some() && self.pending.is_none() && now >= self.look_at {
            self.submit(Property::Status.get(), now);
        }
        if self.keep_alive_pending.is_none() && self.keep_alive_at.is_some_and(|at| now >= at) {
            self.keep_alive_at = Some(now + self.config.keep_alive / 2);
            self.keep_alive_pending = self.queue.allocate_cid();
            if let Some(cid) = self.keep_alive_pending {
                let submitted = self.queue.submit(cid, Request::keep_alive(), now);
                debug_assert_eq!(submitted, Ok(()));
            }
        }
        None
    }

    fn fail(&mut self, error: ControllerError) -> ControllerEvent {
        self.step = Step::Failed;
        self.keep_alive_at = None;
        ControllerEvent::Failed(error)
    }

    /// The step's command. The queue has more identifiers than are ever used, so it is taken; unless the queue has failed
    /// since the event that led here, and says so with its next one.
    fn submit(&mut self, request: Request, now: Duration) {
        self.pending = self.queue.allocate_cid();
        debug_assert!(self.pending.is_some() || !self.queue.is_ready());
        if let Some(cid) = self.pending {
            let submitted = self.queue.submit(cid, request, now);
            debug_assert_eq!(submitted, Ok(()));
        }
    }

    fn begin(&mut self, step: Step, now: Duration) {
        self.step = step;
        let request = match step {
            Step::ReadCapabilities => Property::Capabilities.get(),
            Step::ReadVersion => Property::Version.get(),
            Step::ReadStatus => Property::Status.get(),
            Step::Disable => Property::Configuration.set(0),
            Step::Enable | Step::Shutdown => Property::Configuration.set(self.configuration.0.into()),
            Step::Identify => Request::identify(cns::CONTROLLER, 0),
            Step::ListNamespaces => Request::identify(cns::ACTIVE_NAMESPACES, 0),
            Step::IdentifyNamespace(i) => Request::identify(cns::NAMESPACE, self.namespaces[i].id),
            Step::NumberOfQueues => Request::number_of_queues(self.config.io_queues),
            Step::AwaitDisabled | Step::AwaitReady | Step::AwaitShutdown => {
                (self.since, self.look_at) = (now, now);
                return;
            }
            Step::Connect | Step::Ready | Step::Down | Step::Failed => return,
        };
        self.submit(request, now);
    }

    /// What the step's command is called in errors.
    fn command_name(&self) -> String {
        match self.step {
            Step::ReadCapabilities => "Property Get CAP".into(),
            Step::ReadVersion => "Property Get VS".into(),
            Step::ReadStatus | Step::AwaitDisabled | Step::AwaitReady | Step::AwaitShutdown => {
                "Property Get CSTS".into()
            }
            Step::Disable => "Property Set CC = 0".into(),
            Step::Enable | Step::Shutdown => format!("Property Set CC = {:#x}", self.configuration.0),
            Step::Identify => "Identify Controller".into(),
            Step::ListNamespaces => "Identify Active Namespace ID list".into(),
            Step::IdentifyNamespace(i) => format!("Identify Namespace {}", self.namespaces[i].id),
            Step::NumberOfQueues => format!("Set Features, Number of Queues ({})", self.config.io_queues),
            Step::Connect | Step::Ready | Step::Down | Step::Failed => "an admin command".into(),
        }
    }

    fn completed(&mut self, completion: Completion, now: Duration) -> Result<Option<ControllerEvent>, ControllerError> {
        let (cid, status) = (completion.cid, completion.status);
        let data = self.queue.take_control_data(cid);
        let released = self.queue.release(cid);
        debug_assert_eq!(released, Ok(()));
        if self.keep_alive_pending == Some(cid) {
            self.keep_alive_pending = None;
            if !status.is_success() {
                return Err(ControllerError::Command { command: "Keep Alive".into(), status });
            }
            return Ok(None);
        }
        self.pending = None;
        if !status.is_success() {
            return Err(ControllerError::Command { command: self.command_name(), status });
        }
        self.advance(completion.result, &data, now)
    }

    /// The step's command has succeeded.
    fn advance(&mut self, result: u64, data: &[u8], now: Duration) -> Result<Option<ControllerEvent>, ControllerError> {
        match self.step {
            Step::ReadCapabilities => {
                let capabilities = Capabilities(result);
                let refuse = |problem| ControllerError::Property { property: "CAP", value: result, problem };
                if capabilities.max_queue_size() == 0 {
                    return Err(refuse("MQES (bits 15:0) is 0, at least 1 is needed"));
                }
                if !capabilities.nvm_command_set() && !capabilities.io_command_sets() {
                    return Err(refuse("CSS (bits 44:37) offers no I/O command set"));
                }
                self.capabilities = capabilities;
                self.configuration = Configuration::enable(capabilities);
                // CAP.TO bounds both directions of RDY; a controller that says 0 gets the usual time.
                let patience = capabilities.ready_timeout();
                self.patience = if patience.is_zero() { self.config.timeout } else { patience };
                self.begin(Step::ReadVersion, now);
            }
            Step::ReadVersion => {
                self.version = result as u32;
                self.begin(Step::ReadStatus, now);
            }
            Step::ReadStatus => {
                let ready = ControllerStatus(result as u32).ready();
                self.begin(if ready { Step::Disable } else { Step::Enable }, now);
            }
            Step::Disable => self.begin(Step::AwaitDisabled, now),
            Step::Enable => self.begin(Step::AwaitReady, now),
            Step::Shutdown => {
                let stated = Duration::from_micros(self.page.as_ref().map_or(0, |page| page.shutdown_us.into()));
                self.patience = stated.max(self.config.timeout);
                self.begin(Step::AwaitShutdown, now);
            }
            Step::AwaitDisabled | Step::AwaitReady | Step::AwaitShutdown => return self.looked(result as u32, now),
            Step::Identify => {
                self.page = Some(ControllerPage::parse(data)?);
                self.begin(Step::ListNamespaces, now);
            }
            Step::ListNamespaces => {
                let ids = namespace_list(data)?;
                let unknown = || Err(IdentifyError::Length { len: 0 });
                let known = ids.into_iter().take(self.config.max_namespaces);
                self.namespaces = known.map(|id| Namespace { id, page: unknown() }).collect();
                self.next_namespace(0, now);
            }
            Step::IdentifyNamespace(i) => {
                self.namespaces[i].page = NamespacePage::parse(data);
                self.next_namespace(i + 1, now);
            }
            Step::NumberOfQueues => {
                // NSQA in bits 15:0, NCQA in 31:16, both from 0.
                let granted = (result & 0xffff).min(result >> 16 & 0xffff) + 1;
                self.io_queues = granted.min(self.config.io_queues.into()) as u16;
                self.step = Step::Ready;
                return Ok(Some(ControllerEvent::Ready));
            }
            Step::Connect | Step::Ready | Step::Down | Step::Failed => {}
        }
        Ok(None)
    }

    fn next_namespace(&mut self, i: usize, now: Duration) {
        let step = if i < self.namespaces.len() { Step::IdentifyNamespace(i) } else { Step::NumberOfQueues };
        self.begin(step, now);
    }

    /// CSTS was read while waiting for something in it.
    fn looked(&mut self, csts: u32, now: Duration) -> Result<Option<ControllerEvent>, ControllerError> {
        let status = ControllerStatus(csts);
        self.csts = csts;
        let done = match self.step {
            Step::AwaitDisabled => !status.ready(),
            Step::AwaitReady => status.ready(),
            _ => status.shutdown_complete(),
        };
        if self.step != Step::AwaitDisabled && status.fatal() {
            return Err(ControllerError::Fatal { csts });
        }
        if !done {
            if now >= self.since + self.patience {
                let awaited = self.step.awaited().unwrap_or("nothing");
                return Err(ControllerError::Status { awaited, csts, waited: self.patience });
            }
            self.look_at = (now + LOOK_INTERVAL).min(self.since + self.patience);
            return Ok(None);
        }
        match self.step {
            Step::AwaitDisabled => self.begin(Step::Enable, now),
            Step::AwaitReady => {
                // The keep-alive timer runs from here on (Base 3.9).
                if !self.config.keep_alive.is_zero() {
                    self.keep_alive_at = Some(now + self.config.keep_alive / 2);
                }
                self.begin(Step::Identify, now);
            }
            _ => {
                self.step = Step::Down;
                self.keep_alive_at = None;
                return Ok(Some(ControllerEvent::Down));
            }
        }
        Ok(None)
    }

    /// The TCP connection is gone. An expected end after `Down`, a failure before.
    pub fn connection_closed(&mut self) {
        if self.step != Step::Down {
            self.queue.connection_closed();
        }
    }
}

#[cfg(test)]
mod tests;
