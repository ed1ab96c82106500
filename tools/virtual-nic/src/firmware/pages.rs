//! Memory that firmware asks the driver for (`mlx5-bringup.md` §3, §9; illumos' rule: every page is handed back once).
//!
//! Boot pages come before capabilities, init pages before INIT_HCA; while the function runs, objects take room in pages
//! and firmware asks for more ahead of need. A driver that does not listen (no event queue for page requests) finds the
//! demand in QUERY_PAGES; one that does neither runs into NO_RES.

use super::{Command, HcaState, Outcome, Reply};
use crate::config::PageDemand;
use crate::refusal;
use crate::reject::Reject;
use crate::{Config, VirtualNic};
use firmware_iface::command::device::{
    ManagePagesIn, ManagePagesOpMod, ManagePagesOut, QueryPagesIn, QueryPagesOpMod, QueryPagesOut,
};
use hw_regs::eqe::{EqePageReq, EventType};
use hw_regs::layout::{Access, Layout};
use std::collections::HashSet;

/// Bytes of a firmware page.
const PAGE: u64 = 4096;
/// Written to every page that is given: a page that the driver uses for something else shows it.
pub(crate) const PATTERN: [u8; 16] = *b"firmware's page!";

/// Pages held and wanted.
pub(crate) struct Pages {
    demand: PageDemand,
    /// In the order in which they were given.
    held: Vec<u64>,
    known: HashSet<u64>,
    boot_given: u32,
    init_given: u32,
    /// Given while the function runs.
    regular: u32,
    /// Asked for by event and not given yet.
    asked: u32,
    /// Offered back by event and not taken yet.
    offered: u32,
}

impl Pages {
    pub(crate) fn new(demand: &PageDemand) -> Pages {
        Pages {
            demand: demand.clone(),
            held: Vec::new(),
            known: HashSet::new(),
            boot_given: 0,
            init_given: 0,
            regular: 0,
            asked: 0,
            offered: 0,
        }
    }

    /// The function was disabled: firmware begins anew and needs its memory again. What was not taken back it keeps.
    pub(crate) fn begin_anew(&mut self) {
        (self.boot_given, self.init_given, self.regular, self.asked, self.offered) = (0, 0, 0, 0, 0);
    }

    pub(crate) fn held(&self) -> &[u64] {
        &self.held
    }

    pub(crate) fn boot_missing(&self) -> u32 {
        self.demand.boot.saturating_sub(self.boot_given)
    }

    pub(crate) fn init_missing(&self) -> u32 {
        self.demand.init.saturating_sub(self.init_given)
    }

    /// Pages that `objects` objects need.
    fn needed(&self, objects: u64) -> u64 {
        match u64::from(self.demand.objects_per_page) {
            0 => 0,
            per_page => objects.div_ceil(per_page),
        }
    }

    fn room(&self) -> u64 {
        u64::from(self.demand.reserve) + u64::from(self.regular)
    }

    /// True if there is no page for one more object than `objects`.
    pub(crate) fn exhausted(&self, objects: u64) -> bool {
        self.needed(objects + 1) > self.room()
    }

    /// Pages to ask for, so that the next objects find room.
    fn shortage(&self, objects: u64) -> u32 {
        if self.demand.objects_per_page == 0 {
            return 0;
        }
        let free = self.room().saturating_sub(self.needed(objects));
        let batch = self.demand.batch.max(1);
        if free < u64::from(batch.div_ceil(2)) && self.asked == 0 { batch } else { 0 }
    }

    fn give(&mut self, page: u64, take_zero: bool) -> Result<(), Reject> {
        match page {
            0 if !take_zero => Err(refusal::PAGE_ZERO),
            page if !page.is_multiple_of(PAGE) => Err(refusal::PAGE_UNALIGNED),
            page if !self.known.insert(page) => Err(refusal::PAGE_TWICE),
            page => {
                self.held.push(page);
                Ok(())
            }
        }
    }

