//! BAR0: the initialization segment and the UAR pages (`mlx5-bringup.md` §1, `mlx5-numbers.md`).
//!
//! ```text
//!  0x0000   initialization segment: firmware version, command queue, doorbell, health, timer
//!  0x2000   interrupt table (on a bus; here interrupts are callbacks)
//!  n*4096   UAR n: 0x20 CQ arm (8 bytes), 0x40 EQ arm, 0x48 EQ update, 0x800.. send doorbells (8 bytes)
//! ```

use crate::VirtualNic;
use crate::command_queue;
use crate::firmware::objects::FIRST_UAR;
use hw_regs::doorbell::{CqArmDoorbellMmio, EqDoorbellMmio, SqDoorbellMmio};
use hw_regs::init_segment::{HealthBuffer, HealthSyndrome, InitSegment, NicInterface};
use hw_regs::layout::{Access, Field, Layout};
use hw_regs::uar;
use std::time::Duration;

/// Command interface revision that drivers know.
const CMDIF_REVISION: u32 = 5;
/// Bytes of a BlueFlame register, and of the half of it that is one buffer.
const BLUEFLAME_HALF: u64 = 256;
/// Simulated time per tick of the health counter.
const HEALTH_TICK: Duration = Duration::from_millis(10);

/// The health buffer.
const HEALTH: u64 = InitSegment::HEALTH.byte_offset() as u64;
const HEALTH_END: u64 = HEALTH + HealthBuffer::SIZE as u64;

/// Place of `nic_interface` (3 bits) in its word.
const INTERFACE_SHIFT: u32 = 32 - (InitSegment::CMDQ_ADDR_L_SZ_NIC_INTERFACE.offset() % 32 + 3);

/// Byte offset of the word that holds a field.
const fn at<S>(field: Field<S>) -> u64 {
    field.offset() as u64 / 32 * 4
}

/// Registers with a memory of their own.
#[derive(Default)]
pub(crate) struct Registers {
    queue_high: u32,
    queue_low: u32,
    interface: u32,
    /// When the function is ready.
    ready_at: Duration,
    /// The first half of an 8-byte register that arrives as two 4-byte writes.
    half: Option<(u64, u32)>,
    /// Reads of registers that move, so that they do even if time stands still.
    reads: u32,
    health: u8,
    /// Firmware asks to be reset.
    reset_required: bool,
    /// Firmware executes nothing any more.
    stopped: bool,
}

impl Registers {
    /// After FLR at `now`.
    pub(crate) fn reset(now: Duration, boot_time: Duration) -> Registers {
        Registers { ready_at: now + boot_time, ..Registers::default() }
    }

    /// Firmware executes nothing until a reset.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(crate) fn ready_at(&self) -> Duration {
        self.ready_at
    }

    /// True if the driver has not disabled the interface.
    pub(crate) fn enabled(&self) -> bool {
        self.interface == u32::from(NicInterface::FULL_DRIVER.0)
    }
}

impl VirtualNic {
    /// Reads a 4-byte register. A function that is gone, and what lies outside the BAR, reads all ones.
    pub fn read32(&mut self, offset: u64) -> u32 {
        self.count_read(offset);
        self.load32(offset)
    }

    fn count_read(&mut self, offset: u64) {
        self.host.counters.register_reads += 1;
        let health = (HEALTH..HEALTH_END).contains(&offset) || offset == at(InitSegment::HEALTH_COUNTER);
        self.host.counters.health_reads += u64::from(health);
    }

