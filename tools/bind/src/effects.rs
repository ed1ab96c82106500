//! Everything by which this tool changes the machine, and waits: one seam, so that a plan can be printed, carried out, or
//! carried out on a kernel that a test has made.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How the machine is changed.
pub trait Effects {
    /// Writes a value into a file of the kernel, in one call, and returns when the kernel has acted, or after `patience`.
    fn write(&mut self, path: &Path, value: &str, patience: Duration) -> io::Result<()>;
    /// Loads a kernel module.
    fn load(&mut self, module: &str, patience: Duration) -> io::Result<()>;
    /// Lets some time pass.
    fn pause(&mut self, time: Duration);
}

/// The running kernel.
///
/// A write to the kernel's files can block for as long as a driver takes to let go, and cannot be interrupted then. So
/// another process does it (this program again, as `cxddp-bind poke PATH`): this one can stop waiting and say so.
#[derive(Debug)]
pub struct Kernel;

const PROGRAM: &str = "/proc/self/exe";
/// The hidden subcommand that writes its input to a file.
pub const POKE: &str = "poke";

impl Effects for Kernel {
    fn write(&mut self, path: &Path, value: &str, patience: Duration) -> io::Result<()> {
        let mut command = Command::new(PROGRAM);
        command.arg(POKE).arg(path).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let Some(mut input) = child.stdin.take() else { return Err(io::Error::other("no input")) };
        input.write_all(value.as_bytes())?;
        drop(input);
        match wait(&mut child, patience)? {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    fn load(&mut self, module: &str, patience: Duration) -> io::Result<()> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("modprobe");
        // A user's path lacks the folders of root's programs.
        command.env("PATH", format!("{path}:/usr/sbin:/sbin")).arg(module);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(error.kind(), "there is no modprobe here"),
            _ => error,
        })?;
        match wait(&mut child, patience)? {
            0 => Ok(()),
            code => Err(io::Error::other(format!("modprobe ended with {code}"))),
        }
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Waits for a process, which is left alone when it takes too long: it may be inside the kernel for good.
fn wait(child: &mut Child, patience: Duration) -> io::Result<i32> {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return status.code().ok_or_else(|| io::Error::other(format!("it was ended: {status}")));
        }
        if Instant::now() >= until {
            let cause = format!("the kernel has not answered for {} s, and may still act", patience.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, cause));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What `cxddp-bind poke PATH` does: the exit status is the error number.
pub fn poke(path: &Path) -> u8 {
    let code = |error: io::Error| error.raw_os_error().and_then(|code| u8::try_from(code).ok()).unwrap_or(libc_eio());
    let mut value = Vec::new();
    let written = io::Read::read_to_end(&mut io::stdin().lock(), &mut value)
        .and_then(|_| std::fs::OpenOptions::new().write(true).open(path))
        .and_then(|mut file| file.write(&value));
    match written {
        Ok(count) if count == value.len() => 0,
        Ok(_) => libc_eio(),
        Err(error) => code(error),
    }
}

/// EIO.
const fn libc_eio() -> u8 {
    5
}
