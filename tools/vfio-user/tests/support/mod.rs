//! A device that remembers what was done to it, and a thread that serves it.
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;
use vfio_user::message::{irq, region};
use vfio_user::{Device, Errno, Irq, IrqAction, IrqChange, Mapping, Region, Served, Server, Shape};

/// Bytes of BAR0.
pub const BAR: u64 = 0x4000;
/// MSI-X vectors.
pub const VECTORS: u32 = 64;

/// What happened to a [`Register`] file.
#[derive(Debug, Default)]
pub struct Seen {
    pub registers: Vec<u8>,
    pub maps: Vec<Mapping>,
    pub unmaps: Vec<(u64, u64)>,
    pub unmapped_all: u32,
    pub vectors: Vec<Option<std::fs::File>>,
    pub fired: Vec<u32>,
    pub resets: u32,
    pub ends: Vec<Option<String>>,
}

/// A device of registers.
#[derive(Clone, Default)]
pub struct Registers(pub Arc<Mutex<Seen>>);

impl Registers {
    pub fn new() -> Registers {
        let registers = Registers::default();
        registers.seen().registers = vec![0; BAR as usize];
        registers.seen().vectors.resize_with(VECTORS as usize, || None);
        registers
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("no panic elsewhere")
    }

    pub fn raise(&self, vector: usize) {
        if let Some(Some(file)) = self.seen().vectors.get_mut(vector) {
            file.write_all(&1u64.to_ne_bytes()).expect("an eventfd takes 8 bytes");
        }
    }
}

impl Device for Registers {
    fn shape(&self) -> Shape {
        let mut shape = Shape { regions: Default::default(), irqs: Default::default() };
        shape.regions[region::BAR0 as usize] = Region { size: BAR, writable: true };
        shape.regions[region::CONFIG as usize] = Region { size: 4096, writable: false };
        shape.irqs[irq::MSIX as usize] = Irq { count: VECTORS };
        shape
    }
    fn read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        match index {
            region::CONFIG => data.fill(0xc0),
            _ => data.copy_from_slice(&self.seen().registers[offset as usize..][..data.len()]),
        }
        // A register that fails.
        if index == region::BAR0 && offset == 0x3ff8 { Err(Errno::IO) } else { Ok(()) }
    }
    fn write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.seen().registers[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
    fn map(&mut self, mapping: Mapping) -> Result<(), Errno> {
        if mapping.file.is_none() {
            return Err(Errno::INVAL);
        }
        self.seen().maps.push(mapping);
        Ok(())
    }
    fn unmap(&mut self, iova: u64, len: u64) -> Result<(), Errno> {
        self.seen().unmaps.push((iova, len));
        Ok(())
    }
    fn unmap_all(&mut self) {
        self.seen().unmapped_all += 1;
    }
    fn set_irqs(&mut self, change: IrqChange) -> Result<(), Errno> {
        let mut seen = self.seen();
        let range = change.start as usize..(change.start + change.count) as usize;
        match change.action {
            IrqAction::Set(fds) => {
                for (slot, fd) in seen.vectors[range].iter_mut().zip(fds) {
                    *slot = Some(fd.into());
                }
            }
            IrqAction::Clear => seen.vectors[range].iter_mut().for_each(|slot| *slot = None),
            IrqAction::Fire => seen.fired.extend(change.start..change.start + change.count),
            IrqAction::Mask(_) => return Err(Errno::OPNOTSUPP),
        }
        Ok(())
    }
    fn reset(&mut self) -> Result<(), Errno> {
        self.seen().resets += 1;
        Ok(())
    }
}

/// A path for a socket that nobody else has.
pub fn path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("vfio-user-{}-{}.sock", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

/// A server in a thread, until it is dropped.
pub struct Serving {
    pub path: PathBuf,
    pub device: Registers,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub fn start() -> Serving {
        let path = path();
        let device = Registers::new();
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = Server::bind(&path).expect("a path of our own");
        let (mut served, stopped) = (device.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                if let Served::Gone(why) = server.serve(&mut served, Duration::from_millis(10)) {
                    served.seen().ends.push(why.map(|why| why.to_string()));
                }
            }
        });
        Serving { path, device, stop, thread: Some(thread) }
    }

    /// Waits until the server has seen `n` clients end, and returns how.
    pub fn ends(&self, n: usize) -> Vec<Option<String>> {
        for _ in 0..2000 {
            let ends = self.device.seen().ends.clone();
            if ends.len() >= n {
                return ends;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the server has not noticed that a client is gone")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the server panicked");
        }
    }
}

/// An eventfd, to be waited for.
pub fn eventfd() -> std::os::fd::OwnedFd {
    use rustix::event::{EventfdFlags, eventfd};
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
}

/// What an eventfd counted since it was read last.
pub fn count(fd: &std::os::fd::OwnedFd) -> u64 {
    let mut bytes = [0; 8];
    match rustix::io::read(fd, &mut bytes) {
        Ok(_) => u64::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}
