//! A wire that misbehaves: one lane per direction, repeatable for a seed.

use crate::random::Random;
use std::collections::VecDeque;
use std::time::Duration;

/// What a lane does to frames. Probabilities are per frame, 0 to 1, drawn independently of each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairments {
    /// A frame is lost.
    pub loss: f64,
    /// Mean number of frames that are lost in a row, from 1 (independent losses). The share of lost frames stays `loss`.
    pub burst: f64,
    /// A frame is overtaken by [`Impairments::distance`] others.
    pub reorder: f64,
    /// Frames by which a reordered one is overtaken.
    pub distance: u32,
    /// A frame arrives twice.
    pub duplicate: f64,
    /// One bit of a frame is flipped.
    pub corrupt: f64,
    /// Time that every frame is under way.
    pub delay: Duration,
}

impl Default for Impairments {
    /// None.
    fn default() -> Impairments {
        Impairments {
            loss: 0.0,
            burst: 1.0,
            reorder: 0.0,
            distance: 3,
            duplicate: 0.0,
            corrupt: 0.0,
            delay: Duration::ZERO,
        }
    }
}

/// What happened on a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Frames put in.
    pub frames: u64,
    /// Lost.
    pub lost: u64,
    /// Overtaken.
    pub reordered: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// With a flipped bit.
    pub corrupted: u64,
}

/// A frame that others overtake waits no longer than this for them.
const PATIENCE: Duration = Duration::from_millis(1);

struct Held {
    frame: Vec<u8>,
    /// Frames that have yet to overtake it.
    ahead: u32,
    until: Duration,
}

/// One direction of a wire.
pub struct Lane {
    impairments: Impairments,
    random: Random,
    /// Inside a burst of losses.
    losing: bool,
    under_way: VecDeque<(Duration, Vec<u8>)>,
    held: Vec<Held>,
    counters: LaneCounters,
}

