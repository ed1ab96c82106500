//! Why a command failed, said so that a person can act on it.

use super::Object;
use crate::dma::DmaError;
use crate::observe::counter::reasons;
use crate::platform::Identity;
use firmware_iface::caps::{CapGroup, NVMEOTCP_GROUP};
use firmware_iface::command::device::{ManagePagesOpMod, QueryPagesOpMod};
use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::DeliveryStatus;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Version of the firmware, from the initialization segment (`mlx5-bringup.md` §1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirmwareVersion {
    /// 28 is ConnectX-7 (`mlx5-numbers.md`).
    pub major: u16,
    /// Minor.
    pub minor: u16,
    /// Sub-minor.
    pub sub_minor: u16,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:04}", self.major, self.minor, self.sub_minor)
    }
}

/// Whom a command was sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The PCI function.
    pub identity: Identity,
    /// What runs on it.
    pub firmware: FirmwareVersion,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} firmware {}", self.identity, self.firmware)
    }
}

/// A command that did not succeed: which, about what, to whom, and why.
#[derive(Clone, Debug, thiserror::Error)]
pub struct CommandError {
    /// To whom.
    pub function: Arc<Function>,
    /// Which command.
    pub opcode: Opcode,
    /// Its modifier.
    pub op_mod: u16,
    /// About which object.
    pub object: Option<Object>,
    /// Why.
    pub fault: Fault,
}

/// Why a command failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// Firmware read the command and refused it.
    #[error("status {status}, syndrome {syndrome:#010x}")]
    Status {
        /// Why, in general.
        status: Status,
        /// Why, in detail; the vendor's support can look it up.
        syndrome: u32,
    },
    /// Firmware could not read the command.
    #[error("not delivered: {0}")]
    Delivery(DeliveryStatus),
    /// No completion came; the slot and its memory stay reserved until one does.
    #[error("no completion within {waited:?} (slot {slot}; {busy} commands in flight)")]
    TimedOut {
        /// How long the command had been posted.
        waited: Duration,
        /// Slot of the command queue.
        slot: u8,
        /// Commands in flight, this one included.
        busy: usize,
    },
    /// Every register of the function reads all ones.
    #[error("the function is gone: its registers read all ones")]
    DeviceGone,
    /// The command was not sent, because the function was found to be out of order before; that was told then.
    #[error("not sent: the function had failed before")]
    Abandoned,
    /// The answer carries the token of another command.
    #[error("{place} carries token {found:#04x} instead of {expected:#04x}: it belongs to another command")]
    Token {
        /// Where.
        place: Place,
        /// The command's token.
        expected: u8,
        /// What was there.
        found: u8,
    },
    /// The answer claims another length than was asked for.
    #[error("the device claims {found} bytes of output; {expected} were asked for")]
    Length {
        /// Asked for.
        expected: usize,
        /// Claimed.
        found: usize,
    },
    /// The chain of output mailboxes came back changed.
    #[error("{place} came back as number {number} with next block at {next:#x}: the chain was overwritten")]
    Mailbox {
        /// Where.
        place: Place,
        /// Its block number.
        number: u32,
        /// Its pointer.
        next: u64,
    },
    /// The input or output does not fit the mailboxes that the queue keeps.
    #[error("{bytes} bytes are more than the {limit} that a command may carry")]
    TooLong {
        /// Bytes.
        bytes: usize,
        /// Limit.
        limit: usize,
    },
    /// Every slot is taken.
    #[error("no free slot: {busy} commands in flight, {stuck} of them stuck")]
    NoSlot {
        /// Commands in flight.
        busy: usize,
        /// Slots of commands that missed their deadline, or that came back with something else than an answer.
        stuck: usize,
    },
    /// Nobody has executed the command: the thread that owns the function's command queue had no time for it, or has ended.
    #[error("not executed: the thread that executes the function's commands did not take it in time, or has ended")]
    NotServed,
    /// The thread that owns the function's command queue took the command, and has not answered.
    #[error("the thread that executes the function's commands has not answered after {waited:?}")]
    NoAnswer {
        /// How long was waited.
        waited: Duration,
    },
    /// No memory for mailboxes.
    #[error(transparent)]
    Memory(Arc<DmaError>),
}

reasons! {
    /// What kind of [`Fault`].
    pub enum FaultKind {
        /// Firmware refused the command.
        Status "status",
        /// Firmware could not read the command.
        Delivery "delivery",
        /// No completion came in time.
        TimedOut "timed-out",
        /// Every register of the function reads all ones.
        DeviceGone "device-gone",
        /// The command was not sent, because the function had failed before.
        Abandoned "abandoned",
        /// The answer carries the token of another command.
        Token "token",
        /// The answer claims another length than was asked for.
        Length "length",
        /// The chain of output mailboxes came back changed.
        Mailbox "mailbox",
        /// The input or output is longer than a command may carry.
        TooLong "too-long",
        /// Every slot was taken.
        NoSlot "no-slot",
        /// The thread that executes commands did not take it in time.
        NotServed "not-served",
        /// The thread that executes commands took it and has not answered.
        NoAnswer "no-answer",
        /// There was no memory for mailboxes.
        Memory "memory",
    }
}

