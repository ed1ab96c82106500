//! Fabrics commands: Connect, Property Get, Property Set, and the properties that bring a controller up.

use super::command::{Data, FLAGS_SGL, Request, SglDescriptor, Sqe, admin_opcode};
use std::fmt;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned, transmute};

const FCTYPE_PROPERTY_SET: u8 = 0x00;
const FCTYPE_CONNECT: u8 = 0x01;
const FCTYPE_PROPERTY_GET: u8 = 0x04;

/// Controller id that asks for any controller (dynamic controller model, Fabrics 3.3).
pub const CNTLID_ANY: u16 = 0xffff;

/// Bytes of the Connect command's data.
pub const CONNECT_DATA_LEN: usize = 1024;

/// An NVMe qualified name: 1 to 223 bytes of UTF-8 without NUL (Base 4.5).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Nqn(String);

/// A name that is no NQN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not an NVMe qualified name: 1 to 223 bytes, starting with \"nqn.\", without control characters")]
pub struct BadNqn {
    /// What was given.
    pub name: String,
}

impl Nqn {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Nqn, BadNqn> {
        let ok = name.len() <= 223 && name.starts_with("nqn.") && !name.chars().any(char::is_control);
        if ok { Ok(Nqn(name.to_owned())) } else { Err(BadNqn { name: name.to_owned() }) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Who connects to what: the same for every queue of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// Host identifier (a UUID, in the order of its text form).
    pub host_id: [u8; 16],
    /// The host's name.
    pub host_nqn: Nqn,
    /// The subsystem's name.
    pub subsystem_nqn: Nqn,
}

/// Connect (Fabrics 3.3): makes a queue of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Who connects to what.
    pub identity: HostIdentity,
    /// Controller; [`CNTLID_ANY`] on the admin queue, what its Connect returned on I/O queues.
    pub controller_id: u16,
    /// 0 for the admin queue.
    pub queue_id: u16,
    /// SQSIZE: entries of the submission queue minus 1, which is how many commands may be outstanding.
    pub sq_size: u16,
    /// Keep-alive timeout in milliseconds, 0 for none; admin queue only.
    pub keep_alive_ms: u32,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct ConnectSqe {
    opcode: u8,
    flags: u8,
    cid: U16,
    fctype: u8,
    reserved5: [u8; 19],
    sgl: SglDescriptor,
    record_format: U16,
    queue_id: U16,
    sq_size: U16,
    attributes: u8,
    reserved47: u8,
    keep_alive_ms: U32,
    reserved52: [u8; 12],
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct PropertySqe {
    opcode: u8,
    flags: u8,
    cid: U16,
    fctype: u8,
    reserved5: [u8; 35],
    attributes: u8,
    reserved41: [u8; 3],
    offset: U32,
    value: U64,
    reserved56: [u8; 8],
}

/// CATTR bit 2: no SQ flow control, so that responses may be left out (SUCCESS flag of C2HData).
const DISABLE_SQ_FLOW_CONTROL: u8 = 1 << 2;

impl Connect {
    /// The command with its data.
    pub fn request(&self) -> Request {
        let sqe: Sqe = transmute!(ConnectSqe {
            opcode: admin_opcode::FABRICS,
            flags: FLAGS_SGL,
            cid: 0.into(),
            fctype: FCTYPE_CONNECT,
            reserved5: [0; 19],
            sgl: SglDescriptor::default(),
            record_format: 0.into(),
            queue_id: self.queue_id.into(),
            sq_size: self.sq_size.into(),
            attributes: DISABLE_SQ_FLOW_CONTROL,
            reserved47: 0,
            keep_alive_ms: self.keep_alive_ms.into(),
            reserved52: [0; 12],
        });
        let mut data = vec![0; CONNECT_DATA_LEN];
        let (subsystem, host) = (self.identity.subsystem_nqn.0.as_bytes(), self.identity.host_nqn.0.as_bytes());
        data[..16].copy_from_slice(&self.identity.host_id);
        data[16..18].copy_from_slice(&self.controller_id.to_le_bytes());
        data[256..256 + subsystem.len()].copy_from_slice(subsystem);
        data[512..512 + host.len()].copy_from_slice(host);
        Request { sqe, data: Data::ControlWrite(data) }
    }

    /// The parameter that an answer of Connect Invalid Parameters points at, from the result's dword 0 (Fabrics 3.3):
    /// bits 15:0 offset, bit 16 whether that is in the data or in the entry.
    pub fn refused_parameter(result: u64) -> &'static str {
        match (result >> 16 & 1, result & 0xffff) {
            (0, 40..=41) => "RECFMT (record format)",
            (0, 42..=43) => "QID (queue id)",
            (0, 44..=45) => "SQSIZE (queue size)",
            (0, 46) => "CATTR (connect attributes)",
            (0, 48..=51) => "KATO (keep-alive timeout)",
            (1, 0..=15) => "HOSTID (host id)",
            (1, 16..=17) => "CNTLID (controller id)",
            (1, 256..=511) => "SUBNQN (subsystem name)",
            (1, 512..=767) => "HOSTNQN (host name)",
            _ => "a parameter that it does not name",
        }
    }
}

/// Controller properties (Base 3.1.3), by offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// CAP, controller capabilities, 8 bytes.
    Capabilities,
    /// VS, version, 4 bytes.
    Version,
    /// CC, controller configuration, 4 bytes.
    Configuration,
    /// CSTS, controller status, 4 bytes.
    Status,
}

impl Property {
    const fn offset(self) -> u32 {
        match self {
            Property::Capabilities => 0x00,
            Property::Version => 0x08,
            Property::Configuration => 0x14,
            Property::Status => 0x1c,
        }
    }

