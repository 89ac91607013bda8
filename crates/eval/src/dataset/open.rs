//! From a path to a data set, by the form that the path has.

use std::path::{Path, PathBuf};

use openclip_data::source::braces;
use openclip_data::source::image_folder::ClassFolders;
use openclip_data::source::kind::DatasetKind;
use openclip_data::source::litter::is_litter;
use openclip_data::source::open::OpenOptions;

use super::targets::Dataset;
use super::{choices, folder, objectnet, parquet, rows, shards, table};
use crate::error::EvalError;

/// Folders that are no classes but parts of a set.
const SPLITS: [&str; 8] = [
    "train",
    "test",
    "val",
    "valid",
    "validation",
    "dev",
    "eval",
    "trainval",
];
/// What may stand in for the split `test`.
const TESTS: [&str; 5] = ["test", "val", "validation", "valid", "eval"];

/// A set that is to be opened.
#[derive(Debug, Clone)]
pub struct OpenSet<'a> {
    /// A folder, a table, or tars such as `x-{0..3}.tar`.
    pub place: &'a str,
    /// Which part of it: the folder, the table or the tars of this name. A set without parts is `test`, all of it.
    pub split: &'a str,
    /// How tables are read.
    pub options: &'a OpenOptions,
}

/// Opens a set:
/// * a folder with `SPLIT/0.tar`, …, with `SPLIT/CLASS/…` or `SPLIT.csv`, or with any of these without splits;
/// * a `.csv` or `.tsv` file with a column of classes, of captions, or those of Winoground or SugarCrepe;
/// * tars; SugarCrepe's JSON; captions of COCO and Flickr, Parquet and whatever else
///   [`openclip_data::source::open::open`] takes.
///
/// # Errors
/// When there is no such set or split, or it cannot be read.
pub fn open(set: &OpenSet<'_>) -> Result<Dataset, EvalError> {
    let path = Path::new(set.place);
    if path.is_dir() {
        return open_folder(path, set);
    }
    if !TESTS.contains(&set.split) {
        let problem = format!(
            "one file without splits, and {:?} was asked for; expected a folder with it",
            set.split
        );
        return Err(EvalError::list(path, problem));
    }
    open_file(set)
}

fn open_file(set: &OpenSet<'_>) -> Result<Dataset, EvalError> {
    let path = Path::new(set.place);
    let is = |extension: &str| {
        let own = path.extension().unwrap_or_default();
        own.eq_ignore_ascii_case(extension)
    };
    if path.is_file() && (is("csv") || is("tsv")) {
        return table::open(path, set.options);
    }
    if path.is_file()
        && is("json")
        && let Some(found) = choices::of_json(path)?
    {
        return Ok(found);
    }
    if path.is_file() && is("parquet") {
        let folder = path.parent().unwrap_or(Path::new(""));
        if let Some(found) = parquet::open(&[path.to_owned()], folder, set.options)? {
            return Ok(found);
        }
    }
    if is("tar") && !set.place.contains("://") && !set.place.starts_with("pipe:") {
        let tars: Vec<PathBuf> = braces::expand(set.place)?
            .into_iter()
            .map(Into::into)
            .collect();
        let folder = path.parent().unwrap_or(Path::new(""));
        return shards::open(&tars, &[folder]);
    }
    if !path.exists() && DatasetKind::of(set.place).is_none() {
        return Err(EvalError::list(
            path,
            "no such data set: neither a file nor a folder",
        ));
    }
    rows::open(set.place, set.options)
}

