//! | property | test |
//! |---|---|
//! | what is emitted parses to the same, for every mix of options | `emitted_headers_parse_to_the_same` |
//! | smoltcp reads what we emit, field by field | `smoltcp_reads_what_we_emit` |
//! | we read what smoltcp emits, field by field | `we_read_what_smoltcp_emits` |
//! | any bytes: no panic, and where smoltcp sees a valid header we agree on its fields | `any_bytes_are_parsed_or_refused` |
//! | each impossible option length is an error that names it | `impossible_option_lengths_are_refused` |
//! | unknown options are skipped, END ends (RFC 9293 MUST-6) | `unknown_options_are_skipped` |
//! | bytes may end with the header; not before | `only_the_header_is_needed` |
//! | resets answer as RFC 9293 3.10.7.1 says | `resets_answer_what_no_connection_wants` |
use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use smoltcp::wire::{IpAddress, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

const A: IpAddress = IpAddress::v4(10, 0, 0, 1);
const B: IpAddress = IpAddress::v4(10, 0, 0, 2);

fn options() -> impl Strategy<Value = Options> {
    let blocks = |max| vec((any::<u32>(), any::<u32>()), 0..=max);
    let timestamps = option::of((any::<u32>(), any::<u32>()).prop_map(|(value, echo)| Timestamps { value, echo }));
    // A SYN or what follows it: no mix may exceed 40 bytes.
    prop_oneof![
        (option::of(any::<u16>()), option::of(0u8..=20), any::<bool>(), timestamps.clone()).prop_map(
            |(mss, window_scale, sack_permitted, timestamps)| Options {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
                sack: SackBlocks::default()
            }
        ),
        (timestamps, blocks(3)).prop_map(|(timestamps, blocks)| {
            let mut sack = SackBlocks::default();
            blocks.into_iter().for_each(|(start, end)| assert!(sack.push(SackBlock { start, end })));
            Options { timestamps, sack, ..Options::default() }
        }),
        blocks(4).prop_map(|blocks| {
            let mut sack = SackBlocks::default();
            blocks.into_iter().for_each(|(start, end)| assert!(sack.push(SackBlock { start, end })));
            Options { sack, ..Options::default() }
        }),
    ]
}

fn headers() -> impl Strategy<Value = Header> {
    (any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>(), options()).prop_map(|(seq, ack, flags, window, options)| {
        Header { seq, ack, flags: Flags::from_bits_retain(flags), window, options }
    })
}

fn same_fields(parsed: &Parsed, packet: &TcpPacket<&[u8]>) {
    let header = parsed.header;
    assert_eq!((parsed.source_port, parsed.destination_port), (packet.src_port(), packet.dst_port()));
    assert_eq!(header.seq, packet.seq_number().0 as u32);
    assert_eq!(header.ack, packet.ack_number().0 as u32);
    assert_eq!(header.window, packet.window_len());
    assert_eq!(parsed.header_len, u32::from(packet.header_len()));
    let flags = [
        (Flags::FIN, packet.fin()),
        (Flags::SYN, packet.syn()),
        (Flags::RST, packet.rst()),
        (Flags::PSH, packet.psh()),
        (Flags::ACK, packet.ack()),
        (Flags::URG, packet.urg()),
        (Flags::ECE, packet.ece()),
        (Flags::CWR, packet.cwr()),
    ];
    for (flag, set) in flags {
        assert_eq!(header.flags.contains(flag), set, "{flag:?}");
    }
}

fn same_repr(header: &Header, repr: &TcpRepr<'_>) {
    assert_eq!(header.options.mss, repr.max_seg_size);
    assert_eq!(header.options.window_scale.map(|shift| shift.min(14)), repr.window_scale);
    assert_eq!(header.options.sack_permitted, repr.sack_permitted);
    let timestamps = repr.timestamp.map(|t| Timestamps { value: t.tsval, echo: t.tsecr });
    assert_eq!(header.options.timestamps, timestamps);
    let theirs: Vec<_> = repr.sack_ranges.iter().flatten().copied().collect();
    // smoltcp keeps three blocks.
    let ours: Vec<_> = header.options.sack.as_slice().iter().take(3).map(|b| (b.start, b.end)).collect();
    assert_eq!(ours, theirs);
}

proptest! {
    #[test]
    fn emitted_headers_parse_to_the_same(header in headers(), ports in any::<(u16, u16)>()) {
        let mut bytes = [0xa5; MAX_HEADER_LEN];
        let len = header.emit(ports.0, ports.1, &mut bytes).unwrap();
        let parsed = Header::parse(&bytes[..len]).unwrap();
        prop_assert_eq!(parsed.header, header);
        prop_assert_eq!((parsed.source_port, parsed.destination_port), ports);
        prop_assert_eq!(parsed.header_len as usize, len);
        prop_assert!(bytes[len..].iter().all(|&b| b == 0xa5));
        for short in 0..len {
            prop_assert!(header.emit(1, 2, &mut bytes[..short]).is_err());
        }
    }

    #[test]
    fn smoltcp_reads_what_we_emit(mut header in headers(), ports in any::<(u16, u16)>()) {
        // Its representation takes one of SYN, FIN, RST and no port 0; a wscale is not checked beyond 14.
        header.flags &= Flags::ACK | Flags::PSH | Flags::URG;
        let ports = (ports.0.max(1), ports.1.max(1));
        let mut bytes = [0; MAX_HEADER_LEN];
        let len = header.emit(ports.0, ports.1, &mut bytes).unwrap();
        let packet = TcpPacket::new_checked(&bytes[..len]).unwrap();
        same_fields(&Header::parse(&bytes[..len]).unwrap(), &packet);
        let mut ignore = smoltcp::phy::ChecksumCapabilities::ignored();
        ignore.tcp = smoltcp::phy::Checksum::None;
        let repr = TcpRepr::parse(&packet, &A, &B, &ignore).unwrap();
        same_repr(&header, &repr);
        prop_assert!(repr.payload.is_empty());
    }

    #[test]
    fn we_read_what_smoltcp_emits(
        seq in any::<i32>(), ack in option::of(any::<i32>()), window in any::<u16>(), syn in any::<bool>(),
        mss in any::<u16>(), shift in option::of(0u8..=14), permitted in any::<bool>(),
        ts in option::of((any::<u32>(), any::<u32>())), blocks in vec((any::<u32>(), any::<u32>()), 0..=3),
    ) {
        let mut sack_ranges = [None; 3];
        if !syn && ack.is_some() {
            blocks.iter().zip(&mut sack_ranges).for_each(|(block, slot)| *slot = Some(*block));
        }
        let repr = TcpRepr {
            src_port: 7,
            dst_port: 8,
            control: if syn { TcpControl::Syn } else { TcpControl::Psh },
            seq_number: TcpSeqNumber(seq),
            ack_number: ack.map(TcpSeqNumber),
            window_len: window,
            window_scale: if syn { shift } else { None },
            max_seg_size: syn.then_some(mss),
            sack_permitted: syn && permitted,
            sack_ranges,
            timestamp: ts.map(|(tsval, tsecr)| TcpTimestampRepr { tsval, tsecr }),
            payload: &[],
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut TcpPacket::new_unchecked(&mut bytes[..]), &A, &B, &Default::default());
        let parsed = Header::parse(&bytes).unwrap();
        same_fields(&parsed, &TcpPacket::new_unchecked(&bytes[..]));
        same_repr(&parsed.header, &repr);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(mut bytes in vec(any::<u8>(), 0..80), plausible in any::<bool>()) {
        if plausible && bytes.len() > 20 {
            bytes[12] = 0x60 | bytes[12] & 0xf;
            bytes[20] %= 9;
        }
        match Header::parse(&bytes) {
            Ok(parsed) => {
                let packet = TcpPacket::new_checked(&bytes[..]).expect("we are stricter than smoltcp");
                same_fields(&parsed, &packet);
            }
            Err(ParseError::OptionLength { .. }) => {}
            Err(_) => prop_assert!(TcpPacket::new_checked(&bytes[..]).is_err()),
        }
    }
}

fn with_options(options: &[u8]) -> Result<Options, ParseError> {
    let mut bytes = vec![0; MIN_HEADER_LEN];
    bytes.extend_from_slice(options);
    while !bytes.len().is_multiple_of(4) {
        bytes.push(END);
    }
    bytes[12] = (bytes.len() as u8 / 4) << 4;
    Header::parse(&bytes).map(|parsed| parsed.header.options)
}

#[test]
fn impossible_option_lengths_are_refused() {
    let cases: &[(&[u8], u8, u8)] = &[
        (&[99, 0, 0, 0], 99, 0),
        (&[99, 1, 0, 0], 99, 1),
        (&[99, 5, 0, 0], 99, 5),
        (&[1, 1, 1, 99], 99, 0),
        (&[MSS, 3, 0, 0], MSS, 3),
        (&[WINDOW_SCALE, 4, 0, 0], WINDOW_SCALE, 4),
        (&[SACK_PERMITTED, 3, 0, 0], SACK_PERMITTED, 3),
        (&[TIMESTAMPS, 4, 0, 0], TIMESTAMPS, 4),
        (&[SACK, 2, 0, 0], SACK, 2),
        (&[SACK, 4, 0, 0], SACK, 4),
    ];
    for &(bytes, kind, len) in cases {
        assert_eq!(with_options(bytes), Err(ParseError::OptionLength { kind, len }), "{bytes:?}");
    }
}

#[test]
fn unknown_options_are_skipped() {
    let found = with_options(&[253, 5, 1, 2, 3, MSS, 4, 5, 0xb4, NOP, END, MSS, 3]).unwrap();
    assert_eq!(found, Options { mss: Some(1460), ..Options::default() });
}

#[test]
fn only_the_header_is_needed() {
    let header = Header {
        options: Options { timestamps: Some(Timestamps { value: 1, echo: 2 }), ..Options::default() },
        ..Header::default()
    };
    let mut bytes = [0; MAX_HEADER_LEN];
    let len = header.emit(1, 2, &mut bytes).unwrap();
    assert_eq!(len, 32);
    assert_eq!(Header::parse(&bytes[..32]).unwrap().header, header);
    assert_eq!(Header::parse(&bytes[..31]), Err(ParseError::Truncated { have: 31, need: 32 }));
    assert_eq!(Header::parse(&bytes[..19]), Err(ParseError::Truncated { have: 19, need: 20 }));
    bytes[12] = 0x40;
    assert_eq!(Header::parse(&bytes), Err(ParseError::DataOffset { words: 4 }));
}

#[test]
fn resets_answer_what_no_connection_wants() {
    let with = |flags| Header { seq: 100, ack: 200, flags, ..Header::default() };
    let reset = with(Flags::ACK).reset_reply(10).unwrap();
    assert_eq!((reset.seq, reset.flags), (200, Flags::RST));
    let reset = with(Flags::SYN).reset_reply(10).unwrap();
    assert_eq!((reset.seq, reset.ack, reset.flags), (0, 111, Flags::RST | Flags::ACK));
    assert_eq!(with(Flags::RST | Flags::ACK).reset_reply(0), None);
}
