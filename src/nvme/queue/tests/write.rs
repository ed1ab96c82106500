use super::*;
use proptest::prelude::*;

/// Takes a PDU of the host apart by the specification's numbers, checking lengths and digests: (type, flags, header from
/// byte 8, data).
fn next_pdu(stream: &mut Vec<u8>, header_digest: bool, data_digest: bool, align: usize) -> (u8, u8, Vec<u8>, Vec<u8>) {
    let (hlen, pdo) = (usize::from(stream[2]), usize::from(stream[3]));
    let plen = u32::from_le_bytes([stream[4], stream[5], stream[6], stream[7]]) as usize;
    let pdu: Vec<u8> = stream.drain(..plen).collect();
    let (pdu_type, flags) = (pdu[0], pdu[1]);
    assert_eq!(hlen, if pdu_type == 4 { 72 } else { 24 });
    assert_eq!(flags & 1 == 1, header_digest);
    if header_digest {
        assert_eq!(pdu[hlen..hlen + 4], bitwise_crc32c(&pdu[..hlen]).to_le_bytes());
    }
    let header_end = hlen + 4 * usize::from(header_digest);
    let data = if pdo == 0 {
        assert_eq!((plen, flags & 2), (header_end, 0));
        Vec::new()
    } else {
        assert_eq!((pdo % align, flags & 2 == 2), (0, data_digest));
        assert!(pdu[header_end..pdo].iter().all(|&b| b == 0), "padding is zero");
        let data = pdu[pdo..plen - 4 * usize::from(data_digest)].to_vec();
        if data_digest {
            assert_eq!(pdu[plen - 4..], bitwise_crc32c(&data).to_le_bytes());
        }
        data
    };
    (pdu_type, flags, pdu[8..hlen].to_vec(), data)
}

fn write(rig: &mut Rig, bytes: &[u8]) -> u16 {
    let cid = rig.submit(Request::write(1, 77, bytes.len() as u32, 1).expect("legal"));
    if let Some((_, memory)) = rig.memory.tags.get_mut(&cid) {
        memory.copy_from_slice(bytes);
    }
    cid
}

/// Everything sent, taken in rooms of these sizes.
fn sent_in(rig: &mut Rig, rooms: &[usize]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rooms = rooms.iter().cycle();
    while rig.queue.has_output() {
        let mut out = vec![0; *rooms.next().expect("cycle")];
        let n = rig.queue.transmit(&rig.memory, &mut out);
        assert!(n == out.len() || !rig.queue.has_output(), "room was left although there is more");
        all.extend(&out[..n]);
    }
    all
}

proptest! {
    #[test]
    fn any_room_gives_the_same_bytes(
        len in 1usize..40_000, rooms in proptest::collection::vec(1usize..2000, 1..20),
        r2ts in proptest::collection::vec(1u32..20_000, 1..6), maxh2c in 0u32..3,
        header_digest: bool, data_digest: bool, cpda in 0u8..32,
    ) {
        let max = [4096, 8192, 65536][maxh2c as usize];
        let mut rig = Rig::ready_with(config(header_digest, data_digest), cpda, max);
        let (align, bytes) = (4 * (usize::from(cpda) + 1), pattern(len, 1));
        let cid = write(&mut rig, &bytes);
        let mut stream = sent_in(&mut rig, &rooms);
        let (pdu_type, _, sqe, data) = next_pdu(&mut stream, header_digest, data_digest, align);
        prop_assert_eq!((pdu_type, sqe[0], sqe[1]), (4, 1, 0x40));
        prop_assert!(stream.is_empty());
        prop_assert_eq!(u32::from_le_bytes(sqe[32..36].try_into().expect("4 bytes")) as usize, len);
        if len <= 4096 {
            prop_assert_eq!((sqe[39], data), (0x01, bytes));
        } else {
            prop_assert_eq!((sqe[39], data.len()), (0x5a, 0));
            let mut asked = 0;
            for (ttag, &want) in (100u16..).zip(r2ts.iter().cycle()) {
                let want = want.max(len as u32 / 50).min(len as u32 - asked);
                rig.peer.r2t(cid, ttag, asked, want);
                rig.hear();
                prop_assert_eq!(rig.events(), vec![]);
                let mut stream = sent_in(&mut rig, &rooms);
                let mut got = 0;
                while !stream.is_empty() {
                    let (pdu_type, flags, header, data) = next_pdu(&mut stream, header_digest, data_digest, align);
                    let field = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
                    prop_assert_eq!(pdu_type, 6);
                    prop_assert_eq!(&header[..2], cid.to_le_bytes());
                    prop_assert_eq!(&header[2..4], ttag.to_le_bytes());
                    prop_assert_eq!((field(4), field(8) as usize), (asked + got, data.len()));
                    prop_assert!(data.len() <= max as usize);
                    prop_assert_eq!(&data[..], &bytes[(asked + got) as usize..][..data.len()]);
                    got += data.len() as u32;
                    prop_assert_eq!(flags & 4 == 4, got == want, "LAST_PDU ends the R2T");
                }
                prop_assert_eq!(got, want);
                asked += got;
                if asked == len as u32 {
                    break;
                }
            }
        }
        rig.peer.response(cid, 0, 0);
        rig.hear();
        let completion = rig.completion();
        prop_assert_eq!((completion.cid, completion.status, completion.digest_by), (cid, Status::SUCCESS, DigestBy::None));
    }
}

#[test]
fn commands_do_not_wait_for_a_long_write() {
    let mut rig = Rig::ready(config(false, false));
    let cid = write(&mut rig, &pattern(40_000, 1));
    rig.sent();
    rig.peer.r2t(cid, 1, 0, 40_000);
    rig.hear();
    let mut out = [0; 5000];
    let n = rig.queue.transmit(&rig.memory, &mut out);
    let read = rig.submit(Request::read(1, 0, 8, 512).expect("legal"));
    let mut stream = [out[..n].to_vec(), rig.sent()].concat();
    let mut types = Vec::new();
    while !stream.is_empty() {
        let (pdu_type, _, header, data) = next_pdu(&mut stream, false, false, 4);
        types.push((pdu_type, data.len()));
        if pdu_type == 4 {
            assert_eq!(header[2], read as u8);
        }
    }
    assert_eq!(types, [(6, 8192), (4, 0), (6, 8192), (6, 8192), (6, 8192), (6, 40_000 - 4 * 8192)]);
}

#[test]
fn flush_has_no_data() {
    let mut rig = Rig::ready(config(true, true));
    let cid = rig.submit(Request::flush(3));
    let mut stream = rig.sent();
    let (pdu_type, _, sqe, data) = next_pdu(&mut stream, true, true, 4);
    assert_eq!((pdu_type, sqe[0], sqe[4], sqe[39], data.len()), (4, 0, 3, 0x5a, 0));
    rig.peer.response(cid, 0, 0);
    rig.hear();
    assert_eq!(rig.completion().status, Status::SUCCESS);
}

#[test]
fn memory_that_fails_ends_the_connection() {
    let mut rig = Rig::ready(config(false, false));
    let cid = write(&mut rig, &pattern(100, 1));
    rig.memory.tags.remove(&cid);
    let (sent, (reason, term)) = (rig.sent(), rig.failure());
    assert_eq!(sent.len(), 72, "the header of a PDU whose data never comes");
    assert_eq!((reason, term), (Reason::Memory(PayloadError::NoBuffer { tag: cid }), None));
}
