//! The function itself: enable, interface step, capabilities, initialize, tear down.

use super::{Command, HcaState, Outcome, Reply};
use crate::VirtualNic;
use crate::capabilities::{IMAGE, SetError};
use crate::refusal;
use crate::reject::Reject;
use firmware_iface::caps::{CmdHcaCap, NVMEOTCP_GROUP};
use firmware_iface::command::device::{
    EnableHcaIn, QueryAdapterOut, QueryAdapterParamBlock, QueryHcaCapIn, QueryIssiOut, QuerySpecialContextsOut,
    SetHcaCapIn, SetIssiIn, TeardownHcaIn, TeardownHcaOut, TeardownProfile,
};
use hw_regs::layout::{Access, Layout};

/// IEEE vendor id of Mellanox.
const IEEE_VENDOR: u32 = 0x2c9;
/// Bytes of an output header.
const HEADER: usize = 16;

/// Key that ends the scatter list of a receive WQE (`mlx5-bringup.md` §8.3).
pub(crate) const TERMINATE_MKEY: u32 = 0x100;

fn own_function(input: &EnableHcaIn) -> Result<(), Reject> {
    let own = input.get(EnableHcaIn::FUNCTION_ID) == 0 && !input.is_set(EnableHcaIn::EMBEDDED_CPU_FUNCTION);
    if own { Ok(()) } else { Err(refusal::OTHER_FUNCTION) }
}

impl VirtualNic {
    pub(super) fn enable_hca(&mut self, command: &Command<'_>) -> Outcome {
        own_function(&command.view())?;
        match self.firmware.state {
            HcaState::Disabled => {
                self.firmware.state = HcaState::Enabled;
                Ok(Reply::ok())
            }
            HcaState::TornDown => Err(refusal::TORN_DOWN),
            HcaState::Enabled | HcaState::Running => Err(refusal::ALREADY_ENABLED),
        }
    }

    /// Pages that were not taken back stay with firmware: the inventory shows them until FLR.
    pub(super) fn disable_hca(&mut self, command: &Command<'_>) -> Outcome {
        // DISABLE_HCA has the layout of ENABLE_HCA.
        own_function(&command.view())?;
        match self.firmware.state {
            HcaState::Disabled => Err(refusal::NOT_ENABLED),
            HcaState::Running => Err(refusal::STILL_INITIALIZED),
            HcaState::Enabled | HcaState::TornDown => {
                self.firmware.state = HcaState::Disabled;
                self.firmware.issi = 0;
                self.firmware.pages.begin_anew();
                self.host.end_session();
                Ok(Reply::ok())
            }
        }
    }

    pub(super) fn query_issi(&mut self) -> Outcome {
        self.enabled()?;
        Ok(Reply::of(
            &QueryIssiOut::zeroed()
                .with(QueryIssiOut::CURRENT_ISSI, self.firmware.issi)
                .with(QueryIssiOut::SUPPORTED_ISSI_DW0, 0b10),
        ))
    }

    pub(super) fn set_issi(&mut self, command: &Command<'_>) -> Outcome {
        self.enabled()?;
        if self.firmware.state == HcaState::Running {
            return Err(refusal::ISSI_TOO_LATE);
        }
        match command.view::<SetIssiIn>().get(SetIssiIn::CURRENT_ISSI) {
            issi @ 0..=1 => {
                self.firmware.issi = issi;
                Ok(Reply::ok())
            }
            _ => Err(refusal::ISSI_UNSUPPORTED),
        }
    }

    pub(super) fn query_hca_cap(&mut self, command: &Command<'_>) -> Outcome {
        self.booted()?;
        let input = command.view::<QueryHcaCapIn>();
        if input.is_set(QueryHcaCapIn::OTHER_FUNCTION) {
            return Err(refusal::OTHER_FUNCTION);
        }
        let (group, current) = (command.op_mod() >> 1, command.op_mod() & 1 != 0);
        let caps = &self.firmware.capabilities;
        if group == NVMEOTCP_GROUP.0 && !caps.current::<CmdHcaCap>().is_set(CmdHcaCap::NVMEOTCP) {
            return Err(refusal::CAP_GROUP);
        }
        let image = caps.image(group, current).ok_or(refusal::CAP_GROUP)?;
        Ok(Reply::ok().and(image))
    }

    pub(super) fn set_hca_cap(&mut self, command: &Command<'_>) -> Outcome {
        self.booted()?;
        if command.view::<SetHcaCapIn>().is_set(SetHcaCapIn::OTHER_FUNCTION) {
            return Err(refusal::OTHER_FUNCTION);
        }
        if self.firmware.state == HcaState::Running {
            return Err(refusal::CAP_TOO_LATE);
        }
        let image = command.bytes().get(HEADER..).unwrap_or_default();
        let image = &image[..image.len().min(IMAGE)];
        self.firmware.capabilities.set_current(command.op_mod() >> 1, image).map_err(|error| match error {
            SetError::NoSuchGroup => refusal::CAP_GROUP,
            SetError::BeyondMaximum(field) => {
                log::debug!("SET_HCA_CAP asks for more {field} than there is");
                refusal::CAP_BEYOND_MAXIMUM
            }
        })?;
        Ok(Reply::ok())
    }

    /// On a function without other drivers this also brings the link up (`mlx5-bringup.md` §3 step 13).
    pub(super) fn init_hca(&mut self) -> Outcome {
        self.booted()?;
        if self.firmware.state == HcaState::Running {
            return Err(refusal::ALREADY_INITIALIZED);
        }
        if self.firmware.pages.init_missing() > 0 {
            return Err(refusal::INIT_PAGES_MISSING);
        }
        self.firmware.state = HcaState::Running;
        Ok(Reply::ok())
    }

    pub(super) fn teardown_hca(&mut self, command: &Command<'_>) -> Outcome {
        self.running()?;
        match TeardownProfile(command.view::<TeardownHcaIn>().get(TeardownHcaIn::PROFILE) as u16) {
            TeardownProfile::GRACEFUL_CLOSE | TeardownProfile::FORCE_CLOSE => {
                self.abandon_objects();
                self.firmware.state = HcaState::TornDown;
                Ok(Reply::of(&TeardownHcaOut::zeroed()))
            }
            _ => Err(refusal::TEARDOWN_PROFILE),
        }
    }

    pub(super) fn query_adapter(&mut self) -> Outcome {
        self.booted()?;
        let mut block = QueryAdapterParamBlock::zeroed()
            .with(QueryAdapterParamBlock::IEEE_VENDOR_ID, IEEE_VENDOR)
            .with(QueryAdapterParamBlock::VSD_VENDOR_ID, 0x15b3);
        for (index, byte) in self.config.psid.iter().enumerate() {
            block.set_at(QueryAdapterParamBlock::VSD_CONTD_PSID, index, u64::from(*byte));
        }
        Ok(Reply::of(&QueryAdapterOut::zeroed().with_nested(QueryAdapterOut::QUERY_ADAPTER_STRUCT, &block)))
    }

    pub(super) fn query_special_contexts(&mut self) -> Reply {
        Reply::of(
            &QuerySpecialContextsOut::zeroed()
                .with(QuerySpecialContextsOut::RESD_LKEY, self.reserved_lkey())
                .with(QuerySpecialContextsOut::TERMINATE_SCATTER_LIST_MKEY, TERMINATE_MKEY),
        )
    }
}
