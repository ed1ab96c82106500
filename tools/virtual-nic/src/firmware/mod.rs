//! Firmware: what commands do (`mlx5-bringup.md` §2 to §6, §11a).
//!
//! ```text
//!            ENABLE_HCA          INIT_HCA            TEARDOWN_HCA          DISABLE_HCA
//!  Disabled ───────────► Enabled ────────► Running ──────────────► TornDown ──────────► Disabled
//!                        ISSI, boot pages,  objects, traffic,       pages taken back
//!                        caps, init pages   pages on request
//! ```
//!
//! Every refusal has a syndrome of its own ([`refusal`](crate::refusal), [`reject`](crate::reject)).

pub(crate) mod device;
pub(crate) mod objects;
pub(crate) mod pages;
pub(crate) mod port;
pub(crate) mod queues;
pub(crate) mod receive;
pub(crate) mod umem;
pub(crate) mod vport;

use crate::VirtualNic;
use crate::queue::ring::Ring;
use crate::refusal;
use crate::reject::Reject;
use firmware_iface::Opcode;
use firmware_iface::command::{InHeader, OutHeader};
use hw_regs::layout::{Access, Layout};
use pages::Pages;
use port::Port;
use vport::Vport;

/// How far the function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HcaState {
    Disabled,
    Enabled,
    Running,
    TornDown,
}

/// What firmware remembers of the function as such.
pub(crate) struct Firmware {
    pub(crate) state: HcaState,
    pub(crate) issi: u32,
    pub(crate) pages: Pages,
    pub(crate) capabilities: crate::Capabilities,
    pub(crate) vport: Vport,
    pub(crate) port: Port,
}

impl Firmware {
    pub(crate) fn new(config: &crate::Config) -> Firmware {
        Firmware {
            state: HcaState::Disabled,
            issi: 0,
            pages: Pages::new(&config.pages),
            capabilities: config.capabilities.clone().offer(&config.switches),
            vport: Vport::new(config),
            port: Port::new(config),
        }
    }

    /// True if frames pass.
    pub(crate) fn link_up(&self) -> bool {
        self.state == HcaState::Running && self.port.is_up()
    }
}

/// The input of a command. What is missing reads as zero, as firmware treats the shorter structures of older drivers.
pub(crate) struct Command<'a> {
    bytes: &'a [u8],
}

impl<'a> Command<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Command<'a> {
        Command { bytes }
    }

    pub(crate) fn opcode(&self) -> Opcode {
        self.view::<InHeader>().opcode()
    }

    pub(crate) fn op_mod(&self) -> u16 {
        self.view::<InHeader>().get(InHeader::OP_MOD) as u16
    }

    /// The fixed part.
    pub(crate) fn view<T: Layout>(&self) -> T {
        T::from_prefix(self.bytes)
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// `len` bytes that follow the fixed part at `offset`.
    pub(crate) fn tail(&self, offset: usize, len: usize) -> Result<&'a [u8], Reject> {
        let end = offset.checked_add(len).ok_or(refusal::LIST_CUT_SHORT)?;
        self.bytes.get(offset..end).ok_or(refusal::LIST_CUT_SHORT)
    }

    /// `count` addresses that follow at `offset`, 64 bits each.
    pub(crate) fn addresses(&self, offset: usize, count: usize) -> Result<Box<[u64]>, Reject> {
        let bytes = self.tail(offset, count.checked_mul(8).ok_or(refusal::LIST_CUT_SHORT)?)?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().map(|word| u64::from_be_bytes(*word)).collect())
    }

    /// The ring of `bytes` bytes, a power of two, whose pages of `1 << (12 + log_page_size)` bytes follow at `offset`.
    pub(crate) fn ring(&self, offset: usize, bytes: u64, log_page_size: u32) -> Result<Ring, Reject> {
        Ring::new(bytes, log_page_size, self.addresses(offset, Ring::page_count(bytes, log_page_size)?)?)
    }
}

/// The output of a command: status, syndrome, and what follows.
pub(crate) struct Reply(Vec<u8>);

impl Reply {
    /// Status OK, nothing else.
    pub(crate) fn ok() -> Reply {
        Reply(vec![0; OutHeader::SIZE])
    }

    /// The bytes of an output structure, whose status is zero and so OK.
    pub(crate) fn of<T: Layout>(output: &T) -> Reply {
        Reply(output.bytes().to_vec())
    }

