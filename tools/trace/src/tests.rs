//! | property | test |
//! |---|---|
//! | what is written is read again, bit for bit: commands that overlap, mailboxes, queue entries, facts, two functions | `what_is_written_is_read_again` |
//! | the lines look as Linux writes them, and Linux's lines of either form are read | `linux_and_we_write_the_same_form` |
//! | a text that is cut or changed anywhere is read as far as it goes or refused by a line; nothing panics | `torn_and_garbled_texts_are_no_trouble` |
//! | what is wrong is said with its line | `what_is_wrong_is_said_with_its_line` |
//! | nothing is written beyond the limit or after an error, and both are told | `limits_and_errors_are_told` |
//! | the recorded commands of a real card are read, each with its answer | `a_real_cards_recording_is_read` |
//! | the same step of two drivers has one key, and addresses are found | `steps_and_addresses_are_found` |

use super::*;
use firmware_iface::command::object::{CreateCqIn, CreateEqIn};
use firmware_iface::context::Eqc;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A file in memory that fails after so many bytes.
#[derive(Clone)]
struct Memory(Arc<Mutex<Vec<u8>>>, usize);

impl Memory {
    fn new(room: usize) -> Memory {
        Memory(Arc::default(), room)
    }
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("lock").clone()).expect("UTF-8")
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.0.lock().expect("lock");
        if file.len() + bytes.len() > self.1 {
            return Err(io::Error::other("no space left"));
        }
        file.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both sides of a command whose messages have these lengths; bytes are the command's token.
fn command(opcode: Opcode, token: u8, input: usize, output: usize) -> (Dump, Dump) {
    let mut entry = CommandEntry::zeroed()
        .with(CommandEntry::TYPE, 7)
        .with(CommandEntry::INLEN, input as u32)
        .with(CommandEntry::OUTLEN, output as u32)
        .with(CommandEntry::TOKEN, u32::from(token))
        .with(CommandEntry::STATUS_OWN, 1);
    entry.bytes_mut()[16..18].copy_from_slice(&opcode.0.to_be_bytes());
    let blocks = |len: usize| {
        let blocks = (0..len.saturating_sub(16).div_ceil(512)).flat_map(|number| {
            let mut block = Mailbox::zeroed().with(Mailbox::BLOCK_NUM, number as u32);
            block.bytes_mut()[..512].fill(token);
            block.0
        });
        blocks.collect::<Vec<u8>>()
    };
    let answer = Dump::new(entry.with(CommandEntry::STATUS_OWN, 0), blocks(output));
    (Dump::new(entry, blocks(input)), answer)
}

/// Two commands of one opcode that overlap, one of another function, one without an answer, and queue entries.
fn written() -> String {
    let memory = Memory::new(usize::MAX);
    let sink = Sink::to(memory.clone(), u64::MAX);
    let at = Duration::from_millis;
    sink.fact(at(0), "pf", &Fact::Firmware(28, 39, 1002));
    sink.fact(at(0), "pf", &Fact::Id(0x15b3, 0x1021));
    let (first, second) = (command(Opcode::CREATE_MKEY, 1, 272, 16), command(Opcode::CREATE_MKEY, 2, 900, 700));
    sink.input(at(1), "pf", 0, &first.0);
    sink.input(at(2), "pf", 31, &second.0);
    sink.output(at(3), "pf", &first.1);
    let other = command(Opcode::CREATE_MKEY, 2, 16, 16);
    sink.input(at(3), "vf0", 3, &other.0);
    sink.output(at(4), "vf0", &other.1);
    sink.output(at(5), "pf", &second.1);
    sink.entry(at(6), "pf", EntryKind::SendWqe, 0x11, 7, &[0xab; 48]);
    sink.entry(at(6), "pf", EntryKind::ReceiveWqe, 0x12, 8, &[0xcd; 16]);
    sink.entry(at(7), "vf0", EntryKind::Cqe, 0x400, 0xffff_ffff, &[0xef; 128]);
    sink.input(at(8), "pf", 0, &command(Opcode(0xfff), 3, 16, 16).0);
    assert_eq!(sink.finish().expect("it goes well").dumps, 12);
    memory.text()
}

