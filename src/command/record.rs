//! Records of command traffic, and a port that plays one back.
//!
//! A record is text, one exchange after the other, bytes in hexadecimal:
//!
//! ```text
//! # anything
//! > 16 01040000000000000000000000000000     input, after the bytes of output that were asked for
//! < 00000000000000000000000000000000        output, status included
//! ! no completion within 60s                instead of an output: the command got no answer
//! ```

use super::{CommandError, CommandPort, Fault, Function, Outcome, Output, Request, Ticket};
use crate::platform::Deadline;
use firmware_iface::Status;
use firmware_iface::command::OutHeader;
use hw_regs::layout::{Access, Layout};
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::Arc;

/// One command and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The input.
    pub input: Vec<u8>,
    /// Bytes of output asked for.
    pub output_len: usize,
    /// The output, status included; or what was said when there was none.
    pub answer: Result<Vec<u8>, String>,
}

/// Command traffic in the order of posting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The exchanges.
    pub exchanges: Vec<Exchange>,
}

/// Why a text is not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the record: {problem}")]
pub struct RecordError {
    /// Line number from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// Longest input or output that a record may ask for.
const MAX_BYTES: usize = 1 << 24;

fn hex(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| pair[0] << 4 | pair[1]).collect())
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for exchange in &self.exchanges {
            write!(f, "> {} ", exchange.output_len)?;
            hex(f, &exchange.input)?;
            match &exchange.answer {
                Ok(output) => {
                    f.write_str("\n< ")?;
                    hex(f, output)?;
                }
                Err(why) => write!(f, "\n! {}", why.replace('\n', " "))?,
            }
            f.write_char('\n')?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Record {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Record, RecordError> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        let mut asked = None;
        for (line, content) in text.lines().enumerate().map(|(n, l)| (n + 1, l.trim_end())) {
            let error = |problem| RecordError { line, problem };
            let (mark, rest) = content.split_at_checked(2).unwrap_or((content, ""));
            match mark {
                "> " if asked.is_none() => {
                    let (len, input) = rest.split_once(' ').ok_or(error("no length of output"))?;
                    let len = len.parse().ok().filter(|len| *len <= MAX_BYTES);
                    let len = len.ok_or(error("the length of output is not a number up to 16 MiB"))?;
                    asked = Some((len, unhex(input).ok_or(error("the input is not hexadecimal"))?));
                }
                "< " | "! " => {
                    let (output_len, input) = asked.take().ok_or(error("an answer without a command"))?;
                    let answer = match mark {
                        "< " => Ok(unhex(rest).ok_or(error("the output is not hexadecimal"))?),
                        _ => Err(rest.to_owned()),
                    };
                    exchanges.push(Exchange { input, output_len, answer });
                }
                "> " => return Err(error("the command before has no answer")),
                _ if content.is_empty() || content.starts_with('#') => {}
                _ => return Err(error("begins with none of '> ', '< ', '! ' and '#'")),
            }
        }
        match asked {
            Some(_) => Err(RecordError { line: text.lines().count(), problem: "the last command has no answer" }),
            None => Ok(Record { exchanges }),
        }
    }
}

/// A port that records what goes through it. Commands whose tickets are dropped are recorded as unanswered.
#[derive(Debug)]
pub struct Recorder<C> {
    port: C,
    record: Record,
    /// Exchange of each ticket not yet waited for.
    pending: HashMap<usize, usize>,
}

impl<C: CommandPort> Recorder<C> {
    /// Records the traffic of `port`.
    pub fn new(port: C) -> Recorder<C> {
        Recorder { port, record: Record::default(), pending: HashMap::new() }
    }

    /// The port, and the record.
    pub fn finish(self) -> (C, Record) {
        (self.port, self.record)
    }

    fn begin(&mut self, request: &Request) -> usize {
        self.record.exchanges.push(Exchange {
            input: request.input().to_vec(),
            output_len: request.expected_output(),
            answer: Err("not waited for".to_owned()),
        });
        self.record.exchanges.len() - 1
    }

