//! Bit layouts as tables: one line per field, in the manual's own coordinates, and typed accessors over the bytes.
//!
//! A structure is an array of bytes. A field is a constant of its structure: the bit offset counts from the most
//! significant bit of byte 0 (the convention of the programmer's reference), the width is in bits, and every
//! multi-byte value is big-endian. Because a field carries its structure as a type parameter, a field of one structure
//! does not compile on another; because it is a constant, an access is one load, one byte swap and one mask.
//!
//! Every structure also publishes its table ([`Layout::FIELDS`]), so that tests can compare it with an independent
//! description and tools can print any structure by name.

use core::fmt;
use core::marker::PhantomData;

/// One row of a structure's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// Name as the reference spells it; a dot separates a word from its sub-field.
    pub name: &'static str,
    /// Bits from the most significant bit of byte 0.
    pub offset: u32,
    /// Bits of one element.
    pub width: u32,
    /// Elements: 1 for a scalar, 0 for a tail of any length that follows the structure.
    pub count: u32,
    /// Name of the nested structure, or empty.
    pub nested: &'static str,
}

/// A structure's table, without its type: what a dump or a layout test needs.
#[derive(Clone, Copy, Debug)]
pub struct LayoutInfo {
    /// The structure's name in the reference.
    pub name: &'static str,
    /// Size in bytes, without any tail.
    pub size: usize,
    /// The fields.
    pub fields: &'static [FieldInfo],
}

/// A structure of the device, as its bytes.
pub trait Layout: Sized + Copy {
    /// The structure's name in the reference.
    const NAME: &'static str;
    /// Size in bytes, without any tail.
    const SIZE: usize;
    /// The fields, in the order of their offsets.
    const FIELDS: &'static [FieldInfo];
    /// The whole table.
    const INFO: LayoutInfo = LayoutInfo { name: Self::NAME, size: Self::SIZE, fields: Self::FIELDS };

    /// All bytes zero.
    fn zeroed() -> Self;
    /// The bytes, as they lie in memory.
    fn bytes(&self) -> &[u8];
    /// The bytes, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Copies the structure out of the start of `bytes`; bytes that are missing read as zero, as firmware treats a
    /// short input.
    fn from_prefix(bytes: &[u8]) -> Self {
        let mut value = Self::zeroed();
        let n = bytes.len().min(Self::SIZE);
        value.bytes_mut()[..n].copy_from_slice(&bytes[..n]);
        value
    }
}

/// A field of at most 32 bits that does not cross a 32-bit word.
pub struct Field<S> {
    offset: u32,
    width: u32,
    _of: PhantomData<fn() -> S>,
}

/// A field of 33 to 64 bits that ends on a 32-bit boundary.
pub struct Wide<S> {
    offset: u32,
    width: u32,
    _of: PhantomData<fn() -> S>,
}

/// An array of elements of 8, 16, 32 or 64 bits, or of bit-sized elements inside words.
pub struct Array<S> {
    offset: u32,
    width: u32,
    count: u32,
    _of: PhantomData<fn() -> S>,
}

/// Another structure inside this one (the first of `count`).
pub struct Nested<S, T> {
    offset: u32,
    count: u32,
    _of: PhantomData<fn() -> (S, T)>,
}

/// A run of bytes that this crate gives no inner structure.
pub struct Blob<S> {
    offset: u32,
    len: u32,
    _of: PhantomData<fn() -> S>,
}

macro_rules! copy_handle {
    ($($name:ident<$($p:ident),+>),+) => {$(
        impl<$($p),+> Clone for $name<$($p),+> { fn clone(&self) -> Self { *self } }
        impl<$($p),+> Copy for $name<$($p),+> {}
    )+};
}
copy_handle!(Field<S>, Wide<S>, Array<S>, Nested<S, T>, Blob<S>);

