//! Is the function well: the health buffer and the counter that must move (`mlx5-bringup.md` §9).

use crate::command::{field_of, register};
use crate::observe::counter::{counters, reasons};
use crate::platform::Platform;
use hw_regs::init_segment::{HealthBuffer, HealthSyndrome, InitSegment, NicInterface};
use hw_regs::layout::Field;
use std::fmt;
use std::time::Duration;

/// A counter that stands still for longer is a sign of dead firmware: three looks of Linux, which looks every 1 to 2
/// seconds.
const STILL: Duration = Duration::from_secs(6);

/// What is wrong with a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ailment {
    /// Registers read all ones.
    Gone,
    /// Firmware reports a fault.
    Syndrome {
        /// Which.
        syndrome: HealthSyndrome,
        /// Its detail.
        extended: u16,
        /// Firmware asks for a reset.
        reset_needed: bool,
    },
    /// The function is disabled, or somebody asked firmware for a reset.
    Interface(NicInterface),
    /// Somebody reset the function: it does not know the command queue any more.
    Reset {
        /// What the registers with its address held at the first look.
        was: u64,
        /// What they hold now.
        is: u64,
    },
    /// The health counter does not move.
    Still {
        /// For how long.
        time: Duration,
        /// At which value.
        counter: u32,
    },
}

reasons! {
    /// What kind of [`Ailment`].
    pub enum AilmentKind {
        /// Registers read all ones.
        Gone "gone",
        /// Firmware reports a fault.
        Syndrome "syndrome",
        /// The function is disabled, or somebody asked firmware for a reset.
        Interface "interface",
        /// The health counter does not move.
        Still "still",
        /// The function was reset by somebody else.
        Reset "reset",
    }
}

impl Ailment {
    /// Its kind, for counters.
    pub fn kind(&self) -> AilmentKind {
        match self {
            Ailment::Gone => AilmentKind::Gone,
            Ailment::Syndrome { .. } => AilmentKind::Syndrome,
            Ailment::Interface(_) => AilmentKind::Interface,
            Ailment::Still { .. } => AilmentKind::Still,
            Ailment::Reset { .. } => AilmentKind::Reset,
        }
    }
}

counters! {
    /// What was seen of the function's health.
    pub struct HealthCounters {
        /// Looks at the function's health.
        pub looks: Times,
        /// Looks that found it ill.
        pub ill: Times by AilmentKind,
    }
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ailment::Gone => f.write_str("the function is gone: its registers read all ones"),
            Ailment::Syndrome { syndrome, extended, reset_needed } => {
                write!(f, "firmware reports {syndrome}, extended syndrome {extended:#06x}")?;
                f.write_str(if *reset_needed { "; it asks for a reset" } else { "" })
            }
            Ailment::Interface(state) => write!(f, "the function's interface is {state}: it must be brought up again"),
            Ailment::Reset { was, is } => {
                write!(f, "somebody reset the function: the address of the command queue is {is:#x}, was {was:#x}")
            }
            Ailment::Still { time, counter } => {
                write!(f, "the health counter stands at {counter:#x} for {time:?}: firmware does not run")
            }
        }
    }
}

/// Looks at the health of one function over time.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// Last counter, and since when it has this value.
    counter: Option<(u32, Duration)>,
    /// The registers with the command queue's address, as they read at the first look. What they should read is not relied
    /// on, only that it stays the same.
    queue: Option<u64>,
    counters: HealthCounters,
}

fn health(field: Field<HealthBuffer>, platform: &impl Platform) -> u32 {
    let at = InitSegment::HEALTH.byte_offset() as u32 * 8 + field.offset();
    let word = platform.read32(u64::from(at / 32 * 4));
    let width = 32 - field.max().leading_zeros();
    word >> (32 - at % 32 - width) & field.max()
}

impl Monitor {
    /// What was seen so far.
    pub fn counters(&self) -> HealthCounters {
        self.counters
    }

    /// Looks once. The counter may stand still between two looks that are closer than its own pace.
    pub fn look(&mut self, platform: &impl Platform) -> Result<(), Ailment> {
        let found = self.examine(platform);
        self.counters.looks += 1;
        if let Err(ailment) = &found {
            self.counters.ill.count(ailment.kind());
        }
        found
    }

    fn examine(&mut self, platform: &impl Platform) -> Result<(), Ailment> {
        if health(HealthBuffer::FW_VER, platform) == u32::MAX || crate::command::is_gone(platform) {
            return Err(Ailment::Gone);
        }
        let syndrome = HealthSyndrome(health(HealthBuffer::SYND, platform) as u8);
        if syndrome.0 != 0 {
            let extended = health(HealthBuffer::EXT_SYND, platform) as u16;
            let reset_needed = health(HealthBuffer::RFR_SEVERITY_RFR, platform) != 0;
            return Err(Ailment::Syndrome { syndrome, extended, reset_needed });
        }
        let word = platform.read32(register(InitSegment::CMDQ_ADDR_L_SZ));
        let interface = NicInterface(field_of(InitSegment::CMDQ_ADDR_L_SZ_NIC_INTERFACE, word) as u8);
        if interface == NicInterface::DISABLED || interface == NicInterface::SW_RESET {
            return Err(Ailment::Interface(interface));
        }
        let is = u64::from(platform.read32(register(InitSegment::CMDQ_ADDR_H))) << 32 | u64::from(word);
        let was = *self.queue.get_or_insert(is);
        if was != is {
            return Err(Ailment::Reset { was, is });
        }
        let word = platform.read32(register(InitSegment::HEALTH_COUNTER));
        let (counter, now) = (field_of(InitSegment::HEALTH_COUNTER_COUNTER_24, word), platform.now());
        match self.counter {
            Some((last, since)) if last == counter => {
                let time = now.saturating_sub(since);
                if time > STILL {
                    return Err(Ailment::Still { time, counter });
                }
            }
            _ => self.counter = Some((counter, now)),
        }
        Ok(())
    }
}
