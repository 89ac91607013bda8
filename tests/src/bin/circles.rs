//! `circles [SRC…]`: fails when files of a crate import each other in a circle, or are too long, and says which.
//!
//! Without arguments it goes through the crates of this workspace. Exit status: 0 none, 1 some, 2 a source cannot be read.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use openclip_tests::circles;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("circles: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing was found.
fn run() -> io::Result<bool> {
    let mut sources: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if sources.is_empty() {
        for folder in Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../crates")
            .canonicalize()?
            .read_dir()?
        {
            sources.push(folder?.path().join("src"));
        }
        sources.sort();
    }
    let mut fine = true;
    for source in sources {
        let findings = circles::find(&source)?;
        print!("{findings}");
        fine &= findings.is_empty();
    }
    Ok(fine)
}
