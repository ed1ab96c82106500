//! How much is placed, and how many digests are verified, of a long stream of reads under independent loss: the ceilings
//! of `performance.md` §2.6. A packet is a unit of time; a lost one is sent again one round trip later, and may be lost
//! again; software confirms a header 8 packets after it has everything up to it.
//!
//! | property | test |
//! |---|---|
//! | what is placed and verified under loss is the published ceiling, within a point (and twice the standard error of the sample, for digests), if the search looks at late packets; without that it is at most a PDU per lost header lower | `loss_costs_what_the_ceilings_say` |
//! | the other rules cost what the reference says of them | `each_rule_has_its_price` |
use super::stream::crc32c;
use super::*;
use crate::dma::build::memory;
use std::collections::BTreeSet;

const MSS: u64 = 1448;
/// Packets of a round trip, and from the header in order to its confirmation.
const ROUND_TRIP: u64 = 64;
const CONFIRM: u64 = 8;

/// Percent.
struct Measured {
    /// Data placed.
    placed: f64,
    /// Data that would be placed if a completion had room for all runs of its packet. The published ceilings do not know
    /// that it has room for one.
    ceiling: f64,
    /// Digests that software need not verify, and the standard error of that share.
    verified: f64,
    error: f64,
}

/// Numbers that look random and are the same in every run: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, probability: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ z >> 31) >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

/// `packets` packets of C2HData PDUs of `size` bytes of data each, of which this share is lost.
fn simulate(size: u32, loss: f64, behaviour: Behaviour, packets: u64) -> Measured {
    let mut nic = Nic::with(DATA_DIGEST, 0, WhichRun::Longest, behaviour, u64::from(size));
    nic.dma = memory(BASE, u64::from(size));
    nic.bind(0, &[(BASE, size)]);
    // Every PDU has the same bytes, so any packet is a piece of a few of them.
    let data: Vec<u8> = (0..size).map(|at| (at * 31 + at / 253) as u8).collect();
    let plen = 24 + size + 4;
    let mut pdu = vec![0x07, 0x06, 24, 24];
    pdu.extend(plen.to_le_bytes());
    pdu.extend([0; 8]);
    pdu.extend(size.to_le_bytes());
    pdu.extend([0; 4]);
    pdu.extend(&data);
    pdu.extend(crc32c(&data).to_le_bytes());
    let plen = u64::from(plen);
    let stream = pdu.repeat(1 + MSS.div_ceil(plen) as usize);
    let mut random = Random(1);
    let mut flags = vec![false; packets as usize];
    let mut missing = BTreeSet::new();
    // (when, packet) and (when, sequence number).
    let (mut again, mut confirms) = (BTreeSet::new(), Vec::new());
    let mut asked: Option<u64> = None;
    for now in 0..packets {
        let late = again.range(..=(now, u64::MAX)).copied().collect::<Vec<_>>();
        late.iter().for_each(|sent| assert!(again.remove(sent)));
        while let Some((_, position)) = confirms.first().copied().filter(|(when, _)| *when <= now) {
            confirms.remove(0);
            let params = static_params(DATA_DIGEST).with(StaticParams::NVME_RESYNC_TCP_SN, position as u32);
            nic.offload.static_params(TIRN, &params).unwrap();
        }
        for packet in late.into_iter().map(|(_, packet)| packet).chain([now]) {
            if random.below(loss) {
                missing.insert(packet);
                again.insert((now + ROUND_TRIP, packet));
                continue;
            }
            missing.remove(&packet);
            let at = (packet * MSS % plen) as usize;
            let payload = &stream[at..at + MSS as usize];
            let outcome = nic.offload.segment(TIRN, (packet * MSS) as u32, payload, &nic.mkeys, &nic.dma);
            flags[packet as usize] = outcome.ddgst_ok;
            if let Some(sequence) = outcome.resync {
                // The stream is longer than the sequence space only in theory: no run here wraps.
                asked = Some(u64::from(sequence));
            }
            let in_order = missing.first().map_or((now + 1) * MSS, |packet| packet * MSS);
            if let Some(position) = asked.filter(|asked| asked + 24 <= in_order) {
                if position.is_multiple_of(plen) {
                    confirms.push((now + CONFIRM, position));
                }
                asked = None;
            }
        }
    }
    let whole = packets * MSS / plen;
    let verified = (0..whole).filter(|pdu| {
        let (first, last) = ((pdu * plen + 24) / MSS, ((pdu + 1) * plen - 1) / MSS);
        flags[first as usize..=last as usize].iter().all(|flag| *flag)
    });
    let verified = verified.count() as f64 / whole as f64;
    let sent = packets as f64 * MSS as f64 * f64::from(size) / plen as f64;
    let c = nic.offload.counters();
    let other = c.bytes_unplaced.get(&Unplaced::OtherRun).copied().unwrap_or(0);
    Measured {
        placed: 100.0 * c.bytes_placed as f64 / sent,
        ceiling: 100.0 * (c.bytes_placed + other) as f64 / sent,
        verified: 100.0 * verified,
        error: 100.0 * (verified * (1.0 - verified) / whole as f64).sqrt(),
    }
}

