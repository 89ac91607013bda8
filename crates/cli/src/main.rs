//! The `openclip` binary: flags in, library calls out.
//!
//! * [`args`] – the flags of every command, as clap parses them
//! * [`commands`] – one file per command: checks the flags and calls the libraries
//! * [`output`] – results on stdout, everything else on stderr
//! * [`sheet`] – sheets of pictures as PNG files
//! * [`error`] – one line per failure, and the exit status: 0 done, 1 failed, 2 usage, 3 stopped on request

mod args;
mod commands;
mod error;
mod output;
mod quickstart;
mod sheet;

use std::process::ExitCode;

fn main() -> ExitCode {
    output::init_log();
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to its end is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match commands::run(cli.command) {
        Ok(outcome) => outcome.code(),
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            output::error(error.message());
            error.code()
        }
    }
}
