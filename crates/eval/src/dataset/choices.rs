//! Pictures and captions to be matched: Winoground's pairs of pairs, SugarCrepe's captions of which one is wrong, WinoGAViL's words
//! with pictures of which some belong to them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclip_data::source::ImageData;
use serde::Deserialize;

use super::pictures::{Bytes, Pictures};
use super::sheet::Sheet;
use super::targets::{Choice, Cue, Dataset, Targets};
use crate::error::EvalError;

/// Columns of Winoground: a picture and its caption, twice.
const WINOGROUND: [(&str, &str); 2] = [("image_0", "caption_0"), ("image_1", "caption_1")];
/// Column of a caption that does not fit, in SugarCrepe.
const NEGATIVE: &str = "negative_caption";

/// Columns of WinoGAViL: a word, names of pictures, and those of them that belong to the word.
const WINOGAVIL: [&str; 3] = ["cue", "candidates", "associations"];

/// A CSV file that has the columns of one of them.
pub(super) fn of_sheet(sheet: &Sheet<'_>) -> Result<Option<Dataset>, EvalError> {
    let has = |name: &str| sheet.column(name).is_some();
    if WINOGAVIL.iter().all(|name| has(name)) {
        return cues(sheet).map(Some);
    }
    let mut rows = Vec::new();
    if WINOGROUND
        .iter()
        .all(|(image, caption)| has(image) && has(caption))
    {
        for (image, caption) in WINOGROUND {
            rows.push(sheet.rows(sheet.column(image), sheet.column(caption))?);
        }
    } else if let Some(negative) = sheet.column(NEGATIVE) {
        rows.push(sheet.rows(None, sheet.column("caption"))?);
        rows.push(sheet.rows(None, Some(negative))?);
    } else {
        return Ok(None);
    }
    let has_one = sheet.column(NEGATIVE).is_some();
    let mut pictures = Pictures::new(sheet.what());
    let mut choices: Vec<Choice> = Vec::new();
    let lists = rows.len();
    let mut columns: Vec<_> = rows.into_iter().map(Vec::into_iter).collect();
    while let Some(parts) = columns
        .iter_mut()
        .map(Iterator::next)
        .collect::<Option<Vec<_>>>()
    {
        let mut choice = Choice {
            pictures: Vec::new(),
            captions: Vec::with_capacity(lists),
        };
        let row = choices.len() + 1;
        for (at, (name, image, caption)) in parts.into_iter().enumerate() {
            if at == 0 || !has_one {
                choice
                    .pictures
                    .push(pictures.push(name, Bytes::Whole(image)));
            }
            choice.captions.push(caption.ok_or_else(|| {
                EvalError::list(
                    sheet.what().as_ref(),
                    format!("row {row}: a caption is missing"),
                )
            })?);
        }
        choices.push(choice);
    }
    dataset(pictures, choices, sheet.what().as_ref()).map(Some)
}

/// WinoGAViL's rows. A picture is `NAME.jpg` in `winogavil_images` or `images` beside the file, or beside it.
fn cues(sheet: &Sheet<'_>) -> Result<Dataset, EvalError> {
    let what = sheet.what();
    let path = Path::new(&what);
    let [cue, candidates, associations] = WINOGAVIL.map(|name| sheet.column(name));
    let candidates = sheet.rows(cue, candidates)?;
    let associations = sheet.rows(cue, associations)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let folders = ["winogavil_images", "images", ""].map(|name| folder.join(name));
    let place = |name: &str| {
        let file = format!("{name}.jpg");
        let places = folders.iter().map(|folder| folder.join(&file));
        places.into_iter().find(|path| path.exists())
    };
    let mut pictures = Pictures::new(what.clone());
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut cues = Vec::with_capacity(candidates.len());
    for (row, ((text, _, names), (.., right))) in
        candidates.into_iter().zip(associations).enumerate()
    {
        let right = words(&right.unwrap_or_default());
        let mut cue = Cue {
            text,
            candidates: Vec::new(),
        };
        for name in words(&names.unwrap_or_default()) {
            let number = match numbers.get(&name) {
                Some(number) => *number,
                None => {
                    let path = place(&name).ok_or_else(|| {
                        let problem = format!(
                            "row {}: no {name}.jpg in winogavil_images or images beside it",
                            row + 1
                        );
                        EvalError::list(path, problem)
                    })?;
                    let image = Bytes::Whole(ImageData::Path(path));
                    let number = pictures.push(name.clone(), image);
                    numbers.insert(name.clone(), number);
                    number
                }
            };
            cue.candidates.push((number, right.contains(&name)));
        }
        if !cue.candidates.iter().any(|(_, right)| *right) {
            let problem = format!(
                "row {}: none of the candidates belongs to the word",
                row + 1
            );
            return Err(EvalError::list(path, problem));
        }
        cues.push(cue);
    }
    Ok(Dataset {
        len: numbers.len(),
        pictures: Arc::new(pictures),
        targets: Targets::Cues(cues),
    })
}

/// The words of a list as Python or JSON writes it, such as `['a', "b's"]`.
fn words(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = list;
    while let Some(start) = rest.find(['\'', '"']) {
        let quote = if rest[start..].starts_with('"') {
            '"'
        } else {
            '\''
        };
        rest = &rest[start + 1..];
        let Some(end) = rest.find(quote) else { break };
        words.push(rest[..end].to_owned());
        rest = &rest[end + 1..];
    }
    words
}

/// An entry of SugarCrepe's files.
#[derive(Deserialize)]
struct Entry {
    filename: String,
    caption: String,
    negative_caption: String,
}

/// SugarCrepe's JSON: entries by number, the pictures of COCO's `val2017` in a folder beside it.
///
/// `None` if the file has another form.
pub(super) fn of_json(path: &Path) -> Result<Option<Dataset>, EvalError> {
    let bytes = std::fs::read(path).map_err(|error| EvalError::io(path, error))?;
    let Ok(entries) = serde_json::from_slice::<BTreeMap<String, Entry>>(&bytes) else {
        return Ok(None);
    };
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.parse::<u64>().unwrap_or(u64::MAX));
    let folder = path.parent().unwrap_or(Path::new(""));
    let folders = ["", "val2017", "images", "../val2017"].map(|name| folder.join(name));
    let Some((_, first)) = entries.first() else {
        return Err(EvalError::list(path, "no entry in it"));
    };
    let is_there = |folder: &&PathBuf| folder.join(&first.filename).exists();
    let Some(folder) = folders.iter().find(is_there) else {
        let problem = format!(
            "its picture {} is neither beside it nor in val2017 or images there",
            first.filename
        );
        return Err(EvalError::list(path, problem));
    };
    let mut pictures = Pictures::new(path.display().to_string());
    let choices = entries.into_iter().map(|(_, entry)| {
        let image = ImageData::Path(folder.join(&entry.filename));
        Choice {
            pictures: vec![pictures.push(entry.filename, Bytes::Whole(image))],
            captions: vec![entry.caption, entry.negative_caption],
        }
    });
    let choices = choices.collect();
    dataset(pictures, choices, path).map(Some)
}

fn dataset(pictures: Pictures, choices: Vec<Choice>, path: &Path) -> Result<Dataset, EvalError> {
    if choices.is_empty() {
        return Err(EvalError::list(path, "no row in it"));
    }
    Ok(Dataset {
        len: choices.iter().map(|choice| choice.pictures.len()).sum(),
        pictures: Arc::new(pictures),
        targets: Targets::Choices(choices),
    })
}
