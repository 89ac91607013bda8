//! `index`: vectors in few bits, for quicker searches.

use openclip_eval::progress::Progress;
use openclip_eval::search::Index;

use super::search::open;
use crate::args::index::IndexArgs;
use crate::error::{Outcome, Result};
use crate::output::Output;

/// Builds the index and says where it is.
pub fn run(args: &IndexArgs) -> Result {
    let vectors = open(&args.dir, args.kind)?;
    let progress = Progress::new("index", Some(vectors.rows() as u64), "rows");
    Index::build(&args.dir, &vectors, args.bits, |rows| progress.inc(rows))?;
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
