//! A host for tests: memory, a command queue in polling mode, and as much of a driver as a test needs. It knows the
//! device from the outside only: registers, memory, interrupts, wire.

use crate::dma::build::file;
use crate::{Config, VirtualNic};
use firmware_iface::command::{InHeader, OutHeader, device::*, flow::*, object::*, queue::*};
use firmware_iface::context::*;
use firmware_iface::steering::{DestFormat, FlowAction, FlowContext, FlowDestinationType, FlowTableContext};
use firmware_iface::{Opcode, Status};
use hw_regs::command_queue::{CommandEntry, DeliveryStatus, Mailbox};
use hw_regs::eqe::{Eqe, EventType};
use hw_regs::layout::{Access, Layout};
use hw_regs::uar;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// Where the host's memory is for the device, and how much there is.
pub(crate) const BASE: u64 = 0x1_0000_0000;
pub(crate) const MEMORY: u64 = 32 << 20;
const QUEUE: u64 = BASE;
/// Registers of the initialization segment.
pub(crate) const QUEUE_HIGH: u64 = 0x10;
pub(crate) const QUEUE_LOW: u64 = 0x14;
pub(crate) const DOORBELL: u64 = 0x18;

pub(crate) struct Host {
    pub(crate) nic: VirtualNic,
    memory: File,
    next: u64,
    token: u8,
    pub(crate) interrupts: Arc<Mutex<Vec<u16>>>,
    pub(crate) uar: u32,
    pub(crate) pd: u32,
    pub(crate) td: u32,
    /// Physical-address memory key of `pd`.
    pub(crate) key: u32,
}

/// A ring that the host made: its buffer and its doorbell record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) number: u32,
    pub(crate) buffer: u64,
    pub(crate) record: u64,
    pub(crate) log_size: u32,
    pub(crate) stride: u64,
    /// The consumer's (EQ, CQ) or producer's (SQ, RQ) counter.
    pub(crate) counter: u32,
}

impl Queue {
    pub(crate) fn at(&self, counter: u32) -> u64 {
        self.buffer + u64::from(counter & ((1 << self.log_size) - 1)) * self.stride
    }
}

