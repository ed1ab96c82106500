//! `rdma-probe ADDRESS ...`: opens functions that vfio-pci has through rdma-core's own driver, does with them what its users
//! do, closes them, and does it all again (`docs/conformance.md`).
//!
//! The driver, libmlx5 out of Debian's package, brings the function up and executes commands; it knows no more of
//! queues than that. The commands are ours, in our layouts: what this shows of them is that both read them alike where the driver
//! looks into them, to destroy an object by its number for one.

mod library;
mod memory;
mod queues;

use firmware_iface::Status;
use firmware_iface::caps::{CapGroup, CapMode, CmdHcaCap};
use firmware_iface::command::table::Command;
use firmware_iface::command::{InHeader, OutHeader, device::*, object::*, vport::*};
use firmware_iface::context::{AccessMode, Mkc};
use firmware_iface::vport::NicVportContext;
use hw_regs::layout::{Access, Layout};
use library::{Context, Library, Object, ProtectionDomain};
use memory::Memory;
use queues::Queues;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::process::ExitCode;

/// What is registered, in bytes: at the start of a page and, last, in the middle of one.
const REGIONS: [(usize, usize); 6] = [(0, 1), (0, 4096), (0, 65536), (0, 2 << 20), (0, 16 << 20), (1234, 70_001)];
/// Frames that are sent, in bytes.
const FRAMES: [usize; 5] = [60, 64, 257, 1499, 1514];
/// An EtherType for experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// Why something did not work.
#[derive(Debug)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What everything here returns.
pub type Outcome<T> = Result<T, Error>;

fn main() -> ExitCode {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    if addresses.is_empty() {
        eprintln!("usage: rdma-probe ADDRESS ...");
        return ExitCode::FAILURE;
    }
    match run(&addresses) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rdma-probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(addresses: &[String]) -> Outcome<()> {
    let library = Library::load()?;
    for round in 1..=2 {
        let functions = addresses.iter().map(|address| library.open(address)).collect::<Outcome<Vec<_>>>()?;
        for (address, context) in addresses.iter().zip(&functions) {
            println!("{address}: open");
            describe(context)?;
            println!("{address}: protection domain and memory regions ok");
        }
        if let [first, second, ..] = &functions[..] {
            frames(first, second)?;
            println!("frames both ways ok");
        }
        functions.into_iter().try_for_each(Context::close)?;
        println!("round {round} ok");
    }
    Ok(())
}

/// The bytes of a command with what follows its fixed part.
fn input<C: Command>(command: &C, tail: &[u8]) -> Vec<u8> {
    let mut input = [command.bytes(), tail].concat();
    input[..2].copy_from_slice(&C::OPCODE.0.to_be_bytes());
    input
}

/// A failure with what the output of the command says of it.
fn explained(error: Error, output: &[u8]) -> Error {
    let header = OutHeader::from_prefix(output);
    match header.status() {
        Status::OK => error,
        status => Error(format!("{error}: {status}, syndrome {:#x}", header.get(OutHeader::SYNDROME))),
    }
}

/// Executes a command.
fn execute<C: Command>(context: &Context, command: &C) -> Outcome<C::Output> {
    let mut output = vec![0; C::Output::SIZE];
    let done = context.command(&input(command, &[]), &mut output);
    done.map_err(|error| Error(format!("{}: {}", C::OPCODE, explained(error, &output))))?;
    Ok(C::Output::from_prefix(&output))
}

/// Executes a command that creates an object.
fn create<C: Command>(context: &Context, command: &C, tail: &[u8]) -> Outcome<(Object, C::Output)> {
    let mut output = vec![0; C::Output::SIZE];
    let object = context.create(&input(command, tail), &mut output);
    let object = object.map_err(|error| Error(format!("{}: {}", C::OPCODE, explained(error, &output))))?;
    Ok((object, C::Output::from_prefix(&output)))
}

fn must(what: &str, holds: bool) -> Outcome<()> {
    if holds { Ok(()) } else { Err(Error(format!("{what}: it is not so"))) }
}

/// What the function is, memory of every kind, and what a refusal looks like.
fn describe(context: &Context) -> Outcome<()> {
    for (name, outcome) in context.describe() {
        match outcome {
            Ok(()) => println!("{name}: ok"),
            Err(error) => println!("{name}{error}"),
        }
    }
    let op_mod = CapGroup::GENERAL.query_op_mod(CapMode::Current);
    let output = execute(context, &QueryHcaCapIn::zeroed().with(QueryHcaCapIn::OP_MOD, u32::from(op_mod)))?;
    let caps = CmdHcaCap::from_prefix(output.blob(QueryHcaCapOut::CAPABILITY));
    println!(
        "QUERY_HCA_CAP: log_max_mkey {}, nvmeotcp {}",
        caps.get(CmdHcaCap::LOG_MAX_MKEY),
        caps.get(CmdHcaCap::NVMEOTCP)
    );
    must("umem_uid_0", caps.is_set(CmdHcaCap::UMEM_UID_0))?;
    must("cmdif_checksum was turned off", caps.get(CmdHcaCap::CMDIF_CHECKSUM) == 0)?;
    execute(context, &QueryAdapterIn::zeroed())?;
    let vport: NicVportContext = nic_vport(context)?;
    must("roce_en was turned on", vport.is_set(NicVportContext::ROCE_EN))?;
    let state = execute(context, &QueryVportStateIn::zeroed())?;
    must("the link is up", state.get(QueryVportStateOut::STATE) == 1)?;

    let domain = context.protection_domain()?;
    let mut regions = Vec::new();
    for (offset, len) in REGIONS {
        let memory = Memory::new(offset + len);
        let region = domain.register(&memory, offset, len)?;
        let query = QueryMkeyIn::zeroed().with(QueryMkeyIn::MKEY_INDEX, region.key() >> 8);
        let mkc: Mkc = execute(context, &query)?.nested(QueryMkeyOut::MEMORY_KEY_MKEY_ENTRY);
        let is = (mkc.get_wide(Mkc::START_ADDR), mkc.get_wide(Mkc::LEN));
        must("the key has the region's address and length", is == region.range())?;
        must("the key is the region's", mkc.get(Mkc::MKEY_7_0) == region.key() & 0xff)?;
        must("the key is a list of pages", mkc.get(Mkc::ACCESS_MODE_1_0) == u32::from(AccessMode::MTT.0))?;
        must("the key is in its domain", mkc.get(Mkc::PD) == domain.number()?)?;
        regions.push((memory, region));
    }
    // A refusal comes back as one, and nothing is lost.
    let domain = match domain.deallocate() {
        Ok(()) => return Err(Error("a domain that keys belong to was deallocated".into())),
        Err((domain, _)) => domain,
    };
    let mut output = [0; OutHeader::SIZE];
    must("an opcode that there is not is refused", context.command(InHeader::zeroed().bytes(), &mut output).is_err())?;
    must("its status says so", OutHeader::from_prefix(&output).status() == Status::BAD_OP_ERR)?;
    for (memory, region) in regions {
        region.deregister()?;
        drop(memory);
    }
    // Whether events wait depends on how early an interrupt was; to serve them is right in any case.
    let events = context.events();
    poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&Timespec::default()))
        .map_err(|error| Error(format!("the descriptor of events: {error}")))?;
    context.process_events()?;
    free(domain)
}