#[test]
fn loss_costs_what_the_ceilings_say() {
    // (data of a PDU, loss, bytes placed, digests verified) in percent.
    let ceilings = [
        (16, 0.3, 97.6, 94.4),
        (16, 1.0, 91.9, 81.9),
        (16, 2.0, 84.4, 67.1),
        (64, 0.3, 99.1, 86.5),
        (64, 1.0, 96.8, 61.1),
        (64, 2.0, 93.2, 37.2),
        (256, 0.3, 99.4, 57.5),
        (256, 1.0, 98.0, 15.6),
        (256, 2.0, 96.1, 2.5),
    ];
    println!("                 | late packets searched                      | not searched");
    println!("PDU KiB   loss % | placed %  all runs (ceiling)  digests (ceil.) | all runs");
    for (size, loss, placed, verified) in ceilings {
        let run = |search_late, packets| {
            simulate(size << 10, loss / 100.0, Behaviour { search_late, ..Behaviour::default() }, packets)
        };
        let (m, default) = (run(true, 250_000), run(false, 60_000));
        print!("{size:7} {loss:8} | {:8.1} {:9.1} ({placed:.1})", m.placed, m.ceiling);
        println!(" {:13.1} ({verified:.1}) | {:8.1}", m.verified, default.ceiling);
        assert!((m.ceiling - placed).abs() < 1.0, "{size} KiB at {loss} %: {:.1} % placed", m.ceiling);
        assert!((m.verified - verified).abs() < 1.0 + 2.0 * m.error, "{size} KiB at {loss} %: {:.1} %", m.verified);
        // A packet with two PDUs places the longer run: a quarter of a packet per PDU stays in the ring.
        let shared = 100.0 * MSS as f64 / 4.0 / f64::from(size << 10);
        assert!((m.ceiling - m.placed - shared).abs() < 0.5, "{size} KiB at {loss} %: {:.1} % placed", m.placed);
        // Where a PDU has more packets than a round trip, the next header comes later than the lost one comes again.
        let costs = if size < 256 { 0.0 } else { loss * (1.0 - loss / 100.0) };
        let difference = placed - default.ceiling;
        assert!((difference - costs).abs() < 1.5, "{size} KiB at {loss} %: {difference} lower if not searched");
    }
}

#[test]
fn each_rule_has_its_price() {
    let stop = Behaviour { hole: HoleRule::Stop, ..Behaviour::default() };
    let start = Behaviour { search: SearchRule::StartOfPacket, ..Behaviour::default() };
    let both = Behaviour { hole: HoleRule::Stop, ..start };
    // At 1 % loss; what the reference says of it, and how near a run of this length comes: where the search rarely finds
    // anything, few recoveries decide.
    let rules = [
        ("stop in a hole", stop, 64, 78.0, 3.0),
        ("stop in a hole", stop, 512, 26.0, 3.0),
        ("search at the start of packets", start, 64, 24.0, 10.0),
        ("search at the start of packets", start, 512, 36.0, 15.0),
    ];
    println!("PDU KiB  placed % (reference)");
    for (name, behaviour, size, reference, near) in rules {
        let placed = simulate(size << 10, 0.01, behaviour, 400_000).ceiling;
        println!("{size:7} {placed:8.1} ({reference})  {name}");
        assert!((placed - reference).abs() < near, "{name}, {size} KiB: {placed:.1} % placed");
    }
    let neither = simulate(64 << 10, 0.01, both, 400_000).ceiling;
    println!("{:7} {neither:8.1}  both", 64);
    assert!(neither < 26.0, "both rules: {neither:.1} % placed");
}
