//! One adapter, several owners of queues, a thread each.
//!
//! ```text
//!  shard 0 ── Remote ──┐ lists of commands ─► ┌──────┐
//!  shard 1 ── Remote ──┼──────────────────────│ Host │── Adapter ── command queue, event queues
//!  shard 2 ── Remote ──┘ ◄─ answers, events   └──────┘
//! ```
//!
//! Only commands and events cross threads; packets never do. A list is executed as one, with every command slot busy, so
//! that shards who set up connections do not wait for each other's single commands. Every list has a deadline: a host that
//! is busy elsewhere, or gone, is an error and not a hang. Channels are those of the standard library; `docs/threads.md` says
//! what orders what.
//!
//! * An object belongs to the log of the adapter, with the memory that the device uses because of it, whoever asked for it.
//!   A shard that is gone leaves nothing that the teardown does not find.
//! * An event goes to the shard whose queue it names; port changes go to all.
//! * A function that is ill is known to all: the ailment is set once, and every shard looks there when it looks at the
//!   health. From then on no command is executed.

use super::{Adapter, AdapterError, Ailment, Capabilities, Creation, Event, Handle, Objects, Refused};
use crate::command::{CommandError, Fault, Function, Object, ObjectKind, Output, Request};
use crate::dma::DmaHeap;
use crate::observe::FunctionStats;
use crate::observe::counter::counters;
use crate::platform::{Deadline, Platform};
use firmware_iface::Opcode;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Lists that wait for the host. A shard waits for the answer to each, so one per shard is enough, and the late answers of
/// those who gave up.
const ASKS: usize = 64;
/// Events that wait for a shard.
const EVENTS: usize = 1024;
/// How much later than its deadline an answer may come: the host gives up at the deadline and says so.
const GRACE: Duration = Duration::from_millis(500);
/// Lists that one poll serves, events that it routes.
const BUDGET: usize = 64;
/// Between two looks at the function's health (`mlx5-bringup.md` §9: Linux looks every 1 to 2 seconds).
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// What a shard asks for.
enum Work {
    Create(Vec<Creation>),
    Destroy(Vec<Handle>),
    Exec(Vec<Request>),
}

struct Ask {
    from: usize,
    id: u64,
    deadline: Deadline,
    work: Work,
}

enum Answer {
    Created(Vec<Result<Handle, CommandError>>),
    Destroyed(Vec<Refused>),
    Executed(Vec<Result<Output, CommandError>>),
}

/// What does not change about a function that is up, and what is wrong with it.
struct Facts {
    function: Arc<Function>,
    capabilities: Capabilities,
    heap: DmaHeap,
    mac: [u8; 6],
    command_timeout: Duration,
    /// What is wrong with the function, once something is.
    ailment: OnceLock<Ailment>,
    /// Commands that missed their deadline.
    timed_out: AtomicU64,
}

/// A shard's end.
pub struct Remote<P> {
    platform: Arc<P>,
    facts: Arc<Facts>,
    shard: usize,
    asks: SyncSender<Ask>,
    answers: Receiver<(u64, Answer)>,
    events: Receiver<Event>,
    next: u64,
}

/// What a command was, for the error if nobody executes it.
type Subject = (Opcode, u16, Option<Object>);

impl<P: Platform> Remote<P> {
    pub(super) fn platform(&self) -> &Arc<P> {
        &self.platform
    }

    pub(super) fn heap(&self) -> &DmaHeap {
        &self.facts.heap
    }

    pub(super) fn function(&self) -> Arc<Function> {
        Arc::clone(&self.facts.function)
    }

    pub(super) fn capabilities(&self) -> &Capabilities {
        &self.facts.capabilities
    }

    pub(super) fn mac(&self) -> [u8; 6] {
        self.facts.mac
    }

    pub(super) fn command_deadline(&self) -> Deadline {
        Deadline::after(&*self.platform, self.facts.command_timeout)
    }

