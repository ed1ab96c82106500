//! A controller: its properties and the pages that describe it and its one namespace.

use crate::config::Config;
use crate::nvme::opcode;
use crate::pdu::put;
use crate::random::mix;
use std::time::Duration;

/// The only namespace.
pub(crate) const NSID: u32 = 1;

/// Asynchronous Event Requests that a host may have outstanding (AERL + 1).
pub(crate) const AER_LIMIT: usize = 4;

/// Version that the controller reports: 1.4.0.
pub(crate) const VERSION: u32 = 0x0001_0400;

/// Bytes of an Identify page.
pub(crate) const PAGE: usize = 4096;

/// Property offsets (NVMe-oF 1.1, "Property definitions").
pub(crate) mod property {
    pub(crate) const CAP: u32 = 0x00;
    pub(crate) const VS: u32 = 0x08;
    pub(crate) const CC: u32 = 0x14;
    pub(crate) const CSTS: u32 = 0x1c;
}

/// CSTS bits.
const CSTS_RDY: u32 = 1 << 0;
const CSTS_CFS: u32 = 1 << 1;
const CSTS_SHST_COMPLETE: u32 = 2 << 2;

/// What a write to CC asks the target to do beyond the controller itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// The controller was reset: its I/O queues are gone and held commands with them.
    Reset,
}

/// One controller, from the Connect of its admin queue to that connection's end.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    pub(crate) id: u16,
    pub(crate) host_nqn: Vec<u8>,
    pub(crate) host_id: [u8; 16],
    cc: u32,
    csts: u32,
    /// Keep Alive Timeout in milliseconds; 0 is off.
    pub(crate) kato: u32,
    /// When the keep-alive timer last started.
    pub(crate) alive: Duration,
    /// Asynchronous Event Configuration.
    pub(crate) event_config: u32,
    /// Number of I/O queues that were granted.
    pub(crate) queues: u16,
}

impl Controller {
    pub(crate) fn new(
        id: u16,
        host_nqn: &[u8],
        host_id: [u8; 16],
        kato: u32,
        queues: u16,
        now: Duration,
    ) -> Controller {
        let host_nqn = host_nqn.to_vec();
        Controller { id, host_nqn, host_id, cc: 0, csts: 0, kato, alive: now, event_config: 0, queues }
    }

    /// True once the host enabled the controller and while it has not shut it down.
    pub(crate) fn ready(&self) -> bool {
        self.csts == CSTS_RDY
    }

    /// When the keep-alive timer runs out.
    pub(crate) fn expires(&self) -> Option<Duration> {
        (self.kato != 0).then(|| self.alive + Duration::from_millis(self.kato.into()))
    }

    /// A property's value and size in bytes, if it exists.
    pub(crate) fn property(&self, config: &Config, offset: u32) -> Option<(u64, usize)> {
        Some(match offset {
            property::CAP => (capabilities(config), 8),
            property::VS => (VERSION.into(), 4),
            property::CC => (self.cc.into(), 4),
            property::CSTS => (self.csts.into(), 4),
            _ => return None,
        })
    }

    /// A write to CC: enable, disable and shutdown happen at once, as the emptied queues allow.
    pub(crate) fn configure(&mut self, cc: u32) -> Change {
        const EN: u32 = 1;
        const SHN: u32 = 3 << 14;
        let was = std::mem::replace(&mut self.cc, cc);
        let mut change = Change::None;
        if cc & EN != 0 && was & EN == 0 {
            // MPS, AMS and CSS must be 0, the entry sizes 2^6 and 2^4: the only ones that CAP and Identify offer.
            let fits = cc & 0x3ff0 == 0 && cc >> 16 & 0xff == 0x46;
            self.csts = if fits { CSTS_RDY } else { CSTS_CFS };
        } else if cc & EN == 0 && was & EN != 0 {
            self.csts = 0;
            change = Change::Reset;
        }
        if cc & SHN != 0 && was & SHN == 0 {
            self.csts |= CSTS_SHST_COMPLETE;
        } else if cc & SHN == 0 {
            self.csts &= !CSTS_SHST_COMPLETE;
        }
        change
    }

    /// Identify Controller (CNS 01h).
    pub(crate) fn identify(&self, config: &Config) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        let serial = format!("{:016x}", subsystem_id(config));
        put(&mut page, 4, pad::<20>(serial.as_bytes()).as_slice());
        put(&mut page, 24, pad::<40>(b"connectx-ddp nvme-target").as_slice());
        put(&mut page, 64, pad::<8>(env!("CARGO_PKG_VERSION").as_bytes()).as_slice());
        page[77] = config.mdts;
        put(&mut page, 78, &self.id.to_le_bytes());
        put(&mut page, 80, &VERSION.to_le_bytes());
        page[111] = 1; // CNTRLTYPE: I/O controller
        page[258] = 3; // ACL
        page[259] = AER_LIMIT as u8 - 1;
        page[260] = 0b11; // FRMW: one slot, read-only
        page[261] = 0b10; // LPA: commands supported and effects
        put(&mut page, 266, &343u16.to_le_bytes()); // WCTEMP, kelvin
        put(&mut page, 268, &353u16.to_le_bytes()); // CCTEMP
        put(&mut page, 320, &10u16.to_le_bytes()); // KAS: 1 s
        page[512] = 0x66; // SQES
        page[513] = 0x44; // CQES
        put(&mut page, 514, &(config.max_queue_depth.min(65535) as u16).to_le_bytes()); // MAXCMD
        put(&mut page, 516, &NSID.to_le_bytes()); // NN
        page[525] = 0b111; // VWC: present; Flush of all namespaces too
        // SGLS: supported without alignment; offsets in the capsule; transport data blocks.
        put(&mut page, 536, &(1u32 | 1 << 20 | 1 << 21).to_le_bytes());
        put(&mut page, 768, config.subsystem_nqn.as_bytes());
        put(&mut page, 1792, &((64 + config.in_capsule_data) / 16).to_le_bytes()); // IOCCSZ
        put(&mut page, 1796, &1u32.to_le_bytes()); // IORCSZ
        page[1803] = 1; // MSDBD
        page
    }
}

