//! `data`: one file per command, and what they share.
//!
//! * `inspect`, with `sheet` – what a set holds
//! * `verify` – what is broken
//! * `pack` – shards of it
//! * `bench` – how fast it is
//! * `set` – a set as the flags ask for it; `figures` – figures and problems in few characters

mod bench;
mod figures;
mod inspect;
mod pack;
mod set;
mod sheet;
mod verify;

use crate::args::dataset::DataCommand;
use crate::error::Result;

/// Runs one of them to its end.
pub fn run(command: &DataCommand) -> Result {
    match command {
        DataCommand::Inspect(args) => inspect::run(args),
        DataCommand::Verify(args) => verify::run(args),
        DataCommand::Pack(args) => pack::run(args),
        DataCommand::Bench(args) => bench::run(args),
    }
}
