//! Captions in JSON: COCO's (`annotations/captions_train2017.json`), and Karpathy's splits of COCO and Flickr
//! (`dataset_coco.json#train`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::captions::Captions;
use super::pairs::Pairs;
use crate::error::DataError;

/// Largest file that is read; COCO's are of 90 MB.
const MAX_BYTES: u64 = 4 << 30;

/// Both forms: COCO has captions beside the pictures, Karpathy's has them within.
#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    images: Vec<Image<'a>>,
    #[serde(borrow)]
    annotations: Option<Vec<Annotation<'a>>>,
}

#[derive(Deserialize)]
struct Image<'a> {
    id: Option<Id>,
    #[serde(borrow, alias = "filename")]
    file_name: Cow<'a, str>,
    /// The folder of the picture, in Karpathy's COCO.
    #[serde(borrow)]
    filepath: Option<Cow<'a, str>>,
    #[serde(borrow)]
    split: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sentences: Option<Vec<Sentence<'a>>>,
}

#[derive(Deserialize)]
struct Sentence<'a> {
    #[serde(borrow)]
    raw: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    image_id: Id,
    #[serde(borrow)]
    caption: Cow<'a, str>,
}

#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(untagged)]
enum Id {
    Number(i64),
    Text(String),
}

/// Opens a file, or a folder that has one. `FILE#SPLIT` names one of Karpathy's splits, `FILE#train+restval` several.
///
/// # Errors
/// When the file cannot be read, it has splits and none is named, or the pictures are not found.
pub(super) fn open(spec: &Path) -> Result<Captions, DataError> {
    let (path, split) = split_of(spec);
    let path = match path.is_dir() {
        true => file_in(&path)?,
        false => path,
    };
    let fail = |reason: String| DataError::Table {
        path: path.clone(),
        reason,
    };
    let io = |source| DataError::Io {
        path: path.clone(),
        source,
    };
    let length = std::fs::metadata(&path).map_err(io)?.len();
    if length > MAX_BYTES {
        return Err(fail(format!("{length} bytes, the limit is {MAX_BYTES}")));
    }
    let text = std::fs::read(&path).map_err(io)?;
    let file: File<'_> = serde_json::from_slice(&text).map_err(|error| {
        fail(format!(
            "{error}; expected COCO's captions (images with id and file_name, annotations with image_id and caption), \
             or Karpathy's (images with filename, split and sentences)"
        ))
    })?;
    let pairs = match &file.annotations {
        Some(_) if split.is_some() => return Err(fail("it has no splits to choose from".into())),
        Some(annotations) => of_annotations(&path, &file.images, annotations),
        None => of_sentences(&file.images, split.as_deref()).map_err(fail)?,
    };
    if pairs.len() == 0 {
        return Err(fail("no captions in it".into()));
    }
    Captions::new(&path, pairs, &folders(&path))
}

/// `FILE#SPLIT` in its parts.
fn split_of(spec: &Path) -> (PathBuf, Option<String>) {
    let text = spec.to_str().filter(|_| !spec.exists());
    match text.and_then(|text| text.rsplit_once('#')) {
        Some((path, split)) => (path.into(), Some(split.to_owned())),
        None => (spec.to_owned(), None),
    }
}

/// The only captions of a folder.
fn file_in(dir: &Path) -> Result<PathBuf, DataError> {
    let mut found = candidates(dir);
    match found.len() {
        1 => Ok(found.remove(0)),
        count => {
            let names: Vec<String> = found
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let reason = match count {
                0 => "no annotations/captions_*.json in it".to_owned(),
                _ => format!("several files of captions, name one: {}", names.join(", ")),
            };
            Err(DataError::Table {
                path: dir.to_owned(),
                reason,
            })
        }
    }
}

/// `annotations/captions_*.json` of a folder, or those beside its pictures.
pub(super) fn candidates(dir: &Path) -> Vec<PathBuf> {
    let of = |dir: PathBuf| -> Vec<PathBuf> {
        let is_captions = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("captions_") && name.ends_with(".json")
        };
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(is_captions)
            .collect();
        found.sort();
        found
    };
    let found = of(dir.join("annotations"));
    match found.is_empty() {
        true => of(dir.to_owned()),
        false => found,
    }
}