    pub(super) fn poll(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    pub(super) fn check_health(&self) -> Result<(), AdapterError> {
        match self.facts.ailment.get() {
            Some(health) => Err(AdapterError::Unhealthy { function: self.function(), health: *health }),
            None => Ok(()),
        }
    }

    pub(super) fn commands_timed_out(&self) -> u64 {
        self.facts.timed_out.load(Ordering::Acquire)
    }

    fn error(&self, (opcode, op_mod, object): Subject, fault: Fault) -> CommandError {
        CommandError { function: self.function(), opcode, op_mod, object, fault }
    }

    /// Has the host do something, and waits for its answer.
    fn ask(&mut self, work: Work, deadline: Deadline) -> Result<Answer, Fault> {
        let (platform, began) = (Arc::clone(&self.platform), self.platform.now());
        let no_answer = || Fault::NoAnswer { waited: platform.now().saturating_sub(began) };
        self.next += 1;
        let id = self.next;
        let mut ask = Some(Ask { from: self.shard, id, deadline, work });
        let sent = deadline.wait(&*platform, || match self.asks.try_send(ask.take()?) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Full(unsent)) => {
                ask = Some(unsent);
                None
            }
            Err(TrySendError::Disconnected(_)) => Some(Err(Fault::NotServed)),
        });
        match sent {
            Some(sent) => sent?,
            // Nobody has it, so nobody will execute it.
            None => return Err(Fault::NotServed),
        }
        let answer = deadline.later(GRACE).wait(&*platform, || {
            loop {
                match self.answers.try_recv() {
                    Ok((of, answer)) if of == id => return Some(Ok(answer)),
                    // Of a list that was given up: its objects stay in the log, and go at teardown.
                    Ok((of, _)) => log::warn!("shard {}: the answer to list {of} came too late", self.shard),
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => return Some(Err(no_answer())),
                }
            }
        });
        answer.unwrap_or_else(|| Err(no_answer()))
    }
}

fn subject(request: &Request) -> Subject {
    (request.opcode(), request.op_mod(), request.object())
}

impl<P: Platform> Objects for Remote<P> {
    fn create_each(&mut self, creations: Vec<Creation>, deadline: Deadline) -> Vec<Result<Handle, CommandError>> {
        if creations.is_empty() {
            return Vec::new();
        }
        let subjects: Vec<Subject> = creations.iter().map(|creation| subject(&creation.request)).collect();
        match self.ask(Work::Create(creations), deadline) {
            Ok(Answer::Created(outcomes)) => outcomes,
            Ok(_) => unreachable!("the answer to a list is of its kind"),
            Err(fault) => subjects.into_iter().map(|subject| Err(self.error(subject, fault.clone()))).collect(),
        }
    }

    fn destroy_each(&mut self, handles: Vec<Handle>, deadline: Deadline) -> Vec<Refused> {
        if handles.is_empty() {
            return Vec::new();
        }
        let objects: Vec<(ObjectKind, u32)> = handles.iter().map(|handle| (handle.kind(), handle.number())).collect();
        match self.ask(Work::Destroy(handles), deadline) {
            Ok(Answer::Destroyed(refused)) => refused,
            Ok(_) => unreachable!("the answer to a list is of its kind"),
            Err(fault) => {
                let refuse = |(kind, number)| {
                    let object = Some(Object { kind, number: Some(number) });
                    let subject = (Opcode::DESTROY_GENERAL_OBJECT, 0, object);
                    Refused { kind, number, error: self.error(subject, fault.clone()) }
                };
                objects.into_iter().map(refuse).collect()
            }
        }
    }

    fn exec_each(&mut self, requests: Vec<Request>, deadline: Deadline) -> Vec<Result<Output, CommandError>> {
        if requests.is_empty() {
            return Vec::new();
        }
        let subjects: Vec<Subject> = requests.iter().map(subject).collect();
        match self.ask(Work::Exec(requests), deadline) {
            Ok(Answer::Executed(outcomes)) => outcomes,
            Ok(_) => unreachable!("the answer to a list is of its kind"),
            Err(fault) => subjects.into_iter().map(|subject| Err(self.error(subject, fault.clone()))).collect(),
        }
    }
}

counters! {
    /// What a host has seen; never goes back.
    pub struct HostCounters {
        /// Lists of commands executed for shards.
        pub lists: Commands,
        /// Lists whose deadline had passed before their turn came; nothing of them was executed.
        pub late: Commands,
        /// Events that name a queue of no shard.
        pub stray_events: Events,
        /// Events that a shard did not take in time.
        pub lost_events: Events,
    }
}

/// A shard, seen from the host.
struct Seat {
    answers: SyncSender<(u64, Answer)>,
    events: SyncSender<Event>,
}

