//! `--trace FILE`: where commands are written down.

use cxddp_trace::Sink;
use std::path::Path;

/// Bytes of a trace at most: what the reader takes.
const LIMIT: u64 = 256 << 20;

/// The file, if there is to be one.
pub fn create(path: Option<&Path>) -> Result<Option<Sink>, String> {
    let create =
        |path: &Path| Sink::create(path, LIMIT).map_err(|error| format!("--trace {}: {error}", path.display()));
    path.map(create).transpose()
}

/// Ends it. What could not be written is an error, and what went beyond the limit a message.
pub fn finish(sink: Option<Sink>) -> Result<(), String> {
    let Some(sink) = sink else { return Ok(()) };
    let summary = sink.finish().map_err(|error| format!("--trace: {error}"))?;
    if summary.left_out != 0 {
        log::warn!("--trace: {} dumps beyond {LIMIT} bytes are left out", summary.left_out);
    }
    Ok(())
}
