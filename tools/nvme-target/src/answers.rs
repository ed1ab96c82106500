//! Commands that wait for their answer, and which of them gets the next PDU.

use crate::nvme::{Completion, Status};
use crate::random::Random;
use crate::script::{Gather, Order, Script, Size, Success};
use crate::subsystem::Source;
use std::collections::VecDeque;
use std::time::Duration;

/// A command that is executed but for its answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) completion: Completion,
    /// Data that go first.
    pub(crate) data: Option<Data>,
    /// False if the command identifier was in use by another command, which keeps it.
    pub(crate) owns_cid: bool,
    /// True for the answer to Connect.
    pub(crate) connect: bool,
    /// When the command came.
    pub(crate) since: Duration,
}

/// Data of a command for the host.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) source: Source,
    pub(crate) len: u32,
    pub(crate) sent: u32,
}

/// One C2HData PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) last: bool,
    pub(crate) success: bool,
}

/// What the next PDU is.
#[derive(Debug)]
pub(crate) enum Next {
    /// A piece of the data of the answer with this index.
    Data(usize, Piece),
    /// The response capsule of this answer, which is done with that.
    Response(Answer),
}

impl Size {
    /// The next piece of `left` bytes.
    pub(crate) fn piece(self, left: u32, random: &mut Random) -> u32 {
        let size = match self {
            Size::Whole => return left,
            Size::AtMost(size) => size,
            Size::Between { min, max } => random.between(min, max),
        };
        left.min((size & !3).max(4))
    }
}

/// The answers that a queue owes.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: VecDeque<Answer>,
    /// The one that is answered until it is done.
    chosen: usize,
    /// Answers flow until none is left, then gathering begins anew.
    flowing: bool,
}

impl Answers {
    pub(crate) fn push(&mut self, answer: Answer) {
        self.waiting.push_back(answer);
    }

    pub(crate) fn clear(&mut self) {
        *self = Answers::default();
    }

    /// The data of the answer that [`Next::Data`] named.
    pub(crate) fn source(&self, index: usize) -> Option<&Source> {
        self.waiting.get(index)?.data.as_ref().map(|data| &data.source)
    }

    /// The command identifier of the answer that [`Next::Data`] named.
    pub(crate) fn cid(&self, index: usize) -> u16 {
        self.waiting[index].completion.cid
    }

    /// Removes the answer that ended with a SUCCESS flag.
    pub(crate) fn finish(&mut self, index: usize) -> Option<Answer> {
        self.chosen = usize::MAX;
        self.waiting.remove(index)
    }

    /// The image could not be read for this command: the response says so.
    pub(crate) fn fail(&mut self, cid: u16) {
        for answer in self.waiting.iter_mut().filter(|answer| answer.completion.cid == cid && answer.owns_cid) {
            answer.completion.status = Status::UNRECOVERED_READ;
        }
    }

    /// When answers that are held back go out at the latest.
    pub(crate) fn deadline(&self, gather: Option<Gather>) -> Option<Duration> {
        match (gather, self.waiting.front()) {
            (Some(gather), Some(first)) if !self.flowing => Some(first.since + gather.wait),
            _ => None,
        }
    }

