//! `push`.

use std::path::PathBuf;

use clap::Args;

use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `push`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openclip push --model ViT-B-32 --pretrained logs/run/checkpoints/latest --repo-id me/my-clip --license mit
  openclip push --model ViT-B-32 --pretrained clip.pt --repo-id me/my-clip --dry-run --output my-clip
      the folder alone, to be looked at; it loads as --model local-dir:my-clip
  openclip classify --model hf-hub:me/my-clip --image cat.jpg --text 'a cat' 'a dog'

The token comes from HF_TOKEN, or from where `hf auth login` leaves it; HF_ENDPOINT is another hub. An upload that failed goes on \
where it was when the command is given again: large files that the hub has are not sent twice.")]
pub struct PushArgs {
    /// The repository; it is made if it is not there
    #[arg(long, value_name = "ORG/NAME")]
    pub repo_id: String,
    /// Where the folder is written, which stays [default: NAME with --dry-run, else a temporary folder]
    ///
    /// Whatever else lies in it is uploaded as well, such as pictures for a README.md of your own.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Write the folder and upload nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Make a repository that you alone can see
    #[arg(long)]
    pub private: bool,
    /// What the commit says
    #[arg(long, value_name = "TEXT", default_value = "Add model")]
    pub commit_message: String,
    /// The branch; it is made if it is not there
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    pub revision: String,
    /// Write open_clip_pytorch_model.bin as well, for readers without safetensors
    #[arg(long)]
    pub bin: bool,
    /// Let the configuration look for the tokenizer in the repository itself
    #[arg(long)]
    pub hf_tokenizer_self: bool,
    /// Licence on the model's page, by its name on the hub, such as mit or cc-by-4.0
    #[arg(long, value_name = "NAME")]
    pub license: Option<String>,
    /// Further words that the hub finds the model by
    #[arg(long, value_name = "WORD", num_args = 1..)]
    pub tags: Vec<String>,
    /// Results of `openclip eval`, as files or folders, for a table on the model's page
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    pub results: Vec<PathBuf>,
    /// A page of your own in place of the one that is written; a page that the repository has stays in any case
    #[arg(long, value_name = "FILE", conflicts_with_all = ["license", "tags", "results"])]
    pub card: Option<PathBuf>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Its preprocessing.
    #[command(flatten)]
    pub preprocess: PreprocessArgs,
}
