//! What the offload counts, under the names that people know (`nvme-tcp-offload.md` §9).

use super::rebuild::Rejection;
use super::why::Why;
use crate::observe::counter::{Family, Kind, Reading, Readings, Reason, Unit, counters, reasons};
use crate::queue::BadCompletion;

/// What software did for one reason in the device's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Reads of which payload was copied. A read with more than one reason counts for each.
    pub reads: u64,
    /// Bytes copied, each for one reason.
    pub bytes: u64,
    /// Data digests computed, each for one reason.
    pub digests: u64,
}

impl Reason for Rejection {
    fn all() -> &'static [Rejection] {
        &Rejection::ALL
    }
    fn index(self) -> usize {
        self as usize
    }
    fn name(self) -> &'static str {
        Rejection::name(self)
    }
}

reasons! {
    /// Why a completion of a control ring was not believed; see [`BadCompletion`].
    pub enum BadControl {
        /// An opcode that a send queue does not have, or an entry that carries data or is compressed.
        Opcode "opcode",
        /// It names no work request that is posted.
        NotPosted "not-posted",
        /// It names another queue.
        ForeignQueue "foreign-queue",
        /// A byte count, which a send queue's completion does not have.
        Length "length",
    }
}

impl From<BadCompletion> for BadControl {
    fn from(bad: BadCompletion) -> BadControl {
        match bad {
            BadCompletion::Opcode(_) => BadControl::Opcode,
            BadCompletion::NotPosted(_) => BadControl::NotPosted,
            BadCompletion::ForeignQueue(_) => BadControl::ForeignQueue,
            BadCompletion::Length(_) => BadControl::Length,
        }
    }
}

counters! {
    /// Counters of one offload queue, or the sum over queues. They only grow; every one is a plain number, no lock.
    pub struct Stats {
        /// Queues added.
        pub sk_add: Queues,
        /// Queues that could not be added.
        pub sk_add_fail: Queues,
        /// Queues removed, counted when the removal starts.
        pub sk_del: Queues,
        /// Tags bound: KLM UMRs posted.
        pub setup: Tags,
        /// Reads that went un-offloaded, counted when they began. Those below the threshold are not failures.
        not_offloaded: Requests by Why,
        /// Reads of which software copied payload. A read with more than one reason counts for each.
        copied_reads: Requests by Why,
        /// Bytes that software copied in the device's place.
        copied_bytes: Bytes by Why,
        /// Data digests that software computed in the device's place.
        copied_digests: Digests by Why,
        /// Tags unbound: invalidates posted.
        pub teardown: Tags,
        /// Invalidates completed.
        pub teardown_done: Tags,
        /// Completion entries that were refused and their packets dropped.
        rejected: Entries by Rejection,
        /// Resync requests of the device.
        pub resync: Questions,
        /// Resync requests that the L5P confirmed.
        pub resync_confirmed: Questions,
        // These three grow with every packet. Apart from each other: next to each other the compiler adds them up as a
        // vector, which takes longer than two additions to memory.
        /// Packets of which a run was placed.
        pub packets: Packets,
        /// Runs that the device placed elsewhere than the PDU header says; each taints the reads it touched.
        pub misplaced: Packets,
        /// Bytes placed.
        pub bytes: Bytes,
        /// Work requests on the control ring that failed.
        pub control_errors: Entries,
        /// Packets whose data digest the device vouched for.
        pub digest_ok: Packets,
        /// Packets whose digest mark was not believed because it was the first after a resync.
        pub digest_distrusted: Packets,
        /// Completions of the control ring that were not believed.
        pub control_rejected: Entries by BadControl,
    }
}

impl Stats {
    /// Counts a read that went un-offloaded.
    pub fn count_not_offloaded(&mut self, why: Why) {
        self.not_offloaded.count(why);
    }

    /// Counts bytes that software copied for this reason, and the reads for which it is the first of this reason.
    #[cold]
    pub fn count_copied(&mut self, why: Why, reads: u64, bytes: u64) {
        self.copied_reads.add(why, reads);
        self.copied_bytes.add(why, bytes);
    }

