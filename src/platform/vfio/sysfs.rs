//! What sysfs says of a PCI function.

use crate::platform::PlatformError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const DEVICES: &str = "/sys/bus/pci/devices";

/// Where a function is on its bus: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

/// Not the address of a PCI function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no PCI address: give domain:bus:device.function as `lspci -D -d 15b3:` shows it, for example 0000:3b:00.0"
)]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    /// Also without the domain, which is 0 then.
    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
            let hex = |text: &str, digits: usize, most: u32| {
                let good = (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                u32::from_str_radix(text, 16).ok().filter(|n| good && *n <= most)
            };
            Some(Address {
                domain: hex(domain, 8, u32::MAX)?,
                bus: hex(bus, 2, 0xff)? as u8,
                device: hex(device, 2, 0x1f)? as u8,
                function: hex(function, 1, 7)? as u8,
            })
        };
        parse().ok_or_else(|| BadAddress(text.to_owned()))
    }
}

/// A function that vfio-pci has.
#[derive(Debug)]
pub(super) struct Function {
    pub address: Address,
    pub path: PathBuf,
    pub vendor: u16,
    pub device: u16,
    /// IOMMU group.
    pub group: u32,
    /// The group stands for no IOMMU: the kernel's no-IOMMU mode made it up.
    pub no_iommu: bool,
    /// The kernel offers a device of its own for it (`vfio-dev`).
    pub has_cdev: bool,
}

fn number(path: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(path).ok()?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// The last part of where a link leads.
fn link(path: &Path) -> Option<String> {
    Some(std::fs::read_link(path).ok()?.file_name()?.to_string_lossy().into_owned())
}

impl Function {
    /// Finds the function, and refuses one that vfio-pci does not have.
    pub fn find(address: &Address) -> Result<Function, PlatformError> {
        let refused =
            |cause: String, advice: String| PlatformError::Open { address: address.to_string(), cause, advice };
        let path = Path::new(DEVICES).join(address.to_string());
        let ids = number(&path.join("vendor")).zip(number(&path.join("device")));
        let Some((vendor, device)) = ids else {
            let advice = "`lspci -D -d 15b3:` lists what there is".to_owned();
            return Err(refused("there is no such PCI function".into(), advice));
        };
        let group = link(&path.join("iommu_group")).and_then(|name| name.parse().ok());
        let Some(group) = group else {
            let advice = "turn it on in the firmware setup, and boot with intel_iommu=on (AMD needs nothing)";
            return Err(refused("it is in no IOMMU group: the IOMMU is off".into(), advice.into()));
        };
        match link(&path.join("driver")).as_deref() {
            Some("vfio-pci") => {}
            Some(driver) => {
                let advice = format!("bind it to vfio-pci first: cxddp-bind bind {address}");
                return Err(refused(format!("the kernel driver {driver} has it"), advice));
            }
            None => {
                let advice = format!("bind it to vfio-pci first: cxddp-bind bind {address}");
                return Err(refused("no kernel driver has it".into(), advice));
            }
        }
        let has_cdev = path.join("vfio-dev").is_dir();
        let name = std::fs::read_to_string(path.join("iommu_group/name")).unwrap_or_default();
        let no_iommu = name.trim() == "vfio-noiommu";
        Ok(Function {
            address: *address,
            path,
            vendor: vendor as u16,
            device: device as u16,
            group,
            no_iommu,
            has_cdev,
        })
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | addresses are read with and without domain, and written as the kernel does | `addresses_are_read` |
    //! | a function that does not exist is refused with what to do | `a_function_that_is_not_there` |
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, written) in [
            ("0000:3b:00.0", "0000:3b:00.0"),
            ("3b:1f.7", "0000:3b:1f.7"),
            ("10000:01:02.3", "10000:01:02.3"),
            ("0:0:0.0", "0000:00:00.0"),
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(written.to_owned()));
        }
        for bad in
            ["", "3b:00", "3b:20.0", "3b:00.8", "0000:3b:00.0 ", "x:3b:00.0", "+1:3b:00.0", "3b:000.0", "0000:3b:00.00"]
        {
            let error = bad.parse::<Address>().expect_err(bad).to_string();
            assert!(error.contains("0000:3b:00.0"), "{error}");
        }
    }

    #[test]
    fn a_function_that_is_not_there() {
        let address = "ffff:ff:1f.7".parse().expect("an address");
        let error = Function::find(&address).expect_err("nothing there").to_string();
        assert!(error.starts_with("ffff:ff:1f.7: there is no such PCI function; `lspci"), "{error}");
    }
}
