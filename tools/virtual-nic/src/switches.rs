//! The switches by name, for command lines: `NAME=VALUE`.

use crate::config::Switches;
use crate::offload::WhichRun;
use crate::offload::behaviour::{
    ConfirmRule, DataOffset, FirstFlag, FirstHalf, HeaderPacket, HoleRule, Inconsistent, Overlap, Pattern, Reaction,
    Repeat, ResumeRule, ResyncByte, SearchRule, Unverified, VlanHlen,
};
use std::num::NonZeroU32;
use std::time::Duration;

/// Why a switch was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSwitch {
    /// There is no such switch.
    #[error("there is no switch {0:?}; there are {names}", names = names().collect::<Vec<_>>().join(", "))]
    Name(String),
    /// It does not take this value.
    #[error("{name}={value}: allowed is {allowed}")]
    Value {
        /// The switch.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        allowed: String,
    },
    /// Not `NAME=VALUE`.
    #[error("{0:?} is no switch: give NAME=VALUE")]
    Form(String),
}

/// Reads a value and puts it where it belongs; otherwise says what would be allowed.
type Set = fn(&mut Switches, &str) -> Result<(), String>;

fn choose<T: Copy>(field: &mut T, value: &str, choices: &[(&str, T)]) -> Result<(), String> {
    match choices.iter().find(|(name, _)| *name == value) {
        Some((_, choice)) => {
            *field = *choice;
            Ok(())
        }
        None => Err(choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")),
    }
}

fn flag(field: &mut bool, value: &str) -> Result<(), String> {
    choose(field, value, &[("on", true), ("off", false)])
}

fn number(field: &mut u32, value: &str) -> Result<(), String> {
    *field = value.parse().map_err(|_| "a number from 0 to 4294967295".to_owned())?;
    Ok(())
}

fn reaction(field: &mut Reaction, value: &str) -> Result<(), String> {
    let choices = [
        ("ring", Reaction::Ring),
        ("rest-of-pdu", Reaction::RestOfPdu),
        ("error-cqe", Reaction::ErrorCqe),
        ("context-error", Reaction::ContextError),
    ];
    choose(field, value, &choices)
}

/// Every switch: its name, what it is about, and how it is set.
const ALL: &[(&str, &str, Set)] = &[
    ("take-page-zero", "firmware takes a page at address 0", |s, v| flag(&mut s.take_page_zero, v)),
    ("touch-pages", "firmware writes to each page that it is given", |s, v| flag(&mut s.touch_pages, v)),
    ("strict-arm-sequence", "an arm doorbell with an old sequence number is ignored", |s, v| {
        flag(&mut s.strict_arm_sequence, v)
    }),
    ("queue-address-reads-back", "the address of the command queue can be read", |s, v| {
        flag(&mut s.queue_address_reads_back, v)
    }),
    ("sign-answers", "answers of the command queue carry valid signatures", |s, v| flag(&mut s.sign_answers, v)),
    ("striding-rq", "receive queues whose work requests hold many packets are offered", |s, v| {
        flag(&mut s.striding_rq, v)
    }),
    ("cqe-compression", "compressed receive completions are offered", |s, v| flag(&mut s.cqe_compression, v)),
    ("which-run", "which run of a packet is placed when several could be", |s, v| {
        choose(
            &mut s.which_run,
            v,
            &[("first", WhichRun::First), ("last", WhichRun::Last), ("longest", WhichRun::Longest)],
        )
    }),
    ("hole", "the rest of a PDU behind a hole in its data", |s, v| {
        choose(&mut s.offload.hole, v, &[("continue", HoleRule::Continue), ("stop", HoleRule::Stop)])
    }),
    ("header-packet", "the packet with the first header behind a hole", |s, v| {
        choose(&mut s.offload.header_packet, v, &[("placed", HeaderPacket::Placed), ("ring", HeaderPacket::Ring)])
    }),
    ("overlap", "a packet that is old in part", |s, v| {
        choose(&mut s.offload.overlap, v, &[("bypass", Overlap::Bypass), ("new-tail", Overlap::NewTail)])
    }),
    ("search", "where in a packet the search looks for a header", |s, v| {
        let choices = [("anywhere", SearchRule::Anywhere), ("start-of-packet", SearchRule::StartOfPacket)];
        choose(&mut s.offload.search, v, &choices)
    }),
    ("pattern", "what the search takes for a header", |s, v| {
        let choices = [
            ("type-and-length", Pattern::TypeAndLength),
            ("lengths", Pattern::Lengths),
            ("header-digest", Pattern::HeaderDigest),
        ];
        choose(&mut s.offload.pattern, v, &choices)
    }),
    ("longest-guess", "largest PLEN that the search takes for one, bytes", |s, v| {
        number(&mut s.offload.longest_guess, v)
    }),
    ("search-late", "a late packet is searched for a header while searching", |s, v| {
        flag(&mut s.offload.search_late, v)
    }),
    ("keep-partial-header", "a header cut by the end of a packet is recognised while searching", |s, v| {
        flag(&mut s.offload.keep_partial_header, v)
    }),
    ("repeat", "when a request for confirmation is made again", |s, v| {
        s.offload.repeat = match (v, v.parse::<NonZeroU32>()) {
            ("once", _) => Repeat::Once,
            ("every-header", _) => Repeat::EveryHeader,
            (_, Ok(n)) => Repeat::EveryN(n),
            _ => return Err("once, every-header, or a number of headers from 1".to_owned()),
        };
        Ok(())
    }),
    ("request-limit", "packets after which a guess is dropped", |s, v| {
        s.offload.request_limit = match (v, v.parse::<NonZeroU32>()) {
            ("none", _) => None,
            (_, Ok(n)) => Some(n),
            _ => return Err("none, or a number of packets from 1".to_owned()),
        };
        Ok(())
    }),
    ("resync-byte", "the byte of the header that a request names", |s, v| {
        choose(&mut s.offload.resync_byte, v, &[("first", ResyncByte::First), ("last", ResyncByte::Last)])
    }),
    ("confirm", "which confirmations count", |s, v| {
        choose(&mut s.offload.confirm, v, &[("remembered", ConfirmRule::Remembered), ("tracked", ConfirmRule::Tracked)])
    }),
    ("resume", "where placing begins again after a confirmation", |s, v| {
        choose(&mut s.offload.resume, v, &[("next-pdu", ResumeRule::NextPdu), ("next-packet", ResumeRule::NextPacket)])
    }),
    ("first-flag", "the first digest flag after a resync", |s, v| {
        choose(&mut s.offload.first_flag, v, &[("right", FirstFlag::Right), ("wrongly-set", FirstFlag::WronglySet)])
    }),
    ("unverified", "which packets of a PDU with a hole lose the digest flag", |s, v| {
        let choices = [
            ("late-packet", Unverified::LatePacket),
            ("digest-packet", Unverified::DigestPacket),
            ("every-packet", Unverified::EveryPacket),
        ];
        choose(&mut s.offload.unverified, v, &choices)
    }),
    ("flag-without-data", "packets without data have the digest flag", |s, v| {
        flag(&mut s.offload.flag_without_data, v)
    }),
    ("inconsistent", "a header that contradicts itself", |s, v| {
        let choices = [("lose-framing", Inconsistent::LoseFraming), ("deliver", Inconsistent::Deliver)];
        choose(&mut s.offload.inconsistent, v, &choices)
    }),
    ("data-offset", "what DATAO may be", |s, v| {
        choose(
            &mut s.offload.data_offset,
            v,
            &[("as-said", DataOffset::AsSaid), ("contiguous", DataOffset::Contiguous)],
        )
    }),
    ("free-key", "data for a tag whose key is free", |s, v| reaction(&mut s.offload.free_key, v)),
    ("unknown-tag", "data for a tag outside the table", |s, v| reaction(&mut s.offload.unknown_tag, v)),
    ("overflow", "more data than a tag has room for", |s, v| reaction(&mut s.offload.overflow, v)),
    ("umr-packets", "packets until a binding takes effect", |s, v| number(&mut s.offload.umr_packets, v)),
    ("umr-time", "microseconds until a binding takes effect", |s, v| {
        let mut microseconds = 0;
        number(&mut microseconds, v)?;
        s.offload.umr_time = Duration::from_micros(microseconds.into());
        Ok(())
    }),
    ("vlan-hlen", "what hlen counts when a VLAN tag is stripped", |s, v| {
        choose(&mut s.offload.vlan_hlen, v, &[("as-stored", VlanHlen::AsStored), ("on-wire", VlanHlen::AsOnWire)])
    }),
    ("first-half", "fields of a completion that no flag makes valid", |s, v| {
        choose(&mut s.offload.first_half, v, &[("zero", FirstHalf::Zero), ("noise", FirstHalf::Noise)])
    }),
];

/// Names of all switches.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _, _)| *name)
}

