//! A device that at random moments writes noise into everything that it may still write ([`virtual_nic::hostile`]): inside
//! commands, between a doorbell and its effect, with every frame. What came back to the caller, what lies around it, the
//! sources of writes, and what waits in receive buffers never changes.
//!
//! | property | test |
//! |---|---|
//! | requests end in order, are cut off, or lose their connection: no buffer changes after it came back | `no_buffer_changes_after_it_came_back` |
//! | the same when a queue, a completion queue, firmware or the whole function fails at any moment | `whatever_fails_no_buffer_changes` |
//! | a device that writes every posted receive buffer and every firmware page harms no byte of any read | `what_waits_in_receive_buffers_is_not_written` |
//! | commands that are never answered give no buffer back before the function was reset | `an_unanswered_command_gives_nothing_back` |
use super::world::{World, lost};
use crate::shard::Closed;
use firmware_iface::Opcode;
use hw_regs::init_segment::HealthSyndrome;
use nvme_target::script::{At, Fault as TargetFault, Kind, On};
use std::time::Duration;
use virtual_nic::{CommandFault, Fault, Hostile, Role};

/// splitmix64: moments and choices of a test.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ z >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) % n
    }
}

/// How it goes on at the random moment.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Connections are closed in order.
    Close,
    /// The shard is closed with everything open.
    CutOff,
    /// Nothing reaches the peer any more, then everything is closed.
    Silence,
    /// The device fails.
    Fail(Fault),
}

/// A run: reads and writes on an offloaded queue and on one that is not, until the random moment, and the end.
struct Run {
    world: World,
    random: Random,
    token: u64,
}

impl Run {
    fn new(seed: u64, hostile: Hostile, faults: &[TargetFault]) -> Run {
        let mut random = Random(seed);
        let mut device = virtual_nic::Config::default();
        if random.below(4) != 0 {
            device.command_latency = Duration::from_micros(random.below(40));
            device.command_jitter = Duration::from_micros(random.below(20));
            device.doorbell_latency = Duration::from_micros(random.below(6));
            device.seed = seed;
        }
        let mut world = World::on(device, faults, |_| {});
        // What a bound buffer holds is the device's to destroy.
        world.compare = !hostile.bindings;
        world.platform.nic().set_hostile(Some(hostile));
        Run { world, random, token: 0 }
    }

    /// Requests under way for a random number of steps.
    fn work(&mut self) {
        let admin = self.world.admin();
        let queues = [self.world.io(admin, 1, 6, true), self.world.io(admin, 2, 4, false)];
        let steps = self.random.below(120);
        for _ in 0..=steps {
            for id in queues {
                let (blocks, write) = (1 + self.random.below(200) as u32, self.random.below(4) == 0);
                // What is read is never written.
                let block = if write { 7300 + self.random.below(600) } else { self.random.below(7000) };
                let token = block | self.token << 32;
                self.token += 1;
                // Full, or ended by a fault of the target.
                let _ = match write {
                    true => self.world.try_write(id, token, blocks),
                    false => self.world.try_read(id, token, blocks),
                };
            }
            if !self.world.step() {
                self.world.sleep();
            }
        }
    }

    /// Everything ends; nothing may be left but what `closed` says.
    fn end(mut self, then: Then) -> Closed {
        let open: Vec<_> = self.world.ready.iter().rev().copied().collect();
        match then {
            Then::Close | Then::Silence => {
                if matches!(then, Then::Silence) {
                    (self.world.to_target, self.world.to_host) = (lost(), lost());
                }
                for id in &open {
                    self.world.shard.close_connection(*id);
                }
            }
            Then::CutOff => {}
            Then::Fail(fault) => {
                let pick = self.random.below(2);
                self.world.platform.nic().inject(fault, pick);
                self.world.run_for(Duration::from_millis(self.random.below(3000)));
                self.world.platform.nic().faults().set_gone(false);
            }
        }
        if !matches!(then, Then::CutOff) {
            open.iter().for_each(|id| self.world.shard.close_connection(*id));
            self.world.until("the ends", 300, |world| world.ended.len() == open.len());
        }
        self.world.expect_unchanged();
        let platform = self.world.platform.clone();
        let (closed, left) = self.world.close();
        assert_eq!(closed.buffers.len() as u64, left.under_way, "{then:?}: a buffer was lost");
        let last = platform.nic().write_everywhere();
        assert_eq!((last.bytes, last.unmapped), (0, 0), "{then:?}: the device still holds memory");
        assert_eq!(platform.nic().written().unmapped, 0, "{then:?}: memory was unmapped that the device held");
        closed
    }
}

