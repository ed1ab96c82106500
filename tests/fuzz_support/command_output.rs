//! Firmware that answers commands as it likes: entries, mailboxes, events, in any order and at any time.
//!
//! An output that comes out of the queue must be what lay in memory when the device gave the entry back, of the length that
//! was asked for; everything that cannot be an answer is a typed error, costs its slot where the command may still run, and
//! is never taken for the answer of another command.

use super::input::Input;
use super::machine::{Machine, on_machine};
use connectx_ddp::command::{CommandError, CommandPort, CommandQueue, ObjectKind, Output, Request, Ticket};
use connectx_ddp::platform::{Deadline, Platform};
use firmware_iface::Status;
use firmware_iface::command::COMMANDS;
use hw_regs::command_queue::{CommandEntry, Mailbox};
use hw_regs::layout::{Access, Layout};
use std::sync::Arc;
use std::time::Duration;

/// Operations of one input at most.
const STEPS: usize = 200;
/// Mailboxes that an answer is written to at most: a chain is as long as the driver made it.
const CHAIN: usize = 16;
const CMDQ_ADDR_H: u64 = 0x10;
const CMDQ_ADDR_L: u64 = 0x14;
const DOORBELL: u64 = 0x18;
const LOG_STRIDE: u32 = 6;

struct World<'a> {
    machine: &'a Arc<Machine>,
    queue: CommandQueue<Machine>,
    entries: u64,
    tickets: Vec<(Ticket, usize)>,
    /// Token of the command that was posted last, by slot.
    tokens: [u8; 32],
}

pub fn run(data: &[u8]) {
    on_machine(true, |machine| {
        let mut input = Input::new(data);
        let log_slots = 1 + input.below(5);
        machine.registers.borrow_mut().extend([(0x0, 39 << 16 | 28), (0x4, 5 << 16 | 1002)]);
        machine.registers.borrow_mut().insert(CMDQ_ADDR_L, log_slots << 4 | LOG_STRIDE);
        let deadline = Deadline::after(&**machine, Duration::from_secs(1));
        let queue = CommandQueue::start(Arc::clone(machine), machine.heap(), deadline).expect("a good device");
        let written = machine.written.take();
        let word = |at| u64::from(written.iter().find(|write| write.0 == at).expect("written").1);
        let entries = word(CMDQ_ADDR_H) << 32 | word(CMDQ_ADDR_L);
        let mut world = World { machine, queue, entries, tickets: Vec::new(), tokens: [0; 32] };
        world.queue.use_events(input.u8() & 1 != 0);
        world.play(&mut input);
    });
}

