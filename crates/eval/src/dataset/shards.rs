//! Tars in CLIP_benchmark's layout: pictures with a label (`cls`), labels (`npy`) or captions (`txt`) beside each.
//!
//! The archives are walked once, past the pictures: what is to be found is small, and a picture is read when it is wanted.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclip_data::source::group::split_name;
use serde_json::Value;

use super::names::Names;
use super::npy::values;
use super::pictures::{Bytes, Pictures};
use super::targets::{Dataset, Labels, Targets};
use crate::error::EvalError;

/// Suffixes of pictures, the first before the others, as CLIP_benchmark has them.
const IMAGES: [&str; 4] = ["webp", "png", "jpg", "jpeg"];
/// Suffixes of what is to be found.
const FOUND: [&str; 4] = ["cls", "npy", "txt", "json"];
/// Longest member that is read for it.
const MAX_BYTES: u64 = 16 << 20;

/// A sample as it lies in an archive.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<(usize, u64, u64)>,
    found: [Option<Vec<u8>>; FOUND.len()],
}

/// Opens archives; `folders` may have `classnames.txt`, templates and `dataset_type.txt`.
pub(super) fn open(tars: &[PathBuf], folders: &[&Path]) -> Result<Dataset, EvalError> {
    let kind = dataset_type(folders)?;
    let first = tars.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
    let what = first.parent().unwrap_or(first).display().to_string();
    let mut pictures = Pictures::new(what);
    let mut targets: Vec<Target> = Vec::new();
    let mut without = 0;
    for tar in tars {
        let archive = pictures.archive(tar.clone());
        walk(tar, |sample| {
            let Some((_, start, length)) = sample.image else {
                without += 1;
                return Ok(());
            };
            let problem =
                |problem: String| EvalError::list(tar, format!("{}: {problem}", sample.key));
            let target = target(&sample, kind.as_deref()).map_err(problem)?;
            if let Some(other) = targets.first()
                && std::mem::discriminant(other) != std::mem::discriminant(&target)
            {
                return Err(problem(format!(
                    "has {}, and the samples before it have {}",
                    target.kind(),
                    other.kind()
                )));
            }
            targets.push(target);
            let part = Bytes::Part {
                archive,
                start,
                length,
            };
            pictures.push(sample.key, part);
            Ok(())
        })?;
    }
    if without > 0 {
        log::warn!(
            "{}: {without} samples without a picture ({}) were passed over",
            first.display(),
            IMAGES.join(", ")
        );
    }
    if targets.is_empty() {
        return Err(EvalError::list(first, "no sample with a picture in it"));
    }
    Ok(Dataset {
        len: targets.len(),
        pictures: Arc::new(pictures),
        targets: gathered(targets, Names::beside(folders)?, first)?,
    })
}

/// What is to be found in one picture.
enum Target {
    One(usize, Vec<f64>),
    Many(Vec<usize>, usize),
    Captions(Vec<String>),
}

impl Target {
    fn kind(&self) -> &'static str {
        match self {
            Self::One(..) => "a class",
            Self::Many(..) => "a vector of classes",
            Self::Captions(_) => "captions",
        }
    }
}

/// One kind for all.
fn gathered(targets: Vec<Target>, names: Names, first: &Path) -> Result<Targets, EvalError> {
    let (mut one, mut many, mut captions) = (Vec::new(), Vec::new(), Vec::new());
    let mut beside = Vec::new();
    let mut widths = Vec::new();
    for target in targets {
        match target {
            Target::One(label, numbers) => {
                one.push(label);
                beside.push(numbers);
            }
            Target::Many(labels, classes) => {
                many.push(labels);
                widths.push(classes);
            }
            Target::Captions(list) => captions.push(list),
        }
    }
    if let (Some(low), Some(high)) = (widths.iter().min(), widths.iter().max())
        && low != high
    {
        let problem = format!("vectors of {low} classes and of {high} in one set");
        return Err(EvalError::list(first, problem));
    }
    Ok(match widths.first() {
        Some(&classes) => Targets::Labels {
            labels: Labels::Many {
                of_picture: many,
                classes,
            },
            names,
            beside: Vec::new(),
        },
        None if captions.is_empty() => Targets::Labels {
            labels: Labels::One(one),
            names,
            beside,
        },
        None => Targets::Captions(captions),
    })
}