const ALL: Hostile = Hostile { seed: 0, every: 40, bindings: true, buffers: true, pages: true };

#[test]
fn no_buffer_changes_after_it_came_back() {
    let mut bindings = 0;
    for seed in 0..24 {
        let then = [Then::Close, Then::CutOff, Then::Silence][seed as usize % 3];
        let reset = TargetFault {
            on: On::Queue(1 + (seed % 2) as u16),
            at: At::Data(seed % 11),
            kind: Kind::Reset { after: (seed * 977 % 20_000) as u32 },
        };
        let faults: Vec<_> = (seed % 4 == 0).then_some(reset).into_iter().collect();
        let mut run = Run::new(seed, Hostile { seed, ..ALL }, &faults);
        run.work();
        bindings += run.world.platform.nic().written().bindings;
        let closed = run.end(then);
        assert!(closed.teardown.is_clean(), "{seed}: {}", closed.teardown);
    }
    assert!(bindings > 300, "the device hardly ever wrote: {bindings}");
}

/// Every fault of the device.
const FAULTS: [Fault; 11] = [
    Fault::WorkRequest(Role::Receive),
    Fault::WorkRequest(Role::Send),
    Fault::WorkRequest(Role::Control),
    Fault::CqOverrun(Role::Receive),
    Fault::CqOverrun(Role::Send),
    Fault::CqOverrun(Role::Control),
    Fault::Fatal(HealthSyndrome::FW_INTERNAL_ERR),
    Fault::Gone(Duration::from_millis(700)),
    Fault::Gone(Duration::from_millis(2500)),
    Fault::Reset,
    Fault::LostCommand,
];

#[test]
fn whatever_fails_no_buffer_changes() {
    for seed in 0..FAULTS.len() as u64 * 2 {
        let mut run = Run::new(seed, Hostile { seed, ..ALL }, &[]);
        run.work();
        drop(run.end(Then::Fail(FAULTS[seed as usize % FAULTS.len()])));
    }
}

#[test]
fn what_waits_in_receive_buffers_is_not_written() {
    for seed in 0..8 {
        let mut run = Run::new(seed, Hostile { seed, every: 10, bindings: false, ..ALL }, &[]);
        // Lost packets: others wait for them in receive buffers that are not posted.
        let mut count = 0;
        run.world.to_host = Box::new(move |frame| {
            count += 1;
            (count % (37 + seed) != 0).then_some(frame)
        });
        run.work();
        let written = run.world.platform.nic().written();
        assert!(written.buffers > 1000 && written.pages > 1000 && written.bindings == 0);
        let closed = run.end(Then::Close);
        assert!(closed.problems.is_empty(), "{:?}", closed.problems);
    }
}

#[test]
fn an_unanswered_command_gives_nothing_back() {
    let mut kept = 0;
    for seed in 0..6 {
        let mut run = Run::new(seed, Hostile { seed, ..ALL }, &[]);
        run.work();
        // The control rings are deaf too, so that only the end of the keys could give a buffer back.
        run.world.platform.nic().inject(Fault::CqOverrun(Role::Control), 0);
        run.world.platform.nic().faults().next(Opcode::DESTROY_MKEY, CommandFault::NeverAnswered);
        let closed = run.end(Then::Close);
        kept += closed.buffers.len();
    }
    assert!(kept > 0, "no buffer was ever kept");
}
