//! Initialization segment and health buffer with anything in them, at the start of the command queue and later.

use super::input::Input;
use super::liar::on_adapter;
use super::machine::on_machine;
use connectx_ddp::command::CommandQueue;
use connectx_ddp::platform::{Deadline, Platform};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Words that the driver reads: versions, geometry, initializing, health buffer, health counter.
const WORDS: [u64; 12] = [0x0, 0x4, 0x10, 0x14, 0x1fc, 0x200, 0x210, 0x230, 0x234, 0x238, 0x23c, 0x1010];

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.u8() < 128 { start(&mut input) } else { watch(&mut input) }
}

fn words(input: &mut Input<'_>) -> Vec<(u64, u32)> {
    (0..input.below(8))
        .map(|_| {
            let at = match input.u8() {
                0..=199 => WORDS[input.below(12) as usize],
                200..=255 => u64::from(input.u16() % 0x1400) & !3,
            };
            let value = match input.u8() {
                0..=31 => u32::MAX,
                32..=63 => 0,
                64..=127 => 1 << input.below(32),
                128..=255 => input.u32(),
            };
            (at, value)
        })
        .collect()
}

/// A queue comes of it or an error, in time.
fn start(input: &mut Input<'_>) {
    on_machine(true, |machine| {
        let good = [(0x0, 39 << 16 | 28), (0x4, 5 << 16 | 1002), (0x14, 5 << 4 | 6)];
        machine.registers.borrow_mut().extend(good);
        machine.registers.borrow_mut().extend(words(input));
        let deadline = Deadline::after(&**machine, Duration::from_millis(10));
        match CommandQueue::start(Arc::clone(machine), machine.heap(), deadline) {
            Ok(queue) => assert!((2..=32).contains(&queue.slots())),
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
        assert!(machine.now() <= Duration::from_millis(20));
    });
}

/// A function that is up is well or ailing, and says which.
fn watch(input: &mut Input<'_>) {
    on_adapter(|adapter| {
        let platform = Arc::clone(adapter.platform());
        for _ in 0..16 {
            if input.is_empty() {
                break;
            }
            let lies: BTreeMap<u64, u32> = words(input).into_iter().collect();
            platform.lie(Some(Box::new(move |at, truth| lies.get(&at).copied().unwrap_or(truth))));
            let word = |at| platform.read32(at);
            let gone = word(0x0) == u32::MAX;
            let looked = adapter.check_health();
            assert!(!gone || looked.is_err(), "all ones are well");
            if let Err(error) = looked {
                assert!(!error.to_string().contains('\n'));
            }
            platform.honest.clock().advance(Duration::from_millis(input.u16().into()));
        }
    });
}