impl<S> Field<S> {
    /// A field at `offset` of `width` bits. Evaluated at compile time by [`layout!`](crate::layout!).
    pub const fn new(offset: u32, width: u32) -> Self {
        assert!(width >= 1 && offset % 32 + width <= 32, "a field of at most 32 bits must lie inside one word");
        Field { offset, width, _of: PhantomData }
    }
    /// Largest value that fits.
    pub const fn max(self) -> u32 {
        u32::MAX >> (32 - self.width)
    }
    /// Bit offset from the most significant bit of byte 0.
    pub const fn offset(self) -> u32 {
        self.offset
    }
}

impl<S> Wide<S> {
    /// A field at `offset` of `width` bits.
    pub const fn new(offset: u32, width: u32) -> Self {
        assert!(width > 32 && width <= 64 && (offset + width).is_multiple_of(32), "a wide field must end a word");
        Wide { offset, width, _of: PhantomData }
    }
}

impl<S> Array<S> {
    /// `count` elements of `width` bits from `offset` on.
    pub const fn new(offset: u32, width: u32, count: u32) -> Self {
        assert!(width == 64 || (width <= 32 && 32 % width == 0), "array elements must not cross words");
        Array { offset, width, count, _of: PhantomData }
    }
    /// Number of elements.
    pub const fn len(self) -> usize {
        self.count as usize
    }
    /// True if the array has no element inside the structure (a tail).
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }
}

impl<S, T> Nested<S, T> {
    /// `count` structures `T` from `offset` on.
    pub const fn new(offset: u32, count: u32) -> Self {
        assert!(offset.is_multiple_of(8));
        Nested { offset, count, _of: PhantomData }
    }
    /// Byte offset of the first.
    pub const fn byte_offset(self) -> usize {
        self.offset as usize / 8
    }
}

impl<S> Blob<S> {
    /// `bits` bits from `offset` on, both multiples of 8.
    pub const fn new(offset: u32, bits: u32) -> Self {
        assert!(offset.is_multiple_of(8) && bits.is_multiple_of(8));
        Blob { offset, len: bits / 8, _of: PhantomData }
    }
}