    const fn size(self) -> u8 {
        matches!(self, Property::Capabilities) as u8
    }

    /// The specification's abbreviation.
    pub const fn name(self) -> &'static str {
        match self {
            Property::Capabilities => "CAP",
            Property::Version => "VS",
            Property::Configuration => "CC",
            Property::Status => "CSTS",
        }
    }

    /// Property Get (Fabrics 3.5). The value is the result of the completion.
    pub fn get(self) -> Request {
        self.request(FCTYPE_PROPERTY_GET, 0)
    }

    /// Property Set (Fabrics 3.6).
    pub fn set(self, value: u64) -> Request {
        self.request(FCTYPE_PROPERTY_SET, value)
    }

    fn request(self, fctype: u8, value: u64) -> Request {
        let sqe: Sqe = transmute!(PropertySqe {
            opcode: admin_opcode::FABRICS,
            flags: FLAGS_SGL,
            cid: 0.into(),
            fctype,
            reserved5: [0; 35],
            attributes: self.size(),
            reserved41: [0; 3],
            offset: self.offset().into(),
            value: value.into(),
            reserved56: [0; 8],
        });
        Request { sqe, data: Data::None }
    }
}

/// CAP (Base 3.1.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// MQES: most entries of a queue minus 1.
    pub fn max_queue_size(self) -> u16 {
        self.0 as u16
    }

    /// TO: how long RDY may take to follow EN.
    pub fn ready_timeout(self) -> std::time::Duration {
        std::time::Duration::from_millis(500 * (self.0 >> 24 & 0xff))
    }

    /// CSS bit 0: the NVM command set.
    pub fn nvm_command_set(self) -> bool {
        self.0 >> 37 & 1 != 0
    }

    /// CSS bit 6: one or more I/O command sets, chosen with CC.CSS = 110b.
    pub fn io_command_sets(self) -> bool {
        self.0 >> 43 & 1 != 0
    }

    /// MPSMIN: log2 of the smallest page size, in bytes.
    pub fn log_min_page(self) -> u32 {
        12 + (self.0 >> 48 & 0xf) as u32
    }
}

/// CC (Base 3.1.3.5), built up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration(pub u32);

