//! What a function is called: by the system's `pci.ids`, or else by our own list.

use crate::root::Root;

/// Mellanox, now NVIDIA.
pub const VENDOR: u16 = 0x15b3;

/// Where distributions keep the list.
const PLACES: [&str; 4] =
    ["usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "var/lib/pciutils/pci.ids", "usr/share/pci.ids"];

/// Device ids of functions that firmware drives as an mlx5 (`mlx5-numbers.md`), and which of them are virtual functions.
const MLX5: [(u16, bool, &str); 24] = [
    (0x1011, false, "Connect-IB"),
    (0x1012, true, "Connect-IB virtual function"),
    (0x1013, false, "ConnectX-4"),
    (0x1014, true, "ConnectX-4 virtual function"),
    (0x1015, false, "ConnectX-4 Lx"),
    (0x1016, true, "ConnectX-4 Lx virtual function"),
    (0x1017, false, "ConnectX-5"),
    (0x1018, true, "ConnectX-5 virtual function"),
    (0x1019, false, "ConnectX-5 Ex"),
    (0x101a, true, "ConnectX-5 Ex virtual function"),
    (0x101b, false, "ConnectX-6"),
    (0x101c, true, "ConnectX-6 virtual function"),
    (0x101d, false, "ConnectX-6 Dx"),
    (0x101e, true, "ConnectX virtual function (ConnectX-6 Dx or later)"),
    (0x101f, false, "ConnectX-6 Lx"),
    (0x1021, false, "ConnectX-7"),
    (0x1023, false, "ConnectX-8"),
    (0x1025, false, "ConnectX-9"),
    (0x1027, false, "ConnectX-10"),
    (0xa2d2, false, "BlueField"),
    (0xa2d3, true, "BlueField virtual function"),
    (0xa2d6, false, "BlueField-2"),
    (0xa2dc, false, "BlueField-3"),
    (0xa2df, false, "BlueField-4"),
];

/// Whether the id is one that the driver knows how to bring up.
pub fn is_mlx5(device: u16) -> bool {
    MLX5.iter().any(|(id, _, _)| *id == device)
}

/// Whether the id is a virtual function's.
pub fn is_virtual(device: u16) -> bool {
    MLX5.iter().any(|(id, is_virtual, _)| *id == device && *is_virtual)
}

/// Names of devices, looked up once.
#[derive(Debug)]
pub struct Names {
    /// Our vendor's part of `pci.ids`.
    list: Vec<(u16, String)>,
}

impl Names {
    /// Reads what the system has.
    pub fn load(root: &Root) -> Names {
        let text = PLACES.iter().find_map(|place| root.text(place)).unwrap_or_default();
        let ours = text.lines().skip_while(|line| !line.starts_with("15b3 ")).skip(1);
        // Devices of a vendor are indented once, its subsystems twice; the next vendor is not.
        let ours = ours.take_while(|line| line.is_empty() || line.starts_with(['\t', '#']));
        let list = ours.filter_map(|line| {
            let (id, name) = line.strip_prefix('\t').filter(|line| !line.starts_with('\t'))?.split_once("  ")?;
            Some((u16::from_str_radix(id, 16).ok()?, name.trim().to_owned()))
        });
        Names { list: list.collect() }
    }

    /// The name of one of our vendor's devices.
    pub fn of(&self, device: u16) -> String {
        let listed = self.list.iter().find(|(id, _)| *id == device).map(|(_, name)| name.clone());
        let own = || MLX5.iter().find(|(id, _, _)| *id == device).map(|(_, _, name)| (*name).to_owned());
        listed.or_else(own).unwrap_or_else(|| "unknown".to_owned())
    }
}
