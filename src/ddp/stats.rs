//! What the offload counts, under the names that people know (`nvme-tcp-offload.md` §9).

use super::rebuild::Rejection;
use super::why::Why;
use std::ops::AddAssign;

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

impl AddAssign for Copied {
    fn add_assign(&mut self, other: Copied) {
        self.reads += other.reads;
        self.bytes += other.bytes;
        self.digests += other.digests;
    }
}

/// Counters of one offload queue, or the sum over queues. They only grow; every one is a plain number, no lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Queues added.
    pub sk_add: u64,
    /// Queues that could not be added.
    pub sk_add_fail: u64,
    /// Queues removed, counted when the removal starts.
    pub sk_del: u64,
    /// Tags bound: KLM UMRs posted.
    pub setup: u64,
    /// Reads that went un-offloaded, by reason, in the order of [`Why::ALL`], counted when they began.
    not_offloaded: [u64; Why::ALL.len()],
    /// What software did in the device's place, by reason, in the order of [`Why::ALL`].
    copied: [Copied; Why::ALL.len()],
    /// Tags unbound: invalidates posted.
    pub teardown: u64,
    /// Invalidates completed.
    pub teardown_done: u64,
    /// Completion entries that were refused and their packets dropped, by reason, in the order of [`Rejection::ALL`].
    rejected: [u64; Rejection::ALL.len()],
    /// Resync requests of the device.
    pub resync: u64,
    /// Resync requests that the L5P confirmed.
    pub resync_confirmed: u64,
    // These three grow with every packet. Apart from each other: next to each other the compiler adds them up as a vector,
    // which takes longer than two additions to memory.
    /// Packets of which a run was placed.
    pub packets: u64,
    /// Runs that the device placed elsewhere than the PDU header says; each taints the reads it touched.
    pub misplaced: u64,
    /// Bytes placed.
    pub bytes: u64,
    /// Work requests on the control ring that failed.
    pub control_errors: u64,
    /// Packets whose data digest the device vouched for.
    pub digest_ok: u64,
}

impl Stats {
    /// Counts a read that went un-offloaded.
    pub fn count_not_offloaded(&mut self, why: Why) {
        self.not_offloaded[why as usize] += 1;
    }

    /// Counts bytes that software copied for this reason, and the reads for which it is the first of this reason.
    #[cold]
    pub fn count_copied(&mut self, why: Why, reads: u64, bytes: u64) {
        self.copied[why as usize] += Copied { reads, bytes, digests: 0 };
    }

    /// Counts a data digest that software computed for this reason.
    #[cold]
    pub fn count_digested(&mut self, why: Why) {
        self.copied[why as usize].digests += 1;
    }

    /// Counts a refused completion entry.
    #[cold]
    pub fn count_rejection(&mut self, why: Rejection) {
        self.rejected[why as usize] += 1;
    }

    /// Reads that went un-offloaded for this reason, on an offloaded queue.
    pub fn not_offloaded(&self, why: Why) -> u64 {
        self.not_offloaded[why as usize]
    }

    /// What software did for this reason.
    pub fn copied(&self, why: Why) -> Copied {
        self.copied[why as usize]
    }

