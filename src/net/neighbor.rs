//! Who is at which MAC address: a small cache with expiry and the requests that fill it.
//!
//! ```text
//!             resolve           answer                 lifetime over, resolve
//!   unknown ──────────► asking ────────► known ───────────────────────────────► known, asking again
//!                         │ no answer to REQUESTS                                    │ no answer
//!                         └────► failed, for HOLD ◄──────────────────────────────────┘
//! ```
//!
//! Who is doubted ([`Neighbors::doubt`]) is asked again before its lifetime is over: TCP hears nothing from beyond it, so it may
//! have moved to another MAC address (RFC 1122 §2.3.2.1 item 4 and §3.3.1.4: advice from the layer above; RFC 4861 §7.3 says the
//! same of IPv6).
//!
//! Only neighbours that we asked for, or that asked for us, get an entry, so others on the link cannot fill the cache.

use std::net::IpAddr;
use std::time::Duration;

use super::MacAddr;

/// How long an answer is believed.
const LIFETIME: Duration = Duration::from_secs(60);
/// Between requests (RFC 1122 §2.3.2.1: at most one per second and destination).
const RETRY: Duration = Duration::from_secs(1);
/// Requests without an answer after which the neighbour counts as unreachable.
const REQUESTS: u32 = 3;
/// How long it then stays so.
const HOLD: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: IpAddr,
    mac: Option<MacAddr>,
    /// Until when `mac` needs no question, or until when the failure holds.
    until: Duration,
    /// Requests sent and not answered.
    requests: u32,
    /// The last was sent then.
    asked_at: Duration,
    /// A request is due.
    ask: bool,
    used_at: Duration,
}

impl Entry {
    /// Asks again if the last request was not answered in time; true if it was the last and the neighbour counts as
    /// unreachable now.
    fn retry(&mut self, now: Duration) -> bool {
        if self.requests == 0 || self.ask || now < self.asked_at + RETRY {
            return false;
        }
        if self.requests >= REQUESTS && now < self.until {
            // It was only doubted: silence may be that of a wire that loses everything, and proves nothing.
            self.requests = 0;
            return false;
        }
        if self.requests >= REQUESTS {
            (self.mac, self.until, self.requests) = (None, now + HOLD, 0);
            return true;
        }
        self.ask = true;
        false
    }
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Known(MacAddr),
    Asking,
    Failed,
}

#[derive(Debug)]
pub(super) struct Neighbors {
    entries: Vec<Entry>,
    capacity: usize,
    /// Entries that made room for others.
    pub(super) evicted: u64,
}

impl Neighbors {
    pub(super) fn new(capacity: usize) -> Neighbors {
        Neighbors { entries: Vec::with_capacity(capacity), capacity, evicted: 0 }
    }