    /// Chooses the next PDU, if one may go out now.
    pub(crate) fn next(
        &mut self,
        script: &Script,
        gather: Option<Gather>,
        success_allowed: bool,
        now: Duration,
        random: &mut Random,
    ) -> Option<Next> {
        let Some(first) = self.waiting.front() else {
            self.flowing = false;
            return None;
        };
        let ripe = |gather: Gather| self.waiting.len() >= gather.commands || first.since + gather.wait <= now;
        // A host sends no second command before the answer to Connect.
        let ripe = first.connect || gather.is_none_or(ripe);
        self.flowing |= ripe;
        if !self.flowing {
            return None;
        }
        let count = self.waiting.len() as u64;
        match script.order {
            Order::InOrder => self.chosen = 0,
            Order::Shuffled if self.chosen < self.waiting.len() => {}
            Order::Shuffled | Order::Interleaved => self.chosen = random.below(count) as usize,
        }
        let index = self.chosen;
        let answer = &mut self.waiting[index];
        match &mut answer.data {
            Some(data) if data.sent < data.len => {
                let offset = data.sent;
                let len = script.c2h_data.piece(data.len - offset, random);
                data.sent += len;
                let last = data.sent == data.len;
                let success = last
                    && answer.completion.status == Status::SUCCESS
                    && match script.success {
                        Success::WhenAllowed => success_allowed,
                        Success::Flag => true,
                        Success::Capsule => false,
                        Success::Random => success_allowed && random.below(2) == 0,
                    };
                Some(Next::Data(index, Piece { offset, len, last, success }))
            }
            _ => self.finish(index).map(Next::Response),
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | pieces add up, are multiples of four but for the last, and stay in bounds | `pieces_are_dwords_in_bounds_and_add_up` |
    //! | whatever the order, every answer's data go out once and in order, then its response | `every_answer_goes_out_whole_in_any_order` |
    use super::*;
    use proptest::prelude::*;

    fn sizes() -> impl Strategy<Value = Size> {
        prop_oneof![
            Just(Size::Whole),
            (0u32..5000).prop_map(Size::AtMost),
            (0u32..3000, 0u32..3000).prop_map(|(min, max)| Size::Between { min, max }),
        ]
    }

    proptest! {
        #[test]
        fn pieces_are_dwords_in_bounds_and_add_up(size in sizes(), len in 1u32..100_000, seed: u64) {
            let mut random = Random::new(seed, 0);
            let mut left = len;
            while left > 0 {
                let piece = size.piece(left, &mut random);
                prop_assert!(piece >= 1 && piece <= left);
                if piece < left {
                    prop_assert_eq!(piece % 4, 0);
                }
                match size {
                    Size::Whole => prop_assert_eq!(piece, len),
                    Size::AtMost(max) => prop_assert!(piece <= max.max(4)),
                    Size::Between { min, max } => prop_assert!(piece <= min.max(max).max(4)),
                }
                left -= piece;
            }
        }

        #[test]
        fn every_answer_goes_out_whole_in_any_order(
            lens in prop::collection::vec(0u32..5000, 1..20), size in sizes(), seed: u64, allowed: bool,
            order in prop_oneof![Just(Order::InOrder), Just(Order::Shuffled), Just(Order::Interleaved)],
            success in prop_oneof![Just(Success::WhenAllowed), Just(Success::Capsule), Just(Success::Random)],
        ) {
            let script = Script { c2h_data: size, order, success, ..Script::default() };
            let mut random = Random::new(seed, 0);
            let mut answers = Answers::default();
            for (cid, &len) in lens.iter().enumerate() {
                answers.push(Answer {
                    completion: Completion { cid: cid as u16, result: 0, status: Status::SUCCESS },
                    data: (len > 0).then_some(Data { source: Source::Image(0), len, sent: 0 }),
                    owns_cid: true,
                    connect: false,
                    since: Duration::ZERO,
                });
            }
            let mut sent = vec![0; lens.len()];
            let mut done = vec![false; lens.len()];
            while let Some(next) = answers.next(&script, None, allowed, Duration::ZERO, &mut random) {
                match next {
                    Next::Data(index, piece) => {
                        let cid = usize::from(answers.cid(index));
                        prop_assert!(!done[cid]);
                        prop_assert_eq!(piece.offset, sent[cid]);
                        sent[cid] += piece.len;
                        prop_assert_eq!(piece.last, sent[cid] == lens[cid]);
                        if piece.success {
                            prop_assert!(piece.last && allowed);
                            done[cid] = true;
                            prop_assert!(answers.finish(index).is_some());
                        }
                    }
                    Next::Response(answer) => {
                        let cid = usize::from(answer.completion.cid);
                        prop_assert!(!done[cid]);
                        done[cid] = true;
                    }
                }
            }
            prop_assert_eq!(sent, lens);
            prop_assert!(done.into_iter().all(|done| done));
        }
    }
}