    fn load32(&mut self, offset: u64) -> u32 {
        if self.host.faults.is_gone() {
            return u32::MAX;
        }
        if offset.checked_add(4).is_none_or(|end| end > self.config.bar_size) || !offset.is_multiple_of(4) {
            self.host.counters.misuse.outside_bar += 1;
            return u32::MAX;
        }
        let (major, minor, subminor) = self.config.firmware;
        let shown = if self.config.switches.queue_address_reads_back { u32::MAX } else { 0 };
        let registers = &mut self.registers;
        match offset {
            o if o == at(InitSegment::FW_REV) => u32::from(minor) << 16 | u32::from(major),
            o if o == at(InitSegment::CMDIF_REV_FW_SUB) => CMDIF_REVISION << 16 | u32::from(subminor),
            o if o == at(InitSegment::CMDQ_ADDR_H) => registers.queue_high & shown,
            o if o == at(InitSegment::CMDQ_ADDR_L_SZ) => {
                registers.queue_low & shown
                    | registers.interface << INTERFACE_SHIFT
                    | command_queue::LOG_SIZE << 4
                    | command_queue::LOG_STRIDE
            }
            o if o == at(InitSegment::CMD_DBELL) => 0,
            // Software may have firmware reset: it does when the interface is set to that.
            o if o == at(InitSegment::INITIALIZING) => {
                u32::from(self.host.now < registers.ready_at) << 31 | u32::from(self.config.is_physical()) << 30
            }
            HEALTH..HEALTH_END => {
                let word = (offset - HEALTH) as usize;
                let health = HealthBuffer::zeroed()
                    .with(HealthBuffer::FW_VER, u32::from(major) << 24 | u32::from(minor) << 16 | u32::from(subminor))
                    .with(HealthBuffer::HW_ID, u32::from(self.config.device_id))
                    .with(HealthBuffer::RFR_SEVERITY_RFR, u32::from(registers.reset_required))
                    .with(HealthBuffer::SYND, u32::from(registers.health));
                let bytes = &health.bytes()[word..word + 4];
                u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
            // Zero: the driver's own time-outs hold, and no further register is read for them.
            o if o == at(InitSegment::CMD_EXEC_TO) || o == at(InitSegment::CMD_Q_INIT_TO) => 0,
            o if o == at(InitSegment::INTERNAL_TIMER_H) => (self.host.timestamp() >> 32) as u32,
            o if o == at(InitSegment::INTERNAL_TIMER_L) => self.host.timestamp() as u32,
            o if o == at(InitSegment::HEALTH_COUNTER) => {
                registers.reads = registers.reads.wrapping_add(1);
                let ticks = (self.host.now.as_nanos() / HEALTH_TICK.as_nanos()) as u32;
                (ticks.wrapping_add(registers.reads) & 0xff_ffff).max(1)
            }
            o if o == at(InitSegment::REAL_TIME_H) => self.host.now.as_secs() as u32,
            o if o == at(InitSegment::REAL_TIME_L) => self.host.now.subsec_nanos(),
            _ => {
                self.host.counters.misuse.unknown_register += 1;
                0
            }
        }
    }

    /// Reads bytes of BAR0 as they lie on the bus, in accesses of any width: registers are read by words.
    pub fn read_bytes(&mut self, offset: u64, out: &mut [u8]) {
        self.count_read(offset);
        let mut done = 0;
        while done < out.len() {
            let at = offset.wrapping_add(done as u64);
            let word = self.load32(at & !3).to_be_bytes();
            let inner = (at & 3) as usize;
            let take = (4 - inner).min(out.len() - done);
            out[done..done + take].copy_from_slice(&word[inner..inner + take]);
            done += take;
        }
    }

    /// Writes bytes of BAR0 as they lie on the bus: 4 or 8 bytes, or whole aligned words. Nothing else exists to be
    /// written; what is, is counted and ignored.
    pub fn write_bytes(&mut self, offset: u64, data: &[u8]) {
        self.host.counters.register_writes += 1;
        if let Ok(bytes) = data.try_into()
            && offset.is_multiple_of(8)
        {
            return self.store64(offset, u64::from_be_bytes(bytes));
        }
        if !data.len().is_multiple_of(4) || !offset.is_multiple_of(4) {
            self.host.counters.misuse.unknown_register += 1;
            return;
        }
        for (n, word) in data.chunks_exact(4).enumerate() {
            let word = [word[0], word[1], word[2], word[3]];
            self.store32(offset.wrapping_add(4 * n as u64), u32::from_be_bytes(word));
        }
    }

    /// Writes a 4-byte register, or half of an 8-byte one: the first half waits for the second.
    pub fn write32(&mut self, offset: u64, value: u32) {
        self.host.counters.register_writes += 1;
        self.store32(offset, value);
    }

    fn store32(&mut self, offset: u64, value: u32) {
        if !self.accepts_write(offset, 4) {
            return;
        }
        let number = (offset / uar::UAR_SIZE) as u32;
        if number < FIRST_UAR {
            self.write_init_segment(offset, value);
            return;
        }
        match offset % uar::UAR_SIZE {
            uar::EQ_ARM => self.eq_doorbell(number, value, true),
            uar::EQ_UPDATE => self.eq_doorbell(number, value, false),
            register if register == uar::CQ_ARM || register >= uar::BLUEFLAME && register.is_multiple_of(8) => {
                self.registers.half = Some((offset, value));
            }
            register if register == uar::CQ_ARM + 4 || register >= uar::BLUEFLAME => match self.registers.half.take() {
                Some((first, high)) if first + 4 == offset => {
                    self.store64(first, u64::from(high) << 32 | u64::from(value));
                }
                _ => self.host.counters.misuse.unknown_register += 1,
            },
            _ => self.host.counters.misuse.unknown_register += 1,
        }
    }

    /// Writes an 8-byte register in one access.
    pub fn write64(&mut self, offset: u64, value: u64) {
        self.host.counters.register_writes += 1;
        self.store64(offset, value);
    }

    fn store64(&mut self, offset: u64, value: u64) {
        if !self.accepts_write(offset, 8) {
            return;
        }
        let number = (offset / uar::UAR_SIZE) as u32;
        if number < FIRST_UAR {
            self.store32(offset, (value >> 32) as u32);
            self.store32(offset + 4, value as u32);
            return;
        }
        match offset % uar::UAR_SIZE {
            uar::CQ_ARM => self.cq_doorbell(number, value),
            register if register >= uar::BLUEFLAME => {
                // The rest of a BlueFlame burst is a copy of the WQE, which is read from memory anyway.
                if (register - uar::BLUEFLAME).is_multiple_of(BLUEFLAME_HALF) {
                    self.sq_doorbell(number, value);
                }
            }
            _ => self.host.counters.misuse.unknown_register += 1,
        }
    }

    fn accepts_write(&mut self, offset: u64, size: u64) -> bool {
        if self.host.faults.is_gone() {
            return false;
        }
        let inside =
            offset.is_multiple_of(size) && offset.checked_add(size).is_some_and(|end| end <= self.config.bar_size);
        if !inside {
            self.host.counters.misuse.outside_bar += 1;
        }
        inside
    }

    fn write_init_segment(&mut self, offset: u64, value: u32) {
        match offset {
            o if o == at(InitSegment::CMDQ_ADDR_H) => self.registers.queue_high = value,
            o if o == at(InitSegment::CMDQ_ADDR_L_SZ) => {
                self.registers.queue_low = value & !0xfff;
                self.registers.interface = value >> INTERFACE_SHIFT & InitSegment::CMDQ_ADDR_L_SZ_NIC_INTERFACE.max();
                if self.registers.interface == u32::from(NicInterface::SW_RESET.0) {
                    // Firmware resets itself and waits for a driver with the interface disabled.
                    self.reset();
                    self.registers.interface = u32::from(NicInterface::DISABLED.0);
                    return;
                }
                self.commands.base = u64::from(self.registers.queue_high) << 32 | u64::from(self.registers.queue_low);
            }
            o if o == at(InitSegment::CMD_DBELL) => self.command_doorbell(value),
            _ => self.host.counters.misuse.unknown_register += 1,
        }
    }

    fn command_doorbell(&mut self, slots: u32) {
        self.host.counters.command_doorbells += 1;
        if self.host.now < self.registers.ready_at || !self.registers.enabled() {
            self.host.counters.misuse.command_slot += 1;
            return;
        }
        if self.registers.stopped {
            return;
        }
        for slot in (0..32).filter(|slot| slots >> slot & 1 != 0) {
            self.run_command(slot);
        }
    }

    /// A UAR that is allocated; counts doorbells of others.
    fn known_uar(&mut self, number: u32) -> bool {
        let known = self.objects.uars.contains(number);
        if !known {
            self.host.counters.misuse.uar_not_allocated += 1;
        }
        known
    }

    fn eq_doorbell(&mut self, number: u32, value: u32, arm: bool) {
        self.host.counters.eq_doorbells += 1;
        if !self.known_uar(number) {
            return;
        }
        let doorbell = EqDoorbellMmio(value.to_be_bytes());
        let eqn = doorbell.get(EqDoorbellMmio::EQN_CI_EQN);
        match self.objects.completions.eqs.table.get_mut(eqn) {
            Some(eq) if eq.uar() == number => {
                eq.doorbell(&mut self.host, doorbell.get(EqDoorbellMmio::EQN_CI_CI), arm);
            }
            _ => self.host.counters.misuse.doorbell_object += 1,
        }
    }

    fn cq_doorbell(&mut self, number: u32, value: u64) {
        self.host.counters.cq_doorbells += 1;
        if !self.known_uar(number) {
            return;
        }
        let doorbell = CqArmDoorbellMmio(value.to_be_bytes());
        let cqn = doorbell.get(CqArmDoorbellMmio::CQN_CQN_24);
        if self.objects.completions.cqs.get(cqn).is_none_or(|cq| cq.uar != number) {
            self.host.counters.misuse.doorbell_object += 1;
            return;
        }
        let strict = self.config.switches.strict_arm_sequence;
        self.objects.completions.arm(&mut self.host, cqn, doorbell.get(CqArmDoorbellMmio::ARM), strict);
    }

    fn sq_doorbell(&mut self, number: u32, value: u64) {
        self.host.counters.sq_doorbells += 1;
        if !self.known_uar(number) {
            return;
        }
        let doorbell = SqDoorbellMmio(value.to_be_bytes());
        let sqn = doorbell.get(SqDoorbellMmio::FIRST_8_BYTES_OF_CTRL_SEG_SQN);
        match self.objects.sqs.get(sqn) {
            Some(sq) if sq.uar == number => match self.config.doorbell_latency.is_zero() {
                true => self.run_rung(sqn),
                false => self.rung.push_back((self.host.now + self.config.doorbell_latency, sqn)),
            },
            _ => self.host.counters.misuse.doorbell_object += 1,
        }
    }

    /// Looks at a send queue that was rung.
    pub(crate) fn run_rung(&mut self, sqn: u32) {
        if !self.host.faults.is_gone() {
            self.occasion();
            self.run_sq(sqn);
        }
    }

    /// Sets the syndrome of the health buffer; 0 is healthy, anything else asks for a reset.
    pub fn set_health(&mut self, syndrome: HealthSyndrome) {
        (self.registers.health, self.registers.reset_required) = (syndrome.0, syndrome.0 != 0);
    }

    /// Sets the syndrome of the health buffer without asking for a reset: something happened, and firmware goes on.
    pub fn report_syndrome(&mut self, syndrome: HealthSyndrome) {
        (self.registers.health, self.registers.reset_required) = (syndrome.0, false);
    }
}
