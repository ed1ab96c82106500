//! PCI configuration space of the function (`mlx5-bringup.md` §1), for whoever puts it on a bus.
//!
//! ```text
//!  0x000  header: identity, command, BAR0 (64-bit, prefetchable)
//!  0x060  PCI Express endpoint with function-level reset ─► 0x09c MSI-X (table and pending bits in BAR0)
//!         ─► 0x0c0 vendor-specific, on a physical function ─► 0x040 power
//!  0x100  advanced error reporting ─► 0x150 alternative routing-ID interpretation
//! ```
//!
//! There is no vital product data: drivers do without (§1), and without SR-IOV: virtual functions here are functions of
//! their own.

use crate::config::Config;
use crate::vendor::{LENGTH as VENDOR_BYTES, Window};

/// PCI vendor id (`mlx5-numbers.md`).
pub const VENDOR_ID: u16 = 0x15b3;
/// Bytes of an Express function's configuration space.
pub const CONFIG_BYTES: usize = 4096;
/// Where in BAR0 the MSI-X table is, and the pending bits.
pub const MSIX_TABLE: u32 = 0x2000;
/// Pending bits of MSI-X in BAR0.
pub const MSIX_PENDING: u32 = 0x3000;

const COMMAND: usize = 0x04;
const BAR0: usize = 0x10;
const POWER: usize = 0x40;
const EXPRESS: usize = 0x60;
const MSIX: usize = 0x9c;
const VENDOR: usize = 0xc0;
const ERRORS: usize = 0x100;
const ROUTING: usize = 0x150;

const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Device control of the Express capability: begin a function-level reset. Reads zero.
const DEVICE_CONTROL: usize = EXPRESS + 8;
const INITIATE_FLR: u16 = 1 << 15;

/// What a write asks for beyond the bits that it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Function-level reset.
    Reset,
}

/// The configuration space.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: Box<[u8; CONFIG_BYTES]>,
    /// Bits that a write changes.
    writable: Box<[u8; CONFIG_BYTES]>,
    initial: Box<[u8; CONFIG_BYTES]>,
    /// What is behind the vendor-specific capability, where there is one.
    vendor: Option<Window>,
}

struct Build {
    bytes: [u8; CONFIG_BYTES],
    writable: [u8; CONFIG_BYTES],
}

impl Build {
    fn set16(&mut self, at: usize, value: u16, writable: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 2].copy_from_slice(&writable.to_le_bytes());
    }
    fn set32(&mut self, at: usize, value: u32, writable: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.writable[at..at + 4].copy_from_slice(&writable.to_le_bytes());
    }
}

impl ConfigSpace {
    /// That of a function of this configuration, after power-on.
    pub fn new(config: &Config) -> ConfigSpace {
        let mut b = Build { bytes: [0; CONFIG_BYTES], writable: [0; CONFIG_BYTES] };
        b.set16(0x00, VENDOR_ID, 0);
        b.set16(0x02, config.device_id, 0);
        // Memory, bus master, parity, SERR, INTx disable.
        b.set16(COMMAND, 0, 0x0546);
        // Status: there is a list of capabilities.
        b.set16(0x06, 0x0010, 0);
        // Network controller, Ethernet.
        b.set32(0x08, 0x0200_0000, 0);
        // Cache line size.
        b.set16(0x0c, 0, 0x00ff);
        let size = config.bar_size;
        b.set32(BAR0, 0xc, !(size.min(1 << 32).wrapping_sub(1) as u32) & !0xf);
        b.set32(BAR0 + 4, 0, !(size.wrapping_sub(1) >> 32) as u32);
        // Which board it is says the PSID.
        b.set16(0x2c, VENDOR_ID, 0);
        b.set16(0x2e, config.device_id, 0);
        b.bytes[0x34] = EXPRESS as u8;
        b.set16(0x3c, 0x00ff, 0x00ff);

        // Version 2, endpoint; next.
        b.set32(EXPRESS, 0x0002_0010 | (MSIX as u32) << 8, 0);
        // Payload of 512 bytes, extended tags, role-based errors, function-level reset.
        b.set32(EXPRESS + 4, 1 << 28 | 1 << 15 | 1 << 5 | 2, 0);
        b.set16(DEVICE_CONTROL, 0x2810, 0x7fff);
        // 32 GT/s, 16 lanes: capability, control, status.
        b.set32(EXPRESS + 0xc, 0x0000_0105, 0);
        b.set16(EXPRESS + 0x10, 0, 0x01fb);
        b.set16(EXPRESS + 0x12, 0x0105, 0);
        // Completion timeouts can be chosen and turned off.
        b.set32(EXPRESS + 0x24, 0x001f, 0);
        b.set16(EXPRESS + 0x28, 0, 0x001f);
        // All speeds up to 32 GT/s; the greatest is the target.
        b.set32(EXPRESS + 0x2c, 0x0000_003e, 0);
        b.set16(EXPRESS + 0x30, 5, 0x000f);

        let vectors = config.vectors.clamp(1, 2048);
        let physical = config.is_physical();
        b.set16(MSIX, 0x11 | (if physical { VENDOR } else { POWER } as u16) << 8, 0);
        b.set16(MSIX + 2, vectors - 1, 0xc000);
        b.set32(MSIX + 4, MSIX_TABLE, 0);
        b.set32(MSIX + 8, MSIX_PENDING, 0);

        if physical {
            b.set32(VENDOR, (VENDOR_BYTES as u32) << 16 | (POWER as u32) << 8 | 0x09, 0);
        }

        // Version 3; state 0, no soft reset.
        b.set32(POWER, 0x0003_0001, 0);
        b.set16(POWER + 4, 0x0008, 0x0003);

        // Version 2; masks and severities can be set, nothing ever happens.
        b.set32(ERRORS, 0x0002_0001 | (ROUTING as u32) << 20, 0);
        b.set32(ERRORS + 8, 0, 0x047f_f030);
        b.set32(ERRORS + 0xc, 0x0046_2030, 0x047f_f030);
        b.set32(ERRORS + 0x14, 0x0000_2000, 0x0000_f1c1);
        b.set32(ROUTING, 0x0001_000e, 0);

        let bytes = Box::new(b.bytes);
        let vendor = physical.then(Window::default);
        ConfigSpace { initial: bytes.clone(), bytes, writable: Box::new(b.writable), vendor }
    }

