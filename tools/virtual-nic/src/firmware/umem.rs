//! Umems, and the rings and doorbell records that are in them (`mlx5-bringup.md` §12).

use super::objects::removed;
use super::{Command, Outcome, Reply};
use crate::VirtualNic;
use crate::queue::ring::Ring;
use crate::queue::umem::{Place, Umem, Umems, Use};
use crate::refusal;
use crate::reject::Reject;
use firmware_iface::caps::CmdHcaCap;
use firmware_iface::command::object::{CreateUmemIn, CreateUmemOut, DestroyUmemIn, Mtt, Umem as Context};
use hw_regs::layout::{Access, Layout};

impl VirtualNic {
    pub(super) fn create_umem(&mut self, command: &Command<'_>) -> Outcome {
        if !self.caps().is_set(CmdHcaCap::UMEM_UID_0) {
            return Err(refusal::OPCODE);
        }
        let context: Context = command.view::<CreateUmemIn>().nested(CreateUmemIn::UMEM);
        let pages = usize::try_from(context.get_wide(Context::NUM_OF_MTT)).map_err(|_| refusal::LIST_CUT_SHORT)?;
        let bytes = pages.checked_mul(Mtt::SIZE).ok_or(refusal::LIST_CUT_SHORT)?;
        let umem = Umem::new(&context, command.tail(CreateUmemIn::UMEM.byte_offset() + Context::MTT, bytes)?)?;
        self.room_for_object()?;
        let number = self.objects.umems.insert(umem).ok_or(refusal::UMEM_NONE_LEFT)?;
        self.ask_for_pages_if_short();
        Ok(Reply::of(&CreateUmemOut::zeroed().with(CreateUmemOut::UMEM_ID, number)))
    }

    pub(super) fn destroy_umem(&mut self, command: &Command<'_>) -> Outcome {
        let number = command.view::<DestroyUmemIn>().get(DestroyUmemIn::UMEM_ID);
        removed(self.objects.umems.remove(number), refusal::UMEM_UNKNOWN, refusal::UMEM_IN_USE)?;
        Ok(Reply::ok())
    }

    fn umem(&self, number: u32) -> Result<&Umem, Reject> {
        self.objects.umems.get(number).ok_or(refusal::UMEM_UNKNOWN)
    }

    /// Where a queue of `bytes` bytes is: its ring `offset` bytes into its umem or where `elsewhere` says, its doorbell record
    /// at `record`, of its umem or of memory.
    pub(super) fn place(
        &self,
        umems: Umems,
        record: u64,
        (offset, bytes, wanted): (u64, u64, Use),
        elsewhere: impl FnOnce() -> Result<Ring, Reject>,
    ) -> Result<Place, Reject> {
        let record = match umems.record {
            None => record,
            Some(number) => self.umem(number)?.address(record, 8, Use::Read)?,
        };
        if record == 0 || !record.is_multiple_of(8) {
            return Err(refusal::DOORBELL_RECORD);
        }
        let ring = match umems.ring {
            None => elsewhere()?,
            Some(number) => self.umem(number)?.ring(offset, bytes, wanted)?,
        };
        Ok(Place { ring, record, umems })
    }

    /// A queue is in these umems from now on.
    pub(super) fn hold_umems(&mut self, umems: Umems) {
        umems.iter().for_each(|number| self.objects.umems.hold(number));
    }

    /// A queue is no longer in them.
    pub(super) fn release_umems(&mut self, umems: Umems) {
        umems.iter().for_each(|number| self.objects.umems.release(number));
    }
}