/// One pair for each annotation, and one without a caption for each picture that has none.
fn of_annotations(path: &Path, images: &[Image<'_>], annotations: &[Annotation<'_>]) -> Pairs {
    let by_id = images
        .iter()
        .enumerate()
        .filter_map(|(at, image)| Some((image.id.as_ref()?, at)));
    let by_id: HashMap<&Id, usize> = by_id.collect();
    let mut has_caption = vec![false; images.len()];
    let mut pairs = Pairs::default();
    let mut strays = 0_u64;
    for annotation in annotations {
        match by_id.get(&annotation.image_id) {
            Some(&at) => {
                pairs.push(&images[at].file_name, &annotation.caption);
                has_caption[at] = true;
            }
            None => strays += 1,
        }
    }
    if strays > 0 {
        let path = path.display();
        log::warn!("{path}: {strays} captions are of pictures that it does not list, and left out");
    }
    for (image, _) in images
        .iter()
        .zip(has_caption)
        .filter(|(_, has_caption)| !has_caption)
    {
        pairs.push(&image.file_name, "");
    }
    pairs
}

fn of_sentences(images: &[Image<'_>], split: Option<&str>) -> Result<Pairs, String> {
    let mut splits: BTreeMap<&str, usize> = BTreeMap::new();
    for image in images {
        *splits
            .entry(image.split.as_deref().unwrap_or_default())
            .or_default() += 1;
    }
    let has = splits
        .iter()
        .map(|(name, count)| format!("{name} ({count} pictures)"));
    let has = has.collect::<Vec<_>>().join(", ");
    let wanted: Option<Vec<&str>> = split.map(|split| split.split('+').collect());
    match &wanted {
        None if splits.len() > 1 => {
            return Err(format!(
                "it has the splits {has}; name one behind #, as in FILE#test"
            ));
        }
        Some(names) => {
            if let Some(name) = names.iter().find(|name| !splits.contains_key(*name)) {
                return Err(format!("no split {name}; it has {has}"));
            }
        }
        None => {}
    }
    let is_wanted = |image: &&Image<'_>| {
        let split = image.split.as_deref().unwrap_or_default();
        wanted.as_ref().is_none_or(|wanted| wanted.contains(&split))
    };
    let mut pairs = Pairs::default();
    for image in images.iter().filter(is_wanted) {
        let name = match &image.filepath {
            Some(folder) => Cow::Owned(format!("{folder}/{}", image.file_name)),
            None => Cow::Borrowed(&*image.file_name),
        };
        let sentences = image.sentences.as_deref().unwrap_or_default();
        for sentence in sentences {
            pairs.push(&name, &sentence.raw);
        }
        if sentences.is_empty() {
            pairs.push(&name, "");
        }
    }
    Ok(pairs)
}

/// Where the pictures may be: `captions_train2017.json` has them in `train2017`.
fn folders(path: &Path) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let of_split = stem.rsplit_once('_').map_or(&*stem, |(_, split)| split);
    let names = [
        of_split,
        &format!("images/{of_split}"),
        "images",
        "Images",
        "flickr30k-images",
        "flickr30k_images",
        "flickr8k-images",
        "Flicker8k_Dataset",
        "",
    ];
    around(path, &names)
}

/// Folders of these names beside a file's folder and beside the file.
pub(super) fn around(path: &Path, names: &[&str]) -> Vec<PathBuf> {
    let own = match path.parent() {
        Some(own) if !own.as_os_str().is_empty() => own.to_owned(),
        _ => PathBuf::from("."),
    };
    // `..` and not the parent of the path, which may be relative.
    let above = match own.file_name() {
        Some(_) => own
            .parent()
            .filter(|above| !above.as_os_str().is_empty())
            .map(Path::to_owned),
        None => None,
    };
    let above = above.unwrap_or_else(|| own.join(".."));
    let all = [above, own];
    all.iter()
        .flat_map(|start| {
            names.iter().map(move |name| match name.is_empty() {
                true => start.clone(),
                false => start.join(name),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
