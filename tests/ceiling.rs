//! Placement and digests under loss and reordering, next to what the model says is possible: a few points of the grid that
//! `cxddp ceiling` measures.
//!
//! | property | test |
//! |---|---|
//! | within two points of the ceiling, over loss and reordering, small and large PDUs, both MTUs and all rules | `points_are_near_their_ceilings` |
//! | at most one request is outstanding, and each is confirmed in the poll that delivered its header | the same |
//! | what is lost comes again after a round trip of the published ceilings | the same |
//! | the result does not depend on the number of threads | `threads_change_nothing` |
//! | with congestion control less is in flight, and more placed | `a_real_sender_has_less_in_flight` |

#![cfg(feature = "demo")]

use connectx_ddp::demo::ceiling::grid::{self, ALIGNED, DEFAULT, PUBLISHED, Row, STOP};
use connectx_ddp::demo::ceiling::measure::{Point, ROUND_TRIP, Rules, Sender};
use connectx_ddp::demo::ceiling::model::Disorder;

fn point(kib: u32, mtu: u16, disorder: Disorder, rules: Rules, packets: u64) -> Point {
    Point { payload: kib << 10, mtu, disorder, rules, sender: Sender::Steady, packets, seed: 7 }
}

fn near(share: f64) -> Disorder {
    Disorder::Reorder { share, distance: 3 }
}

#[test]
fn points_are_near_their_ceilings() {
    let points = [
        point(4, 1500, Disorder::Loss(0.003), DEFAULT, 30_000),
        point(16, 1500, Disorder::Loss(0.01), DEFAULT, 30_000),
        point(64, 1500, Disorder::Loss(0.05), DEFAULT, 60_000),
        point(256, 1500, Disorder::Loss(0.02), PUBLISHED, 60_000),
        point(64, 1500, near(0.02), PUBLISHED, 30_000),
        point(64, 1500, Disorder::Loss(0.01), STOP, 30_000),
        point(16, 1500, Disorder::Loss(0.02), ALIGNED, 20_000),
        point(16, 9000, Disorder::Loss(0.01), DEFAULT, 12_000),
        point(64, 9000, near(0.05), DEFAULT, 12_000),
    ];
    for row in grid::run(&points, 2, &|_| ()).expect("nothing goes wrong") {
        let Row { point, measured, ceiling, .. } = &row;
        let pairs = [(measured.placed, ceiling.placed), (measured.digests, ceiling.digests)];
        for (share, ceiling) in pairs {
            let difference = 100.0 * (share.value - ceiling);
            // So few packets are no exact sample: the grid takes more.
            assert!(difference.abs() < 2.0 + 200.0 * share.error, "{point:?}: {share:?}, ceiling {ceiling}");
        }
        assert!(!measured.episodes.is_empty(), "{point:?}");
        assert!(measured.episodes.iter().all(|episode| episode.overlapping == 0), "{point:?}");
        assert_eq!(measured.late_confirmations, 0, "{point:?}");
        if let Disorder::Loss(_) = point.disorder {
            // An aligning target has more and shorter packets in a window of as many bytes.
            assert!(
                measured.round_trip.abs_diff(ROUND_TRIP) <= if point.rules == ALIGNED { 10 } else { 6 },
                "{point:?}: {} packets",
                measured.round_trip
            );
        }
    }
}

#[test]
fn threads_change_nothing() {
    let points = [4, 16, 64].map(|kib| point(kib, 1500, Disorder::Loss(0.01), DEFAULT, 5_000));
    let found = [1, 3].map(|threads| {
        let rows = grid::run(&points, threads, &|_| ()).expect("nothing goes wrong");
        let of = |row: &Row| (row.measured.placed, row.measured.digests, row.ceiling, row.measured.wire);
        rows.iter().map(of).collect::<Vec<_>>()
    });
    assert_eq!(found[0], found[1]);
}

#[test]
fn a_real_sender_has_less_in_flight() {
    let steady = point(16, 1500, Disorder::Loss(0.05), DEFAULT, 20_000);
    let cubic = Point { sender: Sender::Cubic, ..steady };
    let rows = grid::run(&[steady, cubic], 2, &|_| ()).expect("nothing goes wrong");
    assert!(rows[1].measured.round_trip < ROUND_TRIP / 2, "{} packets", rows[1].measured.round_trip);
    assert!(rows[1].measured.placed.value > rows[0].measured.placed.value + 0.1);
}
