//! Training and what is measured on the way: steps, runs, ranks, checkpoints, validation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod batch_norm_sync;
mod checkpoints;
mod evaluation;
#[cfg(feature = "mpi")]
mod exchanges;
mod finetune;
mod guards;
mod optimizers;
mod ranks;
mod resume;
mod run;
mod training;
