//! What several integration tests share: where the reference tables are, and how a test says that it skips.

use std::io::Write;
use std::path::PathBuf;

/// Says on standard error, past the test harness's capture, that `test` did not run and why. CI reads these lines.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// The folder of independent layout tables and traces: `CXDDP_REFERENCE`, or `shared/reference` beside the checkout.
pub fn reference(test: &str) -> Option<PathBuf> {
    let path = match std::env::var_os("CXDDP_REFERENCE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/reference"),
    };
    if path.is_dir() {
        return Some(path);
    }
    skip(test, "no reference tables beside the checkout (set CXDDP_REFERENCE to their folder)");
    None
}