/// CAP: NVM command set, contiguous queues, 4 KiB pages, 7.5 s to become ready.
fn capabilities(config: &Config) -> u64 {
    let mqes = u64::from(config.max_queue_depth - 1);
    mqes | 1 << 16 | 15 << 24 | 1 << 37
}

/// A number that names the subsystem, from its NQN.
fn subsystem_id(config: &Config) -> u64 {
    config.subsystem_nqn.bytes().fold(0, |id, byte| mix(id ^ u64::from(byte)))
}

/// `text` in a field of `N` bytes, filled with spaces.
fn pad<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut field = [b' '; N];
    let len = text.len().min(N);
    field[..len].copy_from_slice(&text[..len]);
    field
}

/// EUI-64 and NGUID of the namespace, zero if it has none.
fn namespace_ids(config: &Config) -> ([u8; 8], [u8; 16]) {
    let Some(disk) = config.disk else { return ([0; 8], [0; 16]) };
    let id = subsystem_id(config) ^ disk;
    let mut nguid = [0; 16];
    put(&mut nguid, 0, &id.to_be_bytes());
    put(&mut nguid, 8, &mix(id).to_be_bytes());
    (mix(!id).to_be_bytes(), nguid)
}

/// Identify Namespace (CNS 00h).
pub(crate) fn identify_namespace(config: &Config, blocks: u64, writable: bool) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    for at in [0, 8, 16] {
        put(&mut page, at, &blocks.to_le_bytes()); // NSZE, NCAP, NUSE
    }
    page[99] = u8::from(!writable); // NSATTR: write protected
    let (eui64, nguid) = namespace_ids(config);
    put(&mut page, 104, &nguid);
    put(&mut page, 120, &eui64);
    page[130] = config.block_size.trailing_zeros() as u8; // LBAF0.LBADS
    page
}

/// Active Namespace ID list (CNS 02h): those above `after`.
pub(crate) fn identify_list(after: u32) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    if after < NSID {
        put(&mut page, 0, &NSID.to_le_bytes());
    }
    page
}

/// Namespace Identification Descriptor list (CNS 03h).
pub(crate) fn identify_descriptors(config: &Config) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    if config.disk.is_none() {
        return page;
    }
    let (eui64, nguid) = namespace_ids(config);
    put(&mut page, 0, &[1, 8]);
    put(&mut page, 4, &eui64);
    put(&mut page, 12, &[2, 16]);
    put(&mut page, 16, &nguid);
    page
}

/// A log page's content, or `None` if there is no such page.
pub(crate) fn log_page(lid: u8) -> Option<Vec<u8>> {
    Some(match lid {
        0x01 => vec![0; 64], // Error Information: no error happened
        0x02 => {
            let mut page = vec![0; 512];
            put(&mut page, 1, &300u16.to_le_bytes()); // composite temperature, kelvin
            page[3] = 100; // available spare, percent
            page[4] = 10; // its threshold
            page
        }
        0x03 => {
            let mut page = vec![0; 512];
            page[0] = 1; // slot 1 is active
            put(&mut page, 8, pad::<8>(env!("CARGO_PKG_VERSION").as_bytes()).as_slice());
            page
        }
        0x05 => {
            const SUPPORTED: u32 = 1;
            const CHANGES_DATA: u32 = 1 << 1;
            let mut page = vec![0; PAGE];
            for opcode in [
                opcode::GET_LOG_PAGE,
                opcode::IDENTIFY,
                opcode::ABORT,
                opcode::SET_FEATURES,
                opcode::GET_FEATURES,
                opcode::ASYNC_EVENT,
                opcode::KEEP_ALIVE,
            ] {
                put(&mut page, usize::from(opcode) * 4, &SUPPORTED.to_le_bytes());
            }
            for opcode in [opcode::FLUSH, opcode::READ] {
                put(&mut page, 1024 + usize::from(opcode) * 4, &SUPPORTED.to_le_bytes());
            }
            put(&mut page, 1024 + usize::from(opcode::WRITE) * 4, &(SUPPORTED | CHANGES_DATA).to_le_bytes());
            page
        }
        _ => return None,
    })
}