/// The owner of an adapter that several shards share.
///
/// It has no thread of its own: somebody calls [`Host::poll`], and waits a little when nothing was done, until
/// [`Host::is_over`].
pub struct Host<P> {
    adapter: Adapter<P>,
    facts: Arc<Facts>,
    asks: Receiver<Ask>,
    seats: Vec<Seat>,
    /// Shard of each queue that an event may name.
    owners: HashMap<(ObjectKind, u32), usize>,
    health_at: Duration,
    over: bool,
    counters: HostCounters,
}

impl<P: Platform> Host<P> {
    /// Shares an adapter among as many shards as `queues` has lists: the CQs, SQs and RQs that each has already.
    pub(crate) fn new(adapter: Adapter<P>, queues: Vec<Vec<(ObjectKind, u32)>>) -> (Host<P>, Vec<Remote<P>>) {
        let facts = Arc::new(Facts {
            function: adapter.function(),
            capabilities: adapter.capabilities().clone(),
            heap: adapter.heap().clone(),
            mac: adapter.mac(),
            command_timeout: adapter.config.command_timeout,
            ailment: OnceLock::new(),
            timed_out: AtomicU64::new(0),
        });
        let (asks, host_asks) = sync_channel(ASKS);
        let (mut seats, mut remotes, mut owners) = (Vec::new(), Vec::new(), HashMap::new());
        for (shard, queues) in queues.into_iter().enumerate() {
            let (answers, remote_answers) = sync_channel(ASKS);
            let (events, remote_events) = sync_channel(EVENTS);
            seats.push(Seat { answers, events });
            owners.extend(queues.into_iter().map(|queue| (queue, shard)));
            remotes.push(Remote {
                platform: Arc::clone(adapter.platform()),
                facts: Arc::clone(&facts),
                shard,
                asks: asks.clone(),
                answers: remote_answers,
                events: remote_events,
                next: 0,
            });
        }
        let (health_at, counters) = (adapter.platform().now(), HostCounters::default());
        (Host { adapter, facts, asks: host_asks, seats, owners, health_at, over: false, counters }, remotes)
    }

    /// Does everything that can be done now. True if anything was done: poll again.
    pub fn poll(&mut self) -> bool {
        let served = self.serve();
        let routed = self.route();
        self.look_at_health();
        served | routed
    }

    /// When the host has something to do although nobody asks.
    pub fn next_deadline(&self) -> Duration {
        self.health_at
    }

    /// True once every shard is gone and all that they asked for is done.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What was seen so far.
    pub fn counters(&self) -> HostCounters {
        self.counters
    }

    /// All numbers of the function.
    pub fn stats(&self) -> FunctionStats {
        let mut stats = self.adapter.stats();
        stats.totals.host = self.counters;
        stats
    }

    /// The adapter, to be looked at.
    pub fn adapter(&self) -> &Adapter<P> {
        &self.adapter
    }

    /// What is wrong with the function, if something is: it has to be reset then.
    pub fn ailment(&self) -> Option<Ailment> {
        self.facts.ailment.get().copied()
    }

    /// Ends the sharing: the adapter, to be torn down or reset. Shards that are still there are not served any more.
    pub fn into_adapter(self) -> Adapter<P> {
        self.adapter
    }