#[inline(always)]
fn load_word(bytes: &[u8], bit: u32) -> u32 {
    let at = (bit / 32 * 4) as usize;
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
fn store_word(bytes: &mut [u8], bit: u32, value: u32) {
    let at = (bit / 32 * 4) as usize;
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

#[inline(always)]
fn get_bits(bytes: &[u8], offset: u32, width: u32) -> u32 {
    (load_word(bytes, offset) >> (32 - offset % 32 - width)) & (u32::MAX >> (32 - width))
}

#[inline(always)]
fn set_bits(bytes: &mut [u8], offset: u32, width: u32, value: u32) {
    let mask = u32::MAX >> (32 - width);
    debug_assert!(value <= mask, "value {value:#x} does not fit {width} bits at bit {offset:#x}");
    let shift = 32 - offset % 32 - width;
    let word = load_word(bytes, offset) & !(mask << shift) | (value & mask) << shift;
    store_word(bytes, offset, word);
}

/// Accessors of every [`Layout`].
pub trait Access: Layout {
    /// The value of a field.
    #[inline(always)]
    fn get(&self, field: Field<Self>) -> u32 {
        get_bits(self.bytes(), field.offset, field.width)
    }
    /// True if a field is not zero; for flags.
    #[inline(always)]
    fn is_set(&self, field: Field<Self>) -> bool {
        self.get(field) != 0
    }
    /// Stores a field. A value that does not fit panics in debug builds and is cut in release builds; callers check
    /// what comes from outside.
    #[inline(always)]
    fn set(&mut self, field: Field<Self>, value: u32) {
        set_bits(self.bytes_mut(), field.offset, field.width, value);
    }
    /// [`Access::set`] that returns the structure, to chain.
    #[inline(always)]
    #[must_use]
    fn with(mut self, field: Field<Self>, value: u32) -> Self {
        self.set(field, value);
        self
    }
    /// The value of a wide field.
    #[inline(always)]
    fn get_wide(&self, field: Wide<Self>) -> u64 {
        let end = field.offset + field.width;
        let low = u64::from(load_word(self.bytes(), end - 32));
        let high = u64::from(load_word(self.bytes(), end - 64));
        (high << 32 | low) & (u64::MAX >> (64 - field.width))
    }
    /// Stores a wide field.
    #[inline(always)]
    fn set_wide(&mut self, field: Wide<Self>, value: u64) {
        let mask = u64::MAX >> (64 - field.width);
        debug_assert!(value <= mask, "value {value:#x} does not fit {} bits", field.width);
        let end = field.offset + field.width;
        let high = u64::from(load_word(self.bytes(), end - 64)) << 32;
        let word = (high & !mask) | (value & mask);
        store_word(self.bytes_mut(), end - 64, (word >> 32) as u32);
        store_word(self.bytes_mut(), end - 32, word as u32);
    }
    /// [`Access::set_wide`] that returns the structure.
    #[inline(always)]
    #[must_use]
    fn with_wide(mut self, field: Wide<Self>, value: u64) -> Self {
        self.set_wide(field, value);
        self
    }
    /// Element `index` of an array.
    ///
    /// # Panics
    /// If `index` is not below the array's length.
    #[inline(always)]
    fn get_at(&self, array: Array<Self>, index: usize) -> u64 {
        assert!(index < array.count as usize, "index {index} of an array of {}", array.count);
        let bit = array.offset + array.width * index as u32;
        if array.width == 64 {
            u64::from(load_word(self.bytes(), bit)) << 32 | u64::from(load_word(self.bytes(), bit + 32))
        } else {
            u64::from(get_bits(self.bytes(), bit, array.width))
        }
    }
    /// Stores element `index` of an array.
    ///
    /// # Panics
    /// If `index` is not below the array's length.
    #[inline(always)]
    fn set_at(&mut self, array: Array<Self>, index: usize, value: u64) {
        assert!(index < array.count as usize, "index {index} of an array of {}", array.count);
        let bit = array.offset + array.width * index as u32;
        if array.width == 64 {
            store_word(self.bytes_mut(), bit, (value >> 32) as u32);
            store_word(self.bytes_mut(), bit + 32, value as u32);
        } else {
            set_bits(self.bytes_mut(), bit, array.width, value as u32);
        }
    }
    /// A copy of a nested structure.
    #[inline(always)]
    fn nested<T: Layout>(&self, field: Nested<Self, T>) -> T {
        self.nested_at(field, 0)
    }
    /// A copy of element `index` of an array of nested structures.
    ///
    /// # Panics
    /// If `index` is not below the array's length.
    #[inline(always)]
    fn nested_at<T: Layout>(&self, field: Nested<Self, T>, index: usize) -> T {
        assert!(index < field.count as usize, "index {index} of an array of {}", field.count);
        T::from_prefix(&self.bytes()[field.byte_offset() + index * T::SIZE..][..T::SIZE])
    }
    /// Stores a nested structure.
    #[inline(always)]
    fn set_nested<T: Layout>(&mut self, field: Nested<Self, T>, value: &T) {
        let at = field.byte_offset();
        self.bytes_mut()[at..at + T::SIZE].copy_from_slice(value.bytes());
    }
    /// [`Access::set_nested`] that returns the structure.
    #[inline(always)]
    #[must_use]
    fn with_nested<T: Layout>(mut self, field: Nested<Self, T>, value: &T) -> Self {
        self.set_nested(field, value);
        self
    }
    /// The bytes of a run.
    #[inline(always)]
    fn blob(&self, field: Blob<Self>) -> &[u8] {
        &self.bytes()[field.offset as usize / 8..][..field.len as usize]
    }
    /// The bytes of a run, to be changed.
    #[inline(always)]
    fn blob_mut(&mut self, field: Blob<Self>) -> &mut [u8] {
        &mut self.bytes_mut()[field.offset as usize / 8..][..field.len as usize]
    }
}
impl<T: Layout> Access for T {}

/// Writes `name = value` for every scalar field of `bytes` that is not zero; tools and `Debug` share it.
pub fn describe(info: &LayoutInfo, bytes: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    let mut first = true;
    for field in info.fields {
        let wide = field.width > 32;
        if field.count != 1 || field.width > 64 || !field.nested.is_empty() {
            continue;
        }
        if (field.offset + field.width).div_ceil(32) as usize * 4 > bytes.len() {
            continue;
        }
        let value = if wide {
            let end = field.offset + field.width;
            let word = u64::from(load_word(bytes, end - 64)) << 32 | u64::from(load_word(bytes, end - 32));
            word & (u64::MAX >> (64 - field.width))
        } else {
            u64::from(get_bits(bytes, field.offset, field.width))
        };
        if value != 0 {
            write!(out, "{}{} = {value:#x}", if first { "" } else { ", " }, field.name)?;
            first = false;
        }
    }
    Ok(())
}

/// Defines a structure and its fields.
///
/// ```
/// use hw_regs::layout::{Access, Layout};
/// hw_regs::layout! {
///     /// An example of three words.
///     pub struct Example("example", 12) {
///         "ready" READY: bits(0, 1);
///         "length" LENGTH: bits(8, 24);
///         "token" TOKEN: wide(32, 64);
///     }
/// }
/// let e = Example::zeroed().with(Example::LENGTH, 5).with(Example::READY, 1);
/// assert_eq!(e.bytes(), [0x80, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
/// ```
#[macro_export]
macro_rules! layout {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident($ref_name:literal, $size:literal) {
            $($csv:literal $konst:ident : $kind:ident $args:tt;)*
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq,
            $crate::zerocopy::FromBytes, $crate::zerocopy::IntoBytes,
            $crate::zerocopy::Immutable, $crate::zerocopy::KnownLayout, $crate::zerocopy::Unaligned,
        )]
        #[repr(transparent)]
        pub struct $name(pub [u8; $size]);

        #[allow(missing_docs)]
        impl $name {
            $(pub const $konst: $crate::layout_type!($name, $kind $args) = $crate::layout_value!($kind $args);)*
        }

        impl $crate::layout::Layout for $name {
            const NAME: &'static str = $ref_name;
            const SIZE: usize = $size;
            const FIELDS: &'static [$crate::layout::FieldInfo] = &[
                $($crate::layout_info!($csv, $kind $args),)*
            ];
            #[inline(always)]
            fn zeroed() -> Self { $name([0; $size]) }
            #[inline(always)]
            fn bytes(&self) -> &[u8] { &self.0 }
            #[inline(always)]
            fn bytes_mut(&mut self) -> &mut [u8] { &mut self.0 }
        }

        impl Default for $name {
            fn default() -> Self { $name([0; $size]) }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), " { "))?;
                $crate::layout::describe(&<Self as $crate::layout::Layout>::INFO, &self.0, f)?;
                f.write_str(" }")
            }
        }
    )+};
}

