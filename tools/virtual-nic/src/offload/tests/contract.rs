//! Two of the seed's five requirements for a NIC: to change no packet, and to depend on nothing but five-tuple and
//! sequence number. (That none is held back, reordered or dropped is proved with rings, in `tests/offload_loss.rs`.)
//!
//! | property | test |
//! |---|---|
//! | what happens to a packet does not change with its L2, IP and TCP options, nor with what other connections receive in between; no frame is changed | `nothing_counts_but_five_tuple_and_sequence` |
use super::lossy::{Scenario, arrivals, scenario};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn nothing_counts_but_five_tuple_and_sequence(
        scenario in scenario(),
        envelopes in proptest::collection::vec(envelope(), 1..6),
        // How far behind another connection is in a stream of the same bytes and numbers.
        behind in 0usize..20,
    ) {
        let Scenario { digests, seq, which, behaviour, .. } = scenario;
        let stream = stream(&scenario.pdus, digests);
        let arrivals = arrivals(stream.bytes.len(), &scenario.cuts, &scenario.fates);
        let mut plain = Nic::with(digests, seq, which, behaviour, 0x4_0000);
        let mut other = Nic::with(digests, seq, which, behaviour, 0x4_0000);
        bind_scattered(&mut plain, &scenario.buffers, 0x4_0000);
        bind_scattered(&mut other, &scenario.buffers, 0x4_0000);
        // The other connection has a table of its own, without tags.
        let log = CreateTagBufferTableIn::OBJ_LOG_TAG_BUFFER_TABLE_SIZE;
        let table = other.offload.create_table(&CreateTagBufferTableIn::zeroed().with(log, 3)).unwrap();
        other.offload.create_tir(TIRN + 1, &tirc(table, true)).unwrap();
        other.offload.static_params(TIRN + 1, &static_params(digests)).unwrap();
        other.offload.progress_params(TIRN + 1, &progress(seq)).unwrap();
        for (index, (from, to)) in arrivals.iter().copied().enumerate() {
            let payload = |(from, to): (usize, usize)| stream.bytes[from..to].to_vec();
            let sequence = |from: usize| seq.wrapping_add(from as u32);
            if let Some(elsewhere) = index.checked_sub(behind).map(|index| arrivals[index]) {
                let frame = Build::tcp(sequence(elsewhere.0), &payload(elsewhere)).frame();
                let packet = Packet::parse(&frame).unwrap();
                let outcome = other.offload.receive(TIRN + 1, &packet, &other.mkeys, &other.dma);
                prop_assert_eq!(outcome.placed, None);
            }
            let build = Build { seq: sequence(from), payload: payload((from, to)), ..envelopes[index % envelopes.len()].clone() };
            let frame = build.frame();
            let before = frame.clone();
            let mut outcome = other.offload.receive(TIRN, &Packet::parse(&frame).unwrap(), &other.mkeys, &other.dma);
            prop_assert!(frame == before);
            if let Some(run) = &mut outcome.placed {
                run.hole -= build.header_len() as u32;
            }
            let expected = plain.offload.segment(TIRN, sequence(from), &payload((from, to)), &plain.mkeys, &plain.dma);
            prop_assert_eq!(outcome, expected);
            prop_assert_eq!(other.offload.progress(TIRN), plain.offload.progress(TIRN));
            if let Some(sequence) = outcome.resync.filter(|_| index % 2 == 0) {
                for nic in [&mut plain, &mut other] {
                    let params = static_params(digests).with(StaticParams::NVME_RESYNC_TCP_SN, sequence);
                    nic.offload.static_params(TIRN, &params).unwrap();
                }
            }
        }
        prop_assert!(plain.memory(0x4_0000) == other.memory(0x4_0000));
    }
}