#[test]
fn what_is_written_is_read_again() {
    let text = written();
    let trace = Trace::parse(&text).expect("a trace");
    assert_eq!(trace.functions(), ["pf", "vf0"]);
    let pf = ("pf".to_owned(), Fact::Firmware(28, 39, 1002));
    assert_eq!(trace.facts, [pf, ("pf".to_owned(), Fact::Id(0x15b3, 0x1021))]);
    let (first, second) = (command(Opcode::CREATE_MKEY, 1, 272, 16), command(Opcode::CREATE_MKEY, 2, 900, 700));
    let other = command(Opcode::CREATE_MKEY, 2, 16, 16);
    let sides: Vec<_> =
        trace.commands.iter().map(|c| (c.input.clone().unwrap_or_default(), c.output.clone())).collect();
    assert_eq!(sides[0], (first.0, Some(first.1)));
    assert_eq!(sides[1], (second.0, Some(second.1)));
    assert_eq!(sides[2], (other.0, Some(other.1)));
    assert_eq!(sides[3].1, None);
    assert_eq!(trace.commands[1].input()[16..], [2; 884]);
    assert_eq!(trace.commands[1].output.as_ref().map(|dump| dump.output()[16..].to_vec()), Some(vec![2; 684]));
    let entries: Vec<_> = trace.entries.iter().map(|e| (e.kind, e.queue, e.index, &e.bytes[..])).collect();
    assert_eq!(entries[0], (EntryKind::SendWqe, 0x11, 7, &[0xab; 48][..]));
    assert_eq!(entries[1], (EntryKind::ReceiveWqe, 0x12, 8, &[0xcd; 16][..]));
    assert_eq!(entries[2], (EntryKind::Cqe, 0x400, 0xffff_ffff, &[0xef; 128][..]));
    let vf = trace.of("vf0");
    assert_eq!((vf.commands.len(), vf.entries.len(), vf.facts.len()), (1, 1, 0));
}

