//! `bench`: how fast a model encodes and trains here.

use openclip_model::device;
use openclip_train::bench::{BenchOptions, bench};

use crate::args::bench::BenchArgs;
use crate::error::{Outcome, Result};
use crate::output::Output;

/// Prints one line of JSON.
pub fn run(args: &BenchArgs) -> Result {
    let options = BenchOptions {
        model: args.model.model.clone(),
        pretrained: args.model.pretrained.clone(),
        precision: args.model.precision(),
        batch_size: args.batch,
        steps: args.steps,
        warmup: args.warmup,
        train: !args.encode_only,
        grad_checkpointing: args.grad_checkpointing,
        create: args.model.options(0),
    };
    let report = bench(&options, &device::parse(&args.model.device)?)?;
    Output::stdout().json(&report)?;
    Ok(Outcome::Done)
}
