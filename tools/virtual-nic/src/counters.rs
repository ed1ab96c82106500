//! What the device counts: for tests, and for the summary of a run. All values only grow, until a reset of the function
//! clears what the hardware would clear (nothing here: these belong to the model, not to the card).

/// Counters of the whole device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Frames taken from the wire.
    pub rx_frames: u64,
    /// Bytes of these.
    pub rx_bytes: u64,
    /// Frames put on the wire.
    pub tx_frames: u64,
    /// Bytes of these.
    pub tx_bytes: u64,
    /// Receive completions written.
    pub rx_completions: u64,
    /// Receive completions that were written as a part of a compressed row.
    pub rx_compressed: u64,
    /// Receive completions without a packet, which end a WQE of strides.
    pub rx_fillers: u64,
    /// Send completions written.
    pub tx_completions: u64,
    /// Error completions written, flushes included.
    pub error_completions: u64,
    /// Packets of which a run was placed in a tag buffer.
    pub placed_packets: u64,
    /// Bytes placed in tag buffers.
    pub placed_bytes: u64,
    /// Receive completions whose digest flag was set.
    pub digest_ok_packets: u64,
    /// Receive completions that asked for a resync.
    pub resync_requests: u64,
    /// Received frames that reached no receive buffer, by reason.
    pub drops: Drops,
    /// Reads of registers, each access once.
    pub register_reads: u64,
    /// Of these, reads of the health buffer and the health counter.
    pub health_reads: u64,
    /// Writes of registers, each access once, doorbells included.
    pub register_writes: u64,
    /// Send queue doorbells.
    pub sq_doorbells: u64,
    /// CQ arm doorbells.
    pub cq_doorbells: u64,
    /// EQ doorbells.
    pub eq_doorbells: u64,
    /// Command doorbells (register writes, not slots).
    pub command_doorbells: u64,
    /// Commands executed.
    pub commands: u64,
    /// Commands answered with a status other than OK.
    pub commands_refused: u64,
    /// Commands that could not be read or answered (delivery status other than OK).
    pub commands_undelivered: u64,
    /// Event queue entries written.
    pub events: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Pages of memory that firmware was lent.
    pub pages: Pages,
    /// Send work requests executed, by kind.
    pub work_requests: WorkRequests,
    /// What the host did that a driver never should.
    pub misuse: Misuse,
}

/// Pages that the driver lends firmware, 4 KiB each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pages {
    /// Asked for by event, while the function runs.
    pub asked: u64,
    /// Offered back by event, while the function runs.
    pub offered: u64,
    /// Given, for whatever reason.
    pub given: u64,
    /// Taken back by the driver, for whatever reason.
    pub returned: u64,
}

/// Received frames that reached no receive buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drops {
    /// The link was down or the function not initialized.
    pub link_down: u64,
    /// Shorter than an Ethernet header.
    pub runt: u64,
    /// Longer than the port's MTU.
    pub oversize: u64,
    /// The destination address is none of the vport's and no promiscuous mode covers it.
    pub address: u64,
    /// Flow tables decided so, or no rule matched.
    pub steering: u64,
    /// The rule led to an object that leads nowhere.
    pub no_queue: u64,
    /// The receive queue had no buffer posted.
    pub out_of_buffer: u64,
    /// The receive queue was not in the ready state.
    pub queue_not_ready: u64,
    /// A receive error was completed in place of the packet.
    pub queue_error: u64,
    /// Sent while the link was down.
    pub tx_link_down: u64,
}

impl Drops {
    /// All received frames that were dropped.
    pub fn received(&self) -> u64 {
        let Drops {
            link_down,
            runt,
            oversize,
            address,
            steering,
            no_queue,
            out_of_buffer,
            queue_not_ready,
            queue_error,
            ..
        } = self;
        link_down + runt + oversize + address + steering + no_queue + out_of_buffer + queue_not_ready + queue_error
    }
}

/// Send work requests that were executed without error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkRequests {
    /// SEND.
    pub send: u64,
    /// LSO (one per request, not per segment).
    pub lso: u64,
    /// NOP.
    pub nop: u64,
    /// UMR of a memory key.
    pub umr: u64,
    /// Static parameters of an offload context.
    pub static_params: u64,
    /// Fill of a tag buffer table.
    pub tag_fill: u64,
    /// Progress parameters of an offload context.
    pub progress_params: u64,
}