#[test]
fn linux_and_we_write_the_same_form() {
    // As a kernel logged it of a real card (`reference/traces`).
    let linux = "\
[  +0.074963] mlx5_core 0000:02:00.0: 0000:02:00.0:dump_command:587:(pid 87): dump command MLX5_CMD_OP_ENABLE_HCA(0x104) INPUT
[  +0.000004] 000: 07000000 00000010 00000000 00000000
[  +0.000001] 010: 01040000 00000000 00000000 00000000
[  +0.000002] 020: 00000000 00000000 00000000 00000000
[  +0.000001] 030: 00000000 00000000 00000010 01fd0001
";
    let trace = Trace::parse(linux).expect("a trace");
    let input = trace.commands[0].input.clone().expect("it has one");
    assert_eq!(trace.commands[0].function, "0000:02:00.0");
    let memory = Memory::new(usize::MAX);
    Sink::to(memory.clone(), u64::MAX).input(Duration::from_micros(74_963), "0000:02:00.0", 0, &input);
    let text = memory.text();
    let (ours, theirs) = (text.lines().collect::<Vec<_>>(), linux.lines().collect::<Vec<_>>());
    assert_eq!(ours[0], "[  +0.074963] 0000:02:00.0: dump command ENABLE_HCA(0x104) INPUT");
    // But for the times, which are those of the log.
    for (ours, theirs) in ours[1..5].iter().zip(&theirs[1..]) {
        assert_eq!(ours.split_once("] ").expect("a time").1, theirs.split_once("] ").expect("a time").1);
    }
    assert_eq!(ours[5..], ["", "[  +0.000000] 0000:02:00.0: writing 0x1 to command doorbell"]);
    // Newer kernels say the slot, and other processors come between.
    let newer = "\
Nov 24 10:00:00 host kernel: [   12.3] mlx5_core 0000:02:00.0: dump_command:870:(pid 9): cmd[1]: dump command ENABLE_HCA(0x104) INPUT
Nov 24 10:00:00 host kernel: [   12.3] mlx5_core 0000:02:00.0: dump_command:870:(pid 9): cmd[0]: dump command QUERY_PAGES(0x107) INPUT
Nov 24 10:00:00 host kernel: [   12.4] cmd[0]: 000: 07000000 00000010 00000000 00000000
Nov 24 10:00:00 host kernel: [   12.4] cmd[1]: 000: 07000000 00000010 00000000 00000000
Nov 24 10:00:00 host kernel: [   12.4] cmd[1]: 010: 01040000 00000000 00000000 00000000
Nov 24 10:00:00 host kernel: [   12.4] cmd[0]: 010: 01070000 00000001 00000000 00000000
Nov 24 10:00:00 host kernel: [   12.4] cmd[0]: 020: 00000000 00000000 00000000 00000000
Nov 24 10:00:00 host kernel: [   12.4] usb 1-1: new device
Nov 24 10:00:00 host kernel: [   12.4] cmd[0]: 030: 00000000 00000000 00000010 01fd0001
Nov 24 10:00:00 host kernel: [   12.4] cmd[1]: 020: 00000000 00000000 00000000 00000000
Nov 24 10:00:00 host kernel: [   12.4] cmd[1]: 030: 00000000 00000000 00000010 01fd0001
";
    let trace = Trace::parse(newer).expect("a trace");
    let mut names: Vec<_> = trace.commands.iter().map(|command| command.key().to_string()).collect();
    names.sort();
    assert_eq!(names, ["ENABLE_HCA", "QUERY_PAGES BOOT_PAGES"]);
    assert_eq!(trace.functions(), ["0000:02:00.0"]);
}

#[test]
fn torn_and_garbled_texts_are_no_trouble() {
    let text = written();
    let use_all = |text: &str| {
        if let Ok(trace) = Trace::parse(text) {
            for command in &trace.commands {
                let _ = (command.key().to_string(), command.input(), command.output.as_ref().map(Dump::output));
                addresses(command.opcode(), &command.input(), false);
            }
        }
    };
    for end in (0..text.len()).step_by(97) {
        use_all(&text[..end]);
    }
    let mut bytes = text.clone().into_bytes();
    for at in (0..bytes.len()).step_by(101) {
        let old = std::mem::replace(&mut bytes[at], b"f:]\n 0"[at / 101 % 6]);
        use_all(std::str::from_utf8(&bytes).expect("ASCII"));
        bytes[at] = old;
    }
    // A line that is lost makes a dump short, and that is said.
    let lines: Vec<_> = text.lines().collect();
    let without =
        |n: usize| lines.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, line)| *line).collect::<Vec<_>>();
    assert!(Trace::parse(&without(4).join("\n")).is_err());
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let text = written();
    let cases = [
        ("", "", "there is no command in it"),
        (
            "dump command CREATE_MKEY(0x200) INPUT",
            "dump command CREATE_MKEY(0x201) INPUT",
            "line 3: the entry is of command 0x200",
        ),
        (
            "dump command CREATE_MKEY(0x200) INPUT",
            "dump command CREATE_MKEY(0x200) SIDEWAYS",
            "line 3: expected \"dump command",
        ),
        ("000: 07000000", "000: 0700000g", "line 4: expected four words"),
        ("010: 0200", "019: 0200", "line 3: the dump that begins here has 16 of its 64 bytes"),
        ("len: 48", "len: 4800000", "WQE DUMP: SQ NUMBER"),
    ];
    for (from, to, says) in cases {
        let text = if from.is_empty() { String::new() } else { text.replacen(from, to, 1) };
        let error = Trace::parse(&text).expect_err(says).to_string();
        assert!(error.contains(says) && !error.contains('\n'), "{says}: {error}");
    }
}

