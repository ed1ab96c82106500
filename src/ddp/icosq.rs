//! The control ring of an offload queue (ICOSQ).

/// Proof that the UMRs that tell the device of a tag's buffer are in the ring.
#[derive(Debug)]
pub struct BindPosted {
    tag: u16,
}

/// Proof that the invalidate of a tag's memory key is in the ring.
#[derive(Debug)]
pub struct UnbindPosted {
    tag: u16,
}

/// Proof that the device has executed the invalidate of a tag's memory key: it does not use the buffer any more.
#[derive(Debug)]
pub struct UnbindCompleted {
    tag: u16,
}

impl BindPosted {
    pub(super) fn tag(&self) -> u16 {
        self.tag
    }
    #[cfg(test)]
    pub(super) fn for_test(tag: u16) -> BindPosted {
        BindPosted { tag }
    }
}

impl UnbindPosted {
    pub(super) fn tag(&self) -> u16 {
        self.tag
    }
    #[cfg(test)]
    pub(super) fn for_test(tag: u16) -> UnbindPosted {
        UnbindPosted { tag }
    }
}

impl UnbindCompleted {
    pub(super) fn tag(&self) -> u16 {
        self.tag
    }
    #[cfg(test)]
    pub(super) fn for_test(tag: u16) -> UnbindCompleted {
        UnbindCompleted { tag }
    }
}
