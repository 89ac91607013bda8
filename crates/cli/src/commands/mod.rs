//! One file per command: checks the flags and calls the libraries.

mod bench;
mod caption;
mod card;
mod classify;
mod convert;
mod data;
mod embed;
mod eval;
mod finetune;
mod hub_folder;
mod index;
mod inspect;
mod interpolate;
mod pictures;
mod plan;
mod push;
mod search;
mod session;
mod tokens;
pub mod train;

use crate::args::Command;
use crate::error::Result;
use crate::quickstart;

/// Runs a command to its end.
pub fn run(command: Command) -> Result {
    match command {
        Command::Models(args) => inspect::models(&args),
        Command::Info(args) => inspect::info(&args),
        Command::Classify(args) => classify::run(&args),
        Command::Caption(args) => caption::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Index(args) => index::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Tokens(args) => tokens::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Finetune(args) => finetune::run(&args),
        Command::Interpolate(args) => interpolate::run(&args),
        Command::Data(args) => data::run(&args.command),
        Command::Bench(args) => bench::run(&args),
        Command::Quickstart(args) => quickstart::run(&args.into()),
    }
}
