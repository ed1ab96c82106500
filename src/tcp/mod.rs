//! A user-space TCP, sans-IO: no clock, no socket, no allocation per segment, and payload it never touches.

/// Payload of a segment: something with a length that can be cut at both ends without being touched.
///
/// [`Frame`](crate::frame::Frame) is the one of the driver; tests use plain bytes. A payload that TCP does not deliver is
/// returned to the caller, never dropped, because it may own a receive buffer.
pub trait Payload {
    /// Bytes.
    fn len(&self) -> u32;
    /// True if no byte is left.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Drops `n` bytes at the front; `n` is at most the length.
    fn trim_front(&mut self, n: u32);
    /// Drops `n` bytes at the back; `n` is at most the length.
    fn trim_back(&mut self, n: u32);
}

impl Payload for crate::frame::Frame {
    fn len(&self) -> u32 {
        crate::frame::Frame::len(self)
    }
    fn trim_front(&mut self, n: u32) {
        crate::frame::Frame::trim_front(self, n);
    }
    fn trim_back(&mut self, n: u32) {
        crate::frame::Frame::trim_back(self, n);
    }
}
