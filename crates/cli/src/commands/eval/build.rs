//! `eval build`: one table of many results.

use std::path::{Path, PathBuf};

use openclip_eval::results::{Record, plot, table};
use openclip_model::files::atomic;

use crate::args::eval::BuildArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{error, note};

/// Writes the table. A file that is no result is told, and the others are in it.
pub fn run(args: &BuildArgs) -> Result {
    let write = match args
        .output
        .extension()
        .and_then(|extension| extension.to_str())
    {
        Some("csv") => table::csv,
        Some("md") => table::markdown,
        Some("svg") => plot::svg,
        _ => {
            return Err(CliError::Usage(format!(
                "--output {}: expected a name that ends in .csv, .md or .svg",
                args.output.display()
            )));
        }
    };
    let (mut records, mut complete) = (Vec::new(), true);
    for path in files(&args.results)? {
        match Record::read(&path) {
            Ok(record) => records.push(record),
            Err(fault) => {
                complete = false;
                error(fault);
            }
        }
    }
    if records.is_empty() {
        return Err(CliError::Content {
            path: args.output.clone(),
            reason: "no result to write".into(),
        });
    }
    atomic::write(&args.output, write(&records)).map_err(CliError::file(&args.output))?;
    note(format!(
        "{} results in {}",
        records.len(),
        args.output.display()
    ));
    Ok(Outcome::of(complete))
}

/// The files, and those that end in `.json` of the folders, by name.
fn files(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(CliError::file(path))?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut found: Vec<PathBuf> = paths
            .collect::<std::io::Result<_>>()
            .map_err(CliError::file(path))?;
        found.retain(|path| Path::extension(path).is_some_and(|extension| extension == "json"));
        found.sort();
        files.extend(found);
    }
    Ok(files)
}