/// What `dataset_type.txt` says.
fn dataset_type(folders: &[&Path]) -> Result<Option<String>, EvalError> {
    let paths = folders.iter().map(|folder| folder.join("dataset_type.txt"));
    let Some(path) = paths.into_iter().find(|path| path.is_file()) else {
        return Ok(None);
    };
    let text = crate::lines::read_text(&path)?.trim().to_lowercase();
    match text.as_str() {
        "classification" | "multilabel" | "retrieval" => Ok(Some(text)),
        other => Err(EvalError::list(
            &path,
            format!("{other:?}; expected classification, multilabel or retrieval"),
        )),
    }
}

/// What a sample has, by the kind of its set where that is said, else by its members.
fn target(sample: &Sample, kind: Option<&str>) -> Result<Target, String> {
    let [cls, npy, txt, json] = &sample.found;
    match (kind, cls, npy, txt) {
        (Some("classification") | None, Some(cls), ..) => {
            // Beside a class they are no classes: DataComp's sets have region and year there.
            let numbers = npy.as_deref().and_then(values).unwrap_or_default();
            Ok(Target::One(label(cls)?, numbers))
        }
        (Some("multilabel") | None, _, Some(npy), _) => {
            let values = values(npy).ok_or("the npy is no vector of numbers")?;
            let marked = values
                .iter()
                .enumerate()
                .filter(|(_, value)| **value != 0.0);
            Ok(Target::Many(
                marked.map(|(class, _)| class).collect(),
                values.len(),
            ))
        }
        (Some("retrieval") | None, _, _, Some(txt)) => match std::str::from_utf8(txt) {
            Ok(text) => Ok(Target::Captions(text.lines().map(str::to_owned).collect())),
            Err(_) => Err("the txt is not UTF-8".into()),
        },
        _ => match json {
            Some(json) => of_json(json),
            None => Err(format!(
                "no {} member",
                match kind {
                    Some("classification") => "cls",
                    Some("multilabel") => "npy",
                    Some(_) => "txt",
                    None => "cls, npy, txt or json",
                }
            )),
        },
    }
}

fn label(cls: &[u8]) -> Result<usize, String> {
    let text = String::from_utf8_lossy(cls);
    let text = text.trim();
    text.parse()
        .map_err(|_| format!("the label {text:?} is no number of a class, which count from 0"))
}

/// `label` or `cls`, `captions` or `caption` of an object.
fn of_json(json: &[u8]) -> Result<Target, String> {
    let value: Value =
        serde_json::from_slice(json).map_err(|error| format!("the json: {error}"))?;
    let number = ["label", "cls"].iter().find_map(|key| value[key].as_u64());
    if let Some(label) = number {
        return Ok(Target::One(label as usize, Vec::new()));
    }
    let texts = ["captions", "caption"]
        .iter()
        .find_map(|key| match &value[key] {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(list) => list
                .iter()
                .map(|text| text.as_str().map(str::to_owned))
                .collect(),
            _ => None,
        });
    texts
        .map(Target::Captions)
        .ok_or_else(|| "the json has neither label nor captions".into())
}

/// Hands over the samples of an archive: neighbours of one key, no suffix twice.
fn walk(
    tar: &Path,
    mut each: impl FnMut(Sample) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    let io = |error| EvalError::io(tar, error);
    let file = File::open(tar).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut archive = tar::Archive::new(file);
    let mut sample = Sample::default();
    for entry in archive.entries_with_seek().map_err(io)? {
        let mut entry = entry.map_err(io)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some((key, suffix)) = split_name(&name) else {
            continue;
        };
        let rank = IMAGES.iter().position(|image| *image == suffix);
        let place = FOUND.iter().position(|found| *found == suffix);
        let repeats = place.is_some_and(|place| sample.found[place].is_some());
        if key != sample.key || repeats {
            let next = Sample {
                key: key.to_owned(),
                ..Sample::default()
            };
            let done = std::mem::replace(&mut sample, next);
            if !done.key.is_empty() {
                each(done)?;
            }
        }
        let (start, size) = (entry.raw_file_position(), entry.size());
        if start.saturating_add(size) > length {
            return Err(EvalError::list(tar, format!("cut off inside {name}")));
        }
        if let Some(rank) = rank
            && sample.image.is_none_or(|(known, ..)| rank < known)
        {
            sample.image = Some((rank, start, size));
        }
        if let Some(place) = place
            && size <= MAX_BYTES
        {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(io)?;
            sample.found[place] = Some(bytes);
        }
    }
    match sample.key.is_empty() {
        true => Ok(()),
        false => each(sample),
    }
}
