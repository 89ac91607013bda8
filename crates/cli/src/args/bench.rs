//! `bench`.

use clap::Args;

use super::model::ModelArgs;

/// Flags of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Measures encoding of pictures and a whole training step on random input; prints JSON with medians over the steps.

Example:
  openclip bench --model ViT-B-32 --device cuda --precision amp_bf16 --batch 256")]
pub struct BenchArgs {
    /// Pictures that go through the model together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = super::data::at_least_one)]
    pub batch: usize,
    /// Measured repetitions
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = repetitions)]
    pub steps: usize,
    /// Repetitions before the measurement
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = repetitions)]
    pub warmup: usize,
    /// Leave out the training step
    #[arg(long)]
    pub encode_only: bool,
    /// Let the training step compute blocks again in the backward pass
    #[arg(long)]
    pub grad_checkpointing: bool,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

fn repetitions(text: &str) -> Result<usize, String> {
    super::data::count(text, 1 << 20)
}