    fn serve(&mut self) -> bool {
        let mut served = 0;
        while served < BUDGET {
            match self.asks.try_recv() {
                Ok(ask) => self.execute(ask),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.over = true;
                    break;
                }
            }
            served += 1;
        }
        served != 0
    }

    fn execute(&mut self, ask: Ask) {
        let Ask { from, id, deadline, work } = ask;
        // Who asked has given up, or will: what is not begun need not be undone.
        if deadline.passed(&**self.adapter.platform()) || self.facts.ailment.get().is_some() {
            self.counters.late += 1;
            return self.answer(from, id, self.refuse(work));
        }
        self.counters.lists += 1;
        let answer = match work {
            Work::Create(creations) => {
                let created = self.adapter.create_each(creations, deadline);
                for handle in created.iter().flatten().filter(|handle| is_queue(handle.kind())) {
                    self.owners.insert((handle.kind(), handle.number()), from);
                }
                Answer::Created(created)
            }
            Work::Destroy(handles) => {
                let queues: Vec<_> = handles.iter().map(|h| (h.kind(), h.number())).filter(|q| is_queue(q.0)).collect();
                let refused = self.adapter.destroy_each(handles, deadline);
                for queue in queues {
                    if !refused.iter().any(|refused| (refused.kind, refused.number) == queue) {
                        self.owners.remove(&queue);
                    }
                }
                Answer::Destroyed(refused)
            }
            Work::Exec(requests) => Answer::Executed(self.adapter.exec_each(requests, deadline)),
        };
        self.facts.timed_out.store(self.adapter.command_counters().timed_out, Ordering::Release);
        self.answer(from, id, answer);
    }

    /// The answer to a list of which nothing is executed.
    fn refuse(&self, work: Work) -> Answer {
        let fault = if self.facts.ailment.get().is_some() { Fault::DeviceGone } else { Fault::NotServed };
        let error = |(opcode, op_mod, object): Subject| {
            let function = Arc::clone(&self.facts.function);
            CommandError { function, opcode, op_mod, object, fault: fault.clone() }
        };
        match work {
            Work::Create(list) => Answer::Created(list.iter().map(|c| Err(error(subject(&c.request)))).collect()),
            Work::Exec(list) => Answer::Executed(list.iter().map(|request| Err(error(subject(request)))).collect()),
            Work::Destroy(list) => {
                let refuse = |handle: &Handle| {
                    let (kind, number) = (handle.kind(), handle.number());
                    let object = Some(Object { kind, number: Some(number) });
                    Refused { kind, number, error: error((Opcode::DESTROY_GENERAL_OBJECT, 0, object)) }
                };
                Answer::Destroyed(list.iter().map(refuse).collect())
            }
        }
    }

    fn answer(&self, to: usize, id: u64, answer: Answer) {
        // A shard that is gone, or that has not read its late answers, gave this one up.
        if self.seats[to].answers.try_send((id, answer)).is_err() {
            log::warn!("shard {to} does not take the answer to list {id}: its objects stay until teardown");
        }
    }

    fn route(&mut self) -> bool {
        let mut taken = 0;
        while taken < BUDGET
            && let Some(event) = self.adapter.poll()
        {
            taken += 1;
            match event {
                Event::CqError { cqn, .. } | Event::Completion { cqn, .. } => {
                    self.pass_on(&[ObjectKind::Cq], cqn, event)
                }
                Event::QueueError { number, .. } => self.pass_on(&[ObjectKind::Sq, ObjectKind::Rq], number, event),
                Event::PortUp { port } => self.tell_all(|| Event::PortUp { port }),
                Event::PortDown { port } => self.tell_all(|| Event::PortDown { port }),
                Event::PagesFailed { error } => log::error!("{}: {error}", self.facts.function),
                other => log::debug!("{other:?}"),
            }
        }
        taken != 0
    }

    /// Passes an event on to the shard whose queue it names.
    fn pass_on(&mut self, kinds: &[ObjectKind], number: u32, event: Event) {
        match kinds.iter().find_map(|kind| self.owners.get(&(*kind, number))) {
            Some(&shard) => self.tell(shard, event),
            None => {
                self.counters.stray_events += 1;
                log::warn!("{}: an event of queue {number:#x}, which is no shard's: {event:?}", self.facts.function);
            }
        }
    }

    fn tell_all(&mut self, event: impl Fn() -> Event) {
        (0..self.seats.len()).for_each(|shard| self.tell(shard, event()));
    }

    fn tell(&mut self, shard: usize, event: Event) {
        match self.seats[shard].events.try_send(event) {
            // A shard that is gone has no queues.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(event)) => {
                self.counters.lost_events += 1;
                log::error!("shard {shard} has not taken {EVENTS} events: {event:?} is lost");
            }
        }
    }

    fn look_at_health(&mut self) {
        let platform = Arc::clone(self.adapter.platform());
        let now = platform.now();
        if now < self.health_at || self.facts.ailment.get().is_some() {
            return;
        }
        self.health_at = now + HEALTH_INTERVAL;
        if let Err(ailment) = self.adapter.monitor.look(&*platform) {
            log::error!("{}: {ailment}", self.facts.function);
            _ = self.facts.ailment.set(ailment);
        }
    }
}

