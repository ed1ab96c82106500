//! What the help of each command teaches besides its options: an example, and what it prints.

use clap::{Command, CommandFactory};

/// Command, example.
const EXAMPLES: [(&str, &str); 8] = [
    (
        "demo",
        "\
Example:
  $ cxddp demo --size 64MiB
    result        every byte verified, nothing left behind
    read            64.0 MiB            in 512 reads, 362 MiB/s (the model's work included)
      placed        63.7 MiB   99.47 %  by the NIC, into the reader's buffer
      copied         349 KiB    0.53 %  by software
  ...
Exit status: 0 every byte verified, 1 not, 2 the options cannot be used.",
    ),
    (
        "ceiling",
        "\
Example:
  $ cxddp ceiling --quick
prints tables of the share of bytes placed, and of digests checked, by loss rate and PDU size, next to what the offload can
reach at most.",
    ),
    (
        "explain",
        "\
Example:
  $ cxddp explain --loss 1 --size 32MiB
  256 reads, 32.0 MiB: 27.4 MiB (85.55 %) placed by the NIC, 4.63 MiB (14.45 %) copied by software

  queue 1: offloaded, 85 reads bound
    placed      9.09 MiB   85.59 %
    copied      1.53 MiB   14.41 %
                1.33 MiB   12.54 %  not-kept               in 40 reads
  ...
and then what each reason means, and what to do about it.",
    ),
    (
        "probe",
        "\
Example:
  $ cxddp probe --device 0000:3b:00.0
prints, for the virtual ConnectX,
  function  virtual [15b3:1021] (physical function)
  device    ConnectX-7; this driver was tested on a virtual one only, never on a card
  firmware  28.39.1002, PSID VNIC000000001
  port      02:00:00:c7:00:01, MTU 1500 of 10218, link up
  resources 64 vectors, 262 firmware pages, 50 commands
  memory    4 MiB for DMA, none of it on huge pages
  offload   possible: 3999 queues of 1024 entries, 128 pieces per tag, data digest in hardware

A PCI function must be with vfio-pci first: cxddp-bind bind 0000:3b:00.0",
    ),
    (
        "read",
        "\
Example:
  $ cxddp read --device 0000:3b:00.0 --ip 192.168.44.10/24 --target 192.168.44.20 --nqn NQN --output disk.img
prints what was read, what the NIC placed and what software copied, and why; --content or --pattern compare every byte.
Exit status: 0 everything read and right, 1 not, 2 the options cannot be used.",
    ),
    (
        "scale",
        "\
Example:
  $ cxddp scale --connections 400
prints the time that setting them up takes, commands in flight, and the memory that each connection takes.",
    ),
    (
        "stats",
        "\
Example:
  $ cxddp stats --size 32MiB
  function virtual, firmware 28.39.1002, at 0.000308 s
    at the moment
      commands_in_flight                                              0 commands
  ...
docs/stats.md says what each number is.",
    ),
    (
        "simulate",
        "\
Examples:
  $ cxddp simulate --seeds 10000      all of them
  $ cxddp simulate --seeds 187..188   one that failed, alone
prints what the seeds drew and reached, and each failure with its seed.
Exit status: 0 nothing failed, 1 otherwise.",
    ),
];

/// The options with their examples.
pub fn taught() -> Command {
    EXAMPLES.iter().fold(super::options::Cli::command(), |command, (name, text)| {
        command.mut_subcommand(name, |command| command.after_help(*text))
    })
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | every command has an example, which names it | `every_command_has_an_example` |
    use super::*;

    #[test]
    fn every_command_has_an_example() {
        for command in taught().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("$ cxddp {}", command.get_name())), "{}", command.get_name());
        }
    }
}