    /// The last `count` pages that were given go away again.
    fn take_last(&mut self, count: usize) -> Vec<u64> {
        let taken = self.held.split_off(self.held.len() - count.min(self.held.len()));
        taken.iter().for_each(|page| {
            self.known.remove(page);
        });
        taken
    }
}

/// Refuses a command that names another function.
fn own_function(config: &Config, function: u32, embedded: bool) -> Result<(), Reject> {
    if !embedded && function == u32::from(config.pages.function_id) { Ok(()) } else { Err(refusal::OTHER_FUNCTION) }
}

impl VirtualNic {
    pub(super) fn query_pages(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<QueryPagesIn>();
        // The function's own number is what this command is asked for, so it is not checked beyond the usual 0.
        if input.is_set(QueryPagesIn::EMBEDDED_CPU_FUNCTION) {
            return Err(refusal::OTHER_FUNCTION);
        }
        if self.firmware.state == HcaState::Disabled {
            return Err(refusal::NOT_ENABLED);
        }
        let pages = &self.firmware.pages;
        let count = match QueryPagesOpMod(command.op_mod()) {
            QueryPagesOpMod::BOOT_PAGES => pages.boot_missing() as i32,
            QueryPagesOpMod::INIT_PAGES => pages.init_missing() as i32,
            QueryPagesOpMod::REGULAR_PAGES if self.firmware.state == HcaState::TornDown => -(pages.held.len() as i32),
            QueryPagesOpMod::REGULAR_PAGES if self.firmware.state == HcaState::Running => {
                let wanted = pages.asked.max(pages.shortage(self.object_count()));
                wanted as i32 - pages.offered as i32
            }
            QueryPagesOpMod::REGULAR_PAGES => 0,
            _ => return Err(refusal::OP_MOD),
        };
        Ok(Reply::of(
            &QueryPagesOut::zeroed()
                .with(QueryPagesOut::FUNCTION_ID, u32::from(self.config.pages.function_id))
                .with(QueryPagesOut::NUM_PAGES, count as u32),
        ))
    }

    pub(super) fn manage_pages(&mut self, command: &Command<'_>) -> Outcome {
        let input = command.view::<ManagePagesIn>();
        own_function(
            &self.config,
            input.get(ManagePagesIn::FUNCTION_ID),
            input.is_set(ManagePagesIn::EMBEDDED_CPU_FUNCTION),
        )?;
        if self.firmware.state == HcaState::Disabled {
            return Err(refusal::NOT_ENABLED);
        }
        let count = input.get(ManagePagesIn::INPUT_NUM_ENTRIES) as usize;
        match ManagePagesOpMod(command.op_mod()) {
            ManagePagesOpMod::ALLOCATION_FAIL => {
                self.firmware.pages.asked = 0;
                Ok(Reply::of(&ManagePagesOut::zeroed()))
            }
            ManagePagesOpMod::ALLOCATION_SUCCESS => {
                self.enabled()?;
                self.give_pages(&command.addresses(ManagePagesIn::PAS, count)?)
            }
            ManagePagesOpMod::HCA_RETURN_PAGES => Ok(self.return_pages(count)),
            _ => Err(refusal::OP_MOD),
        }
    }