    /// Copies bytes out; all ones beyond the end.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        for (n, byte) in out.iter_mut().enumerate() {
            let at = offset.saturating_add(n);
            let register = at.checked_sub(VENDOR).and_then(|at| self.vendor.as_ref()?.read(at & !3));
            *byte = match register {
                Some(value) => value.to_le_bytes()[at & 3],
                None => self.bytes.get(at).copied().unwrap_or(0xff),
            };
        }
    }

    /// Writes bytes: only bits that can be written change. What lies beyond the end is ignored.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Effect {
        // Registers of the window are written whole.
        if let (Some(vendor), Some(at), Ok(word)) =
            (&mut self.vendor, offset.checked_sub(VENDOR), <[u8; 4]>::try_from(data))
            && at.is_multiple_of(4)
        {
            vendor.write(at, u32::from_le_bytes(word));
        }
        for (n, byte) in data.iter().enumerate() {
            let at = offset.saturating_add(n);
            if let (Some(old), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *old = *old & !mask | byte & mask;
            }
        }
        // Device control is two bytes; the bit is in the second.
        let flr = DEVICE_CONTROL + 1;
        let asked =
            flr.checked_sub(offset).and_then(|n| data.get(n)).is_some_and(|byte| byte & (INITIATE_FLR >> 8) as u8 != 0);
        match asked {
            true => Effect::Reset,
            false => Effect::None,
        }
    }

    /// After a function-level reset. (Software restores what it had set.)
    pub fn reset(&mut self) {
        self.bytes.copy_from_slice(&self.initial[..]);
        self.vendor = self.vendor.as_ref().map(|_| Window::default());
    }

    fn command(&self) -> u16 {
        u16::from_le_bytes([self.bytes[COMMAND], self.bytes[COMMAND + 1]])
    }

    /// True if the function may access memory and raise interrupts.
    pub fn bus_master(&self) -> bool {
        self.command() & COMMAND_BUS_MASTER != 0
    }

    /// True if the function answers at its BAR.
    pub fn memory_space(&self) -> bool {
        self.command() & COMMAND_MEMORY != 0
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the chains of capabilities are those that drivers need, and end | `capabilities_are_found` |
    //! | the vendor-specific capability leads to its registers, and a reset clears them | `the_window_is_reached` |
    //! | sizing BAR0 gives its size and kind | `the_bar_has_its_size` |
    //! | only what can be written changes, and a reset undoes it | `identity_cannot_be_written` |
    //! | a function-level reset is asked for by one bit, which reads zero, whatever the width of the write | `one_bit_asks_for_a_reset` |
    use super::*;

    fn word(space: &ConfigSpace, at: usize) -> u32 {
        let mut bytes = [0; 4];
        space.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn capabilities_are_found() {
        let space = ConfigSpace::new(&Config::default());
        assert_eq!(word(&space, 0), 0x1021_15b3);
        assert_eq!(word(&space, 8) >> 8, 0x02_0000);
        let (mut at, mut ids) = (word(&space, 0x34) as usize & 0xff, Vec::new());
        while at != 0 {
            let head = word(&space, at);
            ids.push(head & 0xff);
            at = (head >> 8 & 0xff) as usize;
            assert!(ids.len() < 16);
        }
        assert_eq!(ids, [0x10, 0x11, 0x09, 0x01], "Express, MSI-X, vendor-specific, power");
        let virtual_function = ConfigSpace::new(&Config { device_id: 0x101e, ..Config::default() });
        assert_eq!(word(&virtual_function, MSIX) >> 8 & 0xff, POWER as u32);
        assert_eq!(word(&space, MSIX) >> 16 & 0x7ff, 63, "64 vectors");
        assert_eq!((word(&space, MSIX + 4), word(&space, MSIX + 8)), (0x2000, 0x3000));
        assert_ne!(word(&space, EXPRESS + 4) & 1 << 28, 0, "function-level reset");
        let (mut at, mut ids) = (0x100, Vec::new());
        while at != 0 {
            let head = word(&space, at);
            ids.push(head & 0xffff);
            at = (head >> 20) as usize;
            assert!(ids.len() < 16);
        }
        assert_eq!(ids, [0x1, 0xe]);
    }

    #[test]
    fn the_window_is_reached() {
        let mut space = ConfigSpace::new(&Config::default());
        assert_eq!(word(&space, VENDOR), 0x0018_4009);
        space.write(VENDOR + 4, &0xa_u32.to_le_bytes());
        assert_eq!(word(&space, VENDOR + 4), 0x2000_000a);
        space.write(VENDOR + 0xc, &0x1234_u32.to_le_bytes());
        assert_eq!(word(&space, VENDOR + 0xc), 0x1234);
        space.reset();
        assert_eq!((word(&space, VENDOR + 4), word(&space, VENDOR + 0xc)), (0, 0));
        let mut none = ConfigSpace::new(&Config { device_id: 0x101e, ..Config::default() });
        none.write(VENDOR + 4, &0xa_u32.to_le_bytes());
        assert_eq!(word(&none, VENDOR + 4), 0);
    }

    #[test]
    fn the_bar_has_its_size() {
        for bar_size in [128 << 10, 32 << 20, 8u64 << 30] {
            let mut space = ConfigSpace::new(&Config { bar_size, ..Config::default() });
            assert_eq!(word(&space, BAR0) & 0xf, 0xc);
            space.write(BAR0, &[0xff; 8]);
            let sized = u64::from(word(&space, BAR0 + 4)) << 32 | u64::from(word(&space, BAR0) & !0xf);
            assert_eq!((!sized).wrapping_add(1), bar_size);
            space.write(BAR0, &0x38_0000_0000u64.to_le_bytes());
            assert_eq!((word(&space, BAR0), word(&space, BAR0 + 4)), (0xc, 0x38));
        }
    }

    #[test]
    fn identity_cannot_be_written() {
        let config = Config::default();
        let mut space = ConfigSpace::new(&config);
        let before = space.bytes.clone();
        space.write(0, &[0; CONFIG_BYTES]);
        assert_eq!(word(&space, 0), 0x1021_15b3);
        assert_eq!(word(&space, EXPRESS), word(&ConfigSpace::new(&config), EXPRESS));
        assert!(!space.bus_master() && !space.memory_space());
        space.write(COMMAND, &[0xff, 0xff]);
        assert!(space.bus_master() && space.memory_space());
        space.reset();
        assert_eq!(space.bytes, before);
        let mut beyond = [0; 4];
        space.read(CONFIG_BYTES - 2, &mut beyond);
        assert_eq!(beyond[2..], [0xff, 0xff]);
        assert_eq!(space.write(usize::MAX, &[1, 2]), Effect::None);
    }

    #[test]
    fn one_bit_asks_for_a_reset() {
        let mut space = ConfigSpace::new(&Config::default());
        let control = word(&space, DEVICE_CONTROL) as u16;
        assert_eq!(space.write(DEVICE_CONTROL, &(control | INITIATE_FLR).to_le_bytes()), Effect::Reset);
        assert_eq!(word(&space, DEVICE_CONTROL) as u16, control);
        assert_eq!(space.write(DEVICE_CONTROL, &u32::from(control | INITIATE_FLR).to_le_bytes()), Effect::Reset);
        assert_eq!(space.write(DEVICE_CONTROL + 1, &[0x80]), Effect::Reset);
        assert_eq!(space.write(DEVICE_CONTROL, &control.to_le_bytes()), Effect::None);
        assert_eq!(space.write(DEVICE_CONTROL + 2, &[0xff; 2]), Effect::None, "status");
    }
}
