//! A function by its name on the command line, whatever it is behind.

use super::replay::Replay;
use super::vfio::{Address, Api, Options, VfioPlatform};
use super::vfio_user::VfioUserPlatform;
use super::virtual_nic::VirtualPlatform;
use super::{Platform, PlatformError};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// A function, as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The ConnectX inside this process.
    Virtual,
    /// One in another process.
    VfioUser(PathBuf),
    /// A PCI function that vfio-pci has.
    Vfio(Address),
    /// None: what one has answered, from a file.
    Trace(PathBuf),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        const HOW: &str = "give virtual, vfio-user:PATH, trace:FILE, or a PCI address such as 0000:3b:00.0";
        match text.split_once(':') {
            _ if text == "virtual" => Ok(Device::Virtual),
            Some(("vfio-user", path)) if !path.is_empty() => Ok(Device::VfioUser(path.into())),
            Some(("trace", path)) if !path.is_empty() => Ok(Device::Trace(path.into())),
            Some(("trace", _)) => Err(format!("a file is missing: {HOW}")),
            Some(("vfio-user", _)) => Err(format!("a socket is missing: {HOW}")),
            _ => text.parse().map(Device::Vfio).map_err(|error| format!("{error}; or {HOW}")),
        }
    }
}

/// `--vfio`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VfioChoice {
    /// The newer interface where the kernel offers it.
    #[default]
    Auto,
    /// Group and container.
    Group,
    /// iommufd and device cdev.
    Cdev,
}

impl From<VfioChoice> for Api {
    fn from(choice: VfioChoice) -> Api {
        match choice {
            VfioChoice::Auto => Api::Auto,
            VfioChoice::Group => Api::Group,
            VfioChoice::Cdev => Api::Cdev,
        }
    }
}

/// How a PCI function is taken, as options of a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub struct VfioArgs {
    /// Which of the kernel's VFIO interfaces, for a PCI address.
    #[arg(long, value_enum, default_value_t = VfioChoice::Auto)]
    pub vfio: VfioChoice,
    /// Take the function also where no IOMMU keeps it from the rest of the memory: whatever address it is given by mistake, it
    /// reads or writes. Needs root, the kernel's no-IOMMU mode and huge pages.
    #[arg(long)]
    pub unsafe_noiommu: bool,
}

impl From<VfioArgs> for Options {
    fn from(args: VfioArgs) -> Options {
        Options { api: args.vfio.into(), unsafe_noiommu: args.unsafe_noiommu }
    }
}

impl From<VfioChoice> for Options {
    fn from(choice: VfioChoice) -> Options {
        Options { api: choice.into(), ..Options::default() }
    }
}

/// What is done with a function, whatever it is behind.
pub trait Work {
    /// What comes of it.
    type Outcome;
    /// Does it.
    fn on<P: Platform + 'static>(self, platform: Arc<P>) -> Self::Outcome;
}

impl Device {
    /// Opens the function and does something with it.
    pub fn open<W: Work>(&self, vfio: impl Into<Options>, work: W) -> Result<W::Outcome, PlatformError> {
        Ok(match self {
            Device::Virtual => work.on(Arc::new(VirtualPlatform::new("virtual", virtual_nic::Config::default()))),
            Device::VfioUser(path) => work.on(Arc::new(VfioUserPlatform::open(path)?)),
            Device::Trace(path) => work.on(Arc::new(Replay::open(path)?)),
            Device::Vfio(address) => work.on(Arc::new(VfioPlatform::open(address, vfio.into())?)),
        })
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | each kind of device is named in one way, and what is none is refused with the ways | `devices_are_named` |
    use super::*;

    #[test]
    fn devices_are_named() {
        assert_eq!("virtual".parse(), Ok(Device::Virtual));
        assert_eq!("vfio-user:/run/nic.sock".parse(), Ok(Device::VfioUser("/run/nic.sock".into())));
        assert_eq!("trace:/tmp/t.gz".parse(), Ok(Device::Trace("/tmp/t.gz".into())));
        assert!(matches!("0000:3b:00.0".parse(), Ok(Device::Vfio(_))));
        for bad in ["", "nonsense", "vfio-user:", "trace:", "3b:00", "Virtual"] {
            let error = Device::from_str(bad).expect_err(bad);
            assert!(error.contains("vfio-user:PATH") && !error.contains('\n'), "{error}");
        }
    }
}
