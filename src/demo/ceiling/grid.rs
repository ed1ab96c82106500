//! Which points are measured, and how: on several threads, the same for a seed whatever their number.

use super::measure::{Measured, PAUSE, Point, PointError, ROUND_TRIP, Rules, Sender};
use super::model::{Ceiling, Confirm, Cut, Disorder, Hole, Model, Runs, Search};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The rules of the published ceilings.
pub const PUBLISHED: Rules =
    Rules { hole: Hole::Continue, search: Search::Anywhere, search_late: true, cut: Cut::Full };
/// The virtual NIC's default: late packets bypass the search too.
pub const DEFAULT: Rules = Rules { search_late: false, ..PUBLISHED };
/// Nothing is placed behind a hole until the next PDU (ASPLOS'21).
pub const STOP: Rules = Rules { hole: Hole::Stop, ..DEFAULT };
/// Headers are recognised at the start of packets only (netdev 0x16).
pub const START: Rules = Rules { search: Search::StartOfPacket, ..DEFAULT };
/// Both.
pub const STOP_START: Rules = Rules { hole: Hole::Stop, ..START };
/// Headers at the start of packets only, and a target that lets each PDU start a packet.
pub const ALIGNED: Rules = Rules { cut: Cut::AtPdus, ..START };
/// All rules that are measured, with a name.
pub const RULES: [(Rules, &str); 6] = [
    (
        PUBLISHED,
        "placing goes on behind a hole; headers recognised anywhere, in late packets too (the published rules)",
    ),
    (DEFAULT, "placing goes on behind a hole; headers recognised anywhere, late packets bypass (the model's default)"),
    (STOP, "placing stops behind a hole; headers recognised anywhere"),
    (START, "placing goes on behind a hole; headers recognised at the start of packets only"),
    (STOP_START, "placing stops behind a hole; headers recognised at the start of packets only"),
    (ALIGNED, "placing goes on behind a hole; headers recognised at the start of packets only; the target aligns PDUs"),
];

/// What is to be said of [`cubic`].
pub const CUBIC_NOTE: &str = "\
A sender with congestion control has fewer packets in flight the more are lost, so what is lost comes again after fewer packets, and\n\
a lost header costs less: placement does not suffer from it, throughput does (the fall of the published Gb/s, `performance.md` §1.2).\n\
The driver's CUBIC, rules 2, MTU 1500; *idle* is simulated time in which nothing was under way.";

/// KiB of a PDU.
pub const SIZES: [u32; 5] = [4, 16, 64, 256, 512];
/// MTUs.
pub const MTUS: [u16; 2] = [1500, 9000];
/// Percent of packets lost.
pub const LOSSES: [f64; 6] = [0.1, 0.3, 0.7, 1.0, 2.0, 5.0];
/// Percent of packets overtaken, by 3 and by 64 others.
pub const REORDERINGS: [f64; 4] = [0.5, 1.0, 2.0, 5.0];
/// See [`REORDERINGS`].
pub const DISTANCES: [u32; 2] = [3, 64];

/// What the network does, in the order of the table's columns.
pub fn disorders() -> impl Iterator<Item = Disorder> {
    let losses = LOSSES.into_iter().map(|loss| Disorder::Loss(loss / 100.0));
    let reorderings = DISTANCES.into_iter().flat_map(|distance| {
        REORDERINGS.into_iter().map(move |share| Disorder::Reorder { share: share / 100.0, distance })
    });
    losses.chain(reorderings)
}

/// The points of one set of rules.
pub fn points(rules: Rules, seed: u64) -> Vec<Point> {
    let mut points = Vec::new();
    for mtu in MTUS {
        for size in SIZES {
            for disorder in disorders() {
                let mut point =
                    Point { payload: size << 10, mtu, disorder, rules, sender: Sender::Steady, packets: 0, seed };
                point.packets = packets(&point);
                // Every point its own noise.
                point.seed = seed.wrapping_mul(1 << 20).wrapping_add(points.len() as u64 + 1);
                points.push(point);
            }
        }
    }
    points
}

