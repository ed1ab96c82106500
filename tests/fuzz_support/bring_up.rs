//! Firmware that lies while the function comes up, is asked what it is, and goes down again.
//!
//! A bring-up ends in an adapter whose numbers can be worked with, or in an error that says why; either way a reset makes
//! the function good again.

use super::input::Input;
use super::liar::{Liar, bent_answers, command_fault, config, on_liar};
use connectx_ddp::adapter::Adapter;
use connectx_ddp::platform::Platform;
use std::sync::Arc;

/// Commands of a bring-up, a report and a teardown, roughly.
const COMMANDS: u32 = 128;

pub fn run(data: &[u8]) {
    on_liar(|liar| {
        let mut input = Input::new(data);
        let again = input.u8() < 16;
        let late = input.u8() < 64;
        let bent = bent_answers(&mut input, 6, COMMANDS);
        let faults: Vec<_> = (0..input.below(3)).map(|_| (command_fault(&mut input), input.below(COMMANDS))).collect();
        let registers: Vec<_> = (0..input.below(3)).map(|_| (input.u16(), input.u8())).collect();
        let values: Vec<_> = registers.iter().map(|_| input.u32()).collect();
        // Lies from the beginning, or once the function is up.
        let begin = |liar: &Liar| {
            let mut nic = liar.honest.nic();
            nic.faults().tamper_answers(Some(bent));
            faults.iter().for_each(|(fault, skip)| nic.faults().schedule(None, *fault, *skip, 1));
            drop(nic);
            let mut reads = 0u16;
            liar.lie(Some(Box::new(move |offset, truth| {
                reads = reads.wrapping_add(1);
                let lie = registers.iter().position(|(at, word)| *at == reads || offset == u64::from(*word) * 4);
                lie.map_or(truth, |index| values[index])
            })));
        };
        match late {
            true => {
                let adapter = Adapter::bring_up(Arc::clone(liar), config()).expect("an honest function");
                begin(liar);
                work(adapter);
            }
            false => {
                begin(liar);
                match Adapter::bring_up(Arc::clone(liar), config()) {
                    Ok(adapter) => work(adapter),
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
        }
        if again {
            liar.begin_anew();
            let adapter = Adapter::bring_up(Arc::clone(liar), config()).expect("good again after a reset");
            let deadline = adapter.command_deadline();
            let teardown = adapter.teardown(deadline);
            assert!(teardown.is_clean(), "{teardown}");
        }
    });
}

fn work(mut adapter: Adapter<Liar>) {
    let bar = adapter.platform().bar_size();
    assert!(u64::from(adapter.uar()) * 4096 + 4096 <= bar, "UAR {:#x} outside the BAR", adapter.uar());
    assert!(adapter.completion_eqs() != 0 && adapter.firmware_pages() <= config().page_limit);
    assert!(adapter.mac()[0] & 1 == 0 && adapter.mac() != [0; 6], "{:?}", adapter.mac());
    let deadline = adapter.command_deadline();
    match adapter.report(deadline) {
        Ok(report) => assert!(!report.to_string().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = adapter.link_is_up(deadline);
    let _ = adapter.check_health().map_err(|error| error.to_string());
    while adapter.poll().is_some() {}
    let deadline = adapter.command_deadline();
    let teardown = adapter.teardown(deadline);
    assert!(!teardown.to_string().is_empty());
}
