//! What a guest boots: an ELF kernel, and an initial file system with busybox, modules, and what is to run.

use crate::Error;
use crate::debian::{Debian, Kernel};
use crate::own::fingerprint;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An archive in cpio's "newc" form, which the kernel unpacks as its first file system; archives may follow each other.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    folders: HashSet<String>,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.inode += 1;
        let fields = [self.inode, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn folders_of(&mut self, name: &str) {
        for (at, _) in name.match_indices('/') {
            let folder = name[..at].to_owned();
            if self.folders.insert(folder.clone()) {
                self.entry(&folder, 0o040_755, &[]);
            }
        }
    }

    /// Adds an empty folder.
    pub fn folder(&mut self, name: &str) {
        self.folders_of(&format!("{name}/"));
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, executable: bool, data: &[u8]) {
        self.folders_of(name);
        self.entry(name, if executable { 0o100_755 } else { 0o100_644 }, data);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, to: &str) {
        self.folders_of(name);
        self.entry(name, 0o120_777, to.as_bytes());
    }

    /// The bytes, with the end mark.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }
}

/// Runs a program that turns its input into its output. `lenient`: its exit status is not looked at.
fn filter(mut command: Command, input: &Path, lenient: bool) -> Result<Vec<u8>, Error> {
    command.stdin(fs::File::open(input)?).stderr(Stdio::null());
    let output = command.output()?;
    match output.status.success() || lenient {
        true => Ok(output.stdout),
        false => Err(Error::of(format!("{command:?} failed on {}: {}", input.display(), output.status))),
    }
}

fn find(folder: &Path, matches: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(found) = find(&path, matches) {
                return Some(found);
            }
        } else if matches(&entry.file_name().to_string_lossy()) {
            return Some(path);
        }
    }
    None
}

/// The ELF file inside a bzImage: QEMU boots it without the guest having to unpack it (`PVH`), which saves seconds of
/// emulation.
pub fn elf_kernel(debian: &Debian, kernel: &Kernel, cache: &Path) -> Result<PathBuf, Error> {
    let out = cache.join(format!("{}.vmlinux", kernel.version));
    if out.exists() {
        return Ok(out);
    }
    let bzimage = find(&kernel.folder, &|name| name.starts_with("vmlinuz"))
        .ok_or_else(|| Error::of(format!("no vmlinuz in {}", kernel.folder.display())))?;
    let bytes = fs::read(&bzimage)?;
    let bad = || Error::of(format!("{} is no bzImage", bzimage.display()));
    let word =
        |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes).ok_or_else(bad);
    if bytes.get(0x202..0x206) != Some(b"HdrS") {
        return Err(bad());
    }
    let setup = (usize::from(bytes[0x1f1].max(1)) + 1) * 512;
    let (offset, len) = (word(0x248)? as usize, word(0x24c)? as usize);
    // The last four bytes are the size of what is inside.
    let payload = bytes.get(setup + offset..(setup + offset + len).saturating_sub(4)).ok_or_else(bad)?;
    let packed = cache.join(format!("{}.packed", kernel.version));
    fs::write(&packed, payload)?;
    let (program, arguments) = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("usr/bin/zstd", "-dcq"),
        [0xfd, b'7', b'z', b'X', ..] => ("usr/bin/xz", "-dc"),
        [0x02, 0x21, 0x4c, 0x18, ..] => ("usr/bin/lz4", "-dcq"),
        _ => return Err(bad()),
    };
    let mut command = debian.program(program);
    command.arg(arguments);
    let elf = filter(command, &packed, true)?;
    fs::remove_file(&packed)?;
    if !elf.starts_with(b"\x7fELF") {
        return Err(bad());
    }
    fs::write(&out, elf)?;
    Ok(out)
}

/// What busybox is called.
const APPLETS: &str = "sh mount mknod ls cat echo sleep insmod dmesg ip ping mkdir rmdir poweroff grep sed hexdump dd ln awk cut \
                       head tail wc tr seq basename readlink sync tar kill ps rm cp mv test uname timeout touch chmod cmp \
                       md5sum sha256sum true false printf expr date find sort ulimit stat pidof chown nc unshare nsenter rmmod \
                       lsmod ifconfig vconfig arp uniq xargs";
/// Programs of the guest that are not static, with their libraries and loader, and what loads libraries itself: where the
/// packages have them.
const DYNAMIC: [(&str, &str); 12] = [
    ("usr/sbin/ethtool", "bin/ethtool"),
    ("usr/sbin/devlink", "bin/devlink"),
    ("usr/lib/x86_64-linux-gnu/libcap.so.2", "lib/x86_64-linux-gnu/libcap.so.2"),
    ("usr/lib/x86_64-linux-gnu/libmnl.so.0", "lib/x86_64-linux-gnu/libmnl.so.0"),
    ("usr/lib/x86_64-linux-gnu/libm.so.6", "lib/x86_64-linux-gnu/libm.so.6"),
    ("usr/lib/x86_64-linux-gnu/libmlx5.so.1", "lib/x86_64-linux-gnu/libmlx5.so.1"),
    ("usr/lib/x86_64-linux-gnu/libibverbs.so.1", "lib/x86_64-linux-gnu/libibverbs.so.1"),
    ("usr/lib/x86_64-linux-gnu/libnl-3.so.200", "lib/x86_64-linux-gnu/libnl-3.so.200"),
    ("usr/lib/x86_64-linux-gnu/libnl-route-3.so.200", "lib/x86_64-linux-gnu/libnl-route-3.so.200"),
    ("usr/lib/x86_64-linux-gnu/libgcc_s.so.1", "lib/x86_64-linux-gnu/libgcc_s.so.1"),
    ("usr/lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libc.so.6"),
    ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
];
/// The first process.
const INIT: &str = include_str!("../guest/init");