    /// All of them or none.
    fn give_pages(&mut self, addresses: &[u64]) -> Outcome {
        for (index, page) in addresses.iter().enumerate() {
            let reachable = !self.config.switches.touch_pages || self.host.dma.contains(*page, PAGE as usize);
            let mut taken = self.firmware.pages.give(*page, self.config.switches.take_page_zero);
            if taken.is_ok() && !reachable {
                taken = Err(refusal::PAGE_UNREACHABLE);
            }
            if let Err(reject) = taken {
                // The page itself is known by now if only its reach failed.
                let given = index + usize::from(reject == refusal::PAGE_UNREACHABLE);
                self.firmware.pages.take_last(given);
                return Err(reject);
            }
        }
        if self.config.switches.touch_pages {
            self.write_pages(addresses);
        }
        self.host.counters.pages.given += addresses.len() as u64;
        let state = self.firmware.state;
        let pages = &mut self.firmware.pages;
        let mut left = addresses.len() as u32;
        if state == HcaState::Enabled {
            let boot = left.min(pages.boot_missing());
            pages.boot_given += boot;
            left -= boot;
            let init = left.min(pages.init_missing());
            pages.init_given += init;
            left -= init;
            self.host.counters.misuse.surplus_pages += u64::from(left);
        } else {
            self.host.counters.misuse.surplus_pages += u64::from(left.saturating_sub(pages.asked));
            pages.asked = pages.asked.saturating_sub(left);
        }
        pages.regular += left;
        self.ask_for_pages_if_short();
        Ok(Reply::of(&ManagePagesOut::zeroed()))
    }

    fn return_pages(&mut self, wanted: usize) -> Reply {
        let torn_down = self.firmware.state == HcaState::TornDown;
        let pages = &mut self.firmware.pages;
        let available = if torn_down { pages.held.len() } else { pages.offered as usize };
        let returned = pages.take_last(wanted.min(available));
        self.host.counters.pages.returned += returned.len() as u64;
        if !torn_down {
            pages.offered -= returned.len() as u32;
            pages.regular = pages.regular.saturating_sub(returned.len() as u32);
        }
        let list: Vec<u8> = returned.iter().flat_map(|page| page.to_be_bytes()).collect();
        let output = ManagePagesOut::zeroed().with(ManagePagesOut::OUTPUT_NUM_ENTRIES, returned.len() as u32);
        Reply::of(&output).and(&list)
    }

    fn write_pages(&mut self, pages: &[u64]) {
        for page in pages {
            let written = self.host.dma.write(*page, &PATTERN);
            self.host.checked(written);
        }
    }

    /// Writes to every page that firmware holds, as firmware may at any time: an oracle for tests. Whatever the driver
    /// keeps in memory that it gave away is overwritten.
    pub fn touch_firmware_pages(&mut self) {
        let pages = self.firmware.pages.held.clone();
        self.write_pages(&pages);
    }

    /// Refuses one more object if firmware has no memory for it.
    pub(crate) fn room_for_object(&self) -> Result<(), Reject> {
        if self.firmware.pages.exhausted(self.object_count()) { Err(refusal::PAGES_SHORT) } else { Ok(()) }
    }

    /// Asks for pages ahead of need.
    pub(crate) fn ask_for_pages_if_short(&mut self) {
        if self.firmware.state != HcaState::Running {
            return;
        }
        let shortage = self.firmware.pages.shortage(self.object_count());
        if shortage > 0 && self.page_request(shortage as i32) {
            self.firmware.pages.asked += shortage;
        }
    }

    /// Firmware asks for `count` pages out of the blue, or offers `-count` back. False if no event queue listens.
    pub fn request_pages(&mut self, count: i32) -> bool {
        if self.firmware.state != HcaState::Running || !self.page_request(count) {
            return false;
        }
        let pages = &mut self.firmware.pages;
        match count {
            0.. => pages.asked = pages.asked.saturating_add(count.unsigned_abs()),
            _ => pages.offered = pages.offered.saturating_add(count.unsigned_abs()).min(pages.held.len() as u32),
        }
        true
    }

    fn page_request(&mut self, count: i32) -> bool {
        let data = EqePageReq::zeroed()
            .with(EqePageReq::FUNC_ID, u32::from(self.config.pages.function_id))
            .with(EqePageReq::NUM_PAGES, count as u32);
        let heard = self.objects.completions.eqs.notify(&mut self.host, EventType::PAGE_REQUEST, 0, data.bytes());
        if heard {
            let counters = &mut self.host.counters.pages;
            let counter = if count < 0 { &mut counters.offered } else { &mut counters.asked };
            *counter += u64::from(count.unsigned_abs());
        }
        heard
    }
}
