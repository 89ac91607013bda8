//! The binary as its users meet it: arguments, streams, exit statuses, files, signals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

mod bad_input;
mod classify;
mod convert;
mod data;
mod embed;
#[cfg(unix)]
mod embed_kill;
mod eval;
#[cfg(unix)]
mod faults;
#[cfg(feature = "hub")]
mod hub;
#[cfg(unix)]
mod kill;
mod models;
#[cfg(all(unix, feature = "mpi"))]
mod mpi;
#[cfg(feature = "hub")]
mod push;
mod regression;
#[cfg(feature = "cloud")]
mod remote;
#[cfg(all(unix, feature = "cloud"))]
mod remote_shards;
mod search;
mod shards;
mod snapshots;
mod usage;