/// What the host did that a driver never should; a good run leaves all at zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misuse {
    /// Accesses to a place of the BAR where nothing is.
    pub unknown_register: u64,
    /// Accesses outside the BAR.
    pub outside_bar: u64,
    /// Doorbells of a UAR that is not allocated.
    pub uar_not_allocated: u64,
    /// Doorbells that name no object, or an object of another UAR.
    pub doorbell_object: u64,
    /// Command doorbells for a slot whose entry is not owned by the device, or that is still being worked on.
    pub command_slot: u64,
    /// CQ arm doorbells with the sequence number of an arm that was already used up.
    pub stale_arm: u64,
    /// Doorbell records that claim more entries than the queue has.
    pub doorbell_record: u64,
    /// Events lost because their queue was full.
    pub eq_overrun: u64,
    /// Completion queues that overran.
    pub cq_overrun: u64,
    /// Accesses to memory that is not mapped for the device.
    pub dma_fault: u64,
    /// Pages given beyond what was asked for.
    pub surplus_pages: u64,
}

impl Counters {
    /// Every counter with its name, parts as `part.name`, in the order of the fields.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        let Counters {
            rx_frames,
            rx_bytes,
            tx_frames,
            tx_bytes,
            rx_completions,
            rx_compressed,
            rx_fillers,
            tx_completions,
            error_completions,
            placed_packets,
            placed_bytes,
            digest_ok_packets,
            resync_requests,
            drops,
            register_reads,
            health_reads,
            register_writes,
            sq_doorbells,
            cq_doorbells,
            eq_doorbells,
            command_doorbells,
            commands,
            commands_refused,
            commands_undelivered,
            events,
            interrupts,
            pages,
            work_requests,
            misuse,
        } = self;
        let Drops {
            link_down,
            runt,
            oversize,
            address,
            steering,
            no_queue,
            out_of_buffer,
            queue_not_ready,
            queue_error,
            tx_link_down,
        } = drops;
        let Pages { asked, offered, given, returned } = pages;
        let WorkRequests { send, lso, nop, umr, static_params, tag_fill, progress_params } = work_requests;
        let Misuse {
            unknown_register,
            outside_bar,
            uar_not_allocated,
            doorbell_object,
            command_slot,
            stale_arm,
            doorbell_record,
            eq_overrun,
            cq_overrun,
            dma_fault,
            surplus_pages,
        } = misuse;
        let named = [
            ("rx_frames", rx_frames),
            ("rx_bytes", rx_bytes),
            ("tx_frames", tx_frames),
            ("tx_bytes", tx_bytes),
            ("rx_completions", rx_completions),
            ("rx_compressed", rx_compressed),
            ("rx_fillers", rx_fillers),
            ("tx_completions", tx_completions),
            ("error_completions", error_completions),
            ("placed_packets", placed_packets),
            ("placed_bytes", placed_bytes),
            ("digest_ok_packets", digest_ok_packets),
            ("resync_requests", resync_requests),
            ("drops.link_down", link_down),
            ("drops.runt", runt),
            ("drops.oversize", oversize),
            ("drops.address", address),
            ("drops.steering", steering),
            ("drops.no_queue", no_queue),
            ("drops.out_of_buffer", out_of_buffer),
            ("drops.queue_not_ready", queue_not_ready),
            ("drops.queue_error", queue_error),
            ("drops.tx_link_down", tx_link_down),
            ("register_reads", register_reads),
            ("health_reads", health_reads),
            ("register_writes", register_writes),
            ("sq_doorbells", sq_doorbells),
            ("cq_doorbells", cq_doorbells),
            ("eq_doorbells", eq_doorbells),
            ("command_doorbells", command_doorbells),
            ("commands", commands),
            ("commands_refused", commands_refused),
            ("commands_undelivered", commands_undelivered),
            ("events", events),
            ("interrupts", interrupts),
            ("pages.asked", asked),
            ("pages.offered", offered),
            ("pages.given", given),
            ("pages.returned", returned),
            ("work_requests.send", send),
            ("work_requests.lso", lso),
            ("work_requests.nop", nop),
            ("work_requests.umr", umr),
            ("work_requests.static_params", static_params),
            ("work_requests.tag_fill", tag_fill),
            ("work_requests.progress_params", progress_params),
            ("misuse.unknown_register", unknown_register),
            ("misuse.outside_bar", outside_bar),
            ("misuse.uar_not_allocated", uar_not_allocated),
            ("misuse.doorbell_object", doorbell_object),
            ("misuse.command_slot", command_slot),
            ("misuse.stale_arm", stale_arm),
            ("misuse.doorbell_record", doorbell_record),
            ("misuse.eq_overrun", eq_overrun),
            ("misuse.cq_overrun", cq_overrun),
            ("misuse.dma_fault", dma_fault),
            ("misuse.surplus_pages", surplus_pages),
        ];
        named.map(|(name, count)| (name, *count)).to_vec()
    }
}
