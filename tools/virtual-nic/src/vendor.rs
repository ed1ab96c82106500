//! The vendor-specific capability of configuration space: a window to the semaphores that the functions of a card share
//! (`mlx5-bringup.md` §1, §9).
//!
//! ```text
//!  0x00  id 9, next, length 0x18      0x0c  lock of the window: holds what the first writer wrote, until 0 is written
//!  0x04  space [15:0], status [31:29] 0x10  address [29:0], flag [31]: written with it the data are stored, without it fetched;
//!  0x08  counter                            the flag turns round when that is done
//!                                     0x14  data
//! ```
//!
//! A driver whose firmware has died takes the lock, then the semaphore of the reset, so that one function alone asks for
//! it. The window shows no other space: a space with status 0 does not exist, and crash dumps are made of one.

/// Bytes of the capability.
pub(crate) const LENGTH: usize = 0x18;
/// The space of semaphores.
const SEMAPHORES: u32 = 0xa;
const CONTROL: usize = 0x04;
const COUNTER: usize = 0x08;
const LOCK: usize = 0x0c;
const ADDRESS: usize = 0x10;
const DATA: usize = 0x14;
const SPACE: u32 = 0xffff;
/// The chosen space exists.
const STATUS: u32 = 1 << 29;
const FLAG: u32 = 1 << 31;
const ADDRESS_BITS: u32 = 0x3fff_ffff;
/// Semaphores that the space has, one a byte address; the one of the reset is 0x20.
const COUNT: usize = 0x40;

/// What lies behind the capability.
#[derive(Clone)]
pub(crate) struct Window {
    space: u32,
    /// Different after every attempt at a lock, so that it names who took it.
    counter: u32,
    lock: u32,
    address: u32,
    data: u32,
    semaphores: [u32; COUNT],
}

impl Default for Window {
    fn default() -> Window {
        Window { space: 0, counter: 1, lock: 0, address: 0, data: 0, semaphores: [0; COUNT] }
    }
}

/// A semaphore takes a value when it is free, and 0.
fn take(semaphore: &mut u32, value: u32) {
    if *semaphore == 0 || value == 0 {
        *semaphore = value;
    }
}

impl Window {
    fn exists(&self) -> bool {
        self.space == SEMAPHORES
    }

    /// Reads the register at an offset in the capability, `None` where the capability's head is.
    pub(crate) fn read(&self, offset: usize) -> Option<u32> {
        Some(match offset {
            CONTROL => self.space | if self.exists() { STATUS } else { 0 },
            COUNTER => self.counter,
            LOCK => self.lock,
            ADDRESS => self.address,
            DATA => self.data,
            _ => return None,
        })
    }

    /// Writes the register at an offset in the capability.
    pub(crate) fn write(&mut self, offset: usize, value: u32) {
        match offset {
            CONTROL => self.space = value & SPACE,
            LOCK => {
                take(&mut self.lock, value);
                self.counter = self.counter.wrapping_add(1).max(1);
            }
            ADDRESS => self.access(value),
            DATA => self.data = value,
            _ => {}
        }
    }

    fn access(&mut self, value: u32) {
        let at = (value & ADDRESS_BITS) as usize;
        let Some(semaphore) = self.semaphores.get_mut(at).filter(|_| self.space == SEMAPHORES) else {
            // Nothing there: the flag stays, and whoever waits for it gives up.
            self.address = value;
            return;
        };
        if value & FLAG != 0 {
            take(semaphore, self.data);
            self.counter = self.counter.wrapping_add(1).max(1);
        } else {
            self.data = *semaphore;
        }
        self.address = value ^ FLAG;
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | who writes the counter to a free lock has it, and nobody else until it is free again | `a_lock_has_one_owner` |
    //! | semaphores are taken and freed through address and data, whose flag turns round | `a_semaphore_is_reached_through_the_window` |
    //! | other spaces and addresses do not exist | `nothing_else_is_there` |
    use super::*;

    #[test]
    fn a_lock_has_one_owner() {
        let mut window = Window::default();
        let first = window.read(COUNTER).unwrap();
        window.write(LOCK, first);
        assert_eq!(window.read(LOCK), Some(first));
        let second = window.read(COUNTER).unwrap();
        assert_ne!(first, second);
        window.write(LOCK, second);
        assert_eq!(window.read(LOCK), Some(first));
        window.write(LOCK, 0);
        window.write(LOCK, second);
        assert_eq!(window.read(LOCK), Some(second));
    }

    #[test]
    fn a_semaphore_is_reached_through_the_window() {
        let mut window = Window::default();
        window.write(CONTROL, SEMAPHORES);
        assert_eq!(window.read(CONTROL), Some(STATUS | SEMAPHORES));
        let mut store = |data| {
            window.write(DATA, data);
            window.write(ADDRESS, FLAG | 0x20);
            assert_eq!(window.read(ADDRESS), Some(0x20));
            window.write(ADDRESS, 0x20);
            assert_eq!(window.read(ADDRESS), Some(FLAG | 0x20));
            window.read(DATA).unwrap()
        };
        assert_eq!([store(7), store(8), store(0), store(8)], [7, 7, 0, 8]);
    }

    #[test]
    fn nothing_else_is_there() {
        let mut window = Window::default();
        for (space, address) in [(7, 0x20), (SEMAPHORES, COUNT as u32), (SEMAPHORES, ADDRESS_BITS)] {
            window.write(CONTROL, space);
            assert_eq!(window.read(CONTROL).unwrap() & STATUS != 0, space == SEMAPHORES);
            window.write(DATA, 5);
            window.write(ADDRESS, FLAG | address);
            assert_eq!(window.read(ADDRESS), Some(FLAG | address));
            window.write(ADDRESS, address);
            assert_eq!((window.read(ADDRESS), window.read(DATA)), (Some(address), Some(5)));
        }
        assert_eq!((window.read(0), window.read(LENGTH)), (None, None));
    }
}
