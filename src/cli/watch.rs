//! Who watches a run: the metrics server, numbers printed now and then, and what is told at the end.

use super::options::DemoArgs;
use connectx_ddp::demo::{Moment, Tap};
use connectx_ddp::observe::{
    Collector, Direction, Event, Part, Publisher, RingCounters, ServeError, Server, Snapshot, event_json,
};
use connectx_ddp::platform::Platform;
use connectx_ddp::platform::virtual_nic::VirtualPlatform;
use connectx_ddp::shard::Shard;
use serde_json::Value;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Number of the only shard.
const SHARD: u32 = 0;

/// Something that is done with a snapshot each time that some time has passed.
struct Interval {
    every: Duration,
    last: Instant,
    then: Box<dyn FnMut(&Snapshot)>,
}

/// Looks at the driver of a run.
pub struct Watch {
    publisher: Option<Publisher>,
    server: Option<Server>,
    interval: Option<Interval>,
    done: Option<Snapshot>,
    events: Vec<Event>,
    ring: RingCounters,
}

impl Watch {
    /// Starts the metrics server if there is to be one.
    pub fn new(args: &DemoArgs) -> Result<Watch, ServeError> {
        let (mut publisher, mut server) = (None, None);
        if let Some(address) = args.metrics {
            let (collector, mut ends) = Collector::new(1);
            let started = Server::start(address, collector)?;
            if !address.ip().is_loopback() {
                log::warn!("--metrics {address}: everybody who reaches this address can read the numbers");
            }
            eprintln!("metrics at http://{}/metrics", started.address());
            (publisher, server) = (ends.pop(), Some(started));
        }
        let (events, ring) = (Vec::new(), RingCounters::default());
        Ok(Watch { publisher, server, interval: None, done: None, events, ring })
    }

    /// Calls `then` with the numbers each time that `seconds` have passed.
    pub fn every(&mut self, seconds: f64, then: Box<dyn FnMut(&Snapshot)>) {
        let every = Duration::from_secs_f64(seconds);
        self.interval = Some(Interval { every, last: Instant::now(), then });
    }

    /// The numbers when the last request was done, with those of each connection.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.done.as_ref()
    }

    /// What happened, for a JSON object.
    pub fn events_json(&self) -> [(String, Value); 2] {
        let events: Vec<Value> = self.events.iter().map(|event| event_json(SHARD, event)).collect();
        [("events".into(), events.into()), ("events_forgotten".into(), self.ring.forgotten.into())]
    }

    /// What happened, a line each.
    pub fn write_events(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "events")?;
        if self.ring.forgotten != 0 {
            writeln!(out, "  {} older ones are forgotten", self.ring.forgotten)?;
        }
        self.events.iter().try_for_each(|event| writeln!(out, "  {event}"))
    }

    /// Goes on serving metrics for a while, if they are served.
    pub fn linger(self, who: &str, seconds: u64) {
        if let (Some(server), 1..) = (&self.server, seconds) {
            eprintln!("{who}: metrics stay at http://{}/metrics for {seconds} s; Ctrl-C ends it", server.address());
            std::thread::sleep(Duration::from_secs(seconds));
        }
    }
}

fn snapshot(shard: &Shard<VirtualPlatform>) -> Snapshot {
    Snapshot { at: shard.platform().now(), function: shard.function_stats(), shards: vec![shard.stats(SHARD)] }
}

fn part(shard: &Shard<VirtualPlatform>) -> Part {
    let (at, function) = (shard.platform().now(), Some(shard.function_stats()));
    Part { at, function, shard: Some(shard.stats(SHARD)) }
}

impl Tap for Watch {
    fn frame(&mut self, _: Duration, _: Direction, _: &[u8]) {}

    fn shard(&mut self, shard: &Shard<VirtualPlatform>, moment: Moment) {
        match moment {
            Moment::Polled => {
                if let Some(publisher) = &mut self.publisher {
                    publisher.poll(|| part(shard));
                }
                if let Some(Interval { every, last, then }) = &mut self.interval
                    && last.elapsed() >= *every
                {
                    *last = Instant::now();
                    then(&snapshot(shard));
                }
            }
            Moment::Done => self.done = Some(snapshot(shard)),
            Moment::Closing => {
                self.events = shard.event_log().events().cloned().collect();
                self.ring = shard.event_log().counters();
                if let Some(publisher) = self.publisher.take() {
                    publisher.finish(part(shard));
                }
            }
        }
    }
}
