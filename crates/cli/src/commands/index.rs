//! `index`: a graph over vectors, for quicker searches.

use openclip_eval::progress::Progress;
use openclip_eval::search::index::{Index, IndexOptions, build};

use super::search::open;
use crate::args::index::IndexArgs;
use crate::error::{Outcome, Result};
use crate::output::Output;

/// Builds the index and says where it is.
pub fn run(args: &IndexArgs) -> Result {
    let vectors = open(&args.dir, args.kind)?;
    let options = IndexOptions {
        links: args.links,
        construction: args.construction,
    };
    let progress = Progress::new("index", Some(vectors.rows() as u64), "rows");
    build(&args.dir, &vectors, options, |rows| progress.inc(rows))?;
    progress.finish();
    let mut out = Output::stdout();
    let place = Index::place(&args.dir, &vectors);
    out.line(format_args!(
        "{} rows in {}",
        vectors.rows(),
        place.display()
    ))?;
    out.finish()?;
    Ok(Outcome::Done)
}
