//! Sequence numbers: `u32` on the wire, [`Position`] everywhere else.
//!
//! A position is the wire's number with the missing upper bits kept, so positions of one direction of one connection
//! compare like plain integers however often the wire wraps. The low 32 bits of a position *are* the sequence number on
//! the wire. Serial arithmetic (RFC 9293 §3.4) happens in one place only: [`Position::nearest`], where a number enters.

use std::fmt;
use std::ops::{Add, AddAssign};

/// A place in one direction of a connection, counted in sequence numbers (bytes, plus one for SYN and one for FIN).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The position of an initial sequence number.
    ///
    /// It starts at 2^32, not at 0, so that whatever a peer names as up to 2 GiB before it is a position too.
    pub const fn initial(wire: u32) -> Position {
        Position((1 << 32) | wire as u64)
    }

    /// The sequence number on the wire.
    #[inline]
    pub const fn wire(self) -> u32 {
        self.0 as u32
    }

    /// The whole position: its low 32 bits are the sequence number on the wire.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position with sequence number `wire` that is nearest to this one: from 2 GiB before it to one less than 2 GiB
    /// after it (RFC 9293 §3.4).
    #[inline]
    pub const fn nearest(self, wire: u32) -> Position {
        let distance = wire.wrapping_sub(self.wire()) as i32;
        Position(self.0.wrapping_add_signed(distance as i64))
    }

    /// Sequence numbers from `earlier` to this position; 0 if it is not later.
    #[inline]
    pub const fn since(self, earlier: Position) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As [`since`](Self::since), for distances inside a window; those above 4 GiB read as `u32::MAX`.
    #[inline]
    pub const fn window_since(self, earlier: Position) -> u32 {
        let distance = self.since(earlier);
        if distance > u32::MAX as u64 { u32::MAX } else { distance as u32 }
    }

    /// The position `n` before this one.
    #[inline]
    #[must_use]
    pub const fn back(self, n: u32) -> Position {
        Position(self.0.wrapping_sub(n as u64))
    }
}

impl Add<u32> for Position {
    type Output = Position;

    #[inline]
    fn add(self, n: u32) -> Position {
        Position(self.0.wrapping_add(u64::from(n)))
    }
}

impl AddAssign<u32> for Position {
    #[inline]
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#010x}", self.0 >> 32, self.wire())
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a number within 2 GiB of a position finds its own position again, across any wrap | `a_sequence_number_finds_its_position` |
    //! | the far edge of serial arithmetic is 2 GiB before | `exactly_two_gib_away_is_before` |
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sequence_number_finds_its_position(at in (1u64 << 32)..(1 << 60), distance in i32::MIN..=i32::MAX) {
            let near = Position(at);
            let there = Position(at.wrapping_add_signed(i64::from(distance)));
            prop_assert_eq!(near.nearest(there.wire()), there);
            prop_assert_eq!(there > near, distance > 0);
            prop_assert_eq!(there.since(near), u64::try_from(distance).unwrap_or(0));
        }
    }

    #[test]
    fn exactly_two_gib_away_is_before() {
        let near = Position::initial(5);
        assert_eq!(near.nearest(5u32.wrapping_add(1 << 31)), near.back(1 << 31));
        assert_eq!(near.nearest(5u32.wrapping_add((1 << 31) - 1)), near + ((1 << 31) - 1));
        assert_eq!(near.back(6).wire(), u32::MAX);
        assert_eq!(near.window_since(near.back(6)), 6);
        assert_eq!(near.back(6).window_since(near), 0);
    }
}
