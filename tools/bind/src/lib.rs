//! `cxddp-bind`: which driver has a ConnectX, whether that can change, and what is missing before the driver can run.
//!
//! ```text
//!  root      where files are read: this machine's tree, or one that a test has made
//!  function  a function, as sysfs and proc tell of it        names   what it is called
//!  uses      what of the host goes over it: routes, storage, this session
//!  change    bind, unbind, restore, vfs: refusals, or a plan
//!  plan      steps, what must be true after each, and what takes it back      state   how a function was before
//!  effects   the only way in which anything is changed
//!  doctor    what must be true before the driver can run
//!  report    everything above, for people and for programs
//! ```
//!
//! Reading and planning change nothing. A plan is printed (`--dry-run`) or carried out; each of its steps is looked at
//! afterwards, and a plan that stops halfway is taken back.

pub mod change;
pub mod doctor;
pub mod effects;
pub mod function;
pub mod names;
pub mod plan;
pub mod report;
pub mod root;
pub mod state;
pub mod uses;
