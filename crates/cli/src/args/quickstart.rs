//! `quickstart`.

use std::path::PathBuf;

use clap::Args;

use crate::quickstart::Options;

/// Flags of `quickstart`.
#[derive(Debug, Args)]
#[command(after_help = "\
Draws captioned pictures of coloured shapes, trains a small CLIP on them, and tests it on combinations of colour and \
shape that it has never seen. Needs no download and no GPU.

Example:
  openclip quickstart --output try/")]
pub struct QuickstartArgs {
    /// The folder to write to
    #[arg(long, value_name = "DIR", default_value = "quickstart")]
    pub output: PathBuf,
    /// Passes over the pictures; the default takes a little over two minutes on two cores
    #[arg(long, value_name = "N", default_value_t = Options::EPOCHS, value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: u64,
    /// Where to compute; see `openclip train --help`
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Another seed draws other pictures and holds out other combinations
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl From<QuickstartArgs> for Options {
    fn from(args: QuickstartArgs) -> Self {
        let QuickstartArgs {
            output,
            epochs,
            device,
            seed,
        } = args;
        Self {
            output,
            epochs,
            device,
            seed,
        }
    }
}