/// Type of a field constant; part of [`layout!`](crate::layout!).
#[doc(hidden)]
#[macro_export]
macro_rules! layout_type {
    ($s:ident, bits $a:tt) => { $crate::layout::Field<$s> };
    ($s:ident, wide $a:tt) => { $crate::layout::Wide<$s> };
    ($s:ident, array $a:tt) => { $crate::layout::Array<$s> };
    ($s:ident, blob $a:tt) => { $crate::layout::Blob<$s> };
    ($s:ident, tail $a:tt) => { usize };
    ($s:ident, nested ($off:literal, $bits:literal, $count:literal, $t:ty, $n:literal)) => { $crate::layout::Nested<$s, $t> };
}

/// Value of a field constant; part of [`layout!`](crate::layout!).
#[doc(hidden)]
#[macro_export]
macro_rules! layout_value {
    (bits ($off:literal, $w:literal)) => {
        $crate::layout::Field::new($off, $w)
    };
    (wide ($off:literal, $w:literal)) => {
        $crate::layout::Wide::new($off, $w)
    };
    (array ($off:literal, $w:literal, $count:literal)) => {
        $crate::layout::Array::new($off, $w, $count)
    };
    (blob ($off:literal, $w:literal)) => {
        $crate::layout::Blob::new($off, $w)
    };
    (tail ($off:literal, $w:literal, $n:literal)) => {
        $off / 8
    };
    (nested ($off:literal, $bits:literal, $count:literal, $t:ty, $n:literal)) => {
        $crate::layout::Nested::new($off, $count)
    };
}