    /// More bytes.
    pub(crate) fn and(mut self, bytes: &[u8]) -> Reply {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A refusal.
    pub(crate) fn refused(reject: Reject) -> Reply {
        let header = OutHeader::zeroed()
            .with(OutHeader::STATUS, u32::from(reject.status.0))
            .with(OutHeader::SYNDROME, reject.syndrome.0);
        Reply(header.bytes().to_vec())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// What a handler returns.
pub(crate) type Outcome = Result<Reply, Reject>;

impl VirtualNic {
    /// Executes a command.
    pub(crate) fn execute(&mut self, command: &Command<'_>) -> Reply {
        self.host.counters.commands += 1;
        let outcome = self.dispatch(command);
        outcome.unwrap_or_else(|reject| {
            self.host.counters.commands_refused += 1;
            log::debug!("{} refused: {reject}", command.opcode());
            Reply::refused(reject)
        })
    }

    fn dispatch(&mut self, command: &Command<'_>) -> Outcome {
        match command.opcode() {
            Opcode::ENABLE_HCA => self.enable_hca(command),
            Opcode::DISABLE_HCA => self.disable_hca(command),
            Opcode::QUERY_ISSI => self.query_issi(),
            Opcode::SET_ISSI => self.set_issi(command),
            Opcode::QUERY_PAGES => self.query_pages(command),
            Opcode::MANAGE_PAGES => self.manage_pages(command),
            Opcode::QUERY_HCA_CAP => self.query_hca_cap(command),
            Opcode::SET_HCA_CAP => self.set_hca_cap(command),
            Opcode::INIT_HCA => self.init_hca(),
            Opcode::TEARDOWN_HCA => self.teardown_hca(command),
            Opcode::QUERY_ADAPTER => self.query_adapter(),
            Opcode::ACCESS_REG => self.access_reg(command),
            Opcode::NOP => self.enabled().map(|()| Reply::ok()),
            opcode => {
                let handler = self.object_command(opcode).ok_or(refusal::OPCODE)?;
                self.running()?;
                handler(self, command)
            }
        }
    }

    /// The handler of a command that needs the running function.
    fn object_command(&self, opcode: Opcode) -> Option<fn(&mut VirtualNic, &Command<'_>) -> Outcome> {
        Some(match opcode {
            Opcode::SET_DRIVER_VERSION => |_, _| Ok(Reply::ok()),
            Opcode::QUERY_SPECIAL_CONTEXTS => |nic, _| Ok(nic.query_special_contexts()),
            Opcode::ALLOC_UAR => |nic, _| nic.alloc_uar(),
            Opcode::DEALLOC_UAR => VirtualNic::dealloc_uar,
            Opcode::ALLOC_PD => |nic, _| nic.alloc_pd(),
            Opcode::DEALLOC_PD => VirtualNic::dealloc_pd,
            Opcode::ALLOC_TRANSPORT_DOMAIN => |nic, _| nic.alloc_transport_domain(),
            Opcode::DEALLOC_TRANSPORT_DOMAIN => VirtualNic::dealloc_transport_domain,
            Opcode::ALLOC_Q_COUNTER => |nic, _| nic.alloc_q_counter(),
            Opcode::DEALLOC_Q_COUNTER => VirtualNic::dealloc_q_counter,
            Opcode::QUERY_Q_COUNTER => VirtualNic::query_q_counter,
            Opcode::CREATE_EQ => VirtualNic::create_eq,
            Opcode::DESTROY_EQ => VirtualNic::destroy_eq,
            Opcode::QUERY_EQ => VirtualNic::query_eq,
            Opcode::CREATE_CQ => VirtualNic::create_cq,
            Opcode::DESTROY_CQ => VirtualNic::destroy_cq,
            Opcode::QUERY_CQ => VirtualNic::query_cq,
            Opcode::MODIFY_CQ => VirtualNic::modify_cq,
            Opcode::CREATE_MKEY => VirtualNic::create_mkey,
            Opcode::DESTROY_MKEY => VirtualNic::destroy_mkey,
            Opcode::QUERY_MKEY => VirtualNic::query_mkey,
            Opcode::CREATE_UMEM => VirtualNic::create_umem,
            Opcode::DESTROY_UMEM => VirtualNic::destroy_umem,
            Opcode::CREATE_GENERAL_OBJECT => VirtualNic::create_general_object,
            Opcode::DESTROY_GENERAL_OBJECT => VirtualNic::destroy_general_object,
            Opcode::CREATE_TIS => VirtualNic::create_tis,
            Opcode::QUERY_TIS => VirtualNic::query_tis,
            Opcode::DESTROY_TIS => VirtualNic::destroy_tis,
            Opcode::CREATE_SQ => VirtualNic::create_sq,
            Opcode::MODIFY_SQ => VirtualNic::modify_sq,
            Opcode::QUERY_SQ => VirtualNic::query_sq,
            Opcode::DESTROY_SQ => VirtualNic::destroy_sq,
            Opcode::CREATE_RQ => VirtualNic::create_rq,
            Opcode::MODIFY_RQ => VirtualNic::modify_rq,
            Opcode::QUERY_RQ => VirtualNic::query_rq,
            Opcode::DESTROY_RQ => VirtualNic::destroy_rq,
            Opcode::CREATE_RQT => VirtualNic::create_rqt,
            Opcode::MODIFY_RQT => VirtualNic::modify_rqt,
            Opcode::QUERY_RQT => VirtualNic::query_rqt,
            Opcode::DESTROY_RQT => VirtualNic::destroy_rqt,
            Opcode::CREATE_TIR => VirtualNic::create_tir,
            Opcode::MODIFY_TIR => VirtualNic::modify_tir,
            Opcode::QUERY_TIR => VirtualNic::query_tir,
            Opcode::DESTROY_TIR => VirtualNic::destroy_tir,
            Opcode::CREATE_FLOW_TABLE => VirtualNic::create_flow_table,
            Opcode::MODIFY_FLOW_TABLE => VirtualNic::modify_flow_table,
            Opcode::QUERY_FLOW_TABLE => VirtualNic::query_flow_table,
            Opcode::DESTROY_FLOW_TABLE => VirtualNic::destroy_flow_table,
            Opcode::CREATE_FLOW_GROUP => VirtualNic::create_flow_group,
            Opcode::QUERY_FLOW_GROUP => VirtualNic::query_flow_group,
            Opcode::DESTROY_FLOW_GROUP => VirtualNic::destroy_flow_group,
            Opcode::SET_FLOW_TABLE_ENTRY => VirtualNic::set_fte,
            Opcode::QUERY_FLOW_TABLE_ENTRY => VirtualNic::query_fte,
            Opcode::DELETE_FLOW_TABLE_ENTRY => VirtualNic::delete_fte,
            Opcode::SET_FLOW_TABLE_ROOT => VirtualNic::set_flow_table_root,
            Opcode::QUERY_NIC_VPORT_CONTEXT => VirtualNic::query_nic_vport_context,
            Opcode::MODIFY_NIC_VPORT_CONTEXT => VirtualNic::modify_nic_vport_context,
            Opcode::QUERY_VPORT_STATE => VirtualNic::query_vport_state,
            Opcode::QUERY_VPORT_COUNTER => VirtualNic::query_vport_counter,
            Opcode::QUERY_VNIC_ENV => VirtualNic::query_vnic_env,
            Opcode::SET_L2_TABLE_ENTRY => VirtualNic::set_l2_table_entry,
            Opcode::DELETE_L2_TABLE_ENTRY => VirtualNic::delete_l2_table_entry,
            _ => return None,
        })
    }

    /// Refuses unless the function is enabled.
    pub(crate) fn enabled(&self) -> Result<(), Reject> {
        match self.firmware.state {
            HcaState::Disabled => Err(refusal::NOT_ENABLED),
            HcaState::TornDown => Err(refusal::TORN_DOWN),
            HcaState::Enabled | HcaState::Running => Ok(()),
        }
    }

    /// Refuses unless the function is enabled and has its boot pages.
    pub(crate) fn booted(&self) -> Result<(), Reject> {
        self.enabled()?;
        if self.firmware.pages.boot_missing() > 0 { Err(refusal::BOOT_PAGES_MISSING) } else { Ok(()) }
    }

    /// Refuses unless the function is initialized.
    pub(crate) fn running(&self) -> Result<(), Reject> {
        self.enabled()?;
        if self.firmware.state == HcaState::Running { Ok(()) } else { Err(refusal::NOT_INITIALIZED) }
    }

    /// Refuses objects that exist from ISSI 1 on only.
    pub(crate) fn ethernet_objects(&self) -> Result<(), Reject> {
        if self.firmware.issi >= 1 { Ok(()) } else { Err(refusal::ISSI_REQUIRED) }
    }
}