/// True for the kinds of queues that events name.
fn is_queue(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Cq | ObjectKind::Sq | ObjectKind::Rq)
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | lists of several threads are executed, each answered to who asked, and the log knows all objects | `lists_are_answered_to_who_asked` |
    //! | an event goes to the shard whose queue it names, and to nobody once the queue is gone; port changes go to all | `events_go_to_whom_they_concern` |
    //! | a host that does not answer, or is gone, is an error at the deadline, not a hang | `a_silent_host_is_an_error` |
    //! | what nobody waits for any more is not executed | `a_late_list_is_not_executed` |
    //! | a function that is ill is known to every shard, and executes nothing more | `an_ill_function_is_known_to_all` |
    use super::*;
    use crate::adapter::Config;
    use crate::platform::virtual_nic::VirtualPlatform;
    use firmware_iface::Status;
    use firmware_iface::command::object::{AllocPdIn, DeallocPdIn};
    use hw_regs::eqe::CqErrorSyndrome;
    use hw_regs::layout::{Access, Layout};
    use virtual_nic::CommandFault;

    const SHARDS: usize = 3;

    fn shared() -> (Arc<VirtualPlatform>, Host<VirtualPlatform>, Vec<Remote<VirtualPlatform>>) {
        let mut device = virtual_nic::Config::default();
        device.command_latency = Duration::from_micros(50);
        let platform = Arc::new(VirtualPlatform::new("shared", device));
        let adapter = Adapter::bring_up(Arc::clone(&platform), Config::default()).expect("up");
        let queues = (0..SHARDS as u32).map(|shard| vec![(ObjectKind::Cq, 100 + shard)]);
        let (host, remotes) = Host::new(adapter, queues.collect());
        (platform, host, remotes)
    }

    fn domains(count: usize) -> Vec<Creation> {
        let destroy = |pd| Request::new(&DeallocPdIn::zeroed().with(DeallocPdIn::PD, pd));
        (0..count).map(|_| Creation::new(ObjectKind::Pd, Request::new(&AllocPdIn::zeroed()), destroy)).collect()
    }

    fn down(host: Host<VirtualPlatform>, platform: &VirtualPlatform) {
        let adapter = host.into_adapter();
        let deadline = adapter.command_deadline();
        let teardown = adapter.teardown(deadline);
        assert!(teardown.is_clean(), "{teardown}");
        assert!(platform.nic().inventory().is_empty());
    }

    #[test]
    fn lists_are_answered_to_who_asked() {
        let (platform, mut host, remotes) = shared();
        let clock = platform.clock().clone();
        let begin = std::sync::Barrier::new(SHARDS + 1);
        let kept = std::thread::scope(|scope| {
            let threads: Vec<_> = remotes
                .into_iter()
                .map(|mut remote| {
                    let (clock, begin) = (&clock, &begin);
                    scope.spawn(move || {
                        let _seat = clock.join();
                        begin.wait();
                        let mut kept = Vec::new();
                        for round in 1..40 {
                            let deadline = remote.command_deadline();
                            let made = remote.create_each(domains(round), deadline);
                            let mut made: Vec<_> = made.into_iter().map(|made| made.expect("created")).collect();
                            assert_eq!(made.len(), round);
                            kept.push(made.swap_remove(round / 2).number());
                            assert!(remote.destroy_each(made, deadline).is_empty());
                        }
                        kept
                    })
                })
                .collect();
            let _seat = clock.join();
            begin.wait();
            while !host.is_over() {
                match host.poll() {
                    true => clock.stir(),
                    false => platform.rest(Some(host.next_deadline())),
                }
            }
            let kept = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            kept.collect::<Vec<_>>().concat()
        });
        let mut unique = kept.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!((unique.len(), kept.len()), (SHARDS * 39, SHARDS * 39), "no two shards have the same object");
        assert_eq!(platform.nic().inventory().held.pds as usize, SHARDS * 39 + 1);
        assert_eq!((host.counters().late, host.adapter().most_commands_in_flight()), (0, 31));
        down(host, &platform);
    }

    #[test]
    fn events_go_to_whom_they_concern() {
        let (platform, mut host, mut remotes) = shared();
        let syndrome = CqErrorSyndrome(1);
        host.pass_on(&[ObjectKind::Cq], 101, Event::CqError { cqn: 101, syndrome });
        host.tell_all(|| Event::PortDown { port: 1 });
        for (shard, remote) in remotes.iter_mut().enumerate() {
            let events: Vec<_> = std::iter::from_fn(|| remote.poll()).collect();
            let named = events.iter().filter(|event| matches!(event, Event::CqError { cqn: 101, .. })).count();
            assert_eq!((named, events.len()), (usize::from(shard == 1), 1 + usize::from(shard == 1)));
        }
        host.pass_on(&[ObjectKind::Cq], 555, Event::CqError { cqn: 555, syndrome });
        assert_eq!(host.counters().stray_events, 1);
        for _ in 0..EVENTS + 7 {
            host.pass_on(&[ObjectKind::Cq], 100, Event::CqError { cqn: 100, syndrome });
        }
        assert_eq!(host.counters().lost_events, 7, "a shard that does not look cannot fill the memory");
        assert_eq!(std::iter::from_fn(|| remotes[0].poll()).count(), EVENTS);
        down(host, &platform);
    }

    #[test]
    fn a_silent_host_is_an_error() {
        let (platform, host, mut remotes) = shared();
        let began = platform.now();
        let deadline = Deadline::after(&*platform, Duration::from_millis(10));
        let error = remotes[0].create_each(domains(1), deadline).pop().expect("one").expect_err("nobody polls");
        assert!(matches!(error.fault, Fault::NoAnswer { .. }) && error.may_still_run(), "{error}");
        let waited = platform.now() - began;
        assert!(waited >= Duration::from_millis(10) && waited < Duration::from_secs(1), "{waited:?}");
        let adapter = host.into_adapter();
        let deadline = remotes[1].command_deadline();
        let error = remotes[1].create_each(domains(1), deadline).pop().expect("one").expect_err("nobody is there");
        assert!(matches!(error.fault, Fault::NotServed) && !error.may_still_run(), "{error}");
        assert!(error.to_string().contains("new PD"), "{error}");
        let deadline = adapter.command_deadline();
        assert!(adapter.teardown(deadline).is_clean());
    }

    #[test]
    fn a_late_list_is_not_executed() {
        let (platform, mut host, mut remotes) = shared();
        let before = platform.nic().inventory().held.pds;
        let deadline = Deadline::after(&*platform, Duration::from_millis(10));
        assert!(remotes[0].create_each(domains(5), deadline).iter().all(Result::is_err));
        assert!(host.poll());
        assert_eq!((host.counters().late, host.counters().lists), (1, 0));
        assert_eq!(platform.nic().inventory().held.pds, before);
        // Its answer is not taken for that of the next list.
        let clock = platform.clock().clone();
        std::thread::scope(|scope| {
            let (remote, clock) = (&mut remotes[0], &clock);
            let thread = scope.spawn(move || {
                let _seat = clock.join();
                let deadline = remote.command_deadline();
                remote.create_each(domains(2), deadline)
            });
            while !thread.is_finished() {
                if !host.poll() {
                    std::thread::yield_now();
                }
            }
            let created = thread.join().expect("no panic");
            assert!(created.len() == 2 && created.iter().all(Result::is_ok));
        });
        // A refusal is told as firmware told it.
        let fault = CommandFault::Refuse { status: Status::LIM_ERR, syndrome: 7 };
        platform.nic().faults().next(Opcode::ALLOC_PD, fault);
        let answer = {
            let work = Work::Create(domains(1));
            let deadline = remotes[1].command_deadline();
            host.execute(Ask { from: 1, id: 1, deadline, work });
            remotes[1].answers.try_recv().expect("answered").1
        };
        let Answer::Created(mut created) = answer else { panic!("another kind of answer") };
        assert_eq!(created.pop().expect("one").expect_err("refused").status(), Some(Status::LIM_ERR));
        down(host, &platform);
    }

    #[test]
    fn an_ill_function_is_known_to_all() {
        let (platform, mut host, mut remotes) = shared();
        host.poll();
        assert!(remotes.iter().all(|remote| remote.check_health().is_ok()));
        platform.nic().faults().set_gone(true);
        platform.clock().advance(HEALTH_INTERVAL * 2);
        host.poll();
        assert_eq!(host.ailment(), Some(Ailment::Gone));
        for remote in &remotes {
            let error = remote.check_health().expect_err("ill");
            assert!(matches!(error, AdapterError::Unhealthy { health: Ailment::Gone, .. }), "{error}");
        }
        let deadline = remotes[2].command_deadline();
        host.execute(Ask { from: 2, id: 1, deadline, work: Work::Create(domains(1)) });
        let Ok((1, Answer::Created(refused))) = remotes[2].answers.try_recv() else { panic!("no answer") };
        let error = refused.into_iter().next().expect("one").expect_err("refused");
        assert!(matches!(error.fault, Fault::DeviceGone), "{error}");
        remotes.clear();
        drop(host);
    }
}
