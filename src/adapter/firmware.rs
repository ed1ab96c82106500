//! Firmware as a command port that keeps firmware going while it waits: it reads the command EQ, and it serves demands
//! for pages, because the command that is waited for may be the one that needs them.

use super::eq::EventQueue;
use super::event::{Event, EventCounters};
use super::pages::{Gift, PageError, PageOwner, PageStore, TAKE_AT_ONCE, TAKE_PER_EVENT};
use crate::command::{CommandError, CommandPort, CommandQueue, Output, Request, Ticket};
use crate::platform::{Deadline, Platform};
use firmware_iface::Opcode;
use firmware_iface::command::device::{QueryPagesIn, QueryPagesOpMod, QueryPagesOut};
use firmware_iface::command::object::DestroyEqIn;
use hw_regs::eqe::{Eqe, EqeCmd, EqePageReq, EventType};
use hw_regs::layout::{Access, Layout};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Events that are kept for a caller who does not poll.
const MAX_EVENTS: usize = 4096;
/// How long firmware may return no page before it is said to keep them (`mlx5-numbers.md`, "timeouts").
const RECLAIM_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const RECLAIM_PACE: Duration = Duration::from_millis(10);
/// Demands for pages that wait for their turn. Firmware repeats what it still needs (`mlx5-bringup.md` §9).
const MAX_DEMANDS: usize = 64;

/// A demand of firmware.
#[derive(Clone, Copy, Debug)]
enum Demand {
    Give(usize),
    Take(u32),
    /// Of a function that is not ours: refused in its name.
    Foreign(PageOwner),
}

/// The MANAGE_PAGES command in flight, and what its answer means.
enum Serving {
    Giving(Ticket, Gift),
    Taking { ticket: Ticket, asked: u32, left: u32, taken: u32 },
    Refusing(Ticket),
}

/// The command queue of a function together with what keeps firmware going.
pub(super) struct Firmware<P> {
    pub platform: Arc<P>,
    pub queue: CommandQueue<P>,
    pub command_eq: Option<EventQueue>,
    pub pages_eq: Option<EventQueue>,
    pub pages: PageStore,
    pub owner: PageOwner,
    pub events: VecDeque<Event>,
    pub counters: EventCounters,
    demands: VecDeque<Demand>,
    serving: Option<Serving>,
}

impl<P: Platform> Firmware<P> {
    pub fn new(platform: Arc<P>, queue: CommandQueue<P>, pages: PageStore) -> Firmware<P> {
        Firmware {
            platform,
            queue,
            command_eq: None,
            pages_eq: None,
            pages,
            owner: PageOwner::default(),
            events: VecDeque::new(),
            counters: EventCounters::default(),
            demands: VecDeque::new(),
            serving: None,
        }
    }

