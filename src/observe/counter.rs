//! Numbers that describe themselves: a set of counters and what each of them means are one declaration.
//!
//! ```text
//! counters! { /// Counters of … pub struct Counters { /// Packets received. pub packets_rx: Packets, … } }
//!      ├─► the struct: plain `u64` fields that its owner adds to; nothing shared, nothing registered
//!      ├─► `AddAssign`: sums
//!      └─► `Readings`: name, unit, help (the doc comment) and value of every field, for whoever shows them
//! ```
//!
//! A field cannot exist without its help, and whoever shows a set shows all of it: text, JSON, OpenMetrics and the table in
//! `docs/stats.md` come from the same walk, so they cannot disagree.

use std::fmt;
use std::marker::PhantomData;

/// What a number is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named for what it is")]
pub enum Unit {
    Bytes,
    Packets,
    Segments,
    Pdus,
    Digests,
    Requests,
    Commands,
    Entries,
    Events,
    Buffers,
    Tags,
    Queues,
    Connections,
    Objects,
    Pages,
    Doorbells,
    Blocks,
    Questions,
    Times,
    Nanoseconds,
}

impl Unit {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::Packets => "packets",
            Unit::Segments => "segments",
            Unit::Pdus => "PDUs",
            Unit::Digests => "digests",
            Unit::Requests => "requests",
            Unit::Commands => "commands",
            Unit::Entries => "entries",
            Unit::Events => "events",
            Unit::Buffers => "buffers",
            Unit::Tags => "tags",
            Unit::Queues => "queues",
            Unit::Connections => "connections",
            Unit::Objects => "objects",
            Unit::Pages => "pages",
            Unit::Doorbells => "doorbells",
            Unit::Blocks => "blocks",
            Unit::Questions => "questions",
            Unit::Times => "times",
            Unit::Nanoseconds => "ns",
        }
    }
}

/// Whether a number can go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It starts at 0 and only grows.
    Counter,
    /// How much there is now.
    Gauge,
}

/// One field of a set: a number, or a number for each of a few reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Name in its set; snake case.
    pub name: &'static str,
    /// What it is a number of.
    pub unit: Unit,
    /// Whether it can go down.
    pub kind: Kind,
    /// What the values of a family with several are told apart by.
    pub by: Option<&'static str>,
    /// The doc comment as it stands there, with the space that begins each line.
    pub doc: &'static str,
}

impl Family {
    /// What it means: one or more sentences on one line.
    pub fn help(&self) -> &'static str {
        self.doc.trim()
    }
}

/// One value of a family: which reason it is for (its name and a sentence about it), and the number.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Where it belongs.
    pub family: &'a Family,
    /// The reason, for a family that has several values.
    pub reason: Option<(&'static str, &'a dyn fmt::Display)>,
    /// The number.
    pub value: u64,
}

/// A set of numbers, as whoever shows them sees it.
pub trait Readings {
    /// Calls `each` for every value, in the order of declaration; the values of a family come together.
    fn read(&self, each: &mut dyn FnMut(Reading<'_>));

    /// Which set it is: the path of its type.
    fn path(&self) -> &'static str;
}

/// Why something was counted: a small set of reasons, each with a name that never changes.
pub trait Reason: Copy + fmt::Display + 'static {
    /// What the reasons are called as a group.
    const LABEL: &'static str = "reason";

    /// All of them; [`Reason::index`] is the place.
    fn all() -> &'static [Self];

    /// Place in [`Reason::all`].
    fn index(self) -> usize;

    /// Name for programs.
    fn name(self) -> &'static str;
}

/// A number for each reason. `N` is how many there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct By<R, const N: usize> {
    values: [u64; N],
    reasons: PhantomData<fn(R)>,
}

impl<R, const N: usize> Default for By<R, N> {
    fn default() -> By<R, N> {
        By { values: [0; N], reasons: PhantomData }
    }
}

impl<R: Reason, const N: usize> By<R, N> {
    /// Counts one.
    #[inline]
    pub fn count(&mut self, why: R) {
        self.add(why, 1);
    }

    /// Counts several.
    #[inline]
    pub fn add(&mut self, why: R, n: u64) {
        self.values[why.index()] += n;
    }

    /// How many for this reason.
    pub fn get(&self, why: R) -> u64 {
        self.values[why.index()]
    }

    /// How many for all reasons together.
    pub fn total(&self) -> u64 {
        self.values.iter().sum()
    }
}

impl<R, const N: usize> PartialEq<[u64; N]> for By<R, N> {
    /// The numbers in the order of the reasons.
    fn eq(&self, values: &[u64; N]) -> bool {
        self.values == *values
    }
}

impl<R: Reason, const N: usize> fmt::Debug for By<R, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = R::all().iter().zip(self.values).filter(|(_, n)| *n != 0);
        f.debug_map().entries(pairs.map(|(why, n)| (why.name(), n))).finish()
    }
}

