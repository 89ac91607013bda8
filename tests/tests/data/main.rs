//! From bytes on disk to pixels and token ids: against Pillow, torchvision and `open_clip`, and with bytes that are bad.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod augmentation;
mod bad_data;
mod collect;
mod corpus;
mod csv_rows;
mod fast_decode;
mod formats;
mod grouping;
#[cfg(unix)]
mod pipes;
mod pixels;
mod remote;
mod resume;
mod tables;
mod tar_formats;
mod tokenizer;