    fn end(&mut self, index: usize, outcome: &Outcome) {
        self.record.exchanges[index].answer = match outcome {
            Ok(output) => Ok(output.bytes().to_vec()),
            Err(CommandError { fault: Fault::Status { status, syndrome }, .. }) => {
                let header = OutHeader::zeroed()
                    .with(OutHeader::STATUS, u32::from(status.0))
                    .with(OutHeader::SYNDROME, *syndrome);
                Ok(header.bytes().to_vec())
            }
            Err(error) => Err(error.fault.to_string()),
        };
    }
}

impl<C: CommandPort> CommandPort for Recorder<C> {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        let ticket = self.port.post(request)?;
        let index = self.begin(request);
        self.pending.insert(ticket.id(), index);
        Ok(ticket)
    }

    fn wait(&mut self, ticket: Ticket, deadline: Deadline) -> Result<Output, CommandError> {
        let index = self.pending.remove(&ticket.id());
        let outcome = self.port.wait(ticket, deadline);
        if let Some(index) = index {
            self.end(index, &outcome);
        }
        outcome
    }

    fn exec(&mut self, request: &Request, deadline: Deadline) -> Result<Output, CommandError> {
        let index = self.begin(request);
        let outcome = self.port.exec(request, deadline);
        self.end(index, &outcome);
        outcome
    }

    fn free_slots(&self) -> usize {
        self.port.free_slots()
    }
}

/// A port that answers as a record says, command by command; anything else than the recorded input is an error.
#[derive(Clone, Debug)]
pub struct Replayer {
    function: Arc<Function>,
    record: Record,
    next: usize,
}

impl Replayer {
    /// Plays `record` back, in the name of `function`.
    pub fn new(function: Function, record: Record) -> Replayer {
        Replayer { function: Arc::new(function), record, next: 0 }
    }

    /// Exchanges that were not asked for yet.
    pub fn remaining(&self) -> usize {
        self.record.exchanges.len() - self.next
    }

    fn answer(&mut self, request: &Request) -> Outcome {
        let index = self.next;
        let fault = |difference| Fault::Record { index, difference };
        let outcome = match self.record.exchanges.get(index) {
            None => Err(fault("the record ends before".to_owned())),
            Some(exchange) => {
                self.next += 1;
                if exchange.input != request.input() {
                    let same = exchange.input.iter().zip(request.input()).take_while(|(a, b)| a == b).count();
                    Err(fault(format!(
                        "the input has {} bytes and differs from the recorded {} at byte {same:#x}",
                        request.input().len(),
                        exchange.input.len()
                    )))
                } else {
                    match &exchange.answer {
                        Err(why) => Err(fault(format!("no answer was recorded: {why}"))),
                        Ok(bytes) => {
                            let mut bytes = bytes.clone();
                            bytes.resize(request.expected_output(), 0);
                            let output = Output::new(bytes);
                            match output.header().status() {
                                Status::OK => Ok(output),
                                status => Err(Fault::Status { status, syndrome: output.word(4) }),
                            }
                        }
                    }
                }
            }
        };
        outcome.map_err(|fault| CommandError {
            function: Arc::clone(&self.function),
            opcode: request.opcode(),
            op_mod: request.op_mod(),
            object: request.object(),
            fault,
        })
    }
}

impl CommandPort for Replayer {
    fn post(&mut self, request: &Request) -> Result<Ticket, CommandError> {
        let outcome = self.answer(request);
        Ok(Ticket::answered(outcome))
    }

    /// # Panics
    /// If the ticket belongs to another port.
    fn wait(&mut self, ticket: Ticket, _: Deadline) -> Result<Output, CommandError> {
        ticket.take().unwrap_or_else(|_| panic!("a ticket of another port"))
    }

    fn exec(&mut self, request: &Request, _: Deadline) -> Result<Output, CommandError> {
        self.answer(request)
    }

    fn free_slots(&self) -> usize {
        1
    }
}
