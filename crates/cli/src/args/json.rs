//! The form of a command's output.

use clap::Args;

/// A switch that asks for JSON.
#[derive(Debug, Clone, Copy, Args)]
pub struct JsonArgs {
    /// Print JSON instead of text for people
    #[arg(long)]
    pub json: bool,
}
