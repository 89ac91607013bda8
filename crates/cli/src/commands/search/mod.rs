//! `search`: the nearest of many vectors.
//!
//! * `queries` – texts, pictures and vectors as rows of numbers
//! * `show` – what was found, for people and programs; `sheet` – as pictures

mod queries;
mod sheet;
mod show;

use std::path::Path;

use openclip_eval::EvalError;
use openclip_eval::embeddings::{Settings, Totals};
use openclip_eval::progress::Progress;
use openclip_eval::search::{Collection, Filter, Index, Kind, best, near_duplicates};

use crate::args::search::{KindFlag, SearchArgs};
use crate::error::{CliError, Outcome, Result};
use crate::output::{note, warn};

/// Searches, or finds what is there more than once.
pub fn run(args: &SearchArgs) -> Result {
    let settings = Settings::read(&args.dir)?;
    if let Some(settings) = &settings {
        tell_missing(&args.dir, settings)?;
    }
    let vectors = open(&args.dir, args.kind)?;
    let asked = match args.filter.is_empty() {
        true => None,
        false => Some(Filter::rows(&args.filter, &vectors)?),
    };
    if let Some(threshold) = args.near_duplicates {
        let progress = Progress::new("search", Some(vectors.rows() as u64), "rows");
        let groups = near_duplicates(&vectors, threshold, asked.as_deref(), |rows| {
            progress.inc(rows);
        });
        progress.finish();
        show::groups(&vectors, &groups, args.json.json)?;
        return Ok(Outcome::Done);
    }
    let queries = queries::find(args, settings.as_ref(), &vectors)?;
    if queries.is_empty() {
        return Err(CliError::Usage(
            "nothing to look for: give --text, --texts, --image or --vector, or --near-duplicates"
                .into(),
        ));
    }
    let rows: Vec<Vec<f32>> = queries.iter().map(|query| query.row.clone()).collect();
    let found = match index(args, &vectors) {
        Some(index) => {
            let (count, asked) = (args.top, asked.as_deref());
            index.best(&vectors, &rows, count, args.candidates, asked)?
        }
        None => best(&vectors, &rows, args.top, asked.as_deref()),
    };
    if let Some(path) = &args.sheet {
        let sheet = sheet::render(args, settings.as_ref(), &vectors, &queries, &found)?;
        sheet.write(path)?;
        note(format!("{} holds what was found", path.display()));
    }
    show::hits(&vectors, &queries, &found, args.json.json)?;
    Ok(Outcome::Done)
}

/// The vectors that are asked for, or those that there are.
pub fn open(dir: &Path, kind: Option<KindFlag>) -> Result<Collection> {
    if let Some(kind) = kind {
        return Ok(Collection::open(dir, kind.into())?);
    }
    match Collection::open(dir, Kind::Image) {
        Err(EvalError::Embeddings { .. }) if dir.join("text_emb").is_dir() => {
            Ok(Collection::open(dir, Kind::Text)?)
        }
        opened => Ok(opened?),
    }
}

/// The index, where there is one that can be used.
fn index(args: &SearchArgs, vectors: &Collection) -> Option<Index> {
    if args.exact {
        return None;
    }
    match Index::open(&args.dir, vectors) {
        Ok(index) => index,
        Err(error) => {
            warn(format!("{error}; searched without it"));
            None
        }
    }
}

/// Says that the folder is not whole.
fn tell_missing(dir: &Path, settings: &Settings) -> Result<()> {
    let totals = Totals::read(dir, settings.partitions)?;
    if !totals.is_complete() {
        warn(format!(
            "{}: {} of {} partitions are there; `openclip embed` has not come to its end, and the rest is not searched",
            dir.display(),
            totals.whole,
            totals.count
        ));
    }
    Ok(())
}