impl Fault {
    /// Its kind, for counters.
    pub fn kind(&self) -> FaultKind {
        match self {
            Fault::Status { .. } => FaultKind::Status,
            Fault::Delivery(_) => FaultKind::Delivery,
            Fault::TimedOut { .. } => FaultKind::TimedOut,
            Fault::DeviceGone => FaultKind::DeviceGone,
            Fault::Abandoned => FaultKind::Abandoned,
            Fault::Token { .. } => FaultKind::Token,
            Fault::Length { .. } => FaultKind::Length,
            Fault::Mailbox { .. } => FaultKind::Mailbox,
            Fault::TooLong { .. } => FaultKind::TooLong,
            Fault::NoSlot { .. } => FaultKind::NoSlot,
            Fault::NotServed => FaultKind::NotServed,
            Fault::NoAnswer { .. } => FaultKind::NoAnswer,
            Fault::Memory(_) => FaultKind::Memory,
        }
    }
}

/// Where in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The entry of the command queue.
    Entry,
    /// Output mailbox block number.
    Block(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Entry => f.write_str("the entry"),
            Place::Block(n) => write!(f, "output mailbox {n}"),
        }
    }
}

impl CommandError {
    /// The status, if firmware gave one.
    pub fn status(&self) -> Option<Status> {
        match self.fault {
            Fault::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// True if the command may still be executed later, or nobody knows what its function does: its memory must stay.
    pub fn may_still_run(&self) -> bool {
        matches!(
            self.fault,
            Fault::TimedOut { .. }
                | Fault::NoAnswer { .. }
                | Fault::DeviceGone
                | Fault::Abandoned
                | Fault::Token { .. }
                | Fault::Length { .. }
                | Fault::Mailbox { .. }
        )
    }

    /// What to do about it, where the cause is known.
    pub fn advice(&self) -> Option<&'static str> {
        match &self.fault {
            Fault::DeviceGone => Some(
                "look for a surprise removal, an AER error or a firmware reset in the system log; reset the function",
            ),
            Fault::TimedOut { .. } => Some(
                "firmware hangs or its interrupts and pages are not served: check the health syndrome, then reset the \
                 function; raise the command deadline if the machine is only slow",
            ),
            Fault::NoSlot { stuck, .. } if *stuck > 0 => {
                Some("stuck commands keep their slots until they complete: reset the function")
            }
            Fault::NoSlot { .. } => Some("wait for a ticket before posting more"),
            Fault::Delivery(DeliveryStatus::SIGNAT_ERR) => {
                Some("firmware checks command signatures: SET_HCA_CAP must have stored cmdif_checksum = 0")
            }
            Fault::Delivery(_) | Fault::Token { .. } | Fault::Mailbox { .. } | Fault::Length { .. } => {
                Some("the command queue's memory does not reach the device as written: check the IOMMU mapping")
            }
            Fault::Status { status, .. } => status_advice(self.opcode, *status),
            Fault::NotServed | Fault::NoAnswer { .. } => {
                Some("poll the adapter's host more often, or give the commands of other shards shorter deadlines")
            }
            Fault::Abandoned | Fault::TooLong { .. } | Fault::Memory(_) => None,
        }
    }
}

fn status_advice(opcode: Opcode, status: Status) -> Option<&'static str> {
    Some(match (opcode, status) {
        (Opcode::MANAGE_PAGES, Status::BAD_PARAM_ERR) => {
            "firmware refuses page address 0 and pages that it already holds"
        }
        (Opcode::CREATE_MKEY, Status::NO_RES_ERR | Status::LIM_ERR) => {
            "fewer queues or a smaller queue size need fewer memory keys; see LOG_MAX_MKEY with `mlxconfig query`"
        }
        (Opcode::CREATE_GENERAL_OBJECT, Status::BAD_PARAM_ERR | Status::BAD_OP_ERR) => {
            "this firmware has no NVMe/TCP tag buffer tables, or the table is larger than its capability allows"
        }
        (_, Status::NO_RES_ERR) => "firmware lacks memory or objects: raise the page limit, or use fewer queues",
        (_, Status::LIM_ERR) => "a limit of the function is reached: see the capabilities, and `mlxconfig query`",
        (_, Status::BAD_OP_ERR) => "this firmware does not know the command: update it, or leave the feature off",
        (_, Status::BAD_SYS_STATE_ERR) => "another driver may have left the function half initialized: reset it first",
        (_, Status::NOT_READY | Status::RES_BUSY) => "firmware is still busy: try again later",
        (_, Status::BAD_RES_STATE_ERR) => "the object is still in use, or not in the state that the command names",
        (_, Status::INT_ERR) => {
            "firmware failed internally: read the health buffer and report the syndrome to its vendor"
        }
        _ => return None,
    })
}

