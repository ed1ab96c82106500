//! QEMU, tools and guest kernels as Debian packages, unpacked into a folder: nothing is installed, and nobody needs root.
//!
//! A private apt folder resolves what is newest in three suites; exact versions vanish from mirrors, so none is pinned, and
//! what was resolved is printed. Programs of a newer Debian run on an older one through their own loader.

use crate::Error;
use crate::own::fingerprint;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Suites: kernels of three generations; QEMU with a vfio-user client came after the newest of them (10.1).
pub const OLD: &str = "bookworm";
const STABLE: &str = "trixie";
pub const STABLE_BACKPORTS: &str = "trixie-backports";
/// The kernel without drivers for hardware that a virtual machine does not have: small, and all that is needed.
const FLAVOUR: &str = "cloud-amd64";

/// What is fetched besides kernels: for this machine, and for the guest. QEMU brings libibverbs, of which rdma-core's driver
/// needs its own version: both come from one suite.
const MACHINE: &[&str] = &["qemu-system-x86", "seabios", "ibverbs-providers"];
const TOOLS: &[&str] = &["busybox-static", "kmod", "xz-utils", "zstd", "lz4", "ethtool", "iproute2"];

/// A kernel package, unpacked.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Version as `uname -r` says it.
    pub version: String,
    /// The folder it is unpacked in.
    pub folder: PathBuf,
}

impl Kernel {
    /// Major and minor version.
    pub fn generation(&self) -> String {
        self.version.split('.').take(2).collect::<Vec<_>>().join(".")
    }
}

/// Everything that was fetched.
#[derive(Debug)]
pub struct Debian {
    root: PathBuf,
    /// Kernels, oldest first.
    pub kernels: Vec<Kernel>,
    /// What was resolved, a line for people.
    pub resolved: String,
}

/// Runs a program for what it prints.
pub fn run(command: &mut Command) -> Result<String, Error> {
    let output = command.output().map_err(|error| Error::of(format!("{command:?}: {error}")))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::of(format!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

/// Where packages come from: what this machine itself uses, unless the environment says otherwise.
fn mirror() -> Result<String, Error> {
    if let Ok(mirror) = std::env::var("DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let files = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    for line in texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()) {
        let mut words = line.split_whitespace();
        let uri = match words.next() {
            Some("URIs:") => words.next(),
            Some("deb") => words.find(|word| word.contains("://")),
            _ => None,
        };
        if let Some(uri) = uri.filter(|uri| !uri.contains("security")) {
            return Ok(uri.to_owned());
        }
    }
    Err(Error::of("no Debian mirror is known: set DEBIAN_MIRROR to one"))
}

impl Debian {
    /// Fetches into `folder` what is not there yet.
    pub fn fetch(folder: &Path) -> Result<Debian, Error> {
        // What was asked for is in its name, so that a folder that lacks something is filled up.
        let asked_for = fingerprint([MACHINE, TOOLS, &[OLD, STABLE, STABLE_BACKPORTS]].concat().join(" ").as_bytes());
        let stamp = folder.join(format!("resolved-{asked_for:016x}"));
        if let Ok(resolved) = std::fs::read_to_string(&stamp) {
            return Debian::found(folder, resolved);
        }
        let apt = Apt::new(folder)?;
        apt.get(&["update"])?;
        let into = |suite| ["-y", "--no-install-recommends", "--download-only", "-t", suite, "install"];
        apt.get(&[&into(STABLE_BACKPORTS)[..], MACHINE].concat())?;
        apt.get(&[&into(STABLE)[..], TOOLS].concat())?;
        for suite in [OLD, STABLE, STABLE_BACKPORTS] {
            let version = apt.kernel(suite)?;
            // From 7.2 on image and modules are packages of their own.
            let one = format!("linux-image-{version}");
            let parts = [
                format!("linux-base-{version}"),
                format!("linux-binary-{version}"),
                format!("linux-modules-{version}"),
            ];
            match apt.knows(&parts[1]) {
                true => apt.download(&parts.each_ref().map(String::as_str))?,
                false => apt.download(&[&one])?,
            }
        }
        let mut lines = Vec::new();
        for package in apt.packages()? {
            let name = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let field = |field: &str| run(Command::new("dpkg-deb").arg("-f").arg(&package).arg(field));
            let target = match name.split_once('_').and_then(|(name, _)| name.strip_prefix("linux-")) {
                Some(kernel) => {
                    let version =
                        ["image-", "binary-", "modules-", "base-"].iter().find_map(|part| kernel.strip_prefix(part));
                    folder.join("kernel").join(version.unwrap_or(kernel))
                }
                None => folder.join("root"),
            };
            std::fs::create_dir_all(&target)?;
            run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&target))?;
            if name.starts_with("linux-image")
                || name.starts_with("linux-binary")
                || name.starts_with("qemu-system-x86_")
                || name.starts_with("ibverbs-providers_")
            {
                lines.push(format!("{} {}", field("Package")?.trim(), field("Version")?.trim()));
            }
        }
        let resolved = lines.join(", ");
        std::fs::write(&stamp, &resolved)?;
        Debian::found(folder, resolved)
    }

    fn found(folder: &Path, resolved: String) -> Result<Debian, Error> {
        let mut kernels = Vec::new();
        for entry in std::fs::read_dir(folder.join("kernel"))? {
            let folder = entry?.path();
            let version = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if version.ends_with(FLAVOUR) {
                kernels.push(Kernel { version, folder });
            }
        }
        let age = |kernel: &Kernel| {
            let numbers = kernel.version.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
            numbers.collect::<Vec<_>>()
        };
        kernels.sort_by_key(age);
        Ok(Debian { root: folder.join("root"), kernels, resolved })
    }

    /// A file of the unpacked packages.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A program of the unpacked packages, through its own loader and libraries.
    pub fn program(&self, path: &str) -> Command {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        let name = path.rsplit('/').next().unwrap_or(path);
        command.arg("--library-path").arg(&libraries).arg("--argv0").arg(name).arg(self.root.join(path));
        command
    }
}

