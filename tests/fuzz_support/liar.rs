//! A virtual function whose registers lie, and one that is up and kept from one input to the next: to bring it up takes a
//! thousand times as long as to look at an event.

use super::input::{Bend, Input};
use connectx_ddp::adapter::{Adapter, Config};
use connectx_ddp::command::CommandPort;
use connectx_ddp::command::Request;
use connectx_ddp::dma::{DmaHeap, DmaMapper};
use connectx_ddp::platform::virtual_nic::{Clock, VirtualPlatform};
use connectx_ddp::platform::{Identity, Platform, PlatformError};
use firmware_iface::Status;
use firmware_iface::command::device::NopIn;
use hw_regs::command_queue::DeliveryStatus;
use hw_regs::layout::Layout;
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use virtual_nic::CommandFault;

/// What a register says instead of the truth: of an offset and the truth.
pub type RegisterLie = Box<dyn FnMut(u64, u32) -> u32>;

/// The virtual function, of which registers may lie.
pub struct Liar {
    pub honest: VirtualPlatform,
    lie: RefCell<Option<RegisterLie>>,
}

impl Liar {
    #[expect(clippy::arc_with_non_send_sync, reason = "the driver takes an Arc; a fuzz target is one thread")]
    pub fn new() -> Arc<Liar> {
        let honest = VirtualPlatform::on_clock("liar", nic(), Clock::default());
        Arc::new(Liar { honest, lie: RefCell::default() })
    }

    pub fn lie(&self, lie: Option<RegisterLie>) {
        *self.lie.borrow_mut() = lie;
    }

    /// The function as it is when it is powered on, and honest.
    pub fn begin_anew(&self) {
        self.lie(None);
        let mut nic = self.honest.nic();
        nic.faults().clear();
        nic.set_hostile(None);
        drop(nic);
        self.honest.reset().expect("the virtual function can be reset");
    }
}

/// A device that asks for few pages, which takes less time.
fn nic() -> virtual_nic::Config {
    let mut config = virtual_nic::Config::default();
    (config.pages.boot, config.pages.init, config.pages.reserve, config.pages.batch) = (2, 4, 2, 4);
    config.vectors = 4;
    config
}

/// Short timeouts: simulated time is cheap, but looks are not free.
pub fn config() -> Config {
    Config {
        page_limit: 512,
        completion_eqs: 1,
        ready_timeout: Duration::from_millis(50),
        command_timeout: Duration::from_millis(10),
        link_timeout: Some(Duration::from_millis(10)),
        ..Config::default()
    }
}

impl Platform for Liar {
    fn identity(&self) -> &Identity {
        self.honest.identity()
    }
    fn bar_size(&self) -> u64 {
        self.honest.bar_size()
    }
    fn read32(&self, offset: u64) -> u32 {
        let truth = self.honest.read32(offset);
        match &mut *self.lie.borrow_mut() {
            Some(lie) => lie(offset, truth),
            None => truth,
        }
    }
    fn write32(&self, offset: u64, value: u32) {
        self.honest.write32(offset, value);
    }
    fn write64(&self, offset: u64, value: u64) {
        self.honest.write64(offset, value);
    }
    fn dma_mapper(&self) -> Arc<dyn DmaMapper> {
        self.honest.dma_mapper()
    }
    fn iova_ranges(&self) -> Vec<RangeInclusive<u64>> {
        self.honest.iova_ranges()
    }
    fn dma_heap(&self) -> DmaHeap {
        self.honest.dma_heap()
    }
    fn reset(&self) -> Result<(), PlatformError> {
        self.honest.reset()
    }
    fn vectors(&self) -> u16 {
        self.honest.vectors()
    }
    fn take_interrupt(&self, vector: u16) -> bool {
        self.honest.take_interrupt(vector)
    }
    fn now(&self) -> Duration {
        self.honest.now()
    }
    fn pause(&self) {
        self.honest.pause();
    }
}

/// Memory of the device that may be lost for good before another one is made.
const LOST: usize = 8 << 20;

/// Runs `body` on a virtual function that was just powered on. DMA memory is kept between runs; what a run does not give
/// back was lost on purpose, because the device might still have written it.
pub fn on_liar<R>(body: impl FnOnce(&Arc<Liar>) -> R) -> R {
    thread_local!(static LIAR: RefCell<Option<Arc<Liar>>> = const { RefCell::new(None) });
    LIAR.with_borrow_mut(|kept| {
        let liar = kept.get_or_insert_with(Liar::new);
        liar.begin_anew();
        let result = body(liar);
        if liar.dma_heap().usage().1 > LOST {
            *kept = None;
        }
        result
    })
}

/// Runs `body` on a function that is up and as good as new: it is kept for as long as runs leave it so.
pub fn on_adapter<R>(body: impl FnOnce(&mut Adapter<Liar>) -> R) -> R {
    thread_local!(static UP: RefCell<Option<Adapter<Liar>>> = const { RefCell::new(None) });
    UP.with_borrow_mut(|kept| {
        let adapter = kept.get_or_insert_with(|| Adapter::bring_up(Liar::new(), config()).expect("an honest function"));
        let before = (adapter.firmware_pages(), adapter.objects().len());
        let result = body(adapter);
        let platform = Arc::clone(adapter.platform());
        platform.lie(None);
        platform.honest.nic().faults().clear();
        while adapter.poll().is_some() {}
        let deadline = adapter.command_deadline();
        let works = adapter.exec(&Request::new(&NopIn::zeroed()), deadline).is_ok();
        while adapter.poll().is_some() {}
        let same = before == (adapter.firmware_pages(), adapter.objects().len());
        if (!works || !same || adapter.command_counters().timed_out != 0)
            && let Some(mut adapter) = kept.take()
        {
            let deadline = adapter.command_deadline();
            adapter.reset(deadline).expect("an honest function can be reset");
        }
        result
    })
}

/// What happens to a command.
pub fn command_fault(input: &mut Input<'_>) -> CommandFault {
    match input.below(8) {
        0 => CommandFault::Refuse { status: Status(input.u8()), syndrome: input.u32() },
        1 => CommandFault::Undelivered(DeliveryStatus(input.u8() & 0x7f)),
        2 => CommandFault::Late(Duration::from_micros(input.u16().into())),
        3 => CommandFault::NeverAnswered,
        4 => CommandFault::Lost,
        5 => CommandFault::WrongToken,
        6 => CommandFault::Truncated(input.u8().into()),
        _ => CommandFault::Garbage(input.u32().into()),
    }
}

/// Changes to outputs: of the n-th command, counted from now.
pub fn bent_answers(input: &mut Input<'_>, most: u32, range: u32) -> virtual_nic::faults::AnswerTamper {
    let bends: Vec<_> = (0..input.below(most)).map(|_| (input.below(range), Bend::new(input))).collect();
    let mut number = 0;
    Box::new(move |_, output| {
        for (_, bend) in bends.iter().filter(|bend| bend.0 == number) {
            // Most fields that mean something are in front.
            let near = output.len().min(if bend.is_narrow() { 64 } else { usize::MAX });
            bend.apply(&mut output[..near]);
        }
        number += 1;
    })
}
