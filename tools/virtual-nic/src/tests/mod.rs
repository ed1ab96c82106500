//! The device from the outside: a host with memory and registers. Each module's table says what it proves.

mod bring_up;
mod commands;
mod compression;
mod events;
mod host;
mod hostile;
mod objects;
mod observed;
mod offload;
mod offload_loss;
mod pages;
mod striding;
mod trace;
mod traffic;
mod umem;
