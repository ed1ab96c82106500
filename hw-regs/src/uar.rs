//! The registers of a UAR page (`mlx5-numbers.md`, "Sizes"; `mlx5-bringup.md` §7, §8).
//!
//! UAR `n` is the 4 KiB at BAR0 + `n` * 4096. Offsets below are bytes inside that page.

/// Bytes of one UAR.
pub const UAR_SIZE: u64 = 4096;
/// CQ arm doorbell: 8 bytes, [`CqArmDoorbellMmio`](crate::doorbell::CqArmDoorbellMmio).
pub const CQ_ARM: u64 = 0x20;
/// EQ doorbell that updates the consumer index and arms: 4 bytes, [`EqDoorbellMmio`](crate::doorbell::EqDoorbellMmio).
pub const EQ_ARM: u64 = 0x40;
/// EQ doorbell that only updates the consumer index: 4 bytes.
pub const EQ_UPDATE: u64 = 0x48;
/// First BlueFlame register: the SQ doorbell, 8 bytes, [`SqDoorbellMmio`](crate::doorbell::SqDoorbellMmio).
pub const BLUEFLAME: u64 = 0x800;

/// Byte offset in BAR0 of register `register` of UAR `uar`.
pub const fn offset(uar: u32, register: u64) -> u64 {
    uar as u64 * UAR_SIZE + register
}
