//! Events of any kind and content on every queue of a function that is up.

use super::input::{Bend, Input};
use super::liar::{Liar, on_adapter};
use connectx_ddp::adapter::{Adapter, Event};
use connectx_ddp::platform::Platform;
use hw_regs::eqe::EventType;
use std::sync::{Arc, Mutex};

/// Events of one input at most.
const STEPS: usize = 120;
/// What somebody subscribed to: one type of each queue, and the others of the asynchronous one.
const TYPES: [EventType; 8] = [
    EventType::CMD,
    EventType::PAGE_REQUEST,
    EventType::COMP,
    EventType::PORT_CHANGE,
    EventType::CQ_ERROR,
    EventType::WQ_CATAS_ERROR,
    EventType::SQ_DRAINED,
    EventType::WQ_ACCESS_ERROR,
];

pub fn run(data: &[u8]) {
    on_adapter(|adapter| {
        let mut input = Input::new(data);
        let platform = Arc::clone(adapter.platform());
        let bends = Arc::<Mutex<Vec<Bend>>>::default();
        let shared = Arc::clone(&bends);
        platform.honest.nic().faults().tamper_events(Some(Box::new(move |entry| {
            shared.lock().expect("lock").drain(..).for_each(|bend| bend.apply(entry));
        })));
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            let event = match input.u8() {
                0..=223 => TYPES[input.below(8) as usize],
                224..=255 => EventType(input.u8()),
            };
            let sub_type = input.u8();
            let data = input.take(usize::from(input.clone().u8() % 29));
            *bends.lock().expect("lock") = (0..input.below(4)).map(|_| Bend::new(&mut input)).collect();
            let before = (adapter.event_counters().entries, platform.honest.nic().counters().events);
            platform.honest.nic().inject_event(event, sub_type, data);
            bends.lock().expect("lock").clear();
            if input.u8() >= 64 {
                drain(adapter);
                // Answers to what the event made the driver do are events too, and were read in the same poll or are read
                // in the next.
                let written = platform.honest.nic().counters().events - before.1;
                let read = adapter.event_counters().entries - before.0;
                assert!(read >= u64::from(written != 0), "an event was overlooked");
            }
            if input.u8() < 16 {
                (0..input.below(16)).for_each(|_| platform.pause());
            }
        }
        drain(adapter);
    });
}

fn drain(adapter: &mut Adapter<Liar>) {
    for _ in 0..100_000 {
        let Some(event) = adapter.poll() else { return };
        match event {
            Event::Completion { cqn, eq } => assert!(cqn < 1 << 24 && eq < adapter.completion_eqs()),
            Event::CqError { cqn, .. } => assert!(cqn < 1 << 24),
            Event::QueueError { number, .. } => assert!(number < 1 << 24),
            Event::PagesFailed { error } => assert!(!error.to_string().is_empty()),
            Event::PortUp { port } | Event::PortDown { port } | Event::PortChange { port, .. } => assert!(port < 16),
            Event::PagesGiven { .. } | Event::PagesTaken { .. } | Event::Other { .. } => {}
        }
    }
    panic!("events without end");
}
