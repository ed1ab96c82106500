//! Event queues: what happened, told in host memory, with one interrupt per arming (`mlx5-bringup.md` §7).

use super::ring::Ring;
use crate::host::Host;
use crate::table::Table;
use firmware_iface::context::Eqc;
use hw_regs::eqe::{Eqe, EventType};
use hw_regs::layout::{Access, Layout};

/// Consumer and producer counters have 24 bits.
const COUNTER: u32 = 0xff_ffff;

/// An event queue.
pub(crate) struct Eq {
    pub(crate) context: Eqc,
    pub(crate) ring: Ring,
    pub(crate) log_size: u32,
    pub(crate) vector: u16,
    /// Event type `t` is subscribed if bit `t % 64` of word `t / 64` is set.
    pub(crate) subscribed: [u64; 4],
    pub(crate) producer: u32,
    pub(crate) consumer: u32,
    pub(crate) armed: bool,
}

impl Eq {
    fn subscribes(&self, event: EventType) -> bool {
        self.subscribed[usize::from(event.0) / 64] >> (event.0 % 64) & 1 != 0
    }

    /// UAR whose doorbells are for this queue.
    pub(crate) fn uar(&self) -> u32 {
        self.context.get(Eqc::UAR_PAGE)
    }

    /// The context as QUERY_EQ shows it.
    pub(crate) fn query(&self) -> Eqc {
        self.context
            .with(Eqc::ST, if self.armed { 9 } else { 10 })
            .with(Eqc::CONSUMER_COUNTER, self.consumer)
            .with(Eqc::PRODUCER_COUNTER, self.producer)
    }

    /// Writes one entry and fires if armed. `data` is at most 28 bytes.
    fn post(&mut self, host: &mut Host, event: EventType, sub_type: u8, data: &[u8]) {
        let size = 1 << self.log_size;
        if self.producer.wrapping_sub(self.consumer) & COUNTER >= size {
            host.counters.misuse.eq_overrun += 1;
            return;
        }
        let mut eqe = Eqe::zeroed().with(Eqe::TYPE, u32::from(event.0)).with(Eqe::SUB_TYPE, u32::from(sub_type));
        eqe.blob_mut(Eqe::DATA)[..data.len()].copy_from_slice(data);
        host.faults.tamper_event(eqe.bytes_mut());
        // Software initialized all owner bits to 1: the first lap writes 0.
        eqe.set(Eqe::OWNER_OWNER_BIT, self.producer >> self.log_size & 1);
        let at = self.ring.iova(u64::from(self.producer) * Eqe::SIZE as u64);
        let written = host.dma.publish(at, eqe.bytes());
        if host.checked(written).is_none() {
            return;
        }
        host.counters.events += 1;
        self.producer = (self.producer + 1) & COUNTER;
        if self.armed {
            self.armed = false;
            host.interrupt(self.vector);
        }
    }

    /// A doorbell: the consumer got as far as `ci`; with `arm` it wants an interrupt when there is more.
    pub(crate) fn doorbell(&mut self, host: &mut Host, ci: u32, arm: bool) {
        self.consumer = ci & COUNTER;
        if !arm {
            return;
        }
        self.armed = self.producer == self.consumer;
        if !self.armed {
            host.interrupt(self.vector);
        }
    }
}

/// All event queues.
pub(crate) struct EventQueues {
    pub(crate) table: Table<Eq>,
}

impl EventQueues {
    /// The queue that subscribed to an asynchronous event; the first if several did.
    pub(crate) fn subscriber(&self, event: EventType) -> Option<u32> {
        self.table.iter().find(|(_, eq)| eq.subscribes(event)).map(|(number, _)| number)
    }

    /// Writes an asynchronous event for whoever subscribed; false if nobody did.
    pub(crate) fn notify(&mut self, host: &mut Host, event: EventType, sub_type: u8, data: &[u8]) -> bool {
        let subscriber = self.subscriber(event);
        let Some(eq) = subscriber.and_then(|number| self.table.get_mut(number)) else { return false };
        eq.post(host, event, sub_type, data);
        true
    }

    /// Writes a completion event to the queue that a completion queue reports to.
    pub(crate) fn completion(&mut self, host: &mut Host, eqn: u32, data: &[u8]) {
        if let Some(eq) = self.table.get_mut(eqn) {
            eq.post(host, EventType::COMP, 0, data);
        }
    }
}