/// Table row of a field; part of [`layout!`](crate::layout!).
#[doc(hidden)]
#[macro_export]
macro_rules! layout_info {
    ($n:expr, bits ($off:literal, $w:literal)) => { $crate::layout_info!(@ $n, $off, $w, 1, "") };
    ($n:expr, wide ($off:literal, $w:literal)) => { $crate::layout_info!(@ $n, $off, $w, 1, "") };
    ($n:expr, array ($off:literal, $w:literal, $count:literal)) => { $crate::layout_info!(@ $n, $off, $w, $count, "") };
    ($n:expr, blob ($off:literal, $w:literal)) => { $crate::layout_info!(@ $n, $off, $w, 1, "") };
    ($n:expr, tail ($off:literal, $w:literal, $nested:literal)) => { $crate::layout_info!(@ $n, $off, $w, 0, $nested) };
    ($n:expr, nested ($off:literal, $bits:literal, $count:literal, $t:ty, $nested:literal)) => {
        $crate::layout_info!(@ $n, $off, $bits, $count, $nested)
    };
    (@ $n:expr, $off:expr, $w:expr, $count:expr, $nested:expr) => {
        $crate::layout::FieldInfo { name: $n, offset: $off, width: $w, count: $count, nested: $nested }
    };
}

/// Defines a set of numbers that the device may extend at any time: a newtype with named constants, never an `enum`, so
/// that an unknown value is kept and printed instead of being undefined.
#[macro_export]
macro_rules! codes {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident($repr:ty, $set:literal) {
            $($csv:literal $konst:ident = $value:literal;)*
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $repr);

        #[allow(missing_docs)]
        impl $name {
            $(pub const $konst: $name = $name($value);)*
        }

        impl $name {
            /// Name of the set in the reference, and every (reference name, value) of it.
            pub const TABLE: (&'static str, &'static [(&'static str, u64)]) =
                ($set, &[$(($csv, $value as u64),)*]);

            /// The constant's name, or `None` for a value that the reference does not name.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(value if value == $value => Some(stringify!($konst)),)*
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{name} ({:#x})", self.0),
                    None => write!(f, "unknown ({:#x})", self.0),
                }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }
    )+};
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | a field reads back what was stored and touches nothing else | `a_field_changes_only_its_own_bits` |
    //! | a wide field of odd width leaves its upper neighbour alone | `a_48_bit_field_keeps_the_16_bits_above_it` |
    //! | a short input reads as zero-extended | `a_short_input_is_zero_extended` |
    use super::*;

    crate::layout! {
        /// Test structure.
        pub struct T("t", 16) {
            "a" A: bits(4, 3);
            "mac" MAC: wide(48, 48);
            "list" LIST: array(96, 16, 2);
        }
    }

    #[test]
    fn a_field_changes_only_its_own_bits() {
        let mut t = T([0xff; 16]);
        t.set(T::A, 2);
        assert_eq!(t.get(T::A), 2);
        assert_eq!(t.0[0], 0b1111_0101);
        assert!(t.0[1..].iter().all(|b| *b == 0xff));
        t.set_at(T::LIST, 1, 0x1234);
        assert_eq!(t.get_at(T::LIST, 0), 0xffff);
        assert_eq!(t.get_at(T::LIST, 1), 0x1234);
    }

    #[test]
    fn a_48_bit_field_keeps_the_16_bits_above_it() {
        let mut t = T([0xff; 16]);
        t.set_wide(T::MAC, 0x0102_0304_0506);
        assert_eq!(t.get_wide(T::MAC), 0x0102_0304_0506);
        assert_eq!(t.0[4..12], [0xff, 0xff, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_short_input_is_zero_extended() {
        let t = T::from_prefix(&[0xff; 7]);
        assert_eq!(t.get_wide(T::MAC), 0xff00_0000_0000);
        assert_eq!(format!("{t:?}"), "T { a = 0x7, mac = 0xff0000000000 }");
    }
}