/// What a field of a set can be.
pub trait Field {
    /// Reads it.
    fn read(&self, family: &Family, each: &mut dyn FnMut(Reading<'_>));
    /// Adds another one to it.
    fn add(&mut self, other: &Self);
}

impl Field for u64 {
    fn read(&self, family: &Family, each: &mut dyn FnMut(Reading<'_>)) {
        each(Reading { family, reason: None, value: *self });
    }
    fn add(&mut self, other: &u64) {
        *self += other;
    }
}

impl<R: Reason, const N: usize> Field for By<R, N> {
    fn read(&self, family: &Family, each: &mut dyn FnMut(Reading<'_>)) {
        for (why, value) in R::all().iter().zip(self.values) {
            each(Reading { family, reason: Some((why.name(), why)), value });
        }
    }
    fn add(&mut self, other: &By<R, N>) {
        self.values.iter_mut().zip(other.values).for_each(|(sum, n)| *sum += n);
    }
}

/// Declares a set of counters. Each field has a doc comment, which is its help, and the [`Unit`] in place of its type,
/// which is `u64`; `Unit by R` makes it a number for each [`Reason`] `R`.
macro_rules! counters {
    ($($set:tt)+) => { $crate::observe::counter::readings! { Counter: $($set)+ } };
}

/// Declares a set of gauges, as `counters!` does counters.
macro_rules! gauges {
    ($($set:tt)+) => { $crate::observe::counter::readings! { Gauge: $($set)+ } };
}

macro_rules! readings {
    ($kind:ident: $(#[$meta:meta])* $vis:vis struct $set:ident {
        $($(#[doc = $doc:literal])+ $field_vis:vis $field:ident: $unit:ident $(by $reason:ty)?),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $set {
            $($(#[doc = $doc])+ $field_vis $field: $crate::observe::counter::field_type!($($reason)?),)+
        }

        impl $crate::observe::counter::Readings for $set {
            fn read(&self, each: &mut dyn FnMut($crate::observe::counter::Reading<'_>)) {
                use $crate::observe::counter::{Family, Field, Kind, Unit};
                $({
                    const FAMILY: Family = Family {
                        name: stringify!($field),
                        unit: Unit::$unit,
                        kind: Kind::$kind,
                        by: $crate::observe::counter::field_label!($($reason)?),
                        doc: concat!($($doc),+),
                    };
                    Field::read(&self.$field, &FAMILY, each);
                })+
            }

            fn path(&self) -> &'static str {
                concat!(module_path!(), "::", stringify!($set))
            }
        }

        impl std::ops::AddAssign<&$set> for $set {
            fn add_assign(&mut self, other: &$set) {
                $($crate::observe::counter::Field::add(&mut self.$field, &other.$field);)+
            }
        }
    };
}

macro_rules! field_type {
    () => { u64 };
    ($reason:ty) => { $crate::observe::counter::By<$reason, { <$reason>::ALL.len() }> };
}

macro_rules! field_label {
    () => {
        None
    };
    ($reason:ty) => {
        Some(<$reason as $crate::observe::counter::Reason>::LABEL)
    };
}

/// Declares reasons: `Variant "name"`, whose doc comment is the sentence about it.
macro_rules! reasons {
    ($(#[$meta:meta])* $vis:vis enum $set:ident {
        $($(#[doc = $doc:literal])+ $variant:ident $name:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $set {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $set {
            /// All of them.
            pub const ALL: &'static [$set] = &[$($set::$variant),+];

            /// Name for programs.
            pub const fn name(self) -> &'static str {
                match self {
                    $($set::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let doc = match self {
                    $($set::$variant => concat!($($doc),+),)+
                };
                f.write_str(doc.trim().trim_end_matches('.'))
            }
        }

        impl $crate::observe::counter::Reason for $set {
            fn all() -> &'static [$set] {
                $set::ALL
            }
            fn index(self) -> usize {
                self as usize
            }
            fn name(self) -> &'static str {
                $set::name(self)
            }
        }
    };
}

pub(crate) use {counters, field_label, field_type, gauges, readings, reasons};

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | name, unit, help and value of every field are read, in order, and each reason by name | `a_set_describes_itself` |
    //! | a sum holds every number of both parts | `a_sum_forgets_nothing` |
    use super::*;

    reasons! {
        /// Why.
        enum Why {
            /// It was too hot.
            Hot "hot",
            /// It was too cold,
            /// as so often.
            Cold "cold",
        }
    }

    counters! {
        /// What was seen.
        struct Seen {
            /// Packets that
            /// came.
            packets: Packets,
            /// Those that did not.
            dropped: Packets by Why,
            /// Bytes of them.
            bytes: Bytes,
        }
    }

    fn lines(set: &Seen) -> Vec<String> {
        let mut lines = Vec::new();
        set.read(&mut |reading| {
            let Reading { family, reason, value } = reading;
            let reason = reason.map_or(String::new(), |(name, help)| format!("[{name}: {help}]"));
            lines.push(format!("{}{reason} {} {value}: {}", family.name, family.unit.name(), family.help()));
        });
        lines
    }

    #[test]
    fn a_set_describes_itself() {
        let mut seen = Seen { packets: 3, bytes: 7, ..Seen::default() };
        seen.dropped.count(Why::Cold);
        let expected = [
            "packets packets 3: Packets that came.",
            "dropped[hot: It was too hot] packets 0: Those that did not.",
            "dropped[cold: It was too cold, as so often] packets 1: Those that did not.",
            "bytes bytes 7: Bytes of them.",
        ];
        assert_eq!(lines(&seen), expected);
        assert_eq!(format!("{:?}", seen.dropped), "{\"cold\": 1}");
    }

    #[test]
    fn a_sum_forgets_nothing() {
        let mut one = Seen { packets: 1, bytes: 2, ..Seen::default() };
        one.dropped.add(Why::Hot, 3);
        one.dropped.count(Why::Cold);
        let mut sum = one;
        sum += &one;
        let doubled = |set: &Seen| {
            let mut values = Vec::new();
            set.read(&mut |reading| values.push(reading.value));
            values
        };
        let expected: Vec<u64> = doubled(&one).iter().map(|n| 2 * n).collect();
        assert!(expected.iter().all(|n| *n != 0));
        assert_eq!((doubled(&sum), sum.dropped.total()), (expected, 8));
    }
}
