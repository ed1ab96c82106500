//! One function: registers, configuration space, memory and interrupts.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vfio_user::message::{irq, region};
use vfio_user::{Device, Errno, Irq, IrqAction, IrqChange, Mapping, Region, Shape};
use virtual_nic::pci::{CONFIG_BYTES, ConfigSpace, Effect};
use virtual_nic::{Config, DmaError, VirtualNic};

/// Where interrupts go. The device fires them from inside its calls, so they are shared with it.
#[derive(Clone, Default)]
struct Vectors(Arc<Mutex<Vec<Vector>>>);

#[derive(Default)]
struct Vector {
    eventfd: Option<File>,
    /// It fired while nobody listened: who comes to listen hears of it, as of a pending bit.
    pending: bool,
}

impl Vectors {
    fn lock(&self) -> MutexGuard<'_, Vec<Vector>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fire(&self, vector: u16) {
        if let Some(vector) = self.lock().get_mut(usize::from(vector)) {
            vector.fire();
        }
    }
}

impl Vector {
    fn fire(&mut self) {
        let Some(eventfd) = &mut self.eventfd else {
            self.pending = true;
            return;
        };
        // An eventfd that would overflow has not been read for 2^64 interrupts; one that is closed belongs to nobody.
        if let Err(error) = eventfd.write_all(&1u64.to_ne_bytes()) {
            log::debug!("an interrupt reached nobody: {error}");
        }
    }
}

/// A virtual ConnectX on a bus.
pub struct Function {
    /// The device.
    pub nic: VirtualNic,
    /// What it is called in reports.
    pub name: String,
    /// Permanent address.
    pub mac: [u8; 6],
    config: ConfigSpace,
    bar_size: u64,
    vectors: Vectors,
    resets: u64,
    /// Memory that the client lends without a file, which cannot be reached.
    unreachable_maps: u64,
    /// Mappings that were refused.
    refused_maps: u64,
}

impl Function {
    /// A function that was just powered on.
    pub fn new(name: &str, config: Config) -> Function {
        let vectors = Vectors::default();
        vectors.lock().resize_with(usize::from(config.vectors), Vector::default);
        let (space, bar_size, mac) = (ConfigSpace::new(&config), config.bar_size, config.mac);
        let mut nic = VirtualNic::new(config);
        let fired = vectors.clone();
        nic.on_interrupt(Box::new(move |vector| fired.fire(vector)));
        // Nothing leaves a function before its driver says so.
        nic.set_bus_master(false);
        let name = name.to_owned();
        Function { nic, name, mac, config: space, bar_size, vectors, resets: 0, unreachable_maps: 0, refused_maps: 0 }
    }

    /// Function-level resets so far.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Mappings without a file, which the device cannot reach; and mappings that were refused.
    pub fn odd_maps(&self) -> (u64, u64) {
        (self.unreachable_maps, self.refused_maps)
    }

    fn flr(&mut self) {
        self.resets += 1;
        log::info!("{}: function-level reset", self.name);
        self.nic.reset();
        self.config.reset();
        self.nic.set_bus_master(false);
        self.vectors.lock().iter_mut().for_each(|vector| vector.pending = false);
    }

    /// The function is off the bus: it reads all ones everywhere and takes nothing.
    fn is_gone(&mut self) -> bool {
        self.nic.faults().is_gone()
    }
}

impl Device for Function {
    fn shape(&self) -> Shape {
        let mut shape = Shape { regions: Default::default(), irqs: Default::default() };
        shape.regions[region::BAR0 as usize] = Region { size: self.bar_size, writable: true };
        shape.regions[region::CONFIG as usize] = Region { size: CONFIG_BYTES as u64, writable: true };
        shape.irqs[irq::MSIX as usize] = Irq { count: self.vectors.lock().len() as u32 };
        // Never raised: that would stop a virtual machine. Offered, because QEMU warns where it is missing.
        shape.irqs[irq::ERR as usize] = Irq { count: 1 };
        shape
    }

    fn read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        if self.is_gone() {
            data.fill(0xff);
            return Ok(());
        }
        match index {
            region::BAR0 => self.nic.read_bytes(offset, data),
            region::CONFIG => self.config.read(offset as usize, data),
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        if self.is_gone() {
            return Ok(());
        }
        match index {
            region::BAR0 => self.nic.write_bytes(offset, data),
            region::CONFIG => {
                match self.config.write(offset as usize, data) {
                    Effect::None => {}
                    Effect::Reset => self.flr(),
                }
                self.nic.set_bus_master(self.config.bus_master());
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn map(&mut self, mapping: Mapping) -> Result<(), Errno> {
        let Mapping { iova, len, file, offset, readable, writable } = mapping;
        let Some(file) = file.filter(|_| readable) else {
            // A ROM of the machine, or memory that is not shared: a device that is sent there fails.
            self.unreachable_maps += 1;
            log::debug!("{}: {len:#x} bytes at {iova:#x} cannot be reached", self.name);
            return Ok(());
        };
        self.nic.dma_map_at(iova, &file, offset, len, writable).map_err(|error| {
            self.refused_maps += 1;
            log::warn!("{}: {error}", self.name);
            match error {
                DmaError::Overlap { .. } => Errno::EXIST,
                DmaError::BadRange { .. } | DmaError::NotMapped { .. } => Errno::INVAL,
                DmaError::Map { .. } => Errno::NOMEM,
            }
        })
    }

    fn unmap(&mut self, iova: u64, len: u64) -> Result<(), Errno> {
        self.nic.dma_revoke(iova, len);
        Ok(())
    }

    fn unmap_all(&mut self) {
        self.nic.dma_clear();
    }

    fn set_irqs(&mut self, change: IrqChange) -> Result<(), Errno> {
        let IrqChange { index, start, count, action } = change;
        if index == irq::ERR {
            return Ok(());
        }
        if index != irq::MSIX {
            return Err(Errno::INVAL);
        }
        let mut vectors = self.vectors.lock();
        let range = start as usize..(start as usize).saturating_add(count as usize);
        let vectors = vectors.get_mut(range).ok_or(Errno::INVAL)?;
        match action {
            IrqAction::Set(fds) => {
                for (vector, fd) in vectors.iter_mut().zip(fds) {
                    vector.eventfd = Some(File::from(fd));
                    if std::mem::take(&mut vector.pending) {
                        vector.fire();
                    }
                }
            }
            IrqAction::Clear => vectors.iter_mut().for_each(|vector| vector.eventfd = None),
            IrqAction::Fire => vectors.iter_mut().for_each(Vector::fire),
            // Who sees the table masks; the table is not here.
            IrqAction::Mask(_) => {}
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        if self.is_gone() {
            return Err(Errno::IO);
        }
        self.flr();
        Ok(())
    }
}
