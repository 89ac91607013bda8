//! `bench`.

use std::path::PathBuf;

use clap::Args;
use openclip_train::bench::BenchOptions;

use super::json::JsonArgs;
use super::model::ModelArgs;

/// `--model` that stands for the table's own models.
pub const ALL: &str = "all";

/// Flags of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --model NAME: encoding of pictures and a whole training step on random input, as one line of JSON with medians \
over the steps.

Without, or with --peer: a table of what encoding, training, the loss, the optimizer, pictures, captions, a first answer \
and memory take, each in several turns. --peer PYTHON measures OpenCLIP on PyTorch beside it, in turns in the same run, \
with the same threads: PYTHON is the interpreter of an environment with open_clip_torch.

Examples:
  openclip bench --model ViT-B-32 --device cuda --precision amp_bf16 --batch 256
  openclip bench --peer venv/bin/python --markdown table.md
  openclip bench --peer venv/bin/python --only RN50 --only loss
  openclip bench --model ViT-B-32 --batch 64 --peer venv/bin/python")]
pub struct BenchArgs {
    /// Pictures that go through the model together
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = super::data::at_least_one)]
    pub batch: usize,
    /// Measured repetitions; turns of each row of a table
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = repetitions)]
    pub steps: usize,
    /// Repetitions before the measurement; two in a table
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = repetitions)]
    pub warmup: usize,
    /// Leave out the training step
    #[arg(long, conflicts_with = "train_only")]
    pub encode_only: bool,
    /// Leave out encoding
    #[arg(long)]
    pub train_only: bool,
    /// Let the training step compute blocks again in the backward pass
    #[arg(long)]
    pub grad_checkpointing: bool,
    /// Threads of either side [default: one for each core]
    #[arg(long, value_name = "N", value_parser = super::data::at_least_one)]
    pub threads: Option<usize>,
    /// Measure OpenCLIP on PyTorch as well, with this Python
    #[arg(long, value_name = "PYTHON", help_heading = "Table")]
    pub peer: Option<PathBuf>,
    /// Precision of the other side [default: that of --precision; fp32 where OpenCLIP has none of the kind]
    #[arg(long, value_name = "NAME", help_heading = "Table")]
    pub peer_precision: Option<String>,
    /// Rows whose names contain TEXT, such as RN50, \"text encode\" or loss; can be given several times
    #[arg(long, value_name = "TEXT", help_heading = "Table")]
    pub only: Vec<String>,
    /// Pictures for the loader's row [default: drawn ones]
    #[arg(long, value_name = "DIR", help_heading = "Table")]
    pub images: Option<PathBuf>,
    /// Write the table as Markdown as well
    #[arg(long, value_name = "FILE", help_heading = "Table")]
    pub markdown: Option<PathBuf>,
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
}

impl BenchArgs {
    /// Whether the table is asked for, and not one model alone.
    pub fn is_table(&self) -> bool {
        self.model.model == ALL || self.peer.is_some() || self.markdown.is_some()
    }

    /// What is measured of one model.
    pub fn options_of(&self, model: &str) -> BenchOptions {
        BenchOptions {
            model: model.to_owned(),
            pretrained: self.model.pretrained.clone(),
            precision: self.model.precision(),
            batch_size: self.batch,
            steps: self.steps,
            warmup: self.warmup,
            encode: !self.train_only,
            train: !self.encode_only,
            grad_checkpointing: self.grad_checkpointing,
            create: self.model.options(0),
        }
    }

    /// What the other side computes in.
    pub fn peer_precision(&self) -> String {
        let own = || self.model.precision().name().to_owned();
        let name = self.peer_precision.clone().unwrap_or_else(own);
        match name.as_str() {
            "amp_bf16" | "pure_bf16" | "fp32" => name,
            _ => "fp32".into(),
        }
    }
}

fn repetitions(text: &str) -> Result<usize, String> {
    super::data::count(text, 1 << 20)
}
