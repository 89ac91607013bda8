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
use openclip_train::bench::{BenchOptions, bench};

use crate::args::bench::{ALL, BenchArgs};
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
    let report = bench(&options(args, &args.model.model), &device)?;
    Output::stdout().json(&report)?;
    Ok(Outcome::Done)
}

/// What is measured of one model.
fn options(args: &BenchArgs, model: &str) -> BenchOptions {
    debug_assert_ne!(model, ALL);
    BenchOptions {
        model: model.to_owned(),
        pretrained: args.model.pretrained.clone(),
        precision: args.model.precision(),
        batch_size: args.batch,
        steps: args.steps,
        warmup: args.warmup,
        encode: !args.train_only,
        train: !args.encode_only,
        grad_checkpointing: args.grad_checkpointing,
        create: args.model.options(0),
    }
}
