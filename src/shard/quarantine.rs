//! Buffers that the device may still write, because their memory keys could not be destroyed. They are safe again when the
//! function has been reset, and only then.

use crate::adapter::{Creation, Handle, Objects, Refused};
use crate::command::{CommandError, Fault, Function, Object, Output, Request};
use crate::ddp::tags::{Quiesced, TagTable};
use crate::dma::IoBuf;
use crate::platform::Deadline;
use firmware_iface::Opcode;
use std::sync::Arc;

/// The buffers of an offload queue that did not go away, and the caller's token for each tag.
#[derive(Debug)]
pub(super) struct Quarantined {
    pub tags: TagTable,
    pub tokens: Box<[Option<u64>]>,
}

/// Buffers that the device may still write. Dropping it keeps their memory from reuse for ever.
#[derive(Debug, Default)]
pub struct Quarantine(Vec<Quarantined>);

impl Quarantine {
    pub(super) fn push(&mut self, held: Quarantined) {
        self.0.push(held);
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of buffers.
    pub fn len(&self) -> usize {
        self.0.iter().map(|held| held.tags.held() as usize).sum()
    }

    /// The buffers, with the tokens of their requests.
    pub fn release(self, proof: &Quiesced) -> Vec<(u64, IoBuf)> {
        self.0.into_iter().flat_map(|held| held.release(proof)).collect()
    }
}

impl Quarantined {
    fn release(self, proof: &Quiesced) -> impl Iterator<Item = (u64, IoBuf)> {
        let tokens = self.tokens;
        self.tags.quiesce(proof).into_iter().map(move |released| {
            let token = tokens.get(usize::from(released.tag())).copied().flatten();
            (token.unwrap_or(u64::MAX), released.into_buffer())
        })
    }
}

/// Firmware that does not work any more: every command fails at once, unsent.
pub(super) struct NoFirmware(pub Arc<Function>);

impl NoFirmware {
    fn refuse(&self, opcode: Opcode, object: Option<Object>) -> CommandError {
        CommandError { function: Arc::clone(&self.0), opcode, op_mod: 0, object, fault: Fault::Abandoned }
    }
}

impl Objects for NoFirmware {
    fn create_each(&mut self, creations: Vec<Creation>, _: Deadline) -> Vec<Result<Handle, CommandError>> {
        creations.iter().map(|_| Err(self.refuse(Opcode::CREATE_GENERAL_OBJECT, None))).collect()
    }
    fn destroy_each(&mut self, handles: Vec<Handle>, _: Deadline) -> Vec<Refused> {
        let refuse = |handle: &Handle| {
            let (kind, number) = (handle.kind(), handle.number());
            let object = Object { kind, number: Some(number) };
            // One for all numbers of a handle: they fail for the same reason.
            Refused { kind, number, error: self.refuse(Opcode::DESTROY_GENERAL_OBJECT, Some(object)) }
        };
        handles.iter().map(refuse).collect()
    }
    fn exec_each(&mut self, requests: Vec<Request>, _: Deadline) -> Vec<Result<Output, CommandError>> {
        requests.iter().map(|request| Err(self.refuse(request.opcode(), request.object()))).collect()
    }
}