/// The first file system of a guest: busybox, the modules with what they need, in the order in which they load. Those of
/// `later` wait for a script that loads what `/later.load` lists. A kernel without modules needs none.
pub fn base(
    debian: &Debian,
    kernel: &Kernel,
    modules: &[&str],
    later: &[&str],
    cache: &Path,
) -> Result<PathBuf, Error> {
    let dynamic = DYNAMIC.map(|(from, to)| [from, to].join(" ")).join(" ");
    let content = [INIT, APPLETS, &dynamic, &modules.join(" "), "later", &later.join(" ")].concat();
    let content = fingerprint(content.as_bytes());
    let out = cache.join(format!("{}-{content:016x}.base.cpio", kernel.version));
    if out.exists() {
        return Ok(out);
    }
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "tmp", "run", "root", "mods", "etc"] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", true, &fs::read(debian.file("usr/bin/busybox"))?);
    APPLETS.split_whitespace().for_each(|applet| archive.link(&format!("bin/{applet}"), "busybox"));
    for (from, to) in DYNAMIC {
        archive.file(to, true, &fs::read(debian.file(from))?);
    }
    let mut seen = HashSet::new();
    for (list, modules) in [("modules.load", modules), ("later.load", later)] {
        let mut load = String::new();
        if !modules.is_empty() {
            let library =
                ["usr/lib/modules", "lib/modules"].map(|at| kernel.folder.join(at)).into_iter().find(|at| at.is_dir());
            let library = library.ok_or_else(|| Error::of(format!("no modules in {}", kernel.folder.display())))?;
            for module in modules {
                add_module(debian, &library, module, &mut seen, &mut archive, &mut load)?;
            }
        }
        archive.file(list, false, load.as_bytes());
    }
    archive.file("init", true, INIT.as_bytes());
    fs::write(&out, archive.finish())?;
    Ok(out)
}

/// Adds a module after those that it depends on, which its own `.modinfo` names. One that the kernel has built in, or does
/// not have, is left out: what needs it will say so.
fn add_module(
    debian: &Debian,
    library: &Path,
    module: &str,
    seen: &mut HashSet<String>,
    archive: &mut Archive,
    load: &mut String,
) -> Result<(), Error> {
    let plain = |name: &str| name.replace('-', "_");
    if !seen.insert(plain(module)) {
        return Ok(());
    }
    let is_it = |file: &str| file.split_once(".ko").is_some_and(|(name, _)| plain(name) == plain(module));
    let Some(path) = find(library, &is_it) else { return Ok(()) };
    let bytes = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => {
            let mut command = debian.program("usr/bin/xz");
            command.arg("-dc");
            filter(command, &path, false)?
        }
        Some("zst") => {
            let mut command = debian.program("usr/bin/zstd");
            command.arg("-dcq");
            filter(command, &path, false)?
        }
        _ => fs::read(&path)?,
    };
    let mark = b"\0depends=";
    let at = bytes.windows(mark.len()).position(|window| window == mark);
    let names = at.map(|at| bytes[at + mark.len()..].split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
    let names = String::from_utf8_lossy(&names.unwrap_or_default()).into_owned();
    for needed in names.split(',').filter(|name| !name.is_empty()) {
        add_module(debian, library, needed, seen, archive, load)?;
    }
    let name = format!("{}.ko", plain(module));
    archive.file(&format!("mods/{name}"), false, &bytes);
    load.push_str(&name);
    load.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | an archive is what cpio's documentation says: headers of 110 bytes, names and data aligned to 4, folders before what is in them | `an_archive_has_its_form` |
    use super::*;

    #[test]
    fn an_archive_has_its_form() {
        let mut archive = Archive::default();
        archive.file("a/b/c", true, b"hello");
        archive.link("a/l", "b/c");
        archive.folder("a/b");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        let (mut at, mut names) = (0, Vec::new());
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + 8 * n..at + 14 + 8 * n]).expect("hexadecimal");
                usize::from_str_radix(text, 16).expect("hexadecimal")
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = std::str::from_utf8(&bytes[at + 110..at + 110 + name_size - 1]).expect("a name").to_owned();
            let data = (at + 110 + name_size).next_multiple_of(4);
            names.push((name.clone(), mode >> 12, bytes[data..data + size].to_vec()));
            if name == "TRAILER!!!" {
                break;
            }
            at = (data + size).next_multiple_of(4);
        }
        let expected =
            [("a", 4, &b""[..]), ("a/b", 4, b""), ("a/b/c", 8, b"hello"), ("a/l", 10, b"b/c"), ("TRAILER!!!", 0, b"")];
        assert_eq!(names, expected.map(|(name, kind, data)| (name.to_owned(), kind, data.to_vec())));
    }
}