fn open_folder(dir: &Path, set: &OpenSet<'_>) -> Result<Dataset, EvalError> {
    if set.split == "test"
        && let Some(found) = objectnet::open(dir)?
    {
        return Ok(found);
    }
    let splits: &[&str] = match set.split {
        "test" => &TESTS,
        ref other => std::slice::from_ref(other),
    };
    let told = |split: &str| {
        if split != set.split {
            log::info!("{}: no {}, {split} is taken", dir.display(), set.split);
        }
    };
    for &split in splits {
        let part = dir.join(split);
        let tars = tars_of(&part)?;
        if !tars.is_empty() {
            told(split);
            return shards::open(&tars, &[&part, dir]);
        }
        let table = ["csv", "tsv"].map(|extension| dir.join(format!("{split}.{extension}")));
        if let Some(path) = table.iter().find(|path| path.is_file()) {
            told(split);
            return table::open(path, set.options);
        }
        let rows = parquet_of(dir, split)?;
        if !rows.is_empty() {
            told(split);
            return match parquet::open(&rows, dir, set.options)? {
                Some(found) => Ok(found),
                None => {
                    let list: Vec<_> = rows.iter().map(|path| path.to_string_lossy()).collect();
                    rows::open(&list.join("::"), set.options)
                }
            };
        }
        if part.is_dir() && has_splits(dir, split)? {
            told(split);
            let whole = OpenSet {
                place: part.to_str().unwrap_or_default(),
                split: "test",
                options: set.options,
            };
            return open_part(&part, dir, &whole);
        }
    }
    if set.split != "test" {
        let problem = format!(
            "no split {split:?}; expected {split}/0.tar, {split}/CLASS/… or {split}.csv in it",
            split = set.split
        );
        return Err(EvalError::list(dir, problem));
    }
    open_part(dir, dir, set)
}

/// A folder without splits; `above` may have the names of its classes.
fn open_part(dir: &Path, above: &Path, set: &OpenSet<'_>) -> Result<Dataset, EvalError> {
    let tars = tars_of(dir)?;
    if !tars.is_empty() {
        return shards::open(&tars, &[dir, above]);
    }
    if let [table] = &files(dir, &["csv", "tsv"])?[..] {
        return table::open(table, set.options);
    }
    if DatasetKind::of(set.place) != Some(DatasetKind::Folder) {
        return rows::open(set.place, set.options);
    }
    match ClassFolders::list(dir) {
        Ok(folders) if folders.loose_images == 0 => folder::open(dir, above),
        _ => rows::open(set.place, set.options),
    }
}

/// Whether the folder `split` of `dir` is a part of the set rather than a class: so are all folders beside it.
fn has_splits(dir: &Path, split: &str) -> Result<bool, EvalError> {
    let io = |error| EvalError::io(dir, error);
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_class = entry.path().is_dir()
            && !is_litter(&name)
            && name != split
            && !SPLITS.contains(&name.as_str());
        if is_class {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files of a folder with one of these extensions, by name; none where there is no folder.
fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, EvalError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let io = |error| EvalError::io(dir, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let extension = path.extension().unwrap_or_default();
        let is_one = extensions
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known));
        if is_one && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The Parquet files of a split, as Hugging Face's hub has them: `data/SPLIT-00000-of-00001.parquet`, `SPLIT.parquet`.
fn parquet_of(dir: &Path, split: &str) -> Result<Vec<PathBuf>, EvalError> {
    for dir in [dir, &dir.join("data")] {
        let mut found = files(dir, &["parquet"])?;
        found.retain(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            stem.strip_prefix(split)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        });
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// `0.tar` to the last one that `nshards.txt` counts, else every tar, numbers before `10` and names in their order.
fn tars_of(dir: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let counted = dir.join("nshards.txt");
    if !counted.is_file() {
        let mut tars = files(dir, &["tar"])?;
        let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        tars.sort_by_key(|path| (number(path).unwrap_or(u64::MAX), path.clone()));
        return Ok(tars);
    }
    let text = crate::lines::read_text(&counted)?;
    let text = text.trim();
    let count: usize = text
        .parse()
        .map_err(|_| EvalError::list(&counted, format!("{text:?}; expected the number of tars")))?;
    let tars: Vec<PathBuf> = (0..count).map(|at| dir.join(format!("{at}.tar"))).collect();
    match tars.iter().find(|tar| !tar.is_file()) {
        Some(missing) => Err(EvalError::list(
            &counted,
            format!("{count} tars, and {} is not there", missing.display()),
        )),
        None => Ok(tars),
    }
}
