//! A shard against the virtual ConnectX and the embedded target. What must always hold is looked at all the time ([`world`]):
//! buffers that came back never change again, no more tags are bound than reads are under way, a poll that did nothing
//! leaves a deadline in the future. Each module begins with its properties.
//!
//! * [`life`]: opening, reading and closing; identifiers, counters, order of work.
//! * [`ending`]: every way in which a connection ends gives everything back in time, and says why.
//! * [`device`]: so does every way in which the device fails.
//! * [`hostile`]: and all the while the device writes wherever it still may.
//! * [`numbers`]: everything that is received is counted somewhere, and what is refused has a name.
//! * [`switches`]: and every way in which it may differ from what is known.
//! * [`cancel`]: requests that are given up.

mod cancel;
mod device;
mod ending;
mod hostile;
mod life;
mod numbers;
mod switches;
mod world;
