//! What the function reports on its own.

use super::PageError;
use crate::observe::counter::counters;
use hw_regs::eqe::{CqErrorSyndrome, Eqe, EqeComp, EqeCqErr, EqeQpSrq, EventType, PortChange};
use hw_regs::layout::{Access, Layout};

/// An event, as `poll` returns it.
#[derive(Debug)]
pub enum Event {
    /// A completion queue that was armed has something. For the owner of the queue; `cqn` is unchecked.
    Completion {
        /// Which completion EQ, from 0.
        eq: u16,
        /// Number of the CQ; 24 bits.
        cqn: u32,
    },
    /// The port went up.
    PortUp {
        /// Port number.
        port: u8,
    },
    /// The port went down.
    PortDown {
        /// Port number.
        port: u8,
    },
    /// Something else about the port.
    PortChange {
        /// Port number.
        port: u8,
        /// What.
        change: PortChange,
    },
    /// A completion queue overran or could not be written; it is dead. `cqn` is unchecked.
    CqError {
        /// Number of the CQ; 24 bits.
        cqn: u32,
        /// Why.
        syndrome: CqErrorSyndrome,
    },
    /// A work queue went to error. `number` is unchecked.
    QueueError {
        /// What happened.
        event: EventType,
        /// Kind of queue, as the device numbers them.
        kind: u8,
        /// Number of the queue; 24 bits.
        number: u32,
    },
    /// Firmware asked for pages and got them.
    PagesGiven {
        /// How many.
        pages: u32,
    },
    /// Firmware gave pages back.
    PagesTaken {
        /// How many.
        pages: u32,
    },
    /// A demand of firmware could not be met; commands may fail for want of memory from now on.
    PagesFailed {
        /// Why.
        error: PageError,
    },
    /// An event that nothing is done about.
    Other {
        /// What it is.
        event: EventType,
        /// Its sub-type.
        sub_type: u8,
    },
}

counters! {
    /// What was seen on the event queues; never goes back.
    pub struct EventCounters {
        /// Entries read.
        pub entries: Entries,
        /// Entries of a type that the queue they came on does not carry, or that the driver does not know.
        pub unexpected: Entries,
        /// Demands for pages of functions that are not ours; refused.
        pub foreign_page_requests: Events,
        /// Demands for no pages; ignored.
        pub empty_page_requests: Events,
        /// Demands for pages that could not be met.
        pub failed_page_requests: Events,
        /// Demands for pages dropped because too many waited; firmware repeats what it still needs.
        pub dropped_page_requests: Events,
        /// Answers that return pages which firmware was not given or has returned before, or more than were asked for.
        pub bad_page_returns: Commands,
        /// Events dropped because nobody took those before.
        pub dropped: Events,
    }
}

impl Event {
    /// Reads an entry of the asynchronous EQ.
    pub(super) fn from_async(eqe: &Eqe) -> Event {
        let event = EventType(eqe.get(Eqe::TYPE) as u8);
        let sub_type = eqe.get(Eqe::SUB_TYPE) as u8;
        let data = eqe.blob(Eqe::DATA);
        match event {
            EventType::PORT_CHANGE => {
                let port = data.get(8).map_or(0, |byte| byte >> 4);
                match PortChange(sub_type) {
                    PortChange::ACTIVE => Event::PortUp { port },
                    PortChange::DOWN => Event::PortDown { port },
                    change => Event::PortChange { port, change },
                }
            }
            EventType::CQ_ERROR => {
                let error = EqeCqErr::from_prefix(data);
                let syndrome = CqErrorSyndrome(error.get(EqeCqErr::SYNDROME) as u8);
                Event::CqError { cqn: error.get(EqeCqErr::CQN_CQN_24), syndrome }
            }
            EventType::WQ_CATAS_ERROR
            | EventType::WQ_INVAL_REQ_ERROR
            | EventType::WQ_ACCESS_ERROR
            | EventType::SRQ_CATAS_ERROR
            | EventType::SQ_DRAINED => {
                let queue = EqeQpSrq::from_prefix(data);
                let kind = queue.get(EqeQpSrq::TYPE) as u8;
                Event::QueueError { event, kind, number: queue.get(EqeQpSrq::QP_SRQ_N_NUM_24) }
            }
            event => Event::Other { event, sub_type },
        }
    }

    /// Reads an entry of completion EQ `eq`; `None` for a type that such a queue does not carry.
    pub(super) fn from_completion(eq: u16, eqe: &Eqe) -> Option<Event> {
        let event = EventType(eqe.get(Eqe::TYPE) as u8);
        let cqn = EqeComp::from_prefix(eqe.blob(Eqe::DATA)).get(EqeComp::CQN_CQN_24);
        (event == EventType::COMP).then_some(Event::Completion { eq, cqn })
    }
}
