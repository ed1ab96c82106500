//! A kernel of our own: Debian's has neither device cdevs (iommufd) nor VFIO without an IOMMU.
//!
//! Debian's newest source, `make tinyconfig` and what `guest/kernel.config` adds, everything built in. The compiler is this
//! machine's; what else the build needs (bison, flex, m4, bc, libelf) is fetched and unpacked, not installed. The result is
//! kept by version and configuration; a build takes minutes, so it is a step of its own (`cargo hil kernel`).

use crate::Error;
use crate::debian::{Apt, OLD, STABLE_BACKPORTS, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Beyond `make tinyconfig`.
const CONFIG: &str = include_str!("../guest/kernel.config");
/// Packages of the build, from the oldest suite: their programs run on every later one.
const TOOLS: [&str; 6] = ["bison", "flex", "m4", "bc", "libelf-dev", "libelf1"];

/// A number that changes with what it is of (FNV-1a).
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// How the results of this configuration end.
fn suffix() -> String {
    format!("-{:016x}.vmlinux", fingerprint(CONFIG.as_bytes()))
}

/// The newest kernel that was built with this configuration, and its version.
pub fn find(cache: &Path) -> Option<(String, PathBuf)> {
    let names = fs::read_dir(cache).ok()?.flatten().map(|entry| entry.path());
    let mut built: Vec<_> = names
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let version = name.strip_prefix("own-")?.strip_suffix(&suffix())?.to_owned();
            Some((fs::metadata(&path).and_then(|meta| meta.modified()).ok()?, version, path))
        })
        .collect();
    built.sort();
    built.pop().map(|(_, version, path)| (version, path))
}

/// Builds the kernel of the newest source unless that is done, and returns its file.
pub fn build(cache: &Path) -> Result<PathBuf, Error> {
    let folder = std::path::absolute(cache.join("own"))?;
    fs::create_dir_all(&folder)?;
    let apt = Apt::new(cache)?;
    apt.get(&["update"])?;
    let (package, version) = apt.source(STABLE_BACKPORTS)?;
    let out = cache.join(format!("own-{version}{}", suffix()));
    if out.exists() {
        return Ok(out);
    }
    let source = folder.join(&package);
    if fs::read_to_string(folder.join("version")).ok().as_deref() != Some(&version) {
        fetch(&apt, &folder, &package, &version)?;
    }
    let build = Build { tools: folder.join("tools"), source, log: folder.join("build.log") };
    fs::write(&build.log, "")?;
    build.configure(&folder)?;
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    build.make(&[&format!("-j{jobs}"), "vmlinux"])?;
    fs::copy(build.source.join("vmlinux"), &out)?;
    // Two gigabytes that nobody needs again.
    fs::remove_dir_all(&build.source)?;
    fs::remove_file(folder.join("version"))?;
    Ok(out)
}

/// Fetches and unpacks source and tools.
fn fetch(apt: &Apt, folder: &Path, package: &str, version: &str) -> Result<(), Error> {
    let packages = folder.join("packages");
    for old in [&packages, &folder.join("tools"), &folder.join(package)] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    fs::create_dir_all(&packages)?;
    let tools = TOOLS.map(|tool| format!("{tool}/{OLD}"));
    let mut wanted: Vec<&str> = tools.iter().map(String::as_str).collect();
    let source = format!("{package}={version}");
    wanted.push(&source);
    apt.download_into(&packages, &wanted)?;
    for entry in fs::read_dir(&packages)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = if name.starts_with("linux-source") { folder.join("package") } else { folder.join("tools") };
        fs::create_dir_all(&target)?;
        run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&target))?;
    }
    let archive = folder.join("package/usr/src").join(format!("{package}.tar.xz"));
    run(Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(folder))?;
    fs::remove_dir_all(folder.join("package"))?;
    fs::remove_dir_all(packages)?;
    Ok(fs::write(folder.join("version"), version)?)
}

/// A source tree, and the programs that build it.
struct Build {
    tools: PathBuf,
    source: PathBuf,
    log: PathBuf,
}

impl Build {
    /// A program in the source tree, with the fetched tools before this machine's, at low priority.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nice");
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(["-n", "10", program]).current_dir(&self.source).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", self.tools.join("usr/bin").display()));
        // Both have the folder that they were packaged for built in.
        command.env("BISON_PKGDATADIR", self.tools.join("usr/share/bison")).env("M4", self.tools.join("usr/bin/m4"));
        // These say where cargo's own make is, or change what a kernel build does.
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "KBUILD_OUTPUT", "ARCH", "LD_LIBRARY_PATH"] {
            command.env_remove(name);
        }
        command
    }

    fn logged(&self, mut command: Command) -> Result<(), Error> {
        let log = || fs::OpenOptions::new().append(true).open(&self.log);
        let status = command.stdout(log()?).stderr(log()?).status();
        match status.map_err(|error| Error::of(format!("{command:?}: {error}")))?.success() {
            true => Ok(()),
            false => {
                let why = "the kernel was not built: a C compiler and make are needed";
                Err(Error::of(format!("{why}; see the end of {}", self.log.display())))
            }
        }
    }

    fn make(&self, arguments: &[&str]) -> Result<(), Error> {
        let tools = self.tools.display();
        let libraries = format!("{tools}/usr/lib/x86_64-linux-gnu");
        let mut command = self.command("make");
        command.arg(format!("HOSTCFLAGS=-I{tools}/usr/include"));
        command.arg(format!("HOSTLDFLAGS=-L{libraries} -Wl,-rpath,{libraries}"));
        command.args(["HOSTPKG_CONFIG=false", "KBUILD_BUILD_USER=hil", "KBUILD_BUILD_HOST=hil"]).args(arguments);
        self.logged(command)
    }

    /// Writes the configuration, and checks that everything asked for is in it: an option whose conditions are not met
    /// vanishes without a word.
    fn configure(&self, folder: &Path) -> Result<(), Error> {
        let fragment = folder.join("kernel.config");
        fs::write(&fragment, CONFIG)?;
        self.make(&["tinyconfig"])?;
        let mut merge = self.command("scripts/kconfig/merge_config.sh");
        merge.args(["-m", ".config"]).arg(&fragment);
        self.logged(merge)?;
        self.make(&["olddefconfig"])?;
        let made = fs::read_to_string(self.source.join(".config"))?;
        let wanted = CONFIG.lines().filter(|line| line.contains("CONFIG_"));
        match wanted.into_iter().find(|wanted| !made.lines().any(|line| line == *wanted)) {
            Some(missing) => {
                Err(Error::of(format!("this kernel's configuration lacks {missing:?}: its conditions changed")))
            }
            None => Ok(()),
        }
    }
}
