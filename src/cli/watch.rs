//! Who watches a run: the metrics server, numbers printed now and then, and what is told at the end.

use super::options::{DemoArgs, MetricsArgs};
use connectx_ddp::demo::{Moment, Tap};
use connectx_ddp::inspect::{self, Desk};
use connectx_ddp::observe::{
    Collector, Direction, Event, Publisher, RingCounters, ServeError, Server, Snapshot, event_json,
};
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::session::Session;
use serde_json::Value;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Number of a session's only shard.
const SHARD: u32 = 0;

/// Something that is done with the numbers each time that some time has passed.
pub struct Interval {
    every: Duration,
    last: Instant,
    then: Box<dyn FnMut(&Snapshot)>,
}

impl Interval {
    /// Calls `then` every so many seconds.
    pub fn new(seconds: f64, then: Box<dyn FnMut(&Snapshot)>) -> Interval {
        Interval { every: Duration::from_secs_f64(seconds), last: Instant::now(), then }
    }
}

/// The metrics server of a run, if there is one.
pub struct Serving(Option<Server>);

impl Serving {
    /// Starts it if it is wanted. The publishers are for so many threads; there are none if nothing is served.
    pub fn start(args: &MetricsArgs, publishers: usize) -> Result<(Serving, Vec<Publisher>), ServeError> {
        let Some(address) = args.metrics else { return Ok((Serving(None), Vec::new())) };
        let (collector, ends) = Collector::new(publishers);
        let server = Server::start(address, collector)?;
        if !address.ip().is_loopback() {
            log::warn!("--metrics {address}: everybody who reaches this address can read the numbers");
        }
        eprintln!("metrics at http://{}/metrics", server.address());
        Ok((Serving(Some(server)), ends))
    }

    /// Goes on serving for as long as the options of `who` say.
    pub fn linger(self, who: &str, args: &MetricsArgs) {
        if let (Some(server), seconds @ 1..) = (&self.0, args.metrics_linger) {
            let address = server.address();
            eprintln!("cxddp {who}: metrics stay at http://{address}/metrics for {seconds} s; Ctrl-C ends it");
            std::thread::sleep(Duration::from_secs(seconds));
        }
    }
}

/// Looks at the driver of a run.
pub struct Watch {
    publisher: Option<Publisher>,
    serving: Serving,
    /// The stats socket.
    socket: Option<(inspect::Server, Desk)>,
    interval: Option<Interval>,
    done: Option<Snapshot>,
    /// They are to be told.
    wants_events: bool,
    events: Vec<Event>,
    ring: RingCounters,
}

impl Watch {
    /// Starts the metrics server and the stats socket if there are to be any. An error names the option.
    pub fn new(args: &DemoArgs, interval: Option<Interval>) -> Result<Watch, String> {
        let (serving, mut ends) = Serving::start(&args.serve, 1).map_err(|error| format!("--metrics: {error}"))?;
        let socket = args.stats_socket.as_deref().map(inspect::Server::start).transpose();
        let socket = socket.map_err(|error| format!("--stats-socket {error}"))?;
        let (publisher, wants_events) = (ends.pop(), args.events);
        let (events, ring) = (Vec::new(), RingCounters::default());
        Ok(Watch { publisher, serving, socket, interval, done: None, wants_events, events, ring })
    }

    /// The numbers when the last request was done, with those of each connection.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.done.as_ref()
    }

    /// Adds what happened to a JSON object, if it is to be told.
    pub fn add_events(&self, object: &mut Value) {
        if let (true, Some(object)) = (self.wants_events, object.as_object_mut()) {
            object.insert("events".into(), self.events.iter().map(|event| event_json(SHARD, event)).collect());
            object.insert("events_forgotten".into(), self.ring.forgotten.into());
        }
    }

    /// Writes what happened, a line each, if it is to be told.
    pub fn write_events(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.wants_events {
            return Ok(());
        }
        writeln!(out, "events")?;
        if self.ring.forgotten != 0 {
            writeln!(out, "  {} older ones are forgotten", self.ring.forgotten)?;
        }
        self.events.iter().try_for_each(|event| writeln!(out, "  {event}"))
    }

    /// The metrics server.
    pub fn into_serving(self) -> Serving {
        self.serving
    }
}

impl Tap for Watch {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}

    fn session(&mut self, session: &mut Session<VirtualPlatform>, moment: Moment) {
        match moment {
            Moment::Polled => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.poll(|| session.snapshot());
                }
                if let Some((_, desk)) = &mut self.socket {
                    desk.poll(session);
                }
                if let Some(Interval { every, last, then }) = &mut self.interval
                    && last.elapsed() >= *every
                {
                    *last = Instant::now();
                    then(&session.snapshot());
                }
            }
            Moment::Done => self.done = Some(session.snapshot()),
            Moment::Closing => {
                self.events = session.event_log().events().cloned().collect();
                self.ring = session.event_log().counters();
                self.socket = None;
                if let Some(publisher) = self.publisher.take() {
                    publisher.finish(session.snapshot());
                }
            }
        }
    }
}
