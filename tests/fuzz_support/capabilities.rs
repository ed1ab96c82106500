//! Capability pages with anything in them: every limit that is derived is one that the driver can work with.

use super::input::Input;
use connectx_ddp::adapter::Capabilities;
use connectx_ddp::ddp::create::{Capacity, Plan};
use connectx_ddp::ddp::wqe::ConnectionParams;
use connectx_ddp::steering::SteeringCaps;
use firmware_iface::caps::groups::{FlowTableNicCap, NvmeotcpCap, PerProtocolNetworkingOffloadCaps};
use firmware_iface::caps::{CapGroup, CmdHcaCap, NVMEOTCP_GROUP};
use hw_regs::layout::{Access, Layout, describe};

const GROUPS: [CapGroup; 4] = [CapGroup::GENERAL, CapGroup::ETHERNET_OFFLOADS, CapGroup::FLOW_TABLE, NVMEOTCP_GROUP];
const PAGE: usize = 4096;

/// What a function that can offload says, as bytes of the four groups.
fn good() -> Vec<(CapGroup, Vec<u8>)> {
    let device = virtual_nic::Capabilities::connectx7();
    vec![
        (GROUPS[0], page_of(&device.current::<CmdHcaCap>())),
        (GROUPS[1], page_of(&device.current::<PerProtocolNetworkingOffloadCaps>())),
        (GROUPS[2], page_of(&device.current::<FlowTableNicCap>())),
        (GROUPS[3], page_of(&device.current::<NvmeotcpCap>())),
    ]
}

fn page_of(group: &impl Layout) -> Vec<u8> {
    let mut page = group.bytes().to_vec();
    page.resize(PAGE, 0);
    page
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut pages = if input.u8() & 1 == 0 { good() } else { Vec::new() };
    for _ in 0..input.below(6) {
        let group = match input.u8() {
            0..=191 => GROUPS[input.below(4) as usize],
            192..=255 => CapGroup(input.u16()),
        };
        let mut page = match pages.iter().position(|page| page.0 == group) {
            Some(index) => pages.swap_remove(index).1,
            None => vec![0; PAGE],
        };
        // A page may be short, and a group defines only a part of it.
        match input.u8() {
            0..=15 => page.truncate(input.u16().into()),
            16..=63 => input.bend(&mut page),
            64..=255 => {
                let defined = page.len().min(512);
                input.bend(&mut page[..defined]);
            }
        }
        pages.push((group, page));
    }
    check(&Capabilities::from_pages(pages), &mut input);
}

fn check(caps: &Capabilities, input: &mut Input<'_>) {
    for info in [CmdHcaCap::INFO, PerProtocolNetworkingOffloadCaps::INFO, FlowTableNicCap::INFO, NvmeotcpCap::INFO] {
        let page = caps.page(GROUPS[input.below(4) as usize]).unwrap_or_default();
        describe(&info, page, &mut String::new()).expect("a string takes everything");
    }
    let offload = caps.offload();
    let reasons = offload.why_not();
    assert_eq!(offload.possible(), reasons.is_empty());
    assert!(reasons.iter().all(|reason| !reason.to_string().contains('\n') && !reason.capability.is_empty()));
    assert!((1..=1 << 16).contains(&offload.max_queue_size()));
    assert!((1..=128).contains(&offload.max_sgl_entries()));
    assert!((1..=3999).contains(&offload.max_queues()));
    let log_sq = match input.u8() {
        0..=127 => caps.general().get(CmdHcaCap::LOG_MAX_QP_SZ),
        128..=255 => input.u32(),
    };
    match Capacity::new(&offload, log_sq) {
        None => assert!(!offload.possible()),
        Some(capacity) => {
            assert!(offload.possible());
            assert!(capacity.per_wqe >= 4 && capacity.per_wqe.is_multiple_of(4), "{capacity:?}");
            assert!((5..=15).contains(&capacity.max_log_ring));
            assert_eq!(capacity.max_tags, offload.max_queue_size());
            for tags in [1, input.below(1 << 16) + 1, capacity.max_tags] {
                let params = ConnectionParams {
                    zero_copy: true,
                    check_data_digest: true,
                    data_digest: true,
                    header_digest: false,
                    pda: 0,
                };
                let log_ring = (input.u8() < 64).then(|| input.u32());
                let plan = Plan { tags, params, next_pdu: 0, rqtn: 1, eqn: 1, log_ring, threshold: 0 };
                assert!((5..=capacity.max_log_ring).contains(&capacity.log_ring(&plan)));
            }
        }
    }
    match SteeringCaps::new(&caps.receive_flow_tables()) {
        Ok(steering) => assert!(steering.log_max_table_size < 256 && steering.log_max_rules < 256),
        Err(missing) => assert!(!missing.is_empty() && missing.iter().all(|what| !what.to_string().is_empty())),
    }
}