impl World<'_> {
    fn play(mut self, input: &mut Input<'_>) {
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            match input.u8() {
                0..=79 => self.post(input),
                80..=169 => self.answer(input),
                170..=189 => self.scribble(input),
                190..=209 => self.queue.complete(input.u32()),
                210..=219 => self.queue.poll(),
                220..=229 => self.wait(input),
                230..=239 => self.machine.pass(Duration::from_millis(input.u16().into())),
                240..=247 => drop((!self.tickets.is_empty()).then(|| self.tickets.swap_remove(0))),
                248..=253 => self.exec(input),
                // The function falls off the bus and comes back: what is there then is another one.
                254..=255 => drop(self.machine.registers.borrow_mut().insert(0, u32::MAX)),
            }
            self.collect();
            let counters = self.queue.counters();
            assert!(self.queue.in_flight() <= self.queue.slots() && self.queue.stuck() <= self.queue.in_flight());
            assert!(counters.succeeded + counters.failed <= counters.posted);
        }
        // What the device still has it gives back, so that little is lost for good.
        for slot in 0..self.queue.slots() {
            self.give_back(slot, &[], &mut Input::new(&[]));
        }
        self.queue.use_events(false);
        self.queue.poll();
        self.collect();
        assert!(self.queue.stuck() == self.queue.in_flight(), "a command was answered and is still in flight");
    }

    fn request(&self, input: &mut Input<'_>) -> Request {
        let info = COMMANDS[input.below(COMMANDS.len() as u32) as usize];
        let mut bytes = vec![0; info.input.size];
        bytes[..2].copy_from_slice(&info.opcode.0.to_be_bytes());
        bytes[7] = input.u8() % 4;
        let request = Request::from_bytes(&bytes, info.output.size);
        let request = if input.u8() < 32 { request.output_len(usize::from(input.u16()) % 8192 + 16) } else { request };
        if input.u8() < 128 { request.about(ObjectKind::Cq, input.u8().into()) } else { request }
    }

    fn post(&mut self, input: &mut Input<'_>) {
        let request = self.request(input);
        match self.queue.post(&request) {
            Ok(ticket) => self.tickets.push((ticket, request.expected_output())),
            Err(error) => self.explained(&error),
        }
    }

    fn exec(&mut self, input: &mut Input<'_>) {
        // Slots that are free by now are used again before anybody could look what was in them.
        self.queue.poll();
        self.collect();
        let request = self.request(input);
        let deadline = Deadline::after(&**self.machine, Duration::from_micros(u64::from(input.u8()) * 50));
        let done = self.queue.exec(&request, deadline);
        self.note();
        match done {
            Ok(output) => self.read(&output, request.expected_output()),
            Err(error) => self.explained(&error),
        }
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        if self.tickets.is_empty() {
            return;
        }
        let (ticket, len) = self.tickets.swap_remove(input.below(self.tickets.len() as u32) as usize);
        let patience = Duration::from_micros(u64::from(input.u8()) * 100);
        let deadline = Deadline::after(&**self.machine, patience);
        let began = self.machine.now();
        match self.queue.wait(ticket, deadline) {
            Ok(output) => self.read(&output, len),
            Err(error) => self.explained(&error),
        }
        assert!(self.machine.now() - began <= patience + Duration::from_millis(1), "a wait outlived its deadline");
    }

    /// Notes what was posted. The device has not touched it yet.
    fn note(&mut self) {
        for (at, slots) in self.machine.written.take() {
            for slot in (0..32).filter(|slot| at == DOORBELL && slots & 1 << slot != 0) {
                self.tokens[slot] = self.machine.memory.read::<64>(self.at(slot))[60];
            }
        }
    }

    fn collect(&mut self) {
        self.note();
        for (ticket, len) in std::mem::take(&mut self.tickets) {
            match ticket.take() {
                Ok(Ok(output)) => self.read(&output, len),
                Ok(Err(error)) => self.explained(&error),
                Err(ticket) => self.tickets.push((ticket, len)),
            }
        }
    }

    /// An answer: as long as asked for, with status OK, and what lies in a slot that was given back with the token and the
    /// length of its command; every layout can be read from it.
    fn read(&self, output: &Output, len: usize) {
        let answers = |slot: usize| {
            let entry = CommandEntry::from_prefix(&self.machine.memory.read::<64>(self.at(slot)));
            entry.bytes()[32..48] == output.bytes()[..16]
                && entry.get(CommandEntry::TOKEN) == u32::from(self.tokens[slot])
                && entry.get(CommandEntry::OUTLEN) as usize == len
                && entry.get(CommandEntry::STATUS_OWN) == 0
        };
        assert!((0..self.queue.slots()).any(answers), "an output that no command had");
        assert_eq!(output.bytes().len(), len.max(16));
        assert_eq!(output.header().status(), Status::OK);
        // Whichever command it answers: any layout can be read from any answer.
        for info in COMMANDS.iter().skip(len % 7).step_by(7) {
            hw_regs::layout::describe(info.output, output.bytes(), &mut String::new())
                .expect("a string takes everything");
        }
        for kind in [ObjectKind::Eq, ObjectKind::Cq, ObjectKind::Mkey, ObjectKind::Tir, ObjectKind::TagBufferTable] {
            let _ = kind.number(output);
        }
        let _ = (output.tail(len + 1), output.tail(16), output.word(len), output.word(len + 4096));
    }

    fn explained(&self, error: &CommandError) {
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
        assert!(error.advice().is_none_or(|advice| !advice.is_empty()));
        assert_eq!(error.status().is_some(), matches!(error.fault, connectx_ddp::command::Fault::Status { .. }));
    }

    fn at(&self, slot: usize) -> u64 {
        self.entries + ((slot as u64) << LOG_STRIDE)
    }

    /// The device answers a slot, truly or not.
    fn answer(&mut self, input: &mut Input<'_>) {
        let slot = input.below(self.queue.slots() as u32) as usize;
        let data = input.take(usize::from(input.clone().u8() % 48));
        self.give_back(slot, data, input);
        if input.u8() < 128 {
            self.queue.complete(1 << slot);
        }
    }

    /// Writes output and mailboxes of the command in `slot`, and gives the entry back, with the lies of `input`.
    fn give_back(&self, slot: usize, data: &[u8], input: &mut Input<'_>) {
        let memory = &self.machine.memory;
        let mut entry = CommandEntry::from_prefix(&memory.read::<64>(self.at(slot)));
        if !entry.is_set(CommandEntry::STATUS_OWN_OWNER) {
            return;
        }
        let lies = input.u8();
        let mut output = [0; 16];
        output[4..4 + data.len().min(12)].copy_from_slice(&data[..data.len().min(12)]);
        let mut at = entry.get_wide(CommandEntry::OUT_PTR);
        for _ in 0..CHAIN {
            if !memory.reaches(at, Mailbox::SIZE) {
                break;
            }
            let mut block = Mailbox::from_prefix(&memory.read::<576>(at));
            let here = at;
            at = block.get_wide(Mailbox::NEXT);
            block.bytes_mut()[..data.len()].copy_from_slice(data);
            if lies & 1 != 0 {
                // Anything, most often behind the data: pointer, number, token, signatures.
                let from = if input.u8() < 64 { 0 } else { 512 };
                input.bend(&mut block.bytes_mut()[from..]);
            }
            memory.write(here, block.bytes());
        }
        if lies & 2 != 0 {
            output[0] = input.u8();
        }
        entry.bytes_mut()[32..48].copy_from_slice(&output);
        entry.set(CommandEntry::STATUS_OWN, 0);
        if lies & 4 != 0 {
            entry.set(CommandEntry::STATUS_OWN, input.u32() & 0xff);
        }
        if lies & 8 != 0 {
            input.bend(entry.bytes_mut());
        }
        memory.write(self.at(slot), entry.bytes());
    }

    /// The device writes into an entry that it was not given.
    fn scribble(&mut self, input: &mut Input<'_>) {
        let slot = input.below(self.queue.slots() as u32) as usize;
        let mut entry = self.machine.memory.read::<64>(self.at(slot));
        input.bend(&mut entry);
        self.machine.memory.write(self.at(slot), &entry);
    }
}
