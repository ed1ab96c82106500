//! Frames out: headers in the work request, payload from DMA memory.
//!
//! ```text
//! WQE     | control | ethernet: checksum flags, header size, header ... | data segment(s): payload |
//!           16        14 + the header, padded to 16                       16 each
//! ```
//!
//! The header (L2 to L4) is copied into the work request, so it needs no DMA memory and satisfies every inline mode that a
//! function may ask for. Payload is copied into a slot of the queue's own, or left where it is in the caller's DMA memory.
//! A completion is asked for every few frames only and retires all before it.

use super::cq::{CompletionQueue, ErrorCompletion};
use super::create::{Base, QueueError, SendParams};
use super::sq::{Control, DS, MAX_DS, SendRing, WQEBB, Wqe, wqebbs};
use super::{CompletionFault, Objects, Rejections, RingView};
use crate::command::CommandError;
use crate::dma::{DmaBuf, IoBuf, Iova};
use crate::platform::{Deadline, Platform};
use hw_regs::cqe::Cqe64;
use hw_regs::layout::{Access, Layout};
use hw_regs::wqe::{WqeDataSeg, WqeEthSeg, WqeOpcode};

/// Byte of the WQE at which the header begins: it overlaps the last two bytes of the Ethernet segment.
const HEADER_AT: usize = DS + 14;
/// Shortest header: what the strictest inline mode wants, Ethernet with room for a VLAN tag (`mlx5-bringup.md` §8.4).
pub const MIN_HEADER: usize = 18;
/// Longest header: Ethernet with VLAN, IPv6 or IPv4 with options, TCP with all options fit twice.
pub const MAX_HEADER: usize = 254;
/// Most frames between two completions.
const MAX_INTERVAL: u32 = 32;
/// Most pieces of a gathered payload.
pub const MAX_PIECES: usize = 32;
/// Bytes copied through the stack at a time.
const CHUNK: usize = 1024;

/// Which checksums the device fills in; what the frame has in their place is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// None: ARP, or a frame that has them.
    None,
    /// Of the IPv4 header.
    Ip,
    /// Of the IPv4 header and of TCP or UDP.
    IpAndTransport,
}

impl Checksums {
    /// `WqeEthSeg::CS_FLAGS`.
    fn flags(self) -> u32 {
        match self {
            Checksums::None => 0,
            Checksums::Ip => 0x40,
            Checksums::IpAndTransport => 0xc0,
        }
    }
}

/// Why a frame was not posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The ring or the payload slots are full: poll, then try again.
    #[error("the send queue is full")]
    Full,
    /// The device reported an error: the queue must be recovered.
    #[error("the send queue has failed and was not recovered yet")]
    Failed,
    /// A header that the work request cannot carry.
    #[error("a header of {0} bytes; {MIN_HEADER} to {MAX_HEADER} are possible")]
    Header(usize),
    /// More payload than a slot has.
    #[error("{len} bytes of payload; a slot has {slot}")]
    Payload {
        /// Bytes asked for.
        len: usize,
        /// Bytes of a slot.
        slot: usize,
    },
    /// More pieces of payload than a work request carries, or an empty or huge one.
    #[error("payload in {0} pieces; up to {MAX_PIECES} of 1 byte to 2 GiB are possible")]
    Pieces(usize),
}

/// Where the payload of a frame is while the device may read it.
#[derive(Clone, Copy, Debug)]
enum Payload {
    /// In the work request.
    None,
    /// In a slot of the queue's own.
    Slot(u32),
    /// In the caller's memory, who is told this token when it is free again.
    Token(u32),
}

/// What a look at the completion queue found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames that left.
    pub frames: u32,
    /// The first failure that is not a flush: the queue must be [recovered](SendQueue::recover).
    pub failure: Option<ErrorCompletion>,
    /// Work requests swept out because the queue was in the error state already.
    pub flushed: u32,
}

/// Room for the payload of one frame.
#[derive(Debug)]
pub struct PayloadSlot<'a> {
    memory: &'a DmaBuf,
    at: usize,
    len: usize,
}

