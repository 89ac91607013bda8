//! `index`.

use std::path::PathBuf;

use clap::Args;
use openclip_eval::search::index::IndexOptions;

use super::search::KindFlag;

/// Flags of `index`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes DIR/index/img_emb.hnsw (or text_emb.hnsw), a graph over the vectors that `openclip search` then walks along instead of \
looking at all of them. It holds no vectors, takes some 8 bytes a link and row, and has to be made anew when the vectors change. \
Scores stay exact; a few of the best rows may be missed: `openclip search --effort` says how few, --exact looks at all.

It is worth its time where many queries are asked at once, or where there are tens of millions of vectors.

Examples:
  openclip index vectors/
  openclip index vectors/ --in text --links 24")]
pub struct IndexArgs {
    /// The folder of vectors
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Which vectors [default: those of pictures, where there are any]
    #[arg(long = "in", value_name = "KIND", value_enum)]
    pub kind: Option<KindFlag>,
    /// Neighbours of a row: more find more, and take more room and time
    #[arg(long, value_name = "N", default_value_t = IndexOptions::default().links, value_parser = links)]
    pub links: usize,
    /// Rows that are kept while the neighbours of a new one are looked for: more make a better index, and take longer
    #[arg(long, value_name = "N", default_value_t = IndexOptions::default().construction, value_parser = super::data::at_least_one)]
    pub construction: usize,
}

fn links(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(links @ 2..=128) => Ok(links),
        _ => Err("expected a number from 2 to 128".into()),
    }
}