    /// What software did, by reason; reasons for which it did something. The bytes add up to all that was copied, but for
    /// reads under way whose reason shows in the end.
    pub fn by_reason(&self) -> impl Iterator<Item = (Why, Copied)> + '_ {
        Why::ALL.into_iter().map(|why| (why, self.copied(why))).filter(|(_, copied)| *copied != Copied::default())
    }

    /// Completion entries that were refused for this reason.
    pub fn rejected(&self, why: Rejection) -> u64 {
        self.rejected[why as usize]
    }

    /// Completion entries that were refused. Their packets were given up; TCP asks for the bytes again.
    pub fn rejections(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// Reads that should have been offloaded and were not: every reason but the threshold ([`Why::is_failure`]).
    pub fn setup_fail(&self) -> u64 {
        Why::ALL.iter().filter(|why| why.is_failure()).map(|why| self.not_offloaded(*why)).sum()
    }

    /// The nine counters under the names of the seed (patch series v4). `drop` counts every refused entry; Linux, which
    /// believes the device, has only those without a queue to count.
    pub fn seed(&self) -> [(&'static str, u64); 9] {
        [
            ("rx_nvmeotcp_queue_init", self.sk_add),
            ("rx_nvmeotcp_queue_teardown", self.sk_del),
            ("rx_nvmeotcp_ddp_setup", self.setup),
            ("rx_nvmeotcp_ddp_setup_fail", self.setup_fail()),
            ("rx_nvmeotcp_ddp_teardown", self.teardown),
            ("rx_nvmeotcp_drop", self.rejections()),
            ("rx_nvmeotcp_resync", self.resync),
            ("rx_nvmeotcp_offload_packets", self.packets),
            ("rx_nvmeotcp_offload_bytes", self.bytes),
        ]
    }

    /// The counters under the names of today's kernel interface (v30, netlink family `ulp_ddp`).
    pub fn kernel(&self) -> [(&'static str, u64); 10] {
        [
            ("rx-nvme-tcp-sk-add", self.sk_add),
            ("rx-nvme-tcp-sk-add-fail", self.sk_add_fail),
            ("rx-nvme-tcp-sk-del", self.sk_del),
            ("rx-nvme-tcp-setup", self.setup),
            ("rx-nvme-tcp-setup-fail", self.setup_fail()),
            ("rx-nvme-tcp-teardown", self.teardown),
            ("rx-nvme-tcp-drop", self.rejections()),
            ("rx-nvme-tcp-resync", self.resync),
            ("rx-nvme-tcp-packets", self.packets),
            ("rx-nvme-tcp-bytes", self.bytes),
        ]
    }
}

impl AddAssign<&Stats> for Stats {
    fn add_assign(&mut self, other: &Stats) {
        let pairs = [
            (&mut self.sk_add, other.sk_add),
            (&mut self.sk_add_fail, other.sk_add_fail),
            (&mut self.sk_del, other.sk_del),
            (&mut self.setup, other.setup),
            (&mut self.teardown, other.teardown),
            (&mut self.teardown_done, other.teardown_done),
            (&mut self.resync, other.resync),
            (&mut self.resync_confirmed, other.resync_confirmed),
            (&mut self.packets, other.packets),
            (&mut self.bytes, other.bytes),
            (&mut self.digest_ok, other.digest_ok),
            (&mut self.misplaced, other.misplaced),
            (&mut self.control_errors, other.control_errors),
        ];
        for (sum, n) in pairs {
            *sum += n;
        }
        for (sum, n) in self.not_offloaded.iter_mut().zip(other.not_offloaded) {
            *sum += n;
        }
        for (sum, copied) in self.copied.iter_mut().zip(other.copied) {
            *sum += copied;
        }
        for (sum, n) in self.rejected.iter_mut().zip(other.rejected) {
            *sum += n;
        }
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | the names are the seed's and the kernel's | `names_are_those_that_people_know` |
    //! | a sum holds every counter of both parts | `a_sum_forgets_no_counter` |
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
    fn a_sum_forgets_no_counter() {
        let mut one = Stats {
            sk_add: 1,
            sk_add_fail: 1,
            sk_del: 1,
            setup: 1,
            not_offloaded: [1; Why::ALL.len()],
            copied: [Copied { reads: 1, bytes: 1, digests: 1 }; Why::ALL.len()],
            teardown: 1,
            teardown_done: 1,
            rejected: [1; Rejection::ALL.len()],
            resync: 1,
            resync_confirmed: 1,
            packets: 1,
            bytes: 1,
            digest_ok: 1,
            misplaced: 1,
            control_errors: 1,
        };
        let mut sum = Stats::default();
        sum += &one;
        assert_eq!(sum, one);
        one += &sum;
        assert_eq!((one.bytes, one.rejections(), one.setup_fail()), (2, 2 * Rejection::ALL.len() as u64, 10));
        assert_eq!(one.copied(Why::NotTold), Copied { reads: 2, bytes: 2, digests: 2 });
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