    fn find(&mut self, address: IpAddr) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.address == address)
    }

    /// Adds an entry; if there is no room, in place of the one used longest ago.
    fn insert(&mut self, entry: Entry) {
        if self.entries.len() < self.capacity {
            self.entries.push(entry);
        } else if let Some(oldest) = self.entries.iter_mut().min_by_key(|entry| entry.used_at) {
            *oldest = entry;
            self.evicted += 1;
        }
    }

    /// The MAC address of a neighbour; if it is not known, asking begins.
    pub(super) fn resolve(&mut self, address: IpAddr, now: Duration) -> Lookup {
        let Some(entry) = self.find(address) else {
            let (until, asked_at, used_at) = (now, now, now);
            self.insert(Entry { address, mac: None, until, requests: 0, asked_at, ask: true, used_at });
            return Lookup::Asking;
        };
        entry.used_at = now;
        if now < entry.until {
            return entry.mac.map_or(Lookup::Failed, Lookup::Known);
        }
        if entry.requests == 0 {
            entry.ask = true;
        } else if entry.retry(now) {
            return Lookup::Failed;
        }
        // An old answer serves until its renewal has failed.
        entry.mac.map_or(Lookup::Asking, Lookup::Known)
    }

    /// Takes what a neighbour says of itself. `ours`: it asked for us, so it is about to talk to us. False if it is nobody
    /// that we asked for.
    pub(super) fn learn(&mut self, address: IpAddr, mac: MacAddr, ours: bool, now: Duration) -> bool {
        let until = now + LIFETIME;
        match self.find(address) {
            Some(entry) => {
                (entry.mac, entry.until, entry.requests, entry.ask) = (Some(mac), until, 0, false);
            }
            None if ours => {
                let (asked_at, used_at) = (now, now);
                self.insert(Entry { address, mac: Some(mac), until, requests: 0, asked_at, ask: false, used_at });
            }
            None => return false,
        }
        true
    }

    /// The layer above has no answer from beyond a neighbour: it is asked again, unless that is under way. What is known of it
    /// serves on for its lifetime if there is no answer. True if it is asked because of this.
    pub(super) fn doubt(&mut self, address: IpAddr, now: Duration) -> bool {
        let Some(entry) = self.find(address) else { return false };
        let idle = entry.mac.is_some() && entry.requests == 0 && !entry.ask;
        if !idle || now < entry.asked_at + RETRY {
            return false;
        }
        entry.ask = true;
        true
    }

    /// The address to ask for next, if a request is due.
    pub(super) fn next_request(&mut self, now: Duration) -> Option<IpAddr> {
        for entry in &mut self.entries {
            entry.retry(now);
        }
        let entry = self.entries.iter_mut().find(|entry| entry.ask)?;
        (entry.ask, entry.asked_at) = (false, now);
        entry.requests += 1;
        Some(entry.address)
    }

    /// When [`next_request`](Self::next_request) must be called although nothing came in; later than the `now` of a call
    /// that returned `None`.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let asking = self.entries.iter().filter(|entry| entry.requests > 0 && !entry.ask);
        asking.map(|entry| entry.asked_at + RETRY).min()
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | unknown: asked three times a second apart, then failed for a while, then asked again | `an_unknown_neighbor_is_asked_three_times` |
    //! | requests go on, and end, without anybody who waits for the answer | `requests_end_by_themselves` |
    //! | an answer is believed for its lifetime and used while it is renewed | `an_old_answer_serves_while_it_is_renewed` |
    //! | who is doubted is asked at once, at most once a second, and used meanwhile and if it is silent; then it is where it says | `a_doubted_neighbor_is_asked_again` |
    //! | who was not asked for gets no entry; the cache does not grow | `strangers_get_no_entry_and_the_cache_is_bounded` |
    use super::*;
    use std::net::Ipv4Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const S: Duration = Duration::from_secs(1);

    #[test]
    fn an_unknown_neighbor_is_asked_three_times() {
        let mut all = Neighbors::new(4);
        for i in 0..3 {
            assert_eq!(all.resolve(A, i * S), Lookup::Asking);
            assert_eq!(all.next_request(i * S), Some(A));
            assert_eq!(all.next_deadline(), Some((i + 1) * S));
            assert_eq!(all.resolve(A, i * S + S / 2), Lookup::Asking);
            assert_eq!(all.next_request(i * S + S / 2), None, "not more than one a second");
        }
        assert_eq!(all.resolve(A, 3 * S), Lookup::Failed);
        assert_eq!(all.resolve(A, 7 * S), Lookup::Failed);
        assert_eq!(all.next_request(7 * S), None);
        assert_eq!(all.resolve(A, 8 * S), Lookup::Asking);
        assert_eq!(all.next_request(8 * S), Some(A));
        all.learn(A, MAC, false, 9 * S);
        assert_eq!(all.resolve(A, 9 * S), Lookup::Known(MAC));
        assert_eq!(all.next_deadline(), None);
    }

    #[test]
    fn requests_end_by_themselves() {
        let mut all = Neighbors::new(4);
        all.resolve(A, S);
        let mut asked = 0;
        let mut now = S;
        loop {
            asked += std::iter::from_fn(|| all.next_request(now)).count();
            let Some(next) = all.next_deadline() else { break };
            assert!(next > now);
            now = next;
        }
        assert_eq!((asked, now), (3, 4 * S));
        assert_eq!(all.resolve(A, now), Lookup::Failed);
    }

    #[test]
    fn an_old_answer_serves_while_it_is_renewed() {
        let mut all = Neighbors::new(4);
        all.learn(A, MAC, true, S);
        assert_eq!(all.resolve(A, 60 * S), Lookup::Known(MAC));
        assert_eq!(all.next_request(60 * S), None);
        for i in 61..64 {
            assert_eq!(all.resolve(A, i * S), Lookup::Known(MAC));
            assert_eq!(all.next_request(i * S), Some(A));
        }
        assert_eq!(all.resolve(A, 64 * S), Lookup::Failed);
    }

    #[test]
    fn a_doubted_neighbor_is_asked_again() {
        let mut all = Neighbors::new(4);
        assert!(!all.doubt(A, S), "nobody knows it");
        all.learn(A, MAC, true, S);
        assert!(!all.doubt(A, S + S / 2), "not more than one question a second");
        assert!(all.doubt(A, 2 * S) && !all.doubt(A, 2 * S));
        assert_eq!(all.resolve(A, 2 * S), Lookup::Known(MAC));
        assert_eq!((all.next_request(2 * S), all.next_deadline()), (Some(A), Some(3 * S)));
        assert!(!all.doubt(A, 2 * S), "it is being asked");
        let moved = MacAddr([2, 0, 0, 0, 0, 10]);
        all.learn(A, moved, false, 2 * S);
        assert_eq!((all.resolve(A, 3 * S), all.next_deadline()), (Lookup::Known(moved), None));
        assert!(all.doubt(A, 10 * S));
        for i in 10..13 {
            assert_eq!((all.resolve(A, i * S), all.next_request(i * S)), (Lookup::Known(moved), Some(A)));
        }
        assert_eq!((all.next_request(13 * S), all.next_deadline()), (None, None));
        assert_eq!(all.resolve(A, 13 * S), Lookup::Known(moved), "silence proves nothing");
        assert!(all.doubt(A, 13 * S));
        all.next_request(13 * S);
        // The lifetime ends as ever.
        for i in 62..64 {
            assert_eq!(all.resolve(A, i * S), Lookup::Known(moved));
            all.next_request(i * S);
        }
        assert_eq!(all.resolve(A, 64 * S), Lookup::Failed);
    }

    #[test]
    fn strangers_get_no_entry_and_the_cache_is_bounded() {
        let mut all = Neighbors::new(4);
        let address = |i: u8| IpAddr::from([10, 0, 1, i]);
        all.learn(address(0), MAC, false, S);
        assert!(all.entries.is_empty());
        for i in 0..100 {
            all.learn(address(i), MAC, true, u32::from(i) * S);
        }
        assert_eq!((all.entries.len(), all.evicted), (4, 96));
        assert_eq!(all.resolve(address(99), 100 * S), Lookup::Known(MAC));
        assert_eq!(all.resolve(address(95), 100 * S), Lookup::Asking);
    }
}
