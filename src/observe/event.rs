//! What happened, one by one: typed events in a ring of a fixed size.
//!
//! Counters say how often; events say when, to which connection, and why. They are for what a person looks for afterwards:
//! connections, the offload of each, resync, queues and functions that fail and are recovered. Nothing is noted for a packet
//! that was processed, and noting allocates nothing but the text of a failure, which costs a connection or more anyway.
//!
//! A ring that is full forgets its oldest event and counts it. Sequence numbers go on, so a reader sees the gap.

use super::counter::counters;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Most bytes of a text in an event.
const MAX_TEXT: usize = 400;

/// What happened. Numbers are those of the device where they name queues.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A connection was begun.
    ConnectionOpened {
        /// To whom.
        remote: SocketAddr,
    },
    /// Its protocol is up: an admin connection's controller is ready, an I/O queue takes requests.
    ConnectionReady,
    /// It ended.
    ConnectionEnded {
        /// What ended it, in a word.
        kind: &'static str,
        /// The whole reason.
        why: Box<str>,
    },
    /// It was added to the offload.
    OffloadAdded {
        /// Offload queue, which is also the flow tag.
        queue: u32,
    },
    /// It was not added to the offload, and goes on without.
    OffloadRefused {
        /// Why not, in a word ([`WhyNoOffload`](crate::ddp::why::WhyNoOffload)).
        kind: &'static str,
        /// The same in full.
        why: Box<str>,
    },
    /// It was taken off the offload.
    OffloadRemoved {
        /// Offload queue.
        queue: u32,
    },
    /// No connection is offloaded any more: the offload itself seems to be what fails.
    OffloadGivenUp {
        /// Why.
        why: Box<str>,
    },
    /// Its offload queue could not be removed: buffers stay with the device until it is reset.
    Quarantined {
        /// Offload queue.
        queue: u32,
        /// How many.
        buffers: u32,
    },
    /// The device lost the PDU framing and asks whether a PDU begins at a sequence number.
    ResyncAsked {
        /// Offload queue.
        queue: u32,
        /// TCP sequence number.
        sequence: u32,
    },
    /// It was told that one does.
    ResyncConfirmed {
        /// Offload queue.
        queue: u32,
        /// TCP sequence number.
        sequence: u32,
    },
    /// A completion of the device was not believed, and its packet given up.
    CompletionRefused {
        /// Why, in a word.
        why: &'static str,
    },
    /// A packet's payload was placed for another connection than its headers name; it was dropped.
    ForeignPlacement {
        /// Offload queue that the device named.
        queue: u32,
    },
    /// A queue is in the error state.
    QueueFailed {
        /// Kind of queue.
        which: &'static str,
        /// Its number.
        number: u32,
        /// What the device says.
        why: Box<str>,
    },
    /// A queue was taken back to work.
    QueueRecovered {
        /// Kind of queue.
        which: &'static str,
        /// Its number.
        number: u32,
    },
    /// An event of the device named a queue that is not known.
    UnknownQueue {
        /// The number.
        number: u32,
    },
    /// The function is ill: it executes no commands any more.
    Unhealthy {
        /// What is wrong, in a word.
        kind: &'static str,
        /// The whole story.
        why: Box<str>,
    },
    /// The shard cannot go on: every connection ends.
    Broken {
        /// Why.
        why: Box<str>,
    },
    /// Firmware did not get the pages that it asked for.
    PagesFailed {
        /// Why.
        why: Box<str>,
    },
    /// Something is lost and will be made anew.
    Lost {
        /// How much, in a word ([`Level`](crate::session::Level)).
        level: &'static str,
        /// What failed.
        why: Box<str>,
    },
    /// An attempt to make it anew failed.
    AttemptFailed {
        /// Why.
        why: Box<str>,
    },
    /// The function was reset.
    FunctionReset,
    /// Everything is there again.
    Recovered {
        /// How much was made anew, in a word.
        level: &'static str,
        /// Since the first sign of trouble.
        took: Duration,
        /// Attempts.
        attempts: u32,
    },
    /// A namespace is not what it was before the loss: its requests fail.
    NamespaceChanged {
        /// Its number.
        nsid: u32,
        /// What is different.
        why: Box<str>,
    },
    /// Recovery was given up: every request ends.
    SessionEnded {
        /// Why.
        why: Box<str>,
    },
    /// The port came up.
    PortUp {
        /// Its number.
        port: u8,
    },
    /// The port went down.
    PortDown {
        /// Its number.
        port: u8,
    },
}

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// A text.
    Text(&'a str),
}

