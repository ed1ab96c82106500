#![no_main]

use connectx_ddp_fuzz::fuzz_support::target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| (target("host_pdu").run)(data));
