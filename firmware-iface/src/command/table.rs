//! Which input and output layouts belong to an opcode: what types a command and what decodes a recorded one.

use super::{device, flow, object, queue, vport};
use crate::{Opcode, register};
use hw_regs::layout::{Layout, LayoutInfo};

/// The input of a command, which names its opcode and the layout of the answer.
pub trait Command: Layout {
    /// The opcode that goes into the first 16 bits of the input.
    const OPCODE: Opcode;
    /// Layout of the output.
    type Output: Layout;
}

/// The layouts of one command.
#[derive(Clone, Copy, Debug)]
pub struct CommandInfo {
    /// The opcode.
    pub opcode: Opcode,
    /// Layout of the input, without its tail.
    pub input: &'static LayoutInfo,
    /// Layout of the output, without its tail.
    pub output: &'static LayoutInfo,
}

/// The layouts of the command with this opcode, or `None` for one that the crate does not describe. CREATE_ and
/// DESTROY_GENERAL_OBJECT are told apart by their object type and are described by that of the tag buffer table.
pub fn describe(opcode: Opcode) -> Option<&'static CommandInfo> {
    COMMANDS.iter().find(|info| info.opcode == opcode)
}

macro_rules! commands {
    ($($opcode:ident: $input:ty => $output:ty;)*) => {
        $(impl Command for $input {
            const OPCODE: Opcode = Opcode::$opcode;
            type Output = $output;
        })*

        /// Every command that the crate describes.
        pub const COMMANDS: &[CommandInfo] = &[
            $(CommandInfo {
                opcode: Opcode::$opcode,
                input: &<$input as Layout>::INFO,
                output: &<$output as Layout>::INFO,
            },)*
        ];
    };
}

