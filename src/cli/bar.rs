//! The progress bar of what writes and reads: on a terminal; nothing anywhere else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar.
pub struct Bar {
    bar: ProgressBar,
    /// What it shows: whether that writes, and all bytes of it.
    shows: Option<(bool, u64)>,
}

impl Bar {
    /// A bar that shows nothing yet.
    pub fn new(visible: bool) -> Bar {
        let target = if visible { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = "{prefix:>7} [{bar:32}] {percent:>3} %  {binary_bytes_per_sec:>12}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar { bar, shows: None }
    }

    /// So many bytes of `total` are written, or read.
    pub fn show(&mut self, writing: bool, done: u64, total: u64) {
        if self.shows.replace((writing, total)) != Some((writing, total)) {
            self.bar.set_length(total);
            self.bar.reset();
            self.bar.set_prefix(if writing { "writing" } else { "reading" });
        }
        self.bar.set_position(done);
    }

    /// How much of what was read the NIC placed; asked only if somebody sees it.
    pub fn show_placed(&self, how_much: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} placed by the NIC", how_much()));
        }
    }

    /// Prints a line of news above the bar.
    pub fn tell(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Takes it away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