fn free(domain: ProtectionDomain) -> Outcome<()> {
    domain.deallocate().map_err(|(_, error)| error)
}

fn nic_vport(context: &Context) -> Outcome<NicVportContext> {
    let output = execute(context, &QueryNicVportContextIn::zeroed())?;
    Ok(output.nested(QueryNicVportContextOut::NIC_VPORT_CONTEXT))
}

fn mac(context: &Context) -> Outcome<[u8; 6]> {
    let address = nic_vport(context)?.nested(NicVportContext::PERMANENT_ADDRESS);
    Ok(std::array::from_fn(|n| address.bytes()[2 + n]))
}

/// Frames from each of two functions to the other, through queues in memory that the driver registered.
fn frames(first: &Context, second: &Context) -> Outcome<()> {
    let macs = [mac(first)?, mac(second)?];
    let domains = [first.protection_domain()?, second.protection_domain()?];
    let mut queues = [Queues::new(first, &domains[0])?, Queues::new(second, &domains[1])?];
    for (n, len) in FRAMES.into_iter().enumerate() {
        for (from, to) in [(0, 1), (1, 0)] {
            let payload = (0..len - 14).map(|at| (at * 7 + n * 31 + from) as u8);
            let frame: Vec<u8> = macs[to].into_iter().chain(macs[from]).chain(ETHERTYPE).chain(payload).collect();
            queues[to].arm_completions();
            queues[from].send(&frame);
            queues[from].sent()?;
            let received = queues[to].receive()?;
            must("a frame arrives as it was sent", received == frame)?;
        }
    }
    queues.into_iter().try_for_each(Queues::destroy)?;
    domains.into_iter().try_for_each(free)
}
