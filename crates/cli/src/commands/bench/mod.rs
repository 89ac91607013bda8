//! `bench`: how fast this machine encodes and trains.
//!
//! * [`rows`] – what the table has, and in which figures
//! * [`ours`] – one measurement here
//! * [`peer`] – the same in another process, by OpenCLIP on PyTorch (`peer.py`)
//! * [`turns`] – both sides in turns, their medians and ratio
//! * [`table`] – the result as text and as Markdown

mod ours;
mod peer;
mod rows;
mod table;
mod turns;

use openclip_model::{device, files::atomic};
use openclip_train::bench::bench;

use crate::args::bench::BenchArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::Output;

/// Prints one line of JSON about one model, or a table.
pub fn run(args: &BenchArgs) -> Result {
    if let Some(threads) = args.threads {
        // Only the first to ask decides, and nothing has been computed yet.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global()
            .map_err(|error| CliError::Usage(format!("--threads {threads}: {error}")))?;
    }
    let device = device::parse(&args.model.device)?;
    if args.is_table() {
        let found = turns::measure(args, &device)?;
        if let Some(path) = &args.markdown {
            atomic::write(path, table::markdown(&found)).map_err(CliError::file(path))?;
        }
        let mut out = Output::stdout();
        if args.json.json {
            out.json(&found)?;
        } else {
            out.line(table::text(&found))?;
            out.finish()?;
        }
        return Ok(Outcome::of(found.failed == 0));
    }
    let report = bench(&args.options_of(&args.model.model), &device)?;
    Output::stdout().json(&report)?;
    Ok(Outcome::Done)
}
