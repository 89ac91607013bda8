//! `index`.

use std::path::PathBuf;

use clap::Args;

use super::search::KindFlag;

/// Flags of `index`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes DIR/index/img_emb.index (or text_emb.index): every vector in a few bits a number. `openclip search` then looks at these, a \
fraction of the bytes, and ranks the best of them by the vectors themselves. Scores stay exact; a few of the best rows may be \
missed: `openclip search --candidates` ranks more, --exact looks at all vectors. It has to be made anew when the vectors change, \
which takes seconds for a million.

Examples:
  openclip index vectors/
  openclip index vectors/ --in text --bits 2")]
pub struct IndexArgs {
    /// The folder of vectors
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Which vectors [default: those of pictures, where there are any]
    #[arg(long = "in", value_name = "KIND", value_enum)]
    pub kind: Option<KindFlag>,
    /// Bits of a number, 2, 3 or 4: more miss less, and take more memory
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = bits)]
    pub bits: usize,
}

fn bits(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bits @ 2..=4) => Ok(bits),
        _ => Err("expected 2, 3 or 4".into()),
    }
}