impl PayloadSlot<'_> {
    fn place(&self, offset: usize, len: usize) -> usize {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "{len} bytes at {offset} of a payload of {}",
            self.len
        );
        self.at + offset
    }

    /// Writes payload at byte `offset`.
    ///
    /// # Panics
    /// If it is outside the length that was announced.
    #[inline]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.memory.write(self.place(offset, bytes.len()), bytes);
    }

    /// Copies `len` bytes at `from_offset` of a buffer to byte `offset`. Panics as [`PayloadSlot::write`].
    pub fn copy_from(&mut self, offset: usize, from: &IoBuf, from_offset: usize, len: usize) {
        let at = self.place(offset, len);
        let mut chunk = [0; CHUNK];
        for done in (0..len).step_by(CHUNK) {
            let part = &mut chunk[..CHUNK.min(len - done)];
            from.read(from_offset + done, part);
            self.memory.write(at + done, part);
        }
    }
}

/// How a queue for frames is to be.
#[derive(Clone, Copy, Debug)]
pub struct FrameQueueParams {
    /// log2 of the basic blocks: 5 to 15. A TCP segment with payload takes two.
    pub log_wqebbs: u32,
    /// The TIS through which frames leave.
    pub tisn: u32,
    /// Event queue of the completion queue.
    pub eqn: u32,
    /// Frames with copied payload that may be under way.
    pub slots: u32,
    /// Most payload of a frame, in bytes.
    pub slot_size: u32,
    /// See [`SendParams::min_inline_mode`].
    pub min_inline_mode: u32,
}

/// A send queue for Ethernet frames, with its completion queue and its payload slots.
#[derive(Debug)]
pub struct SendQueue {
    ring: SendRing<Payload>,
    cq: CompletionQueue<Cqe64>,
    memory: DmaBuf,
    free: Vec<u32>,
    slot_size: u32,
    lkey: u32,
    /// Ask for a completion with every n-th frame.
    interval: u32,
    unsignalled: u32,
    frames: u64,
    rejected: Rejections,
}

impl SendQueue {
    /// Creates completion queue and send queue and makes them ready.
    pub fn create(
        objects: &mut impl Objects,
        base: &Base,
        params: &FrameQueueParams,
        deadline: Deadline,
    ) -> Result<SendQueue, QueueError> {
        let slot_size = params.slot_size.next_multiple_of(WQEBB as u32);
        let memory = base.heap.allocate(params.slots as usize * slot_size as usize, WQEBB)?;
        let mut cq = CompletionQueue::create(objects, base, params.log_wqebbs, params.eqn, deadline)?;
        let send = SendParams {
            min_inline_mode: params.min_inline_mode,
            ..SendParams::new(params.log_wqebbs, Some(params.tisn))
        };
        match SendRing::create(objects, base, &mut cq, &send, &[&memory], deadline) {
            Ok(ring) => Ok(SendQueue::new(ring, cq, memory, slot_size, base.data_mkey)),
            Err(error) => {
                if let Err(second) = cq.destroy(objects, deadline) {
                    log::error!("{second}");
                }
                Err(error)
            }
        }
    }

    fn new(
        ring: SendRing<Payload>,
        cq: CompletionQueue<Cqe64>,
        memory: DmaBuf,
        slot_size: u32,
        lkey: u32,
    ) -> SendQueue {
        let slots = memory.len() as u32 / slot_size;
        // When ring or slots are full, at least one of the frames in them must have asked for a completion, or nothing
        // would ever free them: half of each is always enough.
        let interval = (slots / 2).min(ring.capacity() / (2 * wqebbs(MAX_DS))).clamp(1, MAX_INTERVAL);
        SendQueue {
            ring,
            cq,
            memory,
            free: (0..slots).rev().collect(),
            slot_size,
            lkey,
            interval,
            unsignalled: 0,
            frames: 0,
            rejected: Rejections::default(),
        }
    }

    /// Number by which firmware knows the queue.
    pub fn sqn(&self) -> u32 {
        self.ring.sqn()
    }

