//! `eval`.
//!
//! * `datasets` – CLIP_benchmark's tasks, models by sets
//! * `suite` – DataComp's sets with their averages
//! * `run` – what both have in common
//! * `measure` – OpenCLIP's own validation
//! * `build` – tables of results

mod build;
mod datasets;
mod measure;
mod run;
mod suite;

use crate::args::eval::{EvalArgs, EvalCommand};
use crate::error::{CliError, Result};

/// Measures, or makes a table of what was measured.
pub fn run(args: &EvalArgs) -> Result {
    if let Some(EvalCommand::Build(build)) = &args.command {
        return build::run(build);
    }
    let is_own = args.data.val_data.is_some()
        || args.data.imagenet_val.is_some()
        || args.data.imagenet_v2.is_some()
        || args.zero_shot.zeroshot.is_some();
    if let Some(suite) = &args.suite.suite {
        return suite::run(args, suite);
    }
    match (args.sets.dataset.is_empty(), is_own) {
        (true, _) if args.sets.output.is_some() => Err(CliError::Usage(
            "--output: results are written of --dataset and --suite alone".into(),
        )),
        (true, _) => measure::run(args),
        (false, false) => datasets::run(args),
        (false, true) => Err(CliError::Usage(
            "--dataset has its own tasks and names; leave out --val-data, --imagenet-val, --imagenet-v2 and --zeroshot".into(),
        )),
    }
}