/// A private apt folder.
pub struct Apt {
    folder: PathBuf,
    config: PathBuf,
}

impl Apt {
    /// In a folder of the cache.
    pub fn new(folder: &Path) -> Result<Apt, Error> {
        let folder = std::path::absolute(folder.join("apt"))?;
        for sub in ["lists/partial", "cache/archives/partial", "etc/apt/apt.conf.d", "etc/apt/preferences.d"] {
            std::fs::create_dir_all(folder.join(sub))?;
        }
        std::fs::write(folder.join("status"), "")?;
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let mirror = mirror()?;
        let line = |suite: &str| format!("deb [signed-by={keyring}] {mirror} {suite} main\n");
        std::fs::write(folder.join("sources.list"), [OLD, STABLE, STABLE_BACKPORTS].map(line).concat())?;
        let config = folder.join("apt.conf");
        let at = folder.display();
        let text = format!(
            "Dir \"{at}/\";\nDir::State \"{at}\";\nDir::State::lists \"lists\";\nDir::State::status \"{at}/status\";\n\
             Dir::Cache \"{at}/cache\";\nDir::Etc \"{at}/etc/apt\";\nDir::Etc::sourcelist \"{at}/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\nDebug::NoLocking \"1\";\nAPT::Sandbox::User \"\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures \"amd64\";\nAcquire::Languages \"none\";\n\
             Acquire::GzipIndexes \"true\";\n"
        );
        std::fs::write(&config, text)?;
        Ok(Apt { folder, config })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config).current_dir(self.folder.join("cache/archives"));
        command
    }

    /// `apt-get`.
    pub fn get(&self, arguments: &[&str]) -> Result<(), Error> {
        run(self.command("apt-get").arg("-qq").args(arguments)).map(drop)
    }

    fn download(&self, packages: &[&str]) -> Result<(), Error> {
        self.get(&[&["download"], packages].concat())
    }

    /// Downloads packages into a folder.
    pub fn download_into(&self, folder: &Path, packages: &[&str]) -> Result<(), Error> {
        run(self.command("apt-get").current_dir(folder).args(["-qq", "download"]).args(packages)).map(drop)
    }

    /// Name and version of a suite's kernel source package.
    pub fn source(&self, suite: &str) -> Result<(String, String), Error> {
        let package = format!("linux-source/{suite}");
        let text = run(self.command("apt-cache").args(["show", &package]))?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let name = field("Depends:").and_then(|depends| depends.split([' ', ',']).next());
        match (name, field("Version:")) {
            (Some(name), Some(version)) if name.starts_with("linux-source-") => {
                Ok((name.to_owned(), version.to_owned()))
            }
            _ => Err(Error::of(format!("{package} names no source: {text}"))),
        }
    }

    fn knows(&self, package: &str) -> bool {
        run(self.command("apt-cache").args(["show", package])).is_ok_and(|text| !text.is_empty())
    }

    /// The version that a suite's kernel package names.
    fn kernel(&self, suite: &str) -> Result<String, Error> {
        let package = format!("linux-image-{FLAVOUR}/{suite}");
        let text = run(self.command("apt-cache").args(["show", &package]))?;
        let depends = text.lines().find_map(|line| line.strip_prefix("Depends:"));
        let names = depends.unwrap_or_default().split([' ', ',']);
        let version = names
            .filter_map(|name| name.strip_prefix("linux-image-"))
            .find(|v| v.starts_with(|c: char| c.is_ascii_digit()));
        version.map(str::to_owned).ok_or_else(|| Error::of(format!("{package} names no kernel: {text}")))
    }

    fn packages(&self) -> Result<Vec<PathBuf>, Error> {
        let entries = std::fs::read_dir(self.folder.join("cache/archives"))?;
        let files = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut packages = files.collect::<Result<Vec<_>, _>>()?;
        packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
        packages.sort();
        Ok(packages)
    }
}