commands! {
    ENABLE_HCA: device::EnableHcaIn => device::EnableHcaOut;
    DISABLE_HCA: device::DisableHcaIn => device::DisableHcaOut;
    QUERY_ISSI: device::QueryIssiIn => device::QueryIssiOut;
    SET_ISSI: device::SetIssiIn => device::SetIssiOut;
    QUERY_PAGES: device::QueryPagesIn => device::QueryPagesOut;
    MANAGE_PAGES: device::ManagePagesIn => device::ManagePagesOut;
    QUERY_HCA_CAP: device::QueryHcaCapIn => device::QueryHcaCapOut;
    SET_HCA_CAP: device::SetHcaCapIn => device::SetHcaCapOut;
    INIT_HCA: device::InitHcaIn => device::InitHcaOut;
    TEARDOWN_HCA: device::TeardownHcaIn => device::TeardownHcaOut;
    QUERY_ADAPTER: device::QueryAdapterIn => device::QueryAdapterOut;
    SET_DRIVER_VERSION: device::SetDriverVersionIn => device::SetDriverVersionOut;
    QUERY_SPECIAL_CONTEXTS: device::QuerySpecialContextsIn => device::QuerySpecialContextsOut;
    NOP: device::NopIn => device::NopOut;
    ALLOC_UAR: object::AllocUarIn => object::AllocUarOut;
    DEALLOC_UAR: object::DeallocUarIn => object::DeallocUarOut;
    ALLOC_PD: object::AllocPdIn => object::AllocPdOut;
    DEALLOC_PD: object::DeallocPdIn => object::DeallocPdOut;
    ALLOC_TRANSPORT_DOMAIN: object::AllocTransportDomainIn => object::AllocTransportDomainOut;
    DEALLOC_TRANSPORT_DOMAIN: object::DeallocTransportDomainIn => object::DeallocTransportDomainOut;
    CREATE_EQ: object::CreateEqIn => object::CreateEqOut;
    QUERY_EQ: object::QueryEqIn => object::QueryEqOut;
    DESTROY_EQ: object::DestroyEqIn => object::DestroyEqOut;
    CREATE_CQ: object::CreateCqIn => object::CreateCqOut;
    QUERY_CQ: object::QueryCqIn => object::QueryCqOut;
    MODIFY_CQ: object::ModifyCqIn => object::ModifyCqOut;
    DESTROY_CQ: object::DestroyCqIn => object::DestroyCqOut;
    CREATE_MKEY: object::CreateMkeyIn => object::CreateMkeyOut;
    QUERY_MKEY: object::QueryMkeyIn => object::QueryMkeyOut;
    DESTROY_MKEY: object::DestroyMkeyIn => object::DestroyMkeyOut;
    CREATE_UMEM: object::CreateUmemIn => object::CreateUmemOut;
    DESTROY_UMEM: object::DestroyUmemIn => object::DestroyUmemOut;
    ALLOC_Q_COUNTER: object::AllocQCounterIn => object::AllocQCounterOut;
    QUERY_Q_COUNTER: object::QueryQCounterIn => object::QueryQCounterOut;
    DEALLOC_Q_COUNTER: object::DeallocQCounterIn => object::DeallocQCounterOut;
    CREATE_TIS: queue::CreateTisIn => queue::CreateTisOut;
    QUERY_TIS: queue::QueryTisIn => queue::QueryTisOut;
    DESTROY_TIS: queue::DestroyTisIn => queue::DestroyTisOut;
    CREATE_SQ: queue::CreateSqIn => queue::CreateSqOut;
    MODIFY_SQ: queue::ModifySqIn => queue::ModifySqOut;
    QUERY_SQ: queue::QuerySqIn => queue::QuerySqOut;
    DESTROY_SQ: queue::DestroySqIn => queue::DestroySqOut;
    CREATE_RQ: queue::CreateRqIn => queue::CreateRqOut;
    MODIFY_RQ: queue::ModifyRqIn => queue::ModifyRqOut;
    QUERY_RQ: queue::QueryRqIn => queue::QueryRqOut;
    DESTROY_RQ: queue::DestroyRqIn => queue::DestroyRqOut;
    CREATE_RQT: queue::CreateRqtIn => queue::CreateRqtOut;
    MODIFY_RQT: queue::ModifyRqtIn => queue::ModifyRqtOut;
    QUERY_RQT: queue::QueryRqtIn => queue::QueryRqtOut;
    DESTROY_RQT: queue::DestroyRqtIn => queue::DestroyRqtOut;
    CREATE_TIR: queue::CreateTirIn => queue::CreateTirOut;
    MODIFY_TIR: queue::ModifyTirIn => queue::ModifyTirOut;
    QUERY_TIR: queue::QueryTirIn => queue::QueryTirOut;
    DESTROY_TIR: queue::DestroyTirIn => queue::DestroyTirOut;
    CREATE_FLOW_TABLE: flow::CreateFlowTableIn => flow::CreateFlowTableOut;
    MODIFY_FLOW_TABLE: flow::ModifyFlowTableIn => flow::ModifyFlowTableOut;
    QUERY_FLOW_TABLE: flow::QueryFlowTableIn => flow::QueryFlowTableOut;
    DESTROY_FLOW_TABLE: flow::DestroyFlowTableIn => flow::DestroyFlowTableOut;
    CREATE_FLOW_GROUP: flow::CreateFlowGroupIn => flow::CreateFlowGroupOut;
    QUERY_FLOW_GROUP: flow::QueryFlowGroupIn => flow::QueryFlowGroupOut;
    DESTROY_FLOW_GROUP: flow::DestroyFlowGroupIn => flow::DestroyFlowGroupOut;
    SET_FLOW_TABLE_ENTRY: flow::SetFteIn => flow::SetFteOut;
    QUERY_FLOW_TABLE_ENTRY: flow::QueryFteIn => flow::QueryFteOut;
    DELETE_FLOW_TABLE_ENTRY: flow::DeleteFteIn => flow::DeleteFteOut;
    SET_FLOW_TABLE_ROOT: flow::SetFlowTableRootIn => flow::SetFlowTableRootOut;
    QUERY_NIC_VPORT_CONTEXT: vport::QueryNicVportContextIn => vport::QueryNicVportContextOut;
    MODIFY_NIC_VPORT_CONTEXT: vport::ModifyNicVportContextIn => vport::ModifyNicVportContextOut;
    QUERY_VPORT_STATE: vport::QueryVportStateIn => vport::QueryVportStateOut;
    MODIFY_VPORT_STATE: vport::ModifyVportStateIn => vport::ModifyVportStateOut;
    QUERY_VPORT_COUNTER: vport::QueryVportCounterIn => vport::QueryVportCounterOut;
    SET_L2_TABLE_ENTRY: vport::SetL2TableEntryIn => vport::SetL2TableEntryOut;
    DELETE_L2_TABLE_ENTRY: vport::DeleteL2TableEntryIn => vport::DeleteL2TableEntryOut;
    ACCESS_REG: register::AccessRegisterIn => register::AccessRegisterOut;
    CREATE_GENERAL_OBJECT: object::CreateTagBufferTableIn => object::GeneralObjOutCmdHdr;
    DESTROY_GENERAL_OBJECT: object::GeneralObjInCmdHdr => object::GeneralObjOutCmdHdr;
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | an opcode is described once, by layouts that carry the command's own name | `names_agree_with_opcodes` |
    use super::*;

    #[test]
    fn names_agree_with_opcodes() {
        for (n, info) in COMMANDS.iter().enumerate() {
            assert!(COMMANDS[..n].iter().all(|other| other.opcode != info.opcode), "{} twice", info.opcode);
            let opcode = info.opcode.name().expect("a named opcode").to_lowercase();
            let name = match opcode.as_str() {
                "access_reg" => "access_register".to_owned(),
                "create_general_object" | "destroy_general_object" => continue,
                other => other.replace("flow_table_entry", "fte"),
            };
            assert_eq!(info.input.name, format!("{name}_in"));
            assert_eq!(info.output.name, format!("{name}_out"));
        }
    }
}