/// Name of an `op_mod`, for the commands whose modifier has names.
pub fn op_mod_name(opcode: Opcode, op_mod: u16) -> Option<String> {
    let name = |name: Option<&'static str>| name.map(str::to_owned);
    match opcode {
        Opcode::QUERY_PAGES => name(QueryPagesOpMod(op_mod).name()),
        Opcode::MANAGE_PAGES => name(ManagePagesOpMod(op_mod).name()),
        Opcode::ACCESS_REG => name(["write", "read"].get(usize::from(op_mod)).copied()),
        Opcode::QUERY_HCA_CAP | Opcode::SET_HCA_CAP => {
            let group = CapGroup(op_mod >> 1);
            let mode = ["maximum", "current"][usize::from(op_mod & 1)];
            let group = if group == NVMEOTCP_GROUP { Some("NVMEOTCP") } else { group.name() };
            let group = group.map_or_else(|| format!("group {:#x}", op_mod >> 1), str::to_owned);
            Some(if opcode == Opcode::SET_HCA_CAP { group } else { format!("{group}, {mode}") })
        }
        _ => None,
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.function, self.opcode)?;
        match op_mod_name(self.opcode, self.op_mod) {
            Some(name) => write!(f, " ({name})")?,
            None if self.op_mod != 0 => write!(f, " op_mod {:#x}", self.op_mod)?,
            None => {}
        }
        if let Some(object) = self.object {
            write!(f, " for {object}")?;
        }
        write!(f, ": {}", self.fault)?;
        if let Some(advice) = self.advice() {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

/// Commands that failed, for a person: each cause is told once, with what the first of its commands was for, then how many others
/// it had and what they were for. Where a function dies there are hundreds.
pub struct Failures<'a>(Vec<(&'a CommandError, Vec<&'a CommandError>)>);

impl<'a> Failures<'a> {
    /// Objects that are named besides the first one of a cause.
    const NAMED: usize = 3;

    /// Of these, in their order.
    pub fn of(errors: impl IntoIterator<Item = &'a CommandError>) -> Failures<'a> {
        let mut causes: Vec<(&CommandError, Vec<&CommandError>)> = Vec::new();
        for error in errors {
            match causes.iter_mut().find(|(first, _)| first.fault.is_like(&error.fault)) {
                Some((_, others)) => others.push(error),
                None => causes.push((error, Vec::new())),
            }
        }
        Failures(causes)
    }
}

impl Fault {
    /// True if a person would call it the same cause.
    fn is_like(&self, other: &Fault) -> bool {
        let refusal = |fault: &Fault| match fault {
            Fault::Status { status, syndrome } => Some((*status, *syndrome)),
            _ => None,
        };
        self.kind() == other.kind() && refusal(self) == refusal(other)
    }
}

impl fmt::Display for Failures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, others)) in self.0.iter().enumerate() {
            write!(f, "{}{first}", if i == 0 { "" } else { "; " })?;
            if others.is_empty() {
                continue;
            }
            write!(f, " (and {} more for the same reason:", others.len())?;
            for (i, other) in others.iter().take(Self::NAMED).enumerate() {
                f.write_str(if i == 0 { " " } else { ", " })?;
                match other.object {
                    Some(object) => write!(f, "{object}")?,
                    None => write!(f, "{}", other.opcode)?,
                }
            }
            f.write_str(if others.len() > Self::NAMED { " …)" } else { ")" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | many failures with few causes are a few words: each cause once, what else it had by name and number | `a_cause_is_told_once` |
    use super::*;
    use crate::command::ObjectKind;

    fn failed(kind: ObjectKind, number: u32, fault: Fault) -> CommandError {
        let identity = Identity { address: "0000:3b:00.0".into(), vendor: 0x15b3, device: 0x1021 };
        let function = Arc::new(Function { identity, firmware: FirmwareVersion::default() });
        let object = Some(Object { kind, number: Some(number) });
        CommandError { function, opcode: Opcode::DESTROY_MKEY, op_mod: 0, object, fault }
    }

    #[test]
    fn a_cause_is_told_once() {
        let late = |waited| Fault::TimedOut { waited: Duration::from_secs(waited), slot: 1, busy: 2 };
        let refused = |syndrome| Fault::Status { status: Status::NO_RES_ERR, syndrome };
        let mut errors = vec![failed(ObjectKind::Tir, 1, late(3)), failed(ObjectKind::Sq, 2, refused(7))];
        errors.extend((0..200).map(|key| failed(ObjectKind::Mkey, key, late(0))));
        errors.push(failed(ObjectKind::Cq, 9, refused(8)));
        errors.push(failed(ObjectKind::Rq, 10, refused(7)));
        let text = Failures::of(&errors).to_string();
        let times = |what: &str| text.matches(what).count();
        assert_eq!((times("firmware hangs"), times("0x00000007"), times("0x00000008")), (1, 1, 1), "{text}");
        assert!(text.contains("for TIR 0x1: no completion within 3s"), "{text}");
        assert!(text.contains("(and 200 more for the same reason: mkey 0x0, mkey 0x1, mkey 0x2 …)"), "{text}");
        assert!(text.contains("(and 1 more for the same reason: RQ 0xa)"), "{text}");
        assert!(text.len() < 1200 && Failures::of([]).to_string().is_empty(), "{text}");
    }
}