impl Lane {
    /// An empty lane; lanes of one wire need different seeds.
    pub fn new(impairments: Impairments, seed: u64) -> Lane {
        Lane {
            impairments,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            losing: false,
            under_way: VecDeque::new(),
            held: Vec::new(),
            counters: LaneCounters::default(),
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.random.happens(probability)
    }

    /// Two states, as of Gilbert: a burst ends with probability 1 / `burst` per frame, and begins as often as keeps the
    /// share of lost frames at `loss`.
    fn is_lost(&mut self) -> bool {
        let Impairments { loss, burst, .. } = self.impairments;
        let ends = 1.0 / burst.max(1.0);
        let begins = if loss < 1.0 { ends * loss / (1.0 - loss) } else { 1.0 };
        self.losing = match self.losing {
            true => !self.happens(ends) || (ends >= 1.0 && self.happens(loss)),
            false => self.happens(if ends >= 1.0 { loss } else { begins.min(1.0) }),
        };
        self.losing
    }

    /// Puts a frame on the lane.
    pub fn push(&mut self, now: Duration, mut frame: Vec<u8>) {
        self.counters.frames += 1;
        if self.is_lost() {
            self.counters.lost += 1;
            return;
        }
        if self.happens(self.impairments.corrupt) && !frame.is_empty() {
            let bit = self.random.next_u64() as usize % (frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            self.counters.corrupted += 1;
        }
        let copy = self.happens(self.impairments.duplicate).then(|| frame.clone());
        self.counters.duplicated += u64::from(copy.is_some());
        let due = now + self.impairments.delay;
        if self.happens(self.impairments.reorder) && self.impairments.distance > 0 {
            self.counters.reordered += 1;
            self.held.push(Held { frame, ahead: self.impairments.distance, until: due + PATIENCE });
        } else {
            self.pass(due, frame);
        }
        if let Some(copy) = copy {
            self.pass(due, copy);
        }
    }

    /// A frame passes those that are held, which may set them free.
    fn pass(&mut self, due: Duration, frame: Vec<u8>) {
        self.under_way.push_back((due, frame));
        let mut at = 0;
        while at < self.held.len() {
            self.held[at].ahead -= 1;
            if self.held[at].ahead == 0 {
                let free = self.held.remove(at);
                self.under_way.push_back((due, free.frame));
            } else {
                at += 1;
            }
        }
    }

    /// Takes the next frame that has arrived.
    pub fn pop(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.under_way.front().is_some_and(|(due, _)| *due <= now) {
            return self.under_way.pop_front().map(|(_, frame)| frame);
        }
        // Nothing came to overtake it.
        let late = self.held.iter().position(|held| held.until <= now)?;
        Some(self.held.remove(late).frame)
    }

    /// When the next frame arrives.
    pub fn next_due(&self) -> Option<Duration> {
        let front = self.under_way.front().map(|(due, _)| *due);
        front.into_iter().chain(self.held.iter().map(|held| held.until)).min()
    }

    /// What happened so far.
    pub fn counters(&self) -> LaneCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | without impairments every frame arrives once, in order | `a_good_lane_changes_nothing` |
    //! | the share of lost frames is what was asked for, whatever the length of bursts | `losses_are_as_many_as_asked_for` |
    //! | a reordered frame is overtaken by as many as asked for, and never forgotten | `a_reordered_frame_is_overtaken` |
    //! | a seed repeats | `a_seed_repeats` |
    use super::*;

    fn run(impairments: Impairments, seed: u64, frames: u32) -> (Vec<u32>, LaneCounters) {
        let mut lane = Lane::new(impairments, seed);
        let mut arrived = Vec::new();
        let mut now = Duration::ZERO;
        for n in 0..frames {
            now += Duration::from_nanos(100);
            lane.push(now, n.to_be_bytes().to_vec());
            while let Some(frame) = lane.pop(now) {
                arrived.push(u32::from_be_bytes(frame.try_into().expect("four bytes")));
            }
        }
        while let Some(due) = lane.next_due() {
            let frame = lane.pop(due).expect("it is due");
            arrived.push(u32::from_be_bytes(frame.try_into().expect("four bytes")));
        }
        (arrived, lane.counters())
    }

    #[test]
    fn a_good_lane_changes_nothing() {
        let (arrived, counters) =
            run(Impairments { delay: Duration::from_micros(5), ..Impairments::default() }, 1, 1000);
        assert!(arrived.into_iter().eq(0..1000));
        assert_eq!(counters, LaneCounters { frames: 1000, ..LaneCounters::default() });
    }

    #[test]
    fn losses_are_as_many_as_asked_for() {
        for burst in [1.0, 3.0, 10.0] {
            for loss in [0.01, 0.1] {
                let (arrived, counters) = run(Impairments { loss, burst, ..Impairments::default() }, 7, 400_000);
                let share = counters.lost as f64 / counters.frames as f64;
                assert!((share / loss - 1.0).abs() < 0.15, "{share} of {loss} in bursts of {burst}");
                assert_eq!(arrived.len() as u64 + counters.lost, counters.frames);
            }
        }
    }

    #[test]
    fn a_reordered_frame_is_overtaken() {
        let impairments = Impairments { reorder: 0.01, distance: 5, ..Impairments::default() };
        let (arrived, counters) = run(impairments, 3, 10_000);
        assert!(counters.reordered > 50);
        let mut sorted = arrived.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..10_000), "each arrives once");
        let early = arrived.iter().enumerate().filter(|(at, n)| (*at as u32).abs_diff(**n) > 10).count();
        assert_eq!(early, 0, "nothing is moved much farther than the distance");
        assert!(arrived.windows(2).filter(|w| w[1] < w[0]).count() as u64 >= counters.reordered * 9 / 10);
    }

    #[test]
    fn a_seed_repeats() {
        let all = Impairments { loss: 0.02, reorder: 0.02, duplicate: 0.02, ..Impairments::default() };
        assert_eq!(run(all, 5, 5000), run(all, 5, 5000));
        assert_ne!(run(all, 5, 5000).0, run(all, 6, 5000).0);
    }
}
