//! Interrupts as eventfds: those of the kernel's VFIO, and those of a function in another process.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;
use std::time::Duration;

/// Sleeps until one of these was written, or so much time is over; not at all if one was written that nobody has read.
pub(super) fn sleep(eventfds: &[impl AsFd], most: Duration) {
    let mut waiting: Vec<PollFd<'_>> = eventfds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let most = Timespec { tv_sec: most.as_secs().min(86_400) as i64, tv_nsec: most.subsec_nanos().into() };
    // Interrupted by a signal is early, which callers expect.
    if let Err(error) = poll(&mut waiting, Some(&most))
        && error != rustix::io::Errno::INTR
    {
        log::warn!("cannot wait for interrupts: {error}");
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    //! | property | test |
    //! |---|---|
    //! | an eventfd that was written before ends the sleep, and still says so afterwards | `what_fired_before_is_not_missed` |
    //! | without one, the sleep ends with its time | `a_sleep_ends` |
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn what_fired_before_is_not_missed() {
        let fds = [(); 3].map(|()| eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd"));
        rustix::io::write(&fds[2], &1u64.to_ne_bytes()).expect("written");
        // Were it missed, the test would not end before the day does.
        sleep(&fds, Duration::MAX);
        sleep(&fds, Duration::MAX);
        assert_eq!(rustix::io::read(&fds[2], &mut [0; 8]), Ok(8));
    }

    #[test]
    fn a_sleep_ends() {
        sleep(&[eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd")], Duration::from_millis(1));
    }
}
