//! | property | test |
//! |---|---|
//! | a request that was not sent comes back at once, aborted, and the controller never hears of it | `an_unsent_request_comes_back_at_once` |
//! | one that the controller has comes back with its answer, aborted and released by the device; others and later ones are whole | `a_sent_read_comes_back_with_the_answer` |
//! | a cancelled write that the controller carries out has succeeded | `a_cancelled_write_is_carried_out` |
//! | a controller that never answers costs the connection, and the buffer comes back then | `an_unanswered_cancel_ends_with_the_connection` |
//! | what is not under way cannot be cancelled | `what_is_not_under_way_is_not_cancelled` |
use super::world::World;
use crate::nvme::status::Status;
use crate::shard::Event;
use nvme_target::script::{At, Fault, Kind, On};

#[test]
fn an_unsent_request_comes_back_at_once() {
    for offload in [true, false] {
        let mut world = World::new();
        let admin = world.admin();
        let id = world.io(admin, 1, 4, offload);
        let before = world.target.counters().commands;
        for token in 0..4 {
            world.read(id, token * 100, 64);
        }
        assert!(world.shard.cancel(id, 100) && world.shard.cancel(id, 300));
        world.until("the reads", 5, |world| world.done.len() == 4);
        for (token, whole) in [(0, true), (100, false), (200, true), (300, false)] {
            assert_eq!(world.status_is_success(token), whole, "{token}");
        }
        assert!(world.done[&100].status.is(Status::ABORTED_BY_HOST) && world.done[&100].buffer.is_some());
        assert_eq!(world.target.counters().commands - before, 2);
        world.close_all(&[id, admin]);
        world.close_clean();
    }
}

#[test]
fn a_sent_read_comes_back_with_the_answer() {
    for offload in [true, false] {
        // Cancelled after every possible number of polls, until it is too late.
        for polls in 1.. {
            // A small window, so that the reads take a while.
            let mut world = World::with(&[], |config| config.rx_window = 16 << 10);
            let admin = world.admin();
            let id = world.io(admin, 1, 4, offload);
            for token in 0..4 {
                world.read(id, token * 300, 256);
            }
            for _ in 0..polls {
                world.step();
            }
            let in_time = world.shard.cancel(id, 300);
            assert!(!(in_time && world.is_done(300)));
            world.until("the reads", 5, |world| world.done.len() == 4);
            for token in [0, 600, 900] {
                assert!(world.status_is_success(token));
            }
            assert_eq!(world.done[&300].status.is(Status::ABORTED_BY_HOST), in_time, "{polls}");
            // Its identifier and its tag serve again: every one is used, and the oracle compares the bytes.
            for token in 0..8 {
                world.until("room", 5, |world| world.under_way < 4);
                world.read(id, 2000 + token * 300, 256);
            }
            world.until("more reads", 5, |world| world.done.len() == 12);
            assert!((0..8).all(|n| world.status_is_success(2000 + n * 300)));
            world.close_all(&[id, admin]);
            world.close_clean();
            if !in_time {
                assert!(polls > 8, "only {polls} moments");
                break;
            }
        }
    }
}

#[test]
fn a_cancelled_write_is_carried_out() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    world.write(id, 0, 128);
    world.until("the command to leave", 5, |world| world.target.counters().r2t_sent != 0);
    assert!(world.shard.cancel(id, 0));
    // The oracle of events is for reads.
    let done = world.find(std::time::Duration::from_secs(5), |world| {
        world.shard.poll();
        match world.shard.next_event() {
            Some(Event::Completed(_, completion)) => Some(completion),
            _ => None,
        }
    });
    let done = done.expect("the write");
    assert!(done.token == 0 && done.status.is_success());
    world.under_way -= 1;
    world.give(done.buffer.expect("it comes back"));
    assert_eq!(world.target.counters().bytes_written, 128 * 512);
    world.close_all(&[id, admin]);
    world.close_clean();
}

#[test]
fn an_unanswered_cancel_ends_with_the_connection() {
    let stall = Fault { on: On::Queue(1), at: At::Data(0), kind: Kind::Stall { after: 10_000 } };
    let mut world = World::with(&[stall], |_| {});
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    world.read(id, 0, 256);
    world.read(id, 300, 256);
    world.until("some data", 5, |world| world.shard.offload_stats().packets > 3);
    assert!(world.shard.cancel(id, 0));
    world.run_for(std::time::Duration::from_secs(1));
    assert!(!world.is_done(0), "data may still come");
    assert!(world.expect_end(id, 20).contains("not completed within"));
    assert!(!world.status_is_success(0) && world.done[&0].buffer.is_some());
    world.close_all(&[admin]);
    world.close_clean();
}

#[test]
fn what_is_not_under_way_is_not_cancelled() {
    let mut world = World::new();
    let admin = world.admin();
    let id = world.io(admin, 1, 4, true);
    assert!(!world.shard.cancel(id, 0) && !world.shard.cancel(admin, 0));
    world.read(id, 0, 8);
    assert!(!world.shard.cancel(id, 1));
    world.until("the read", 5, |world| world.is_done(0));
    assert!(!world.shard.cancel(id, 0), "it is over");
    world.close_all(&[id]);
    assert!(!world.shard.cancel(id, 0), "the connection is gone");
    world.close_all(&[admin]);
    world.close_clean();
}