    /// Counts a data digest that software computed for this reason.
    #[cold]
    pub fn count_digested(&mut self, why: Why) {
        self.copied_digests.count(why);
    }

    /// Counts a refused completion entry.
    #[cold]
    pub fn count_rejection(&mut self, why: Rejection) {
        self.rejected.count(why);
    }

    /// Reads that went un-offloaded for this reason, on an offloaded queue.
    pub fn not_offloaded(&self, why: Why) -> u64 {
        self.not_offloaded.get(why)
    }

    /// What software did for this reason.
    pub fn copied(&self, why: Why) -> Copied {
        let digests = self.copied_digests.get(why);
        Copied { reads: self.copied_reads.get(why), bytes: self.copied_bytes.get(why), digests }
    }

    /// What software did, by reason; reasons for which it did something. The bytes add up to all that was copied, but for
    /// reads under way whose reason shows in the end.
    pub fn by_reason(&self) -> impl Iterator<Item = (Why, Copied)> + '_ {
        Why::ALL.into_iter().map(|why| (why, self.copied(why))).filter(|(_, copied)| *copied != Copied::default())
    }

    /// Completion entries that were refused for this reason.
    pub fn rejected(&self, why: Rejection) -> u64 {
        self.rejected.get(why)
    }

    /// Completion entries that were refused. Their packets were given up; TCP asks for the bytes again.
    pub fn rejections(&self) -> u64 {
        self.rejected.total()
    }

    /// Reads that should have been offloaded and were not: every reason but the threshold ([`Why::is_failure`]).
    pub fn setup_fail(&self) -> u64 {
        Why::ALL.iter().filter(|why| why.is_failure()).map(|why| self.not_offloaded(*why)).sum()
    }

    /// The nine counters under the names of the seed (patch series v4). `drop` counts every refused entry; Linux, which
    /// believes the device, has only those without a queue to count.
    pub fn seed(&self) -> [(&'static str, u64); 9] {
        SEED.map(|known| (known.family.name, (known.value)(self)))
    }

    /// The counters under the names of today's kernel interface (v30, netlink family `ulp_ddp`).
    pub fn kernel(&self) -> [(&'static str, u64); 10] {
        KERNEL.map(|known| (known.family.name, (known.value)(self)))
    }
}

/// A name that people know for one of [`Stats`].
#[derive(Clone, Copy)]
struct Known {
    family: Family,
    value: fn(&Stats) -> u64,
}

const fn known(name: &'static str, unit: Unit, doc: &'static str, value: fn(&Stats) -> u64) -> Known {
    Known { family: Family { name, unit, kind: Kind::Counter, by: None, doc }, value }
}

/// `nvme-tcp-offload.md` §9, first column.
const SEED: [Known; 9] = [
    known("rx_nvmeotcp_queue_init", Unit::Queues, "Queues added to the offload.", |s| s.sk_add),
    known("rx_nvmeotcp_queue_teardown", Unit::Queues, "Queues taken off the offload.", |s| s.sk_del),
    known("rx_nvmeotcp_ddp_setup", Unit::Tags, "Reads whose buffer was bound to a tag.", |s| s.setup),
    known(
        "rx_nvmeotcp_ddp_setup_fail",
        Unit::Requests,
        "Reads whose buffer should have been bound and was not.",
        Stats::setup_fail,
    ),
    known("rx_nvmeotcp_ddp_teardown", Unit::Tags, "Tags that the device was asked to forget.", |s| s.teardown),
    known("rx_nvmeotcp_drop", Unit::Packets, "Packets whose completion was refused and that were dropped.", |s| {
        s.rejections()
    }),
    known("rx_nvmeotcp_resync", Unit::Questions, "Resync requests of the device.", |s| s.resync),
    known("rx_nvmeotcp_offload_packets", Unit::Packets, "Packets of which a run was placed.", |s| s.packets),
    known("rx_nvmeotcp_offload_bytes", Unit::Bytes, "Bytes placed.", |s| s.bytes),
];

/// The same, third column. The seed's names but for the failed additions, which it had in code only.
const KERNEL: [Known; 10] = [
    known("rx-nvme-tcp-sk-add", Unit::Queues, "As rx_nvmeotcp_queue_init.", |s| s.sk_add),
    known("rx-nvme-tcp-sk-add-fail", Unit::Queues, "Queues that could not be added.", |s| s.sk_add_fail),
    known("rx-nvme-tcp-sk-del", Unit::Queues, "As rx_nvmeotcp_queue_teardown.", |s| s.sk_del),
    known("rx-nvme-tcp-setup", Unit::Tags, "As rx_nvmeotcp_ddp_setup.", |s| s.setup),
    known("rx-nvme-tcp-setup-fail", Unit::Requests, "As rx_nvmeotcp_ddp_setup_fail.", Stats::setup_fail),
    known("rx-nvme-tcp-teardown", Unit::Tags, "As rx_nvmeotcp_ddp_teardown.", |s| s.teardown),
    known("rx-nvme-tcp-drop", Unit::Packets, "As rx_nvmeotcp_drop.", Stats::rejections),
    known("rx-nvme-tcp-resync", Unit::Questions, "As rx_nvmeotcp_resync.", |s| s.resync),
    known("rx-nvme-tcp-packets", Unit::Packets, "As rx_nvmeotcp_offload_packets.", |s| s.packets),
    known("rx-nvme-tcp-bytes", Unit::Bytes, "As rx_nvmeotcp_offload_bytes.", |s| s.bytes),
];

/// [`Stats::seed`], as a set.
#[derive(Clone, Copy)]
pub struct SeedNames<'a>(pub &'a Stats);