/// A real sender: CUBIC in place of a steady window, at 64 and 512 KiB and MTU 1500.
pub fn cubic(seed: u64) -> Vec<Point> {
    let steady = points(DEFAULT, seed).into_iter();
    let some = steady.filter(|point| point.mtu == 1500 && matches!(point.payload >> 10, 64 | 512));
    let lossy = some.filter(|point| matches!(point.disorder, Disorder::Loss(_)));
    lossy.map(|point| Point { sender: Sender::Cubic, packets: 300_000, ..point }).collect()
}

/// Packets for a standard error of about half a point, within what a run may take: of digests as of coins, of bytes from the
/// number of lost headers and what each costs, a round trip and two PDUs.
fn packets(point: &Point) -> u64 {
    let share = match point.disorder {
        Disorder::Loss(share) | Disorder::Reorder { share, .. } => share,
    };
    let per_pdu = (f64::from(point.payload) / f64::from(point.mss())).max(1.0);
    let good = (1.0 - share).powf(per_pdu + 1.0);
    let digests = good * (1.0 - good) / 0.005f64.powi(2) * per_pdu;
    let cost = f64::from(ROUND_TRIP) + 2.0 * per_pdu;
    let bytes = share / per_pdu * cost.powi(2) / 0.005f64.powi(2);
    let main = point.rules == PUBLISHED || point.rules == DEFAULT;
    let (least, most) = match (main, point.mtu) {
        (true, 1500) => (100_000.0, 900_000.0),
        (true, _) => (80_000.0, 200_000.0),
        (false, 1500) => (80_000.0, 160_000.0),
        (false, _) => (50_000.0, 80_000.0),
    };
    digests.max(bytes).clamp(least, most) as u64
}

/// A point, what was measured, and what is possible.
#[derive(Debug)]
pub struct Row {
    /// The point.
    pub point: Point,
    /// Measured.
    pub measured: Measured,
    /// The ceiling of the published model: all runs of a packet count, software has to read a header before it confirms it.
    pub published_model: Ceiling,
    /// The ceiling with what is known of device and driver: one run of each packet, a header confirmed as soon as the length
    /// of the PDU before it says that it is there, the first digest after a resync not believed.
    pub ceiling: Ceiling,
}

impl Row {
    /// Measures a point.
    pub fn measure(point: Point) -> Result<Row, PointError> {
        let measured = point.measure()?;
        let round_trip = match point.sender {
            Sender::Steady => ROUND_TRIP,
            Sender::Cubic => measured.round_trip.max(1),
        };
        let packets = model_packets(measured.packets);
        Ok(Row {
            published_model: point.ceiling(false, round_trip, packets),
            ceiling: point.ceiling(true, round_trip, packets),
            point,
            measured,
        })
    }

    /// The ceiling if as much comes late, and as late, as did, and headers are confirmed when driver and target get their turn.
    pub fn as_measured(&self, runs: Runs) -> Ceiling {
        let pdus = 1_500_000 * u64::from(self.point.mss()) / u64::from(self.point.payload);
        let model = Model { confirm: Confirm::WithTurn(PAUSE as u32), runs, ..self.point.model(true, ROUND_TRIP) };
        model.run_measured(pdus.max(1), self.point.seed ^ 0xde1a, self.measured.late, &self.measured.delays)
    }

    /// By how much chance makes the standard error of a difference from the ceiling larger than that of the measurement: the
    /// model is a sample too.
    pub fn error_factor(&self) -> f64 {
        (1.0 + self.measured.packets as f64 / model_packets(self.measured.packets) as f64).sqrt()
    }
}

/// Packets of the model for a point.
fn model_packets(measured: u64) -> u64 {
    (3 * measured).max(1_000_000)
}

/// Measures all points on `threads` threads. `progress` is told how many are done, from any of them. The rows come in the
/// order of the points.
pub fn run(points: &[Point], threads: usize, progress: &(dyn Fn(usize) + Sync)) -> Result<Vec<Row>, PointError> {
    let (next, done, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let rows: Mutex<Vec<(usize, Result<Row, PointError>)>> = Mutex::new(Vec::new());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = points.get(index) else { break };
            let row = Row::measure(*point);
            failed.fetch_or(row.is_err(), Ordering::Relaxed);
            rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, row));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    std::thread::scope(|scope| {
        (1..threads.max(1)).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    rows.sort_by_key(|(index, _)| *index);
    rows.into_iter().map(|(_, row)| row).collect()
}