    /// Keeps an event for the next `poll`.
    pub fn push(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.counters.dropped += 1;
        }
    }

    /// Reads the command EQ and the pages EQ and goes on with demands for pages. Never waits.
    pub fn serve(&mut self) {
        self.serve_commands();
        self.serve_page_events();
        self.serve_demands();
    }

    fn serve_commands(&mut self) {
        let Some(eq) = &mut self.command_eq else { return };
        let mut seen = 0;
        // At most one lap: a device that always has more must not keep us here.
        while seen < eq.len()
            && let Some(eqe) = eq.next()
        {
            seen += 1;
            match EventType(eqe.get(Eqe::TYPE) as u8) {
                EventType::CMD => {
                    self.queue.complete(EqeCmd::from_prefix(eqe.blob(Eqe::DATA)).get(EqeCmd::VECTOR));
                }
                _ => self.counters.unexpected += 1,
            }
        }
        if seen > 0 {
            self.counters.entries += seen as u64;
            eq.arm(&*self.platform);
        }
    }

    fn serve_page_events(&mut self) {
        let Some(eq) = &mut self.pages_eq else { return };
        let mut seen = 0;
        while seen < eq.len()
            && let Some(eqe) = eq.next()
        {
            seen += 1;
            if EventType(eqe.get(Eqe::TYPE) as u8) != EventType::PAGE_REQUEST {
                self.counters.unexpected += 1;
                continue;
            }
            let request = EqePageReq::from_prefix(eqe.blob(Eqe::DATA));
            let owner = PageOwner {
                function: request.get(EqePageReq::FUNC_ID) as u16,
                embedded_cpu: request.is_set(EqePageReq::EC_FUNCTION_EMBEDDED_CPU),
            };
            let count = request.get(EqePageReq::NUM_PAGES) as i32;
            let demand = match count {
                _ if owner != self.owner => {
                    self.counters.foreign_page_requests += 1;
                    Demand::Foreign(owner)
                }
                0 => {
                    self.counters.empty_page_requests += 1;
                    continue;
                }
                1.. => Demand::Give(count as usize),
                _ => Demand::Take(count.unsigned_abs().min(TAKE_PER_EVENT)),
            };
            if self.demands.len() < MAX_DEMANDS {
                self.demands.push_back(demand);
            } else {
                self.counters.dropped_page_requests += 1;
            }
        }
        if seen > 0 {
            self.counters.entries += seen as u64;
            eq.arm(&*self.platform);
        }
    }

    /// Ends the MANAGE_PAGES command in flight if it has completed, and starts the next one.
    fn serve_demands(&mut self) {
        match self.serving.take() {
            None => {}
            Some(serving) => match self.finish_serving(serving) {
                Some(unfinished) => {
                    self.serving = Some(unfinished);
                    return;
                }
                None if self.serving.is_some() => return,
                None => {}
            },
        }
        let Some(demand) = self.demands.pop_front() else { return };
        let started = match demand {
            Demand::Give(count) => match self.pages.give(self.owner, count) {
                Ok((request, gift)) => match self.queue.post(&request) {
                    Ok(ticket) => Ok(Serving::Giving(ticket, gift)),
                    Err(error) => {
                        self.pages.refused(gift);
                        Err(error)
                    }
                },
                Err(error) => {
                    self.page_failure(error);
                    let request = self.pages.cannot_give(self.owner);
                    self.queue.post(&request).map(Serving::Refusing)
                }
            },
            Demand::Take(count) => self.start_taking(count, 0),
            Demand::Foreign(owner) => {
                let request = self.pages.cannot_give(owner);
                self.queue.post(&request).map(Serving::Refusing)
            }
        };
        match started {
            Ok(serving) => self.serving = Some(serving),
            // The slot is taken by a command that is waited for elsewhere: later.
            Err(CommandError { fault: crate::command::Fault::NoSlot { .. }, .. }) => self.demands.push_front(demand),
            Err(error) => self.page_failure(error.into()),
        }
    }

    fn start_taking(&mut self, left: u32, taken: u32) -> Result<Serving, CommandError> {
        let asked = left.min(TAKE_AT_ONCE);
        let ticket = self.queue.post(&self.pages.take(self.owner, asked))?;
        Ok(Serving::Taking { ticket, asked, left, taken })
    }

    /// Returns what is not finished yet.
    fn finish_serving(&mut self, serving: Serving) -> Option<Serving> {
        match serving {
            Serving::Giving(ticket, gift) => match ticket.take() {
                Err(ticket) => return Some(Serving::Giving(ticket, gift)),
                Ok(Ok(_)) => self.push(Event::PagesGiven { pages: gift.len() }),
                Ok(Err(error)) => self.gift_failed(gift, error),
            },
            Serving::Refusing(ticket) => match ticket.take() {
                Err(ticket) => return Some(Serving::Refusing(ticket)),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => self.page_failure(error.into()),
            },
            Serving::Taking { ticket, asked, left, taken } => match ticket.take() {
                Err(ticket) => return Some(Serving::Taking { ticket, asked, left, taken }),
                Ok(answer) => match answer.map_err(PageError::from).and_then(|output| self.taken(asked, &output)) {
                    Ok(0) => self.push(Event::PagesTaken { pages: taken }),
                    Ok(n) if left == n => self.push(Event::PagesTaken { pages: taken + n }),
                    Ok(n) => match self.start_taking(left - n, taken + n) {
                        Ok(serving) => self.serving = Some(serving),
                        Err(error) => self.page_failure(error.into()),
                    },
                    Err(error) => self.page_failure(error),
                },
            },
        }
        None
    }

    /// [`PageStore::taken`], with an answer that cannot be true counted.
    fn taken(&mut self, asked: u32, output: &Output) -> Result<u32, PageError> {
        let taken = self.pages.taken(asked, output);
        let bad = matches!(taken, Err(PageError::Foreign { .. } | PageError::TooMany { .. }));
        self.counters.bad_page_returns += u64::from(bad);
        taken
    }

    fn gift_failed(&mut self, gift: Gift, error: CommandError) {
        // If the end of the command is unknown, firmware may hold the pages: they stay set aside.
        if !error.may_still_run() {
            self.pages.refused(gift);
        }
        self.page_failure(error.into());
    }

    fn page_failure(&mut self, error: PageError) {
        log::warn!("{}: {error}", self.queue.function());
        self.counters.failed_page_requests += 1;
        self.push(Event::PagesFailed { error });
    }

    /// Steps 7, 12 and 14: asks how many pages firmware needs at this stage and gives them. Returns how many.
    pub fn give_startup_pages(&mut self, stage: QueryPagesOpMod, deadline: Deadline) -> Result<usize, PageError> {
        let query = QueryPagesIn::zeroed().with(QueryPagesIn::OP_MOD, u32::from(stage.0));
        let answer: QueryPagesOut = self.exec(&Request::new(&query), deadline)?.decode();
        self.owner = PageOwner {
            function: answer.get(QueryPagesOut::FUNCTION_ID) as u16,
            embedded_cpu: answer.is_set(QueryPagesOut::EMBEDDED_CPU_FUNCTION),
        };
        // Signed: firmware may offer regular pages back. They come with the others at teardown.
        let count = (answer.get(QueryPagesOut::NUM_PAGES) as i32).max(0) as usize;
        if count == 0 {
            return Ok(0);
        }
        let (request, gift) = match self.pages.give(self.owner, count) {
            Ok(gift) => gift,
            Err(error) => {
                let request = self.pages.cannot_give(self.owner);
                if let Err(error) = self.exec(&request, deadline) {
                    log::warn!("firmware was not told that it gets no pages: {error}");
                }
                return Err(error);
            }
        };
        match self.exec(&request, deadline) {
            Ok(_) => Ok(count),
            Err(error) => {
                if !error.may_still_run() {
                    self.pages.refused(gift);
                }
                Err(error.into())
            }
        }
    }

    /// After TEARDOWN_HCA: takes every page back. Returns how many came, and what went wrong.
    pub fn take_all_pages(&mut self, deadline: Deadline) -> (usize, Vec<PageError>) {
        let (mut came, mut errors) = (0, Vec::new());
        let platform = Arc::clone(&self.platform);
        let mut progress = platform.now();
        while self.pages.held() > 0 {
            let asked = TAKE_AT_ONCE.min(self.pages.held() as u32);
            let request = self.pages.take(self.owner, asked);
            let before = self.pages.held();
            let answer = self.exec(&request, deadline).map_err(PageError::from);
            let outcome = answer.and_then(|output| self.taken(asked, &output));
            came += before - self.pages.held();
            match outcome {
                // Firmware needs time to let go of its pages.
                Ok(0) => {
                    let waited = platform.now().saturating_sub(progress);
                    if waited >= RECLAIM_PATIENCE || deadline.passed(&*platform) {
                        errors.push(PageError::Kept { held: self.pages.held(), waited });
                        break;
                    }
                    _ = Deadline::after(&*platform, RECLAIM_PACE).wait(&*platform, || None::<()>);
                }
                Ok(_) => progress = platform.now(),
                // A foreign page does not keep the others, as long as some came back.
                Err(error @ PageError::Foreign { .. }) if self.pages.held() < before => errors.push(error),
                Err(error) => {
                    errors.push(error);
                    break;
                }
            }
        }
        (came, errors)
    }

    /// Demands that were not begun are moot: the function goes down.
    pub fn drop_demands(&mut self) {
        self.demands.clear();
    }

    /// The function was reset: nothing is in flight, no page is held, no event will come.
    pub fn forget(&mut self) {
        self.queue.forget();
        self.pages.forget();
        (self.command_eq, self.pages_eq, self.serving) = (None, None, None);
        self.demands.clear();
    }

    /// An EQ that we read ourselves is about to be destroyed: stop relying on it.
    fn leave_eq(&mut self, request: &Request) {
        if request.opcode() != Opcode::DESTROY_EQ {
            return;
        }
        let number = DestroyEqIn::from_prefix(request.input()).get(DestroyEqIn::EQ_NUMBER) as u8;
        if self.command_eq.as_ref().is_some_and(|eq| eq.number() == number) {
            self.serve_commands();
            self.queue.use_events(false);
            self.command_eq = None;
        }
        if self.pages_eq.as_ref().is_some_and(|eq| eq.number() == number) {
            self.serve_page_events();
            self.pages_eq = None;
        }
    }
}

impl<P: Platform> CommandPort for Firmware<P> {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        self.leave_eq(request);
        self.queue.post(request)
    }

    fn wait(&mut self, ticket: Ticket, deadline: Deadline) -> Result<Output, CommandError> {
        CommandQueue::wait_serving(self, |f| &mut f.queue, Firmware::serve, ticket, deadline)
    }

    fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, CommandError> {
        CommandQueue::wait_slot_serving(self, |f| &mut f.queue, Firmware::serve, request, deadline);
        let ticket = self.post(request)?;
        self.wait(ticket, deadline)
    }

    fn free_slots(&self) -> usize {
        self.queue.free_slots()
    }
}