/// [`Stats::kernel`], as a set.
#[derive(Clone, Copy)]
pub struct KernelNames<'a>(pub &'a Stats);

impl Readings for SeedNames<'_> {
    fn read(&self, each: &mut dyn FnMut(Reading<'_>)) {
        read(&SEED, self.0, each);
    }

    fn path(&self) -> &'static str {
        concat!(module_path!(), "::SeedNames")
    }
}

impl Readings for KernelNames<'_> {
    fn read(&self, each: &mut dyn FnMut(Reading<'_>)) {
        read(&KERNEL, self.0, each);
    }

    fn path(&self) -> &'static str {
        concat!(module_path!(), "::KernelNames")
    }
}

fn read(names: &[Known], stats: &Stats, each: &mut dyn FnMut(Reading<'_>)) {
    for known in names {
        each(Reading { family: &known.family, reason: None, value: (known.value)(stats) });
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the names are the seed's and the kernel's | `names_are_those_that_people_know` |
    //! | a read below the threshold is no failure | `the_threshold_is_not_a_failure` |
    use super::*;

    #[test]
    fn names_are_those_that_people_know() {
        let mut stats = Stats { bytes: 7, ..Stats::default() };
        stats.count_rejection(Rejection::NoQueue);
        stats.count_rejection(Rejection::EmptyRun);
        let seed = stats.seed();
        assert_eq!(
            seed.map(|c| c.0).join(" "),
            "rx_nvmeotcp_queue_init rx_nvmeotcp_queue_teardown \
            rx_nvmeotcp_ddp_setup rx_nvmeotcp_ddp_setup_fail rx_nvmeotcp_ddp_teardown rx_nvmeotcp_drop \
            rx_nvmeotcp_resync rx_nvmeotcp_offload_packets rx_nvmeotcp_offload_bytes"
        );
        assert_eq!((seed[8].1, seed[5].1), (7, 2));
        assert!(stats.kernel().iter().all(|c| c.0.starts_with("rx-nvme-tcp-")));
    }

    #[test]
    fn the_threshold_is_not_a_failure() {
        let mut stats = Stats::default();
        stats.count_not_offloaded(Why::BelowThreshold);
        assert_eq!((stats.setup_fail(), stats.not_offloaded(Why::BelowThreshold)), (0, 1));
        stats.count_not_offloaded(Why::ControlRingFull);
        assert_eq!(stats.setup_fail(), 1);
    }
}
