//! One result: what was measured with which model on which set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use openclip_model::files::atomic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::EvalError;

/// CLIP_benchmark's pattern for the name of a result.
pub const FILE_NAME: &str = "{dataset}_{pretrained}_{model}_{language}_{task}.json";

/// A result under CLIP_benchmark's keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The set, as it was asked for.
    pub dataset: String,
    /// The model's name.
    pub model: String,
    /// Its weights: a tag or a path; empty where the model brings its own.
    pub pretrained: String,
    /// The task's name.
    pub task: String,
    /// Name and value of every metric.
    pub metrics: Map<String, Value>,
    /// The language of the class names.
    pub language: String,
    /// The middle 95 % of metrics over resampled pictures.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, [f64; 2]>,
}

impl Record {
    /// Where the result goes: `output` is a folder, which gets [`FILE_NAME`], or a pattern like it that ends in `.json`.
    ///
    /// The set goes without `wds/`, a path of weights by its last part, and `/` is `_`.
    pub fn path(&self, output: &str) -> PathBuf {
        let pattern = match output.ends_with(".json") {
            true => output.to_owned(),
            false => Path::new(output)
                .join(FILE_NAME)
                .to_string_lossy()
                .into_owned(),
        };
        let dataset = self.dataset.strip_prefix("wds/").unwrap_or(&self.dataset);
        let plain = |text: &str| text.trim_end_matches('/').replace('/', "_");
        pattern
            .replace("{dataset}", &plain(dataset))
            .replace("{pretrained}", &plain(last_part(&self.pretrained)))
            .replace("{pretrained_full_path}", &plain(&self.pretrained))
            .replace("{model}", &plain(&self.model))
            .replace("{language}", &plain(&self.language))
            .replace("{task}", &self.task)
            .into()
    }

    /// Reads a result of this program's or of CLIP_benchmark's, whose `NaN` is null here.
    ///
    /// # Errors
    /// When the file cannot be read, ends too early, or is no result.
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        let text = crate::lines::read_text(path)?;
        let parsed = serde_json::from_str(&text)
            .or_else(|error| serde_json::from_str(&without_nan(&text)).map_err(|_| error));
        parsed.map_err(|error| {
            let problem = match error.is_eof() {
                true => "a result that was half written".to_owned(),
                false => format!("no result of an evaluation: {error}"),
            };
            EvalError::list(path, problem)
        })
    }

    /// Writes the file in one step; its folder is made.
    ///
    /// # Errors
    /// When the folder takes no file.
    pub fn write(&self, path: &Path) -> Result<(), EvalError> {
        let io = |error| EvalError::io(path, error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let mut text = serde_json::to_vec(self).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        atomic::write(path, &text).map_err(io)
    }
}

/// The last part of a path or an address of weights; a tag stays whole.
fn last_part(pretrained: &str) -> &str {
    let pretrained = pretrained.trim_end_matches('/');
    pretrained.rsplit('/').next().unwrap_or(pretrained)
}

/// Python's `NaN` as null, outside of texts.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut is_text, mut is_escaped) = (false, false);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if !is_text && let Some(behind) = rest.strip_prefix("NaN") {
            out.push_str("null");
            rest = behind;
            continue;
        }
        is_text ^= next == '"' && !is_escaped;
        is_escaped = next == '\\' && !is_escaped;
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(dataset: &str, pretrained: &str) -> Record {
        Record {
            dataset: dataset.into(),
            model: "ViT-B-32".into(),
            pretrained: pretrained.into(),
            task: "zeroshot_retrieval".into(),
            metrics: Map::new(),
            language: "en".into(),
            intervals: BTreeMap::new(),
        }
    }

    #[test]
    fn names_are_those_of_clip_benchmark() {
        for (dataset, pretrained, name) in [
            ("wds/vtab/pets", "openai", "vtab_pets_openai"),
            ("/data/pets", "/w/clip.pt", "_data_pets_clip.pt"),
            ("cars/", "runs/a/", "cars_a"),
            ("cars", "", "cars_"),
        ] {
            let path = record(dataset, pretrained).path("out");
            let expected = format!("out/{name}_ViT-B-32_en_zeroshot_retrieval.json");
            assert_eq!(path, Path::new(&expected));
        }
        let path = record("cars", "openai").path("x/{model}-{dataset}.json");
        assert_eq!(path, Path::new("x/ViT-B-32-cars.json"));
    }

    #[test]
    fn what_is_written_is_read_and_half_of_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/a.json");
        let mut record = record("cars", "openai");
        record.metrics.insert("acc5".into(), Value::Null);
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("null", "NaN")).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        let error = Record::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("a.json: a result that was half written"),
            "{error}"
        );
        std::fs::write(&path, "{}").unwrap();
        let error = Record::read(&path).unwrap_err().to_string();
        assert!(error.contains("no result of an evaluation"), "{error}");
        assert_eq!(
            without_nan("{\"a NaN\\\"NaN\": NaN}"),
            "{\"a NaN\\\"NaN\": null}"
        );
    }
}