impl Configuration {
    /// EN set; CSS as `capabilities` wants; MPS the smallest page; 64-byte submission and 16-byte completion entries.
    pub fn enable(capabilities: Capabilities) -> Configuration {
        let css = if capabilities.nvm_command_set() || !capabilities.io_command_sets() { 0 } else { 0b110 };
        Configuration(1 | css << 4 | (capabilities.log_min_page() - 12) << 7 | 6 << 16 | 4 << 20)
    }

    /// The same with SHN = normal shutdown.
    #[must_use]
    pub fn shutdown(self) -> Configuration {
        Configuration(self.0 & !(0b11 << 14) | 0b01 << 14)
    }
}

/// CSTS (Base 3.1.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerStatus(pub u32);

impl ControllerStatus {
    /// RDY: commands are processed.
    pub fn ready(self) -> bool {
        self.0 & 1 != 0
    }

    /// CFS: a fatal error that only a reset ends.
    pub fn fatal(self) -> bool {
        self.0 & 2 != 0
    }

    /// SHST = 10b: shutdown is complete.
    pub fn shutdown_complete(self) -> bool {
        self.0 >> 2 & 0b11 == 0b10
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | Fabrics commands have the bytes that the specification gives them | `commands_have_the_specified_bytes` |
    //! | names that do not fit their field are refused | `only_names_are_names` |
    //! | properties are taken apart as specified | `properties_are_taken_apart_as_specified` |
    use super::*;

    #[test]
    fn commands_have_the_specified_bytes() {
        let nqn = |name| Nqn::new(name).expect("a name");
        let identity =
            HostIdentity { host_id: [9; 16], host_nqn: nqn("nqn.host"), subsystem_nqn: nqn("nqn.subsystem") };
        let connect =
            Connect { identity, controller_id: 0x1234, queue_id: 3, sq_size: 128, keep_alive_ms: 0x0001_86a0 };
        let request = connect.request();
        let mut expected = [0u8; 64];
        expected[..5].copy_from_slice(&[0x7f, 0x40, 0, 0, 1]);
        expected[40..52].copy_from_slice(&[0, 0, 3, 0, 128, 0, 4, 0, 0xa0, 0x86, 1, 0]);
        assert_eq!(request.sqe.as_bytes(), expected);
        let Data::ControlWrite(data) = request.data else { panic!("Connect carries its data") };
        assert_eq!(data.len(), 1024);
        assert_eq!(data[..18], [[9; 16].as_slice(), &[0x34, 0x12]].concat());
        assert_eq!(&data[256..270], b"nqn.subsystem\0");
        assert_eq!(&data[512..521], b"nqn.host\0");

        let get = Property::Capabilities.get().sqe;
        assert_eq!((get.as_bytes()[0], get.as_bytes()[4], get.as_bytes()[40]), (0x7f, 4, 1));
        let set = Property::Configuration.set(0x46_0001).sqe;
        assert_eq!(set.as_bytes()[4], 0);
        assert_eq!(set.as_bytes()[40..56], [0, 0, 0, 0, 0x14, 0, 0, 0, 1, 0, 0x46, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn only_names_are_names() {
        assert!(Nqn::new(&format!("nqn.{}", "x".repeat(219))).is_ok());
        for bad in ["", "nqm.x", "nqn.\0", &format!("nqn.{}", "x".repeat(220))] {
            assert!(Nqn::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn properties_are_taken_apart_as_specified() {
        let cap = Capabilities(0x7f | 30 << 24 | 1 << 37 | 1 << 48);
        assert_eq!((cap.max_queue_size(), cap.ready_timeout().as_secs(), cap.log_min_page()), (127, 15, 13));
        assert_eq!(Configuration::enable(cap).0, 0x46_0081);
        assert_eq!(Configuration::enable(cap).shutdown().0, 0x46_4081);
        assert_eq!(Configuration::enable(Capabilities(1 << 43)).0, 0x46_0061);
        assert!(ControllerStatus(0b1001).shutdown_complete() && !ControllerStatus(0b0101).shutdown_complete());
    }
}
