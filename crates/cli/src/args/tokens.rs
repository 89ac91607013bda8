//! `tokens`.

use std::path::PathBuf;

use clap::Args;

use super::json::JsonArgs;

/// Flags of `tokens`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openclip tokens --model ViT-B-32                       length of a caption, number of ids, special tokens
  openclip tokens --model ViT-B-32 --text 'a photo of a cat' 'a dog'
  openclip tokens --model ViT-B-32 --decode 320 2368     what text ids stand for")]
pub struct TokensArgs {
    /// The model whose tokenizer is asked, as for other commands
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Texts to encode; each gives a line of ids, as the model reads them; one that looks like a flag is written --text=-text
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    pub text: Vec<String>,
    /// Ids of one text to decode, separated by spaces or commas
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',', conflicts_with = "text")]
    pub decode: Vec<i32>,
    /// Another number of tokens of a caption
    #[arg(long, value_name = "TOKENS", value_parser = super::data::at_least_one)]
    pub force_context_length: Option<usize>,
    /// Where downloads go [default: Hugging Face's cache]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
}