/// A text for an event: long ones are cut.
pub fn text(what: &dyn fmt::Display) -> Box<str> {
    struct Bounded(String);
    impl fmt::Write for Bounded {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            let room = MAX_TEXT - self.0.len().min(MAX_TEXT);
            self.0.push_str(&part[..part.floor_char_boundary(room)]);
            if part.len() > room { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut bounded = Bounded(String::new());
    // The only error is that it was cut.
    _ = fmt::write(&mut bounded, format_args!("{what}"));
    bounded.0.into()
}

impl What {
    /// Name for programs; never changes.
    pub fn name(&self) -> &'static str {
        match self {
            What::ConnectionOpened { .. } => "connection-opened",
            What::ConnectionReady => "connection-ready",
            What::ConnectionEnded { .. } => "connection-ended",
            What::OffloadAdded { .. } => "offload-added",
            What::OffloadRefused { .. } => "offload-refused",
            What::OffloadRemoved { .. } => "offload-removed",
            What::OffloadGivenUp { .. } => "offload-given-up",
            What::Quarantined { .. } => "quarantined",
            What::ResyncAsked { .. } => "resync-asked",
            What::ResyncConfirmed { .. } => "resync-confirmed",
            What::CompletionRefused { .. } => "completion-refused",
            What::ForeignPlacement { .. } => "foreign-placement",
            What::QueueFailed { .. } => "queue-failed",
            What::QueueRecovered { .. } => "queue-recovered",
            What::UnknownQueue { .. } => "unknown-queue",
            What::Unhealthy { .. } => "unhealthy",
            What::Broken { .. } => "broken",
            What::PagesFailed { .. } => "pages-failed",
            What::Lost { .. } => "lost",
            What::AttemptFailed { .. } => "attempt-failed",
            What::FunctionReset => "function-reset",
            What::Recovered { .. } => "recovered",
            What::NamespaceChanged { .. } => "namespace-changed",
            What::SessionEnded { .. } => "session-ended",
            What::PortUp { .. } => "port-up",
            What::PortDown { .. } => "port-down",
        }
    }

    /// Calls `each` with the name and value of every field.
    pub fn fields(&self, each: &mut dyn FnMut(&'static str, Value<'_>)) {
        let mut number = |name, n: u32| each(name, Value::Number(n.into()));
        match self {
            What::ConnectionReady | What::FunctionReset => {}
            What::ConnectionOpened { remote } => each("remote", Value::Text(&remote.to_string())),
            What::ConnectionEnded { kind, why }
            | What::OffloadRefused { kind, why }
            | What::Unhealthy { kind, why } => {
                each("kind", Value::Text(kind));
                each("why", Value::Text(why));
            }
            What::OffloadAdded { queue } | What::OffloadRemoved { queue } | What::ForeignPlacement { queue } => {
                number("queue", *queue);
            }
            What::Lost { level, why } => {
                each("level", Value::Text(level));
                each("why", Value::Text(why));
            }
            What::Recovered { level, took, attempts } => {
                each("level", Value::Text(level));
                each("took_ns", Value::Number(took.as_nanos() as u64));
                each("attempts", Value::Number((*attempts).into()));
            }
            What::OffloadGivenUp { why }
            | What::Broken { why }
            | What::PagesFailed { why }
            | What::AttemptFailed { why }
            | What::SessionEnded { why } => {
                each("why", Value::Text(why));
            }
            What::NamespaceChanged { nsid, why } => {
                each("nsid", Value::Number((*nsid).into()));
                each("why", Value::Text(why));
            }
            What::Quarantined { queue, buffers } => {
                number("queue", *queue);
                number("buffers", *buffers);
            }
            What::ResyncAsked { queue, sequence } | What::ResyncConfirmed { queue, sequence } => {
                number("queue", *queue);
                number("sequence", *sequence);
            }
            What::CompletionRefused { why } => each("why", Value::Text(why)),
            What::QueueFailed { which, number, why } => {
                each("which", Value::Text(which));
                each("number", Value::Number((*number).into()));
                each("why", Value::Text(why));
            }
            What::QueueRecovered { which, number } => {
                each("which", Value::Text(which));
                each("number", Value::Number((*number).into()));
            }
            What::UnknownQueue { number: n } => number("number", *n),
            What::PortUp { port } | What::PortDown { port } => number("port", (*port).into()),
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Events of the shard before it.
    pub sequence: u64,
    /// When, on the platform's clock.
    pub at: Duration,
    /// Which connection ([`ConnectionStats::connection`](super::ConnectionStats::connection)), if one.
    pub connection: Option<u32>,
    /// What.
    pub what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.connection.map_or_else(String::new, |connection| format!("  connection {connection}"));
        self.what.fields(&mut |name, value| {
            rest += &match value {
                Value::Number(n) => format!("  {name} {n}"),
                Value::Text(text) if name == "why" => format!("  {text}"),
                Value::Text(text) => format!("  {name} {text}"),
            };
        });
        let line = format!("{:>14.9} s  {:<18}{rest}", self.at.as_secs_f64(), self.what.name());
        f.write_str(line.trim_end())
    }
}

counters! {
    /// What an event ring has seen.
    pub struct RingCounters {
        /// Events noted.
        pub noted: Events,
        /// Events forgotten because the ring was full.
        pub forgotten: Events,
    }
}

/// The last events of a shard.
#[derive(Debug)]
pub struct EventRing {
    events: VecDeque<Event>,
    capacity: usize,
    counters: RingCounters,
}

impl EventRing {
    /// One that keeps nothing.
    pub const NONE: EventRing =
        EventRing { events: VecDeque::new(), capacity: 0, counters: RingCounters { noted: 0, forgotten: 0 } };

    /// A ring of so many events; its memory is taken now.
    pub fn new(capacity: u32) -> EventRing {
        let capacity = capacity as usize;
        EventRing { events: VecDeque::with_capacity(capacity), capacity, counters: RingCounters::default() }
    }

    /// Notes an event.
    pub fn note(&mut self, at: Duration, connection: Option<u32>, what: What) {
        let sequence = self.counters.noted;
        self.counters.noted += 1;
        if self.events.len() >= self.capacity {
            self.counters.forgotten += 1;
            if self.events.pop_front().is_none() {
                return;
            }
        }
        self.events.push_back(Event { sequence, at, connection, what });
    }

    /// Takes in what another ring has noted since, and what it has forgotten.
    pub fn append(&mut self, other: EventRing) {
        self.counters.noted += other.counters.forgotten;
        self.counters.forgotten += other.counters.forgotten;
        other.events.into_iter().for_each(|event| self.note(event.at, event.connection, event.what));
    }

    /// The events that are there, oldest first.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &Event> + '_ {
        self.events.iter()
    }

    /// The events that are there from sequence number `from` on.
    pub fn since(&self, from: u64) -> impl ExactSizeIterator<Item = &Event> + '_ {
        let skip = self.events.partition_point(|event| event.sequence < from);
        self.events.iter().skip(skip)
    }

    /// What it has seen.
    pub fn counters(&self) -> RingCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a full ring forgets the oldest, counts it, and never grows | `a_full_ring_forgets_the_oldest` |
    //! | a reader that comes back gets what is new, and sees a gap | `a_reader_sees_what_is_new_and_what_is_gone` |
    //! | a ring that goes on where another ended has the events of both, and numbers without a gap but for the forgotten | `rings_are_joined` |
    //! | an event's line has its time, its connection and every field | `an_event_is_readable` |
    //! | a long text is cut between characters | `long_texts_are_cut` |
    use super::*;

    fn resync(n: u32) -> What {
        What::ResyncAsked { queue: 1, sequence: n }
    }

    fn sequences<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<u64> {
        events.map(|event| event.sequence).collect()
    }

    #[test]
    fn a_full_ring_forgets_the_oldest() {
        let mut ring = EventRing::new(4);
        let memory = ring.events.capacity();
        for n in 0..10 {
            ring.note(Duration::from_secs(n), None, resync(n as u32));
        }
        assert_eq!(sequences(ring.events()), [6, 7, 8, 9]);
        assert_eq!(ring.counters(), RingCounters { noted: 10, forgotten: 6 });
        assert_eq!(ring.events.capacity(), memory);
        let mut none = EventRing::new(0);
        none.note(Duration::ZERO, None, resync(0));
        assert_eq!((none.events().len(), none.counters()), (0, RingCounters { noted: 1, forgotten: 1 }));
    }

    #[test]
    fn a_reader_sees_what_is_new_and_what_is_gone() {
        let mut ring = EventRing::new(4);
        assert!(sequences(ring.since(0)).is_empty());
        for n in 0..3 {
            ring.note(Duration::ZERO, None, resync(n));
        }
        assert_eq!(sequences(ring.since(1)), [1, 2]);
        assert!(sequences(ring.since(3)).is_empty());
        for n in 3..9 {
            ring.note(Duration::ZERO, None, resync(n));
        }
        assert_eq!(sequences(ring.since(3)), [5, 6, 7, 8], "3 and 4 are gone");
        assert_eq!(sequences(ring.since(8)), [8]);
    }

    #[test]
    fn rings_are_joined() {
        let (mut first, mut second) = (EventRing::new(8), EventRing::new(2));
        for n in 0..3 {
            first.note(Duration::ZERO, None, resync(n));
            second.note(Duration::from_secs(1), None, resync(10 + n));
        }
        first.append(second);
        // The second one had forgotten its first.
        assert_eq!(sequences(first.events()), [0, 1, 2, 4, 5]);
        assert_eq!(first.counters(), RingCounters { noted: 6, forgotten: 1 });
        first.append(EventRing::NONE);
        assert_eq!(first.events().len(), 5);
    }

    #[test]
    fn an_event_is_readable() {
        let what = What::ConnectionEnded { kind: "tcp", why: "TCP: reset".into() };
        let event = Event { sequence: 3, at: Duration::from_micros(1_500_001), connection: Some(7), what };
        assert_eq!(event.to_string(), "   1.500001000 s  connection-ended    connection 7  kind tcp  TCP: reset");
        let event = Event { sequence: 4, at: Duration::ZERO, connection: None, what: resync(9) };
        assert_eq!(event.to_string(), "   0.000000000 s  resync-asked        queue 1  sequence 9");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(&*text(&"short"), "short");
        let long = text(&format!("{}é and more", "x".repeat(MAX_TEXT - 1)));
        assert_eq!(long.len(), MAX_TEXT - 1);
        assert_eq!(text(&"y".repeat(MAX_TEXT)).len(), MAX_TEXT);
    }
}