    /// The send ring and its completion ring, for whoever looks at them.
    pub fn views(&self) -> [RingView<'_>; 2] {
        [self.ring.view(), self.cq.view()]
    }

    /// The completion queue, to be armed.
    pub fn cq(&mut self) -> &mut CompletionQueue<Cqe64> {
        &mut self.cq
    }

    /// Frames posted since the beginning.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Doorbells written since the beginning.
    pub fn doorbells(&self) -> u64 {
        self.ring.doorbells()
    }

    /// True once the device reported an error, a flush included; nothing can be sent until the queue was
    /// [recovered](SendQueue::recover).
    pub fn has_failed(&self) -> bool {
        self.ring.has_failed()
    }

    /// Completions that recoveries have dropped so far.
    pub fn discarded(&self) -> u64 {
        self.cq.discarded()
    }

    /// Completions that were not believed, by reason.
    pub fn rejected(&self) -> &Rejections {
        &self.rejected
    }

    /// True if [`SendQueue::send`] of a frame with any allowed header and payload would not be refused as full.
    #[inline]
    pub fn has_room(&self) -> bool {
        !self.free.is_empty() && self.ring.fits([frame_ds(MAX_HEADER, 1)])
    }

    /// Posts a frame of `header` and `len` bytes of payload, which `fill` writes into a slot. The device sees it with the
    /// next [`SendQueue::ring_doorbell`]. Short frames are padded by the device.
    #[inline]
    pub fn send(
        &mut self,
        header: &[u8],
        len: usize,
        checksums: Checksums,
        fill: impl FnOnce(&mut PayloadSlot<'_>),
    ) -> Result<(), SendError> {
        if len > self.slot_size as usize {
            return Err(SendError::Payload { len, slot: self.slot_size as usize });
        }
        if len == 0 {
            return self.post(header, &[], Payload::None, checksums, false);
        }
        let Some(slot) = self.free.pop() else {
            return Err(SendError::Full);
        };
        let at = slot as usize * self.slot_size as usize;
        let piece = [(self.memory.iova_at(at), len)];
        let ready = self.may_post(header, piece.len());
        let posted = ready.and_then(|()| {
            fill(&mut PayloadSlot { memory: &self.memory, at, len });
            self.post(header, &piece, Payload::Slot(slot), checksums, false)
        });
        if posted.is_err() {
            self.free.push(slot);
        }
        posted
    }

    /// Posts a frame whose payload stays in the caller's DMA memory until [`SendQueue::poll`] hands out `token`. A completion
    /// is always asked for.
    pub fn send_gather(
        &mut self,
        header: &[u8],
        pieces: &[(Iova, usize)],
        token: u32,
        checksums: Checksums,
    ) -> Result<(), SendError> {
        let sane = |piece: &(Iova, usize)| (1..1 << 31).contains(&piece.1);
        if pieces.len() > MAX_PIECES || !pieces.iter().all(sane) {
            return Err(SendError::Pieces(pieces.len()));
        }
        self.post(header, pieces, Payload::Token(token), checksums, true)
    }

    fn may_post(&self, header: &[u8], pieces: usize) -> Result<(), SendError> {
        if !(MIN_HEADER..=MAX_HEADER).contains(&header.len()) {
            return Err(SendError::Header(header.len()));
        }
        if self.ring.has_failed() {
            return Err(SendError::Failed);
        }
        match self.ring.fits([frame_ds(header.len(), pieces)]) {
            true => Ok(()),
            false => Err(SendError::Full),
        }
    }

    fn post(
        &mut self,
        header: &[u8],
        pieces: &[(Iova, usize)],
        payload: Payload,
        checksums: Checksums,
        signal: bool,
    ) -> Result<(), SendError> {
        self.may_post(header, pieces.len())?;
        let completion = signal || self.unsignalled + 1 >= self.interval;
        let lkey = self.lkey;
        let fill = |wqe: &mut Wqe<'_>| write_frame(wqe, header, pieces, lkey, checksums, completion);
        self.ring.post(frame_ds(header.len(), pieces.len()), payload, fill).map_err(|_| SendError::Full)?;
        self.unsignalled = if completion { 0 } else { self.unsignalled + 1 };
        self.frames += 1;
        Ok(())
    }

    /// Tells the device of everything posted since the last call. Returns false if there was nothing.
    #[inline]
    pub fn ring_doorbell(&mut self, platform: &impl Platform) -> bool {
        self.ring.ring_doorbell(platform)
    }

    /// Looks at every completion that is there. `free` gets the tokens of gathered frames whose memory the device is done
    /// with.
    pub fn poll(&mut self, mut free: impl FnMut(u32)) -> Sent {
        let mut sent = Sent::default();
        for _ in 0..self.cq.entries() {
            let Some(cqe) = self.cq.poll() else { break };
            let index = match self.ring.check(&cqe) {
                Ok(index) => index,
                Err(CompletionFault::Failed(error)) => {
                    sent.flushed += u32::from(error.is_flush());
                    if sent.failure.is_none() && !error.is_flush() {
                        sent.failure = Some(error);
                    }
                    continue;
                }
                Err(CompletionFault::Bad(bad)) => {
                    self.rejected.count(bad);
                    continue;
                }
            };
            let slots = &mut self.free;
            let retired = self.ring.retire(index, |payload| {
                sent.frames += 1;
                release(payload, slots, &mut free);
            });
            if let Err(bad) = retired {
                self.rejected.count(bad);
            }
        }
        self.cq.update();
        sent
    }

    /// Takes the queue from the error state to ready and empty. Frames that were in it are lost, as on a wire; `free` gets
    /// the tokens of gathered ones.
    pub fn recover(
        &mut self,
        objects: &mut impl Objects,
        mut free: impl FnMut(u32),
        deadline: Deadline,
    ) -> Result<(), QueueError> {
        let slots = &mut self.free;
        self.ring.recover(objects, &mut self.cq, |payload| release(payload, slots, &mut free), deadline)?;
        self.unsignalled = 0;
        Ok(())
    }

    /// Destroys the queues, whatever they were doing. Gathered memory is free for reuse afterwards if this succeeds.
    pub fn destroy(mut self, objects: &mut impl Objects, deadline: Deadline) -> Result<(), CommandError> {
        self.ring.destroy(objects, &mut self.cq, deadline)?;
        self.cq.destroy(objects, deadline)
    }
}

fn release(payload: Payload, slots: &mut Vec<u32>, free: &mut impl FnMut(u32)) {
    match payload {
        Payload::None => {}
        Payload::Slot(slot) => slots.push(slot),
        Payload::Token(token) => free(token),
    }
}

/// Data segments of a frame's work request.
fn frame_ds(header: usize, pieces: usize) -> u32 {
    ((HEADER_AT + header).div_ceil(DS) + pieces) as u32
}

fn write_frame(
    wqe: &mut Wqe<'_>,
    header: &[u8],
    pieces: &[(Iova, usize)],
    lkey: u32,
    checksums: Checksums,
    completion: bool,
) {
    wqe.control(&Control { opcode: WqeOpcode::SEND, opmod: 0, completion, general_id: 0 });
    let ethernet = WqeEthSeg::zeroed()
        .with(WqeEthSeg::CS_FLAGS, checksums.flags())
        .with(WqeEthSeg::INLINE_HDR_SZ, header.len() as u32);
    wqe.write(DS, &ethernet.0);
    wqe.write(HEADER_AT, header);
    let end = HEADER_AT + header.len();
    let padding = end.next_multiple_of(DS) - end;
    wqe.write(end, &[0; DS][..padding]);
    for (n, (iova, len)) in pieces.iter().enumerate() {
        let segment = WqeDataSeg::zeroed()
            .with(WqeDataSeg::BYTE_COUNT_LENGTH, *len as u32)
            .with(WqeDataSeg::LKEY, lkey)
            .with_wide(WqeDataSeg::ADDR, iova.get());
        wqe.write(end + padding + n * DS, &segment.0);
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the device finds header, payload and flags where the format says | `a_frame_is_laid_out_as_the_format_says` |
    //! | a gathered payload is named piece by piece and its token comes back after the completion | `gathered_memory_comes_back_by_its_token` |
    //! | sending never gets stuck, every slot comes back, one doorbell per batch | `sending_never_gets_stuck` |
    //! | payload in a slot is untouched until the device is done with it | `sending_never_gets_stuck` |
    //! | what cannot be a frame is refused and costs nothing | `impossible_frames_are_refused` |
    //! | a failure is reported once and recovery gives everything back | `a_failed_queue_recovers` |
    //! | completions that cannot be true are counted | `bad_completions_are_counted` |
    use super::*;
    use crate::queue::cq::tests::Producer;
    use crate::queue::sq::tests::completion;
    use crate::queue::testing::{self, TestObjects, TestPlatform, deadline};
    use firmware_iface::context::SqState;
    use hw_regs::wqe::WqeCtrlSeg;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn queue(objects: &mut TestObjects, log_wqebbs: u32, slots: u32) -> SendQueue {
        let params = FrameQueueParams { log_wqebbs, tisn: 5, eqn: 3, slots, slot_size: 200, min_inline_mode: 0 };
        SendQueue::create(objects, &testing::base(), &params, deadline()).expect("created")
    }

    /// A completion of the queue's own SQN.
    fn done(queue: &SendQueue, index: u32) -> Cqe64 {
        completion(index as u16).with(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG, queue.sqn())
    }

    /// The frame behind the WQE at a block, as the device puts it on the wire; whether a completion is wanted; blocks.
    fn frame(queue: &SendQueue, block: u32) -> (Vec<u8>, bool, u32) {
        let wqe = queue.ring.device_wqe(block);
        let ds = wqe.len() / DS;
        let control = WqeCtrlSeg::from_prefix(&wqe);
        let signalled = control.get(WqeCtrlSeg::FM_CE_SE_COMPLETION_MODE) == 2;
        if control.get(WqeCtrlSeg::OPMOD_IDX_OPCODE_OPCODE) == u32::from(WqeOpcode::NOP.0) {
            return (Vec::new(), signalled, 1);
        }
        let ethernet = WqeEthSeg::from_prefix(&wqe[DS..]);
        let header = ethernet.get(WqeEthSeg::INLINE_HDR_SZ) as usize;
        let mut bytes = wqe[HEADER_AT..HEADER_AT + header].to_vec();
        for at in ((HEADER_AT + header).next_multiple_of(DS)..ds * DS).step_by(DS) {
            let segment = WqeDataSeg::from_prefix(&wqe[at..]);
            assert_eq!(segment.get(WqeDataSeg::LKEY), 0x3300);
            let from = segment.get_wide(WqeDataSeg::ADDR) - queue.memory.iova().get();
            let mut piece = vec![0; segment.get(WqeDataSeg::BYTE_COUNT) as usize];
            queue.memory.read(from as usize, &mut piece);
            bytes.extend(piece);
        }
        (bytes, signalled, wqebbs(ds as u32))
    }

    #[test]
    fn a_frame_is_laid_out_as_the_format_says() {
        let objects = &mut TestObjects::default();
        let mut queue = queue(objects, 6, 4);
        queue.ring.soil();
        let header: Vec<u8> = (0..66).collect();
        let payload: Vec<u8> = (100..230).collect();
        let fill = |slot: &mut PayloadSlot<'_>| {
            slot.write(0, &payload[..30]);
            let heap = testing::heap();
            let buffer = heap.allocate(110, 1).expect("memory");
            buffer.write(10, &payload[30..]);
            slot.copy_from(30, &IoBuf::new(vec![buffer]), 10, 100);
        };
        queue.send(&header, payload.len(), Checksums::IpAndTransport, fill).expect("room");
        let wqe = queue.ring.device_wqe(0);
        assert_eq!(wqe.len(), 7 * 16);
        assert_eq!(wqe[..16], [0, 0, 0, 0x0a, 0, 1, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(wqe[16..30], [0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 66]);
        assert_eq!(wqe[30..96], header);
        assert_eq!(frame(&queue, 0).0, [&header[..], &payload].concat());
        // A header that does not end on a segment: the padding is zero, not what was there a lap ago.
        queue.send(&header[..42], 0, Checksums::None, |_| unreachable!("no payload")).expect("room");
        let wqe = queue.ring.device_wqe(2);
        assert_eq!((wqe.len(), wqe[20], &wqe[30..72]), (80, 0, &header[..42]));
        assert_eq!(wqe[72..], [0; 8]);
    }

    #[test]
    fn gathered_memory_comes_back_by_its_token() {
        let platform = TestPlatform::new();
        let objects = &mut TestObjects::default();
        let mut queue = queue(objects, 6, 4);
        queue.memory.write(0, &[1; 200]);
        let pieces = [(queue.memory.iova_at(3), 5), (queue.memory.iova_at(64), 100), (queue.memory.iova_at(190), 1)];
        queue.send_gather(&[7; 54], &pieces, 99, Checksums::Ip).expect("room");
        let (bytes, signalled, blocks) = frame(&queue, 0);
        assert_eq!((bytes, signalled, blocks), ([vec![7; 54], vec![1; 106]].concat(), true, 3));
        assert_eq!(queue.ring.device_wqe(0)[20], 0x40);
        queue.ring_doorbell(&platform);
        assert_eq!(queue.poll(|_| panic!("not sent")), Sent::default());
        Producer(0).write(&queue.cq, &done(&queue, 0));
        let mut tokens = Vec::new();
        assert_eq!(queue.poll(|token| tokens.push(token)).frames, 1);
        assert_eq!(tokens, [99]);
    }

    proptest! {
        #[test]
        fn sending_never_gets_stuck(
            log in 5u32..8, slots in 1u32..12,
            frames in prop::collection::vec((18usize..=MAX_HEADER, 0usize..200, 1usize..6), 1..200),
        ) {
            let platform = TestPlatform::new();
            let objects = &mut TestObjects::default();
            let mut queue = queue(objects, log, slots);
            let mut device = Producer(0);
            let (mut at, mut expected) = (0u32, VecDeque::new());
            for (n, (header, len, batch)) in frames.iter().enumerate() {
                let header = vec![n as u8; *header];
                let payload = vec![!n as u8; *len];
                let mut tries = 0;
                while let Err(error) = queue.send(&header, *len, Checksums::None, |slot| slot.write(0, &payload)) {
                    prop_assert_eq!(error, SendError::Full);
                    tries += 1;
                    prop_assert!(tries < 2, "full although the device has completed all it was asked to");
                    queue.ring_doorbell(&platform);
                    // The device sends everything, and completes only where it was asked to.
                    while at & 0xffff != queue.ring.device_producer() {
                        let (bytes, signalled, blocks) = frame(&queue, at);
                        if !bytes.is_empty() {
                            prop_assert_eq!(Some(bytes), expected.pop_front());
                        }
                        if signalled {
                            device.write(&queue.cq, &done(&queue, at));
                        }
                        at += blocks;
                    }
                    prop_assert!(queue.poll(|_| ()).frames > 0);
                }
                expected.push_back([header, payload].concat());
                if n % batch == 0 {
                    queue.ring_doorbell(&platform);
                }
            }
            prop_assert_eq!(queue.frames() as usize, frames.len());
            prop_assert_eq!(queue.doorbells() as usize, platform.writes.borrow().len());
            let under_way = slots as usize - queue.free.len();
            prop_assert!(under_way <= expected.len() + queue.interval as usize);
        }
    }

    #[test]
    fn impossible_frames_are_refused() {
        let objects = &mut TestObjects::default();
        let mut queue = queue(objects, 6, 2);
        let no = |_: &mut PayloadSlot<'_>| panic!("refused before it is written");
        assert_eq!(queue.send(&[0; 17], 1, Checksums::None, no), Err(SendError::Header(17)));
        assert_eq!(queue.send(&[0; 255], 0, Checksums::None, no), Err(SendError::Header(255)));
        let too_long = SendError::Payload { len: 257, slot: 256 };
        assert_eq!(queue.send(&[0; 54], 257, Checksums::None, no), Err(too_long));
        let iova = queue.memory.iova();
        let gather = |queue: &mut SendQueue, pieces: &[_]| queue.send_gather(&[0; 54], pieces, 1, Checksums::None);
        assert_eq!(gather(&mut queue, &[(iova, 0)]), Err(SendError::Pieces(1)));
        assert_eq!(gather(&mut queue, &[(iova, 1 << 31)]), Err(SendError::Pieces(1)));
        assert_eq!(gather(&mut queue, &[(iova, 1); 33]), Err(SendError::Pieces(33)));
        assert_eq!((queue.free.len(), queue.ring.room(), queue.frames()), (2, 64, 0));
        for _ in 0..2 {
            queue.send(&[0; 54], 1, Checksums::None, |slot| slot.write(0, &[1])).expect("room");
        }
        assert!(!queue.has_room());
        assert_eq!(queue.send(&[0; 54], 1, Checksums::None, no), Err(SendError::Full));
    }

    #[test]
    fn a_failed_queue_recovers() {
        let platform = TestPlatform::new();
        let objects = &mut TestObjects::default();
        let mut queue = queue(objects, 6, 4);
        for n in 0..3 {
            queue.send(&[0; 54], 9, Checksums::None, |slot| slot.write(0, &[n; 9])).expect("room");
        }
        queue.send_gather(&[0; 54], &[], 42, Checksums::None).expect("room");
        queue.ring_doorbell(&platform);
        let mut device = Producer(0);
        let mut failed = done(&queue, 0).with(Cqe64::OP_OWN, 0xd0);
        failed.0[55] = 4;
        device.write(&queue.cq, &failed);
        failed.0[55] = 5;
        failed.set(Cqe64::WQE_COUNTER, 2);
        device.write(&queue.cq, &failed);
        let sent = queue.poll(|_| panic!("nothing was sent"));
        assert!(sent.failure.is_some_and(|error| error.syndrome.0 == 4 && error.wqe_counter == 0));
        assert_eq!(queue.poll(|_| ()), Sent::default(), "told once");
        assert_eq!(queue.send(&[0; 54], 0, Checksums::None, |_| ()), Err(SendError::Failed));
        let refused = queue.recover(objects, |_| (), deadline());
        assert!(matches!(refused, Err(QueueError::NotFailed { state: 0, .. })));
        objects.firmware.queue_state = SqState::ERR.0;
        let mut tokens = Vec::new();
        queue.recover(objects, |token| tokens.push(token), deadline()).expect("recovered");
        assert_eq!((tokens, queue.free.len(), queue.ring.room()), (vec![42], 4, 64));
        queue.send(&[0; 54], 9, Checksums::None, |slot| slot.write(0, &[1; 9])).expect("works again");
    }

    #[test]
    fn bad_completions_are_counted() {
        let platform = TestPlatform::new();
        let objects = &mut TestObjects::default();
        let mut queue = queue(objects, 6, 4);
        queue.send(&[0; 54], 9, Checksums::None, |slot| slot.write(0, &[1; 9])).expect("room");
        queue.ring_doorbell(&platform);
        let mut device = Producer(0);
        device.write(&queue.cq, &done(&queue, 1));
        device.write(&queue.cq, &done(&queue, 0).with(Cqe64::OP_OWN, 0x20));
        device.write(&queue.cq, &done(&queue, 0).with(Cqe64::SOP_DROP_QPN_QPN_OR_FLOW_TAG, 9));
        assert_eq!(queue.poll(|_| ()), Sent::default());
        assert_eq!(*queue.rejected(), Rejections { opcode: 1, not_posted: 1, foreign_queue: 1, length: 0 });
        device.write(&queue.cq, &done(&queue, 0));
        assert_eq!(queue.poll(|_| ()).frames, 1);
    }
}
