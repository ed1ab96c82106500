//! The demonstration with our TCP at the target's end.
//!
//! | property | test |
//! |---|---|
//! | whatever the segmentation, digests, MTU and wire, reads and writes verify and nothing is left | `every_layout_verifies` |
//! | both peers put the same payload within reach of the offload: a clean wire places the same share | `a_clean_wire_places_as_much_as_with_smoltcp` |
//! | after a loss it does not go back: far fewer packets than with smoltcp | `a_loss_does_not_make_it_go_back` |
//! | the target's ways to end a connection (C2HTermReq, FIN, RST, silence) reach the host, and its sockets listen again | `ends_of_the_target_reach_the_host` |
//! | a socket whose connection was closed or reset, by either side, takes the next host; no more hosts than sockets | `sockets_are_used_again` |

#![cfg(feature = "demo")]

mod demo_support;
#[path = "../tools/nvme-target/tests/host/mod.rs"]
mod host;

use connectx_ddp::demo::{Config, Impairments, NoTap, Outcome, Peer, WireConfig};
use connectx_ddp::tcp::CongestionControl;
use demo_support::{assert_clean, assert_nothing_left, run, small};
use host::{Connect, Net, identify};
use nvme_target::Generated;
use nvme_target::script::{At, Fault, Kind, On, Script, Segmentation};

const OWN: Peer = Peer::Own(CongestionControl::Cubic);

fn lossy(loss: f64) -> WireConfig {
    WireConfig { to_host: Impairments { loss, reorder: loss, ..Impairments::default() }, ..WireConfig::default() }
}

fn outcome(config: &Config) -> Outcome {
    run(config, &mut NoTap).expect("good options")
}

#[test]
fn every_layout_verifies() {
    let segmentations = [Segmentation::Full, Segmentation::AlignPdus, Segmentation::Random { min: 1, max: 1460 }];
    for segmentation in segmentations {
        for (digests, mtu, wire) in [(false, 1500, lossy(0.0)), (true, 9000, lossy(0.01)), (true, 1500, lossy(0.05))] {
            let config = Config {
                peer: OWN,
                write: true,
                hdr_digest: digests,
                data_digest: digests,
                mtu,
                wire,
                io_size: 16 << 10,
                queues: 2,
                script: Script { segmentation, seed: 3, ..Script::default() },
                ..small()
            };
            assert_clean(&config, &outcome(&config));
        }
    }
}

#[test]
fn a_clean_wire_places_as_much_as_with_smoltcp() {
    let config = Config { size: 4 << 20, io_size: 64 << 10, ..small() };
    let [own, smoltcp] = [OWN, Peer::Smoltcp].map(|peer| {
        let config = Config { peer, ..config.clone() };
        let outcome = outcome(&config);
        assert_clean(&config, &outcome);
        outcome.bytes_placed as f64 / outcome.bytes as f64
    });
    assert!((own - smoltcp).abs() < 0.01, "{own} with ours, {smoltcp} with smoltcp");
}

#[test]
fn a_loss_does_not_make_it_go_back() {
    let config = Config { size: 16 << 20, io_size: 64 << 10, queue_size: 16, wire: lossy(0.01), ..small() };
    let [own, smoltcp] = [OWN, Peer::Smoltcp].map(|peer| {
        let config = Config { peer, ..config.clone() };
        let outcome = outcome(&config);
        assert_clean(&config, &outcome);
        outcome.packets_rx as f64 * 1448.0 / outcome.bytes as f64
    });
    assert!(own < 1.05 && smoltcp > 1.1, "packets per packet of payload: {own} with ours, {smoltcp} with smoltcp");
}

#[test]
fn ends_of_the_target_reach_the_host() {
    let cases: [(Kind, &[&str]); 4] = [
        (Kind::Terminate { fes: 3, fei: 9 }, &["controller ended the connection", "FES 0x3"]),
        (Kind::Close { after: 100 }, &["closed"]),
        (Kind::Reset { after: 100 }, &["reset by the peer"]),
        (Kind::Stall { after: 100 }, &["not completed within"]),
    ];
    for (kind, words) in cases {
        let faults = vec![Fault { on: On::Queue(1), at: At::Data(2), kind }];
        let config = Config { peer: OWN, script: Script { faults, ..Script::default() }, ..small() };
        let outcome = outcome(&config);
        assert!(!outcome.completed && outcome.bytes_wrong == 0, "{kind:?}");
        assert!(words.iter().all(|word| outcome.problems[0].contains(word)), "{kind:?}: {:?}", outcome.problems);
        assert_nothing_left(&config, &outcome);
    }
}

#[test]
fn sockets_are_used_again() {
    let config = nvme_target::Config { max_connections: Some(2), ..nvme_target::Config::default() };
    let target = OWN.target(config, Box::new(Generated::new(1, 1 << 20))).expect("a target");
    let mut net = Net::new(target, 1500);
    for round in 0..6 {
        let (line, controller) = net.admin(&Connect::default());
        let options = Connect { queue: 1, controller, ..Connect::default() };
        let (other, response) = net.connect(&options);
        assert_eq!(response.status(), 0, "round {round}");
        assert_eq!(net.fetch(line, &identify(9, 1, 0)).map(|page| page.len()), Ok(4096), "round {round}");
        let refused = net.open();
        net.wait(std::time::Duration::from_secs(1));
        assert!(net.is_gone(refused), "round {round}: a third host");
        for line in [other, line] {
            match round % 3 {
                0 => net.close(line),
                1 => net.abort(line),
                // Nonsense: the target ends the connection.
                _ => net.send(line, &[0xff; 128]),
            }
        }
        net.wait(std::time::Duration::from_secs(1));
        net.close(line);
        net.close(other);
        net.wait(std::time::Duration::from_secs(70));
        assert!(net.is_gone(line) && net.is_gone(other), "round {round}");
    }
}