impl Host {
    /// A function with memory, its command queue in place, not enabled.
    pub(crate) fn new(config: Config) -> Host {
        let mut nic = VirtualNic::new(config);
        let memory = file(MEMORY);
        nic.dma_map(BASE, &memory, MEMORY).unwrap();
        let interrupts = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&interrupts);
        nic.on_interrupt(Box::new(move |vector| seen.lock().unwrap().push(vector)));
        let mut host = Host { nic, memory, next: BASE + 4096, token: 0, interrupts, uar: 0, pd: 0, td: 0, key: 0 };
        host.start_command_queue();
        host
    }

    pub(crate) fn start_command_queue(&mut self) {
        self.nic.write32(QUEUE_HIGH, (QUEUE >> 32) as u32);
        self.nic.write32(QUEUE_LOW, QUEUE as u32);
    }

    /// A function that runs, with a UAR, a protection and a transport domain and a memory key.
    pub(crate) fn running(config: Config) -> Host {
        let mut host = Host::new(config);
        host.start();
        host.uar = host.exec::<_, AllocUarOut>(Opcode::ALLOC_UAR, &AllocUarIn::zeroed()).get(AllocUarOut::UAR);
        host.pd = host.exec::<_, AllocPdOut>(Opcode::ALLOC_PD, &AllocPdIn::zeroed()).get(AllocPdOut::PD);
        let td = AllocTransportDomainIn::zeroed();
        host.td = host
            .exec::<_, AllocTransportDomainOut>(Opcode::ALLOC_TRANSPORT_DOMAIN, &td)
            .get(AllocTransportDomainOut::TRANSPORT_DOMAIN);
        let mkc = Mkc::zeroed()
            .with(Mkc::LR, 1)
            .with(Mkc::LW, 1)
            .with(Mkc::QPN, 0xff_ffff)
            .with(Mkc::LENGTH64, 1)
            .with(Mkc::PD, host.pd);
        host.key = host.create_mkey(&mkc);
        host
    }

    /// ENABLE_HCA to INIT_HCA.
    pub(crate) fn start(&mut self) {
        self.exec::<_, OutHeader>(Opcode::ENABLE_HCA, &EnableHcaIn::zeroed());
        self.exec::<_, OutHeader>(Opcode::SET_ISSI, &SetIssiIn::zeroed().with(SetIssiIn::CURRENT_ISSI, 1));
        for which in [QueryPagesOpMod::BOOT_PAGES, QueryPagesOpMod::INIT_PAGES] {
            let wanted = self.query_pages(which);
            self.give_pages(wanted as usize);
        }
        self.exec::<_, OutHeader>(Opcode::INIT_HCA, &InitHcaIn::zeroed());
    }

    pub(crate) fn query_pages(&mut self, which: QueryPagesOpMod) -> i32 {
        let input = QueryPagesIn::zeroed().with(QueryPagesIn::OP_MOD, u32::from(which.0));
        self.exec::<_, QueryPagesOut>(Opcode::QUERY_PAGES, &input).get(QueryPagesOut::NUM_PAGES) as i32
    }

    pub(crate) fn give_pages(&mut self, count: usize) -> Vec<u64> {
        let pages: Vec<u64> = (0..count).map(|_| self.alloc(4096, 4096)).collect();
        let output = self.give(&pages);
        assert_eq!(OutHeader::from_prefix(&output).status(), Status::OK);
        pages
    }

    pub(crate) fn give(&mut self, pages: &[u64]) -> Vec<u8> {
        let input = ManagePagesIn::zeroed()
            .with(ManagePagesIn::OP_MOD, u32::from(ManagePagesOpMod::ALLOCATION_SUCCESS.0))
            .with(ManagePagesIn::INPUT_NUM_ENTRIES, pages.len() as u32);
        let tail: Vec<u8> = pages.iter().flat_map(|page| page.to_be_bytes()).collect();
        self.send(Opcode::MANAGE_PAGES, &[input.bytes(), &tail].concat(), 16)
    }

    /// Takes up to `most` pages back.
    pub(crate) fn take(&mut self, most: u32) -> Vec<u64> {
        let input = ManagePagesIn::zeroed()
            .with(ManagePagesIn::OP_MOD, u32::from(ManagePagesOpMod::HCA_RETURN_PAGES.0))
            .with(ManagePagesIn::INPUT_NUM_ENTRIES, most);
        let output = self.send(Opcode::MANAGE_PAGES, input.bytes(), 16 + 8 * most as usize);
        let header = ManagePagesOut::from_prefix(&output);
        assert_eq!(header.get(ManagePagesOut::STATUS), 0);
        let count = header.get(ManagePagesOut::OUTPUT_NUM_ENTRIES) as usize;
        output[16..].chunks_exact(8).take(count).map(|page| u64::from_be_bytes(page.try_into().unwrap())).collect()
    }

    // Memory.

    pub(crate) fn alloc(&mut self, len: u64, align: u64) -> u64 {
        let at = self.next.next_multiple_of(align);
        self.next = at + len;
        assert!(self.next <= BASE + MEMORY, "the test host's memory is used up");
        at
    }

    pub(crate) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_exact_at(&mut bytes, at - BASE).unwrap();
        bytes
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, at - BASE).unwrap();
    }

    pub(crate) fn write32(&self, at: u64, value: u32) {
        self.write(at, &value.to_be_bytes());
    }

    // Commands.

    /// Writes a command into a slot without ringing. The output mailboxes are filled with 0xee.
    pub(crate) fn post(&mut self, slot: u32, input: &[u8], outlen: usize) -> Posted {
        self.token = self.token.wrapping_add(1).max(1);
        let token = self.token;
        let input_blocks = self.chain(input.get(16..).unwrap_or_default(), token);
        let output_blocks = self.chain(&vec![0xee; outlen.saturating_sub(16)], token);
        let first = |blocks: &[u64]| blocks.first().copied().unwrap_or(0);
        let mut entry = CommandEntry::zeroed()
            .with(CommandEntry::TYPE, 7)
            .with(CommandEntry::INLEN, input.len() as u32)
            .with_wide(CommandEntry::IN_PTR, first(&input_blocks))
            .with_wide(CommandEntry::OUT_PTR, first(&output_blocks))
            .with(CommandEntry::OUTLEN, outlen as u32)
            .with(CommandEntry::TOKEN, u32::from(token))
            .with(CommandEntry::STATUS_OWN_OWNER, 1);
        let inline = input.len().min(16);
        entry.bytes_mut()[16..16 + inline].copy_from_slice(&input[..inline]);
        let at = QUEUE + u64::from(slot) * 64;
        self.write(at, entry.bytes());
        Posted { slot, at, input_blocks, output_blocks, outlen, token }
    }

    /// Mailboxes that hold `data`; freed when the command is done.
    fn chain(&mut self, data: &[u8], token: u8) -> Vec<u64> {
        let blocks: Vec<u64> = data.chunks(512).map(|_| self.alloc(576, 1024)).collect();
        for (number, (bytes, at)) in data.chunks(512).zip(&blocks).enumerate() {
            let mut block = Mailbox::zeroed()
                .with_wide(Mailbox::NEXT, blocks.get(number + 1).copied().unwrap_or(0))
                .with(Mailbox::BLOCK_NUM, number as u32)
                .with(Mailbox::TOKEN, u32::from(token));
            block.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            self.write(*at, block.bytes());
        }
        blocks
    }

    pub(crate) fn ring(&mut self, slots: u32) {
        self.nic.write32(DOORBELL, slots);
    }

    pub(crate) fn entry(&self, posted: &Posted) -> CommandEntry {
        CommandEntry::from_prefix(&self.read(posted.at, 64))
    }

    pub(crate) fn done(&self, posted: &Posted) -> bool {
        !self.entry(posted).is_set(CommandEntry::STATUS_OWN_OWNER)
    }

    /// The output of a command that is done.
    pub(crate) fn output(&self, posted: &Posted) -> Result<Vec<u8>, DeliveryStatus> {
        let entry = self.entry(posted);
        assert!(!entry.is_set(CommandEntry::STATUS_OWN_OWNER), "slot {} is still with the device", posted.slot);
        let delivery = DeliveryStatus(entry.get(CommandEntry::STATUS_OWN_DELIVERY_STATUS) as u8);
        if delivery != DeliveryStatus::OK {
            return Err(delivery);
        }
        let mut output = entry.bytes()[32..48].to_vec();
        posted.output_blocks.iter().for_each(|block| output.extend(self.read(*block, 512)));
        output.truncate(posted.outlen.max(16));
        Ok(output)
    }

    /// Posts, rings and waits by polling. `input` has its own opcode replaced.
    pub(crate) fn send(&mut self, opcode: Opcode, input: &[u8], outlen: usize) -> Vec<u8> {
        let mut input = input.to_vec();
        input[..2].copy_from_slice(&opcode.0.to_be_bytes());
        let mark = self.next;
        let posted = self.post(0, &input, outlen);
        self.ring(1);
        let output = self.output(&posted).unwrap();
        self.next = mark;
        output
    }

    /// A command that succeeds.
    pub(crate) fn exec<I: Layout, O: Layout>(&mut self, opcode: Opcode, input: &I) -> O {
        self.exec_with(opcode, input, &[])
    }

    pub(crate) fn exec_with<I: Layout, O: Layout>(&mut self, opcode: Opcode, input: &I, tail: &[u8]) -> O {
        let output = self.send(opcode, &[input.bytes(), tail].concat(), O::SIZE);
        let header = OutHeader::from_prefix(&output);
        assert_eq!(header.status(), Status::OK, "{opcode}: syndrome {:#x}", header.get(OutHeader::SYNDROME));
        O::from_prefix(&output)
    }

    /// A command that is refused: status and syndrome.
    pub(crate) fn refused<I: Layout>(&mut self, opcode: Opcode, input: &I, tail: &[u8]) -> (Status, u32) {
        let output = self.send(opcode, &[input.bytes(), tail].concat(), 16);
        let header = OutHeader::from_prefix(&output);
        (header.status(), header.get(OutHeader::SYNDROME))
    }

    /// A command without fields that is refused.
    pub(crate) fn refused_plain(&mut self, opcode: Opcode) -> (Status, u32) {
        self.refused(opcode, &InHeader::zeroed(), &[])
    }

    // Objects.

    pub(crate) fn create_mkey(&mut self, mkc: &Mkc) -> u32 {
        let input = CreateMkeyIn::zeroed().with_nested(CreateMkeyIn::MEMORY_KEY_MKEY_ENTRY, mkc);
        let output: CreateMkeyOut = self.exec(Opcode::CREATE_MKEY, &input);
        output.get(CreateMkeyOut::MKEY_INDEX) << 8 | mkc.get(Mkc::MKEY_7_0)
    }

    /// An event queue on `vector` that subscribes to `events`; all entries invalid. Buffers are one large page.
    pub(crate) fn create_eq(&mut self, vector: u32, log_size: u32, events: &[EventType]) -> Queue {
        let bytes = 64u64 << log_size;
        let buffer = self.alloc(bytes, bytes.max(4096));
        self.write(buffer, &vec![0xff; bytes as usize]);
        let eqc = Eqc::zeroed()
            .with(Eqc::LOG_EQ_SIZE, log_size)
            .with(Eqc::UAR_PAGE, self.uar)
            .with(Eqc::INTR, vector)
            .with(Eqc::LOG_PAGE_SIZE, log_page_size(bytes));
        let mut input = CreateEqIn::zeroed().with_nested(CreateEqIn::EQ_CONTEXT_ENTRY, &eqc);
        for event in events {
            let word = usize::from(event.0) / 64;
            let bits = input.get_at(CreateEqIn::EVENT_BITMASK, word) | 1 << (event.0 % 64);
            input.set_at(CreateEqIn::EVENT_BITMASK, word, bits);
        }
        let output: CreateEqOut = self.exec_with(Opcode::CREATE_EQ, &input, &buffer.to_be_bytes());
        let number = output.get(CreateEqOut::EQ_NUMBER);
        Queue { number, buffer, record: 0, log_size, stride: 64, counter: 0 }
    }

    /// The next event, if there is one.
    pub(crate) fn next_event(&self, eq: &mut Queue) -> Option<Eqe> {
        let eqe = Eqe::from_prefix(&self.read(eq.at(eq.counter), 64));
        if eqe.get(Eqe::OWNER_OWNER_BIT) != eq.counter >> eq.log_size & 1 {
            return None;
        }
        eq.counter += 1;
        Some(eqe)
    }

    pub(crate) fn arm_eq(&mut self, eq: &Queue) {
        self.nic.write32(uar::offset(self.uar, uar::EQ_ARM), eq.number << 24 | eq.counter & 0xff_ffff);
    }

    pub(crate) fn take_interrupts(&self) -> Vec<u16> {
        std::mem::take(&mut self.interrupts.lock().unwrap())
    }

    pub(crate) fn create_cq(&mut self, eqn: u32, log_size: u32, stride: u64) -> Queue {
        self.create_cq_with(eqn, log_size, stride, |_| {})
    }

    pub(crate) fn create_cq_with(&mut self, eqn: u32, log_size: u32, stride: u64, edit: impl Fn(&mut Cqc)) -> Queue {
        let bytes = stride << log_size;
        let buffer = self.alloc(bytes, bytes.max(4096));
        self.write(buffer, &vec![0xff; bytes as usize]);
        let record = self.alloc(64, 64);
        self.write(record, &[0; 8]);
        let mut cqc = Cqc::zeroed()
            .with(Cqc::CQE_SZ, if stride == 128 { 2 } else { 0 })
            .with(Cqc::LOG_CQ_SIZE, log_size)
            .with(Cqc::UAR_PAGE, self.uar)
            .with(Cqc::C_EQN_OR_APU_ELEMENT, eqn)
            .with(Cqc::LOG_PAGE_SIZE, log_page_size(bytes))
            .with_wide(Cqc::DBR_ADDR, record);
        edit(&mut cqc);
        let input = CreateCqIn::zeroed().with_nested(CreateCqIn::CQ_CONTEXT, &cqc);
        let output: CreateCqOut = self.exec_with(Opcode::CREATE_CQ, &input, &buffer.to_be_bytes());
        Queue { number: output.get(CreateCqOut::CQN), buffer, record, log_size, stride, counter: 0 }
    }

    /// The next completion, 64 or 128 bytes, if there is one; the consumer counter is given back at once.
    pub(crate) fn next_cqe(&self, cq: &mut Queue) -> Option<Vec<u8>> {
        let cqe = self.read(cq.at(cq.counter), cq.stride as usize);
        let owner = cqe[cqe.len() - 1];
        if u32::from(owner & 1) != cq.counter >> cq.log_size & 1 || owner >> 4 == 0xf {
            return None;
        }
        cq.counter += 1;
        self.write32(cq.record, cq.counter & 0xff_ffff);
        Some(cqe)
    }

    /// Arms for the next completion with a sequence number.
    pub(crate) fn arm_cq(&mut self, cq: &Queue, sequence: u32) {
        let word = sequence << 28 | cq.counter & 0xff_ffff;
        self.write32(cq.record + 4, word);
        self.nic.write64(uar::offset(self.uar, uar::CQ_ARM), u64::from(word) << 32 | u64::from(cq.number));
    }

    fn wq(&mut self, log_size: u32, log_stride: u32) -> (Wq, Queue) {
        let bytes = 1u64 << (log_size + log_stride);
        let buffer = self.alloc(bytes, bytes.max(4096));
        let record = self.alloc(64, 64);
        self.write(record, &[0; 8]);
        let wq = Wq::zeroed()
            .with(Wq::WQ_TYPE, u32::from(WqType::CYCLIC.0))
            .with(Wq::PD, self.pd)
            .with(Wq::UAR_PAGE, self.uar)
            .with_wide(Wq::DBR_ADDR, record)
            .with(Wq::LOG_WQ_STRIDE, log_stride)
            .with(Wq::LOG_WQ_PG_SZ, log_page_size(bytes))
            .with(Wq::LOG_WQ_SZ, log_size);
        (wq, Queue { number: 0, buffer, record, log_size, stride: 1 << log_stride, counter: 0 })
    }

    /// A receive queue in the ready state.
    pub(crate) fn create_rq(&mut self, cqn: u32, log_size: u32, log_stride: u32, edit: impl Fn(&mut Rqc)) -> Queue {
        let (wq, queue) = self.wq(log_size, log_stride);
        let mut rqc = Rqc::zeroed()
            .with(Rqc::CQN, cqn)
            .with(Rqc::VSD, 1)
            .with(Rqc::FLUSH_IN_ERROR_EN, 1)
            .with_nested(Rqc::WQ, &wq);
        edit(&mut rqc);
        let input = CreateRqIn::zeroed().with_nested(CreateRqIn::CTX, &rqc);
        let output: CreateRqOut = self.exec_with(Opcode::CREATE_RQ, &input, &queue.buffer.to_be_bytes());
        let rqn = output.get(CreateRqOut::RQN);
        self.modify_rq(rqn, 0, 1);
        Queue { number: rqn, ..queue }
    }

    pub(crate) fn modify_rq(&mut self, rqn: u32, from: u32, to: u32) {
        let input = ModifyRqIn::zeroed()
            .with(ModifyRqIn::RQ_STATE, from)
            .with(ModifyRqIn::RQN, rqn)
            .with_nested(ModifyRqIn::CTX, &Rqc::zeroed().with(Rqc::STATE, to));
        self.exec::<_, OutHeader>(Opcode::MODIFY_RQ, &input);
    }

    /// A send queue in the ready state; with a TIS, or for memory registration only.
    pub(crate) fn create_sq(&mut self, cqn: u32, log_size: u32, tis: Option<u32>) -> Queue {
        let (wq, queue) = self.wq(log_size, 6);
        let sqc = Sqc::zeroed()
            .with(Sqc::CQN, cqn)
            .with(Sqc::FLUSH_IN_ERROR_EN, 1)
            .with(Sqc::REG_UMR, u32::from(tis.is_none()))
            .with(Sqc::TIS_LST_SZ, u32::from(tis.is_some()))
            .with(Sqc::TIS_NUM_0, tis.unwrap_or(0))
            .with_nested(Sqc::WQ, &wq);
        let input = CreateSqIn::zeroed().with_nested(CreateSqIn::CTX, &sqc);
        let output: CreateSqOut = self.exec_with(Opcode::CREATE_SQ, &input, &queue.buffer.to_be_bytes());
        let sqn = output.get(CreateSqOut::SQN);
        self.modify_sq(sqn, 0, 1);
        Queue { number: sqn, ..queue }
    }

    pub(crate) fn modify_sq(&mut self, sqn: u32, from: u32, to: u32) {
        let input = ModifySqIn::zeroed()
            .with(ModifySqIn::SQ_STATE, from)
            .with(ModifySqIn::SQN, sqn)
            .with_nested(ModifySqIn::CTX, &Sqc::zeroed().with(Sqc::STATE, to));
        self.exec::<_, OutHeader>(Opcode::MODIFY_SQ, &input);
    }

    pub(crate) fn create_tis(&mut self) -> u32 {
        let input =
            CreateTisIn::zeroed().with_nested(CreateTisIn::CTX, &Tisc::zeroed().with(Tisc::TRANSPORT_DOMAIN, self.td));
        self.exec::<_, CreateTisOut>(Opcode::CREATE_TIS, &input).get(CreateTisOut::TISN)
    }

    pub(crate) fn create_tir(&mut self, tirc: &Tirc) -> u32 {
        let tirc = tirc.with(Tirc::TRANSPORT_DOMAIN, self.td);
        let input = CreateTirIn::zeroed().with_nested(CreateTirIn::CTX, &tirc);
        self.exec::<_, CreateTirOut>(Opcode::CREATE_TIR, &input).get(CreateTirOut::TIRN)
    }

    pub(crate) fn create_rqt(&mut self, queues: &[u32]) -> u32 {
        let rqtc = Rqtc::zeroed()
            .with(Rqtc::RQT_MAX_SIZE, queues.len() as u32)
            .with(Rqtc::RQT_ACTUAL_SIZE, queues.len() as u32);
        let input = CreateRqtIn::zeroed().with_nested(CreateRqtIn::RQT_CONTEXT, &rqtc);
        let list: Vec<u8> = queues.iter().flat_map(|rqn| rqn.to_be_bytes()).collect();
        self.exec_with::<_, CreateRqtOut>(Opcode::CREATE_RQT, &input, &list).get(CreateRqtOut::RQTN)
    }

    /// A root table whose only rule sends everything to `tirn` with `flow_tag`. Returns (table, group).
    pub(crate) fn steer_all(&mut self, tirn: u32, flow_tag: u32) -> (u32, u32) {
        let context = FlowTableContext::zeroed().with(FlowTableContext::LOG_SIZE, 0);
        let input = CreateFlowTableIn::zeroed().with_nested(CreateFlowTableIn::FLOW_TABLE_CONTEXT, &context);
        let output: CreateFlowTableOut = self.exec(Opcode::CREATE_FLOW_TABLE, &input);
        let table = output.get(CreateFlowTableOut::TABLE_ID);
        let input = CreateFlowGroupIn::zeroed().with(CreateFlowGroupIn::TABLE_ID, table);
        let output: CreateFlowGroupOut = self.exec(Opcode::CREATE_FLOW_GROUP, &input);
        let group = output.get(CreateFlowGroupOut::GROUP_ID);
        let context = FlowContext::zeroed()
            .with(FlowContext::GROUP_ID, group)
            .with(FlowContext::FLOW_TAG, flow_tag)
            .with(FlowContext::ACTION, FlowAction::FWD_DEST.0)
            .with(FlowContext::DESTINATION_LIST_SIZE, 1);
        let input = SetFteIn::zeroed().with(SetFteIn::TABLE_ID, table).with_nested(SetFteIn::FLOW_CONTEXT, &context);
        let destination = DestFormat::zeroed()
            .with(DestFormat::DESTINATION_TYPE, u32::from(FlowDestinationType::TIR.0))
            .with(DestFormat::DESTINATION_ID, tirn);
        self.exec_with::<_, SetFteOut>(Opcode::SET_FLOW_TABLE_ENTRY, &input, destination.bytes());
        let input = SetFlowTableRootIn::zeroed().with(SetFlowTableRootIn::TABLE_ID, table);
        self.exec::<_, SetFlowTableRootOut>(Opcode::SET_FLOW_TABLE_ROOT, &input);
        (table, group)
    }

    /// Destroys an object whose number has `field` in the input.
    pub(crate) fn destroy<I: Layout>(&mut self, opcode: Opcode, input: &I) {
        self.exec::<_, OutHeader>(opcode, input);
    }

    /// Posts receive buffers of `len` bytes, one segment each; returns their addresses.
    pub(crate) fn post_receives(&mut self, rq: &mut Queue, count: u32, len: u32) -> Vec<u64> {
        let key = self.key;
        (0..count)
            .map(|_| {
                let buffer = self.alloc(u64::from(len), 64);
                self.write(buffer, &vec![0xcc; len as usize]);
                self.write(rq.at(rq.counter), &data_segment(len, key, buffer));
                rq.counter += 1;
                self.write32(rq.record, rq.counter & 0xffff);
                buffer
            })
            .collect()
    }

    /// Posts a WQE: its control segment gets index and queue. Does not ring.
    pub(crate) fn post_send(&mut self, sq: &mut Queue, wqe: &[u8]) -> u16 {
        let index = sq.counter as u16;
        let mut wqe = wqe.to_vec();
        wqe[1..3].copy_from_slice(&index.to_be_bytes());
        wqe[4..7].copy_from_slice(&sq.number.to_be_bytes()[1..]);
        for (block, bytes) in wqe.chunks(64).enumerate() {
            self.write(sq.at(sq.counter + block as u32), bytes);
        }
        sq.counter += wqe.len().div_ceil(64) as u32;
        index
    }

    pub(crate) fn ring_sq(&mut self, sq: &Queue) {
        self.write32(sq.record + 4, sq.counter & 0xffff);
        let value = u64::from(sq.number) << 8;
        self.nic.write64(uar::offset(self.uar, uar::BLUEFLAME), value);
    }
}

/// A command in a slot.
pub(crate) struct Posted {
    pub(crate) slot: u32,
    pub(crate) at: u64,
    pub(crate) input_blocks: Vec<u64>,
    pub(crate) output_blocks: Vec<u64>,
    pub(crate) outlen: usize,
    pub(crate) token: u8,
}

/// The buffer is one page of at least this many bytes.
fn log_page_size(bytes: u64) -> u32 {
    bytes.next_power_of_two().trailing_zeros().saturating_sub(12)
}

pub(crate) fn data_segment(len: u32, key: u32, address: u64) -> [u8; 16] {
    let mut segment = [0; 16];
    segment[..4].copy_from_slice(&len.to_be_bytes());
    segment[4..8].copy_from_slice(&key.to_be_bytes());
    segment[8..].copy_from_slice(&address.to_be_bytes());
    segment
}
