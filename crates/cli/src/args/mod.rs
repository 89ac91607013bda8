//! Flags as they stand on the command line. Nothing here opens a file, but for `train --config`, or a device;
//! [`crate::commands`] does.
//!
//! * [`model`] – which model, weights, device and preprocessing: shared by every command that runs one
//! * [`data`] – how data sets are read: shared by `embed`, `eval` and `train`
//! * [`dataset`] – `data`: inspecting, checking and packing data sets
//! * [`json`] – whether the output is JSON
//! * [`literal`] – `key=value` settings as Python reads them
//! * [`inspect`] – `models` and `info`
//! * [`caption`], [`classify`], [`embed`], [`search`], [`index`], [`eval`], [`tokens`], [`convert`], [`push`] – one file per
//!   command
//! * [`mod@bench`], [`quickstart`] – measuring the machine, and a first try
//! * [`finetune`] – `finetune` and `interpolate`
//! * [`train`] – `train`, with OpenCLIP's names and defaults
//! * [`recipe`] – its flags from a file
//! * `texts` – captions that begin with a hyphen

pub mod bench;
pub mod caption;
pub mod classify;
pub mod convert;
pub mod data;
pub mod dataset;
pub mod embed;
pub mod eval;
pub mod finetune;
pub mod index;
pub mod inspect;
pub mod json;
pub mod literal;
pub mod model;
pub mod push;
pub mod quickstart;
pub mod recipe;
pub mod search;
mod texts;
pub mod tokens;
pub mod train;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

const ABOUT: &str = "Train, evaluate and use contrastive image-text models (CLIP)";

const EXAMPLES: &str = "\
Examples:
  openclip quickstart                               a first try, without a download
  openclip models                                   every built-in model
  openclip classify --model ViT-B-32 --pretrained ViT-B-32.safetensors \\
      --image cat.jpg --text 'a cat' 'a dog'        which caption fits the picture?
  openclip embed --model local-dir:./clip --images photos/ --output vectors/
  openclip train --model ViT-S-32 --train-data pairs.csv --epochs 5
  openclip eval --model ViT-B-32 --pretrained clip.pt --imagenet-val imagenet/val

A model is a built-in name, a .json configuration, or local-dir:DIR, a folder with open_clip_config.json and \
weights. Weights are OpenCLIP's: .safetensors, .pt or .bin; .bpk is Burn's own format.

Results go to standard output, progress and warnings to standard error. Exit status: 0 done, 1 failed, 2 wrong \
usage, 3 stopped on request after saving a checkpoint. NO_COLOR=1 switches colours off; OPENCLIP_LOG=debug says more.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "openclip", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 120)]
#[command(propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command with its flags.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the built-in models
    Models(inspect::ModelsArgs),
    /// Describe a model: towers, parameters, preprocessing
    Info(inspect::InfoArgs),
    /// Say how well captions fit pictures
    Classify(classify::ClassifyArgs),
    /// Write captions for pictures, with a CoCa model
    Caption(caption::CaptionArgs),
    /// Write the vectors of many pictures and captions to files
    Embed(embed::EmbedArgs),
    /// Find what fits a text or picture among vectors of `embed`
    Search(search::SearchArgs),
    /// Make searches of vectors quicker
    Index(index::IndexArgs),
    /// Measure a model: zero-shot accuracy and retrieval
    Eval(Box<eval::EvalArgs>),
    /// Encode texts with a model's tokenizer, or decode ids
    Tokens(tokens::TokensArgs),
    /// Write a model's weights in another format
    Convert(convert::ConvertArgs),
    /// Publish a model on the Hugging Face hub
    Push(push::PushArgs),
    /// Train a model on captioned pictures
    Train(Box<train::TrainArgs>),
    /// Fine-tune a model as a classifier of labelled pictures
    Finetune(Box<finetune::FinetuneArgs>),
    /// Write and measure the weights between two models
    Interpolate(finetune::InterpolateArgs),
    /// Look at a data set, check it, time it, or pack it as shards
    Data(dataset::DataArgs),
    /// Measure how fast a model encodes and trains here
    Bench(bench::BenchArgs),
    /// Draw pictures, train a small model on them, and show what it learned
    Quickstart(quickstart::QuickstartArgs),
}

/// Parses the arguments; the error knows its own text and exit status, `--help` and `--version` included.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut args = texts::attach(args.into_iter().collect());
    let command = command();
    let train = command.find_subcommand("train").unwrap_or(&command);
    let trains = args.get(1).is_some_and(|word| word == train.get_name());
    let settled = |args: &[OsString]| match trains {
        true => recipe::settle_switches(args, train),
        false => args.to_vec(),
    };
    let cli = parse_words(&settled(&args))?;
    let config = match &cli.command {
        Command::Train(train) => train.run.config.as_deref(),
        _ => None,
    };
    let Some(config) = config else {
        return Ok(cli);
    };
    let flags = recipe::flags(config, train)
        .map_err(|text| clap::Error::raw(ErrorKind::ValueValidation, text + "\n"))?;
    // Behind the program's and the command's name, and before all that was typed.
    args.splice(2..2, flags);
    parse_words(&settled(&args))
}

fn parse_words(args: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches)
}

/// The command line's definition.
fn command() -> clap::Command {
    let with_default = |command: clap::Command, model: &'static str| {
        command.mut_arg("model", |arg| arg.required(false).default_value(model))
    };
    // OpenCLIP's trainer has a default model, and a table has models of its own.
    Cli::command()
        .mut_subcommand("train", |train| with_default(train, train::DEFAULT_MODEL))
        .mut_subcommand("bench", |bench| with_default(bench, bench::ALL))
        .mut_subcommand("finetune", finetune::settled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_definition_is_sound() {
        super::command().debug_assert();
    }
}