/// A line for each switch: its name, what it takes, and what it is about.
pub fn help() -> String {
    let allowed = |set: Set| set(&mut Switches::default(), "?").err().unwrap_or_default();
    ALL.iter().map(|(name, about, set)| format!("  {name:<24} {about} ({})\n", allowed(*set))).collect()
}

impl Switches {
    /// Sets the switch that `text` (`NAME=VALUE`) names.
    pub fn set(&mut self, text: &str) -> Result<(), BadSwitch> {
        let (name, value) = text.split_once('=').ok_or_else(|| BadSwitch::Form(text.to_owned()))?;
        let found = ALL.iter().find(|(known, _, _)| *known == name).ok_or_else(|| BadSwitch::Name(name.to_owned()))?;
        (found.2)(self, value).map_err(|allowed| BadSwitch::Value { name: found.0, value: value.to_owned(), allowed })
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every switch has a name, and each value that its refusal lists can be set | `every_value_that_is_listed_can_be_set` |
    //! | each one changes its own field and no other | `a_switch_changes_one_field` |
    //! | what cannot be is refused with what could | `nonsense_is_refused` |
    use super::*;

    /// The values that a switch lists, or a number.
    fn values(name: &str) -> Vec<String> {
        let Err(BadSwitch::Value { allowed, .. }) = Switches::default().set(&format!("{name}=?")) else {
            panic!("{name}")
        };
        let listed = allowed.split(", ").filter(|word| !word.contains(' ')).map(str::to_owned);
        listed.chain(allowed.contains("number").then(|| "17".to_owned())).collect()
    }

    #[test]
    fn every_value_that_is_listed_can_be_set() {
        for name in names() {
            let values = values(name);
            assert!(!values.is_empty(), "{name}");
            for value in values {
                assert_eq!(Switches::default().set(&format!("{name}={value}")), Ok(()));
            }
            assert!(help().contains(&format!("  {name} ")));
        }
    }

    #[test]
    fn a_switch_changes_one_field() {
        let fields = |switches: &Switches| {
            let text = format!("{switches:?}");
            text.split(", ").map(str::to_owned).collect::<Vec<_>>()
        };
        let before = fields(&Switches::default());
        let mut changed = Vec::new();
        for name in names() {
            let differs = |value: String| {
                let mut switches = Switches::default();
                switches.set(&format!("{name}={value}")).expect("it is listed");
                let after = fields(&switches);
                before.iter().zip(&after).position(|(a, b)| a != b).inspect(|first| {
                    let others = before.iter().zip(&after).skip(first + 1).filter(|(a, b)| a != b).count();
                    assert_eq!((others, after.len()), (0, before.len()), "{name}={value}");
                })
            };
            let field = values(name).into_iter().find_map(differs).unwrap_or_else(|| panic!("{name} changes nothing"));
            assert!(!changed.contains(&field), "{name} changes what another does");
            changed.push(field);
        }
        assert_eq!(changed.len(), before.len(), "a field without a name: {before:?}");
    }

    #[test]
    fn nonsense_is_refused() {
        let mut switches = Switches::default();
        let name = switches.set("hole-rule=stop").expect_err("no such").to_string();
        assert!(name.contains("hole,") && name.contains("umr-time"), "{name}");
        let value = switches.set("hole=halt").expect_err("no such").to_string();
        assert_eq!(value, "hole=halt: allowed is continue, stop");
        assert!(matches!(switches.set("hole"), Err(BadSwitch::Form(_))));
        assert!(switches.set("repeat=0").is_err() && switches.set("umr-packets=-1").is_err());
        assert_eq!(switches, Switches::default());
    }
}