#[test]
fn limits_and_errors_are_told() {
    let (input, _) = command(Opcode::ENABLE_HCA, 1, 16, 16);
    let memory = Memory::new(usize::MAX);
    let sink = Sink::to(memory.clone(), 1000);
    (0..9).for_each(|_| sink.input(Duration::ZERO, "pf", 0, &input));
    let summary = sink.finish().expect("a limit is no error");
    assert!(summary.left_out > 0 && summary.dumps + summary.left_out == 9, "{summary:?}");
    assert!(summary.bytes <= 1000 && summary.bytes as usize == memory.text().len());
    assert_eq!(Trace::parse(&memory.text()).expect("whole dumps").commands.len() as u64, summary.dumps);
    let memory = Memory::new(1000);
    let sink = Sink::to(memory.clone(), u64::MAX);
    (0..9).for_each(|_| sink.input(Duration::ZERO, "pf", 0, &input));
    let error = sink.finish().expect_err("it is full");
    assert!(error.to_string().contains("no space left") && error.summary.dumps > 0, "{error}");
    assert_eq!(error.summary.dumps + error.summary.left_out, 9);
}

#[test]
fn a_real_cards_recording_is_read() {
    let folder = std::env::var_os("CXDDP_REFERENCE").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference");
    let path = folder.unwrap_or(beside).join("traces/mlx5_core-connectx4-commands.txt.gz");
    if !path.is_file() {
        let _ = writeln!(io::stderr(), "SKIPPED a_real_cards_recording_is_read: {} is absent", path.display());
        return;
    }
    let trace = Trace::parse(&read_file(&path).expect("a file")).expect("a trace");
    assert_eq!((trace.commands.len(), trace.functions()), (42, vec!["0000:02:00.0"]));
    assert_eq!(trace.facts, [("0000:02:00.0".to_owned(), Fact::Firmware(14, 12, 1220))]);
    for command in &trace.commands {
        let (input, output) = (command.input.as_ref().expect("one"), command.output.as_ref().expect("one"));
        assert_eq!(input.token(), output.token(), "line {}", command.line);
        assert!(command.opcode().name().is_some(), "line {}", command.line);
    }
}

#[test]
fn steps_and_addresses_are_found() {
    let mut input = CreateEqIn::zeroed().with(CreateEqIn::OPCODE, u32::from(Opcode::CREATE_EQ.0));
    assert_eq!(Key::of(input.bytes()).to_string(), "CREATE_EQ for completions");
    input.set_at(CreateEqIn::EVENT_BITMASK, 0, 1 << 0xa);
    assert_eq!(Key::of(input.bytes()).to_string(), "CREATE_EQ for commands");
    input.set_at(CreateEqIn::EVENT_BITMASK, 0, 1 << 0xb);
    assert_eq!(Key::of(input.bytes()).to_string(), "CREATE_EQ for page requests");
    input.set_at(CreateEqIn::EVENT_BITMASK, 0, 1 << 9);
    assert_eq!(Key::of(input.bytes()).to_string(), "CREATE_EQ for asynchronous events");
    let context = Eqc::zeroed().with(Eqc::UAR_PAGE, 5);
    let input = input.with_nested(CreateEqIn::EQ_CONTEXT_ENTRY, &context);
    let bytes = [input.bytes(), &[0x11; 16]].concat();
    let pages = addresses(Opcode::CREATE_EQ, &bytes, false);
    assert_eq!((pages.len(), &pages[0]), (1, &(CreateEqIn::SIZE..CreateEqIn::SIZE + 16)));
    let cq = addresses(Opcode::CREATE_CQ, &[0; CreateCqIn::SIZE + 8], false);
    assert_eq!(cq, [16 + 56..16 + 64, CreateCqIn::SIZE..CreateCqIn::SIZE + 8]);
    assert!(is_address("ctx.wq.pas[3].pa_h") && is_address("pas") && !is_address("ctx.wq.page_offset"));
    assert_eq!(Key::of(&[]).to_string(), "command 0x0");
}
