//! `data`: one file per command, and what they share.
//!
//! * `inspect`, with `sheet` – what a set holds
//! * `verify` – what is broken
//! * `pack` – shards of it
//! * `bench` – how fast it is
//! * `figures` – figures in few characters

mod bench;
mod figures;
mod inspect;
mod pack;
mod sheet;
mod verify;

use std::sync::Arc;

use openclip_data::source::Source;
use openclip_data::source::open::open;
use openclip_data::survey::{ProblemCount, SurveyOptions};
use openclip_eval::progress::Progress;

use crate::args::dataset::{DataCommand, SetArgs};
use crate::error::Result;
use crate::output::Output;

/// Runs one of them to its end.
pub fn run(command: &DataCommand) -> Result {
    match command {
        DataCommand::Inspect(args) => inspect::run(args),
        DataCommand::Verify(args) => verify::run(args),
        DataCommand::Pack(args) => pack::run(args),
        DataCommand::Bench(args) => bench::run(args),
    }
}

/// A set that was opened.
struct Set {
    source: Arc<dyn Source>,
    /// Pictures become RGB before they are resized.
    rgb_first: bool,
    options: SurveyOptions,
    /// How many samples will be looked at, where that is known.
    total: Option<u64>,
}

impl Set {
    /// Opens a set, of which the first `most` samples are wanted.
    fn open(args: &SetArgs, most: Option<u64>) -> Result<Self> {
        let opened = open(&args.data, &args.format.options(most))?;
        let source = opened.source;
        let known = source.num_samples(None).ok();
        let total = match (known, most) {
            (Some(known), Some(most)) => Some(known.min(most)),
            (known, most) => known.or(most),
        };
        Ok(Self {
            source,
            rgb_first: opened.rgb_first,
            options: SurveyOptions {
                threads: threads(args.workers),
                limits: args.pictures.limits(),
                most,
            },
            total,
        })
    }

    /// How far the work has come.
    fn progress(&self, what: &str) -> Progress {
        Progress::new(what, self.total, "samples")
    }
}

/// As many as were asked for, else one for each core.
fn threads(asked: Option<usize>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.filter(|&count| count > 0).unwrap_or_else(cores)
}

/// A line for each kind of problem, with the first of them below it.
fn problems(out: &mut Output, problems: &[ProblemCount]) -> Result<()> {
    for problem in problems {
        let lost = if problem.harmless { "  (harmless)" } else { "" };
        out.line(format_args!(
            "{:>12}  {}{lost}",
            problem.count, problem.kind
        ))?;
        out.line(format_args!("{:>12}  first: {}", "", problem.example))?;
    }
    Ok(())
}
