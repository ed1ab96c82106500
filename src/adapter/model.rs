//! Which ConnectX a device id stands for, and what of it was tried.

use std::fmt;

/// A device that mlx5 drivers know (`mlx5-numbers.md`, "PCI identity").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// PCI device id.
    pub device: u16,
    /// As its maker calls it.
    pub name: &'static str,
    /// True for virtual functions: the device itself does not say so, the id does.
    pub virtual_function: bool,
}

const fn physical(device: u16, name: &'static str) -> Model {
    Model { device, name, virtual_function: false }
}

const fn virtual_of(device: u16, name: &'static str) -> Model {
    Model { device, name, virtual_function: true }
}

const MODELS: [Model; 25] = [
    physical(0x1011, "Connect-IB"),
    virtual_of(0x1012, "Connect-IB"),
    physical(0x1013, "ConnectX-4"),
    virtual_of(0x1014, "ConnectX-4"),
    physical(0x1015, "ConnectX-4 Lx"),
    virtual_of(0x1016, "ConnectX-4 Lx"),
    physical(0x1017, "ConnectX-5"),
    virtual_of(0x1018, "ConnectX-5"),
    physical(0x1019, "ConnectX-5 Ex"),
    virtual_of(0x101a, "ConnectX-5 Ex"),
    physical(0x101b, "ConnectX-6"),
    virtual_of(0x101c, "ConnectX-6"),
    physical(0x101d, "ConnectX-6 Dx"),
    virtual_of(0x101e, "ConnectX-6 Dx or later, or BlueField-2 or later"),
    physical(0x101f, "ConnectX-6 Lx"),
    physical(0x1021, "ConnectX-7"),
    physical(0x1023, "ConnectX-8"),
    physical(0x1025, "ConnectX-9"),
    physical(0x1027, "ConnectX-10"),
    physical(0x2101, "ConnectX-10 NVLink-C2C"),
    physical(0xa2d2, "BlueField"),
    virtual_of(0xa2d3, "BlueField"),
    physical(0xa2d6, "BlueField-2"),
    physical(0xa2dc, "BlueField-3"),
    physical(0xa2df, "BlueField-4"),
];

/// The device with this id, if it is known.
pub fn of(device: u16) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.device == device)
}

/// How far the driver was tried on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tested {
    /// On the virtual ConnectX that this workspace has, and on no card.
    Model,
    /// Nowhere: the commands of its firmware are taken to be those of a ConnectX-7.
    Nowhere,
}

impl Tested {
    /// What is known of a device id.
    pub fn of(device: u16) -> Tested {
        match device {
            0x1021 | 0x101e => Tested::Model,
            _ => Tested::Nowhere,
        }
    }
}

impl fmt::Display for Tested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tested::Model => "this driver was tested on a virtual one only, never on a card",
            Tested::Nowhere => "untested: this driver was tested as that of a ConnectX-7 (virtual) and of its VFs only",
        })
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | ids are known once, and virtual functions are those that Linux knows as such | `ids_are_those_of_linux` |
    use super::*;

    #[test]
    fn ids_are_those_of_linux() {
        let mut ids = MODELS.map(|model| model.device).to_vec();
        ids.dedup();
        assert!(ids.is_sorted() && ids.len() == MODELS.len());
        let virtual_ones: Vec<u16> = MODELS.iter().filter(|m| m.virtual_function).map(|m| m.device).collect();
        assert_eq!(virtual_ones, [0x1012, 0x1014, 0x1016, 0x1018, 0x101a, 0x101c, 0x101e, 0xa2d3]);
        assert_eq!(of(0x1021).map(|model| model.name), Some("ConnectX-7"));
        assert_eq!(of(0x1020), None);
        assert_eq!([0x1021, 0x101e, 0x1023].map(Tested::of), [Tested::Model, Tested::Model, Tested::Nowhere]);
    }
}
