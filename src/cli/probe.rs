//! `cxddp probe`: what the function is, and whether it can offload.

use super::device::Work;
use super::options::ProbeArgs;
use connectx_ddp::adapter::model::Tested;
use connectx_ddp::adapter::{Adapter, AdapterError, Config, Report};
use connectx_ddp::platform::Platform;
use cxddp_trace::Sink;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

/// Brings a function up, asks what it is, and takes it down again.
struct Probe {
    trace: Option<Sink>,
}

impl Work for Probe {
    type Outcome = Result<Report, AdapterError>;

    fn on<P: Platform + 'static>(self, platform: Arc<P>) -> Self::Outcome {
        let mut adapter = Adapter::bring_up(platform, Config { trace: self.trace, ..Config::default() })?;
        let deadline = adapter.command_deadline();
        let report = adapter.report(deadline);
        let teardown = adapter.teardown(deadline);
        if !teardown.is_clean() {
            log::error!("{teardown}");
        }
        report
    }
}

/// Brings the function up and prints what it is.
pub fn run(args: &ProbeArgs) -> ExitCode {
    let trace = match super::trace::create(args.trace.as_deref()) {
        Ok(trace) => trace,
        Err(why) => {
            eprintln!("cxddp probe: {why}");
            return ExitCode::from(2);
        }
    };
    let probed = args.device.open(args.vfio, Probe { trace: trace.clone() });
    if let Err(why) = super::trace::finish(trace) {
        eprintln!("cxddp probe: {why}");
        return ExitCode::from(2);
    }
    let report = match probed {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => {
            eprintln!("cxddp probe: {error}");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            eprintln!("cxddp probe: --device {error}");
            return ExitCode::from(2);
        }
    };
    let mut out = std::io::stdout().lock();
    let written = match args.json {
        true => super::json::write(&mut out, "probe", &as_json(&report)),
        false => writeln!(out, "{report}"),
    };
    if let Err(error) = written {
        eprintln!("cxddp probe: cannot write the result: {error}");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

fn as_json(report: &Report) -> Value {
    let [a, b, c, d, e, f] = report.mac;
    let caps = &report.offload;
    json!({
        "device": report.identity.address,
        "vendor_id": format!("{:#06x}", report.identity.vendor),
        "device_id": format!("{:#06x}", report.identity.device),
        "model": report.model.map(|model| model.name),
        "tested": match report.tested {
            Tested::Model => "virtual",
            Tested::Nowhere => "no",
        },
        "virtual_function": report.virtual_function,
        "firmware": report.firmware.to_string(),
        "psid": report.psid,
        "mac": format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        "mtu": report.mtu,
        "max_mtu": report.max_mtu,
        "link_up": report.link_up,
        "vectors": report.vectors,
        "firmware_pages": report.firmware_pages,
        "dma_bytes": report.dma_bytes,
        "dma_huge_bytes": report.dma_huge_bytes,
        "commands": report.commands,
        "offload": {
            "possible": report.why_not.is_empty(),
            "why_not": report.why_not.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "nvmeotcp": caps.nvmeotcp,
            "zerocopy": caps.zerocopy,
            "crc_rx": caps.crc_rx,
            "crc_tx": caps.crc_tx,
            "version": caps.version,
            "cqe_128_always": caps.cqe_128_always,
            "tag_buffer_table_object": caps.tag_buffer_table_object,
            "log_max_nvmeotcp_tag_buffer_table": caps.log_max_tag_buffer_tables,
            "log_max_nvmeotcp_tag_buffer_size": caps.log_max_tag_buffer_size,
            "log_max_klm_list_size": caps.log_max_klm_list_size,
            "max_wqe_sz_sq": caps.max_wqe_bytes_sq,
            "max_queues": caps.max_queues(),
            "max_queue_size": caps.max_queue_size(),
            "max_sgl_entries": caps.max_sgl_entries(),
        },
    })
}
