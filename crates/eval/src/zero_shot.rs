//! Zero-shot classification without the network: prompts made of templates and class names, and top-k accuracy.

use std::collections::HashMap;
use std::path::Path;

use openclip_data::source::image_folder::ClassFolders;
use serde::{Deserialize, Serialize};

use crate::error::EvalError;
use crate::lines::read_text;
use crate::retrieval::rank_of;

const IMAGENET: &str = include_str!("../configs/imagenet.json");
/// The wordnet ids of ImageNet's classes, in the order of their names there.
const IMAGENET_IDS: &str = include_str!("../configs/imagenet_wordnet_ids.txt");
/// Folders that a message lists.
const LISTED: usize = 8;

/// Class names and the templates that turn them into prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompts {
    /// Class names; the label is the index.
    pub classes: Vec<String>,
    /// Templates with `{}` or `{c}` where the class name goes.
    pub templates: Vec<String>,
    /// A shorter list of templates, where the file has one.
    #[serde(default)]
    pub simple_templates: Vec<String>,
}

impl Prompts {
    /// OpenAI's 1000 ImageNet names in the order of the wordnet ids, with 80 templates and the 7 simple ones.
    ///
    /// # Errors
    /// When the embedded file is malformed.
    pub fn imagenet() -> Result<Self, EvalError> {
        let path = Path::new("configs/eval/imagenet.json");
        serde_json::from_str(IMAGENET).map_err(|source| EvalError::Json {
            path: path.to_owned(),
            source,
        })
    }

    /// Class names and templates from a `.json` file: an object with `classes` and `templates`.
    ///
    /// # Errors
    /// When the file cannot be read or has another form; see [`read_classes`] and [`read_templates`].
    pub fn read(path: &Path) -> Result<Self, EvalError> {
        Ok(Self {
            classes: read_classes(path)?,
            templates: read_templates(path)?,
            simple_templates: Vec::new(),
        })
    }

    /// The prompts of class `class`, one per template.
    pub fn of_class(&self, class: usize) -> Vec<String> {
        let Some(name) = self.classes.get(class) else {
            return Vec::new();
        };
        self.templates
            .iter()
            .map(|template| prompt(template, name))
            .collect()
    }
}

/// `template` with every `{}` and `{c}` replaced by `name`.
pub fn prompt(template: &str, name: &str) -> String {
    template
        .split("{c}")
        .map(|part| part.replace("{}", name))
        .collect::<Vec<_>>()
        .join(name)
}

/// Reads class names from
/// * a directory in `ImageFolder` layout: its sub-directories, see [`folder_classes`];
/// * a `.json` file: a list of strings, or an object with the list under `classes`;
/// * any other file: one name per line.
///
/// # Errors
/// When the file cannot be read, has another form, or a name is empty.
pub fn read_classes(path: &Path) -> Result<Vec<String>, EvalError> {
    let names = if path.is_dir() {
        folder_classes(&ClassFolders::list(path)?.names)?
    } else {
        read_list(path, "classes")?
    };
    check(
        path,
        &names,
        "class name",
        |name| !name.trim().is_empty(),
        "is empty",
    )?;
    Ok(names)
}

/// Reads templates from a `.json` file (a list of strings, or an object with the list under `templates`) or a text
/// file (one per line).
///
/// # Errors
/// When the file cannot be read, has another form, or a template has no place for the class name.
pub fn read_templates(path: &Path) -> Result<Vec<String>, EvalError> {
    let templates = read_list(path, "templates")?;
    let has_place = |template: &str| template.contains("{}") || template.contains("{c}");
    check(
        path,
        &templates,
        "template",
        has_place,
        "has neither {} nor {c}",
    )?;
    Ok(templates)
}

/// What the classes of these folders are called: by ImageNet's names where folders are named by its wordnet ids, else
/// as the folders themselves, `_` read as a space. That ids were recognised is logged.
///
/// # Errors
/// When the embedded names are malformed.
pub fn folder_classes(folders: &[String]) -> Result<Vec<String>, EvalError> {
    let imagenet = Prompts::imagenet()?.classes;
    let ids = IMAGENET_IDS.lines().map(str::to_owned);
    let names: HashMap<String, String> = ids.zip(imagenet).collect();
    let (known, unknown): (Vec<&String>, Vec<&String>) = folders
        .iter()
        .partition(|folder| names.contains_key(*folder));
    let listed = |list: &[&String], entry: &dyn Fn(&str) -> String| -> String {
        let more = if list.len() > LISTED { ", …" } else { "" };
        let shown = list.iter().take(LISTED).map(|folder| entry(folder));
        shown.collect::<Vec<_>>().join(", ") + more
    };
    if !known.is_empty() {
        log::info!(
            "{} folders are named by wordnet ids and get ImageNet's class names: {}",
            known.len(),
            listed(&known, &|id| format!("{id} {}", names[id]))
        );
        if !unknown.is_empty() {
            log::warn!(
                "{} folders beside them are not of ImageNet's classes and keep their names: {}",
                unknown.len(),
                listed(&unknown, &str::to_owned)
            );
        }
    } else if unknown.iter().all(|folder| is_wordnet_id(folder)) {
        log::warn!(
            "the folders are named by wordnet ids that are not among ImageNet's 1,000, so that their names say nothing: {}",
            listed(&unknown, &str::to_owned)
        );
    }
    let name = |folder: &String| match names.get(folder) {
        Some(name) => name.clone(),
        None => folder.replace('_', " "),
    };
    Ok(folders.iter().map(name).collect())
}

/// `n` and eight digits.
fn is_wordnet_id(name: &str) -> bool {
    let digits = name.strip_prefix('n');
    digits
        .is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    List(Vec<String>),
    Object(serde_json::Map<String, serde_json::Value>),
}

fn read_list(path: &Path, key: &str) -> Result<Vec<String>, EvalError> {
    let text = read_text(path)?;
    if path
        .extension()
        .is_none_or(|extension| !extension.eq_ignore_ascii_case("json"))
    {
        return Ok(text.lines().map(str::to_owned).collect());
    }
    let json = |source| EvalError::Json {
        path: path.to_owned(),
        source,
    };
    match serde_json::from_str(&text).map_err(json)? {
        Json::List(list) => Ok(list),
        Json::Object(mut object) => match object.remove(key) {
            Some(list) => serde_json::from_value(list).map_err(json),
            None => Err(list_error(path, format!("the object has no \"{key}\""))),
        },
    }
}

fn check(
    path: &Path,
    list: &[String],
    what: &str,
    good: fn(&str) -> bool,
    problem: &str,
) -> Result<(), EvalError> {
    if list.is_empty() {
        return Err(list_error(path, format!("there is no {what} here")));
    }
    match list.iter().position(|entry| !good(entry)) {
        Some(at) => Err(list_error(
            path,
            format!("{what} {} {problem}: {:?}", at + 1, list[at]),
        )),
        None => Ok(()),
    }
}

fn list_error(path: &Path, problem: String) -> EvalError {
    EvalError::List {
        path: path.to_owned(),
        problem,
    }
}

/// The place of the highest score, the first among equals.
pub(crate) fn highest(row: &[f32]) -> usize {
    let above = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (0..row.len()).reduce(above).unwrap_or_default()
}

/// The `k` highest scores' places, best first; the lower index first among equals.
pub fn top_k(row: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
    order.truncate(k);
    order
}

/// Running top-1 and top-5 accuracy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    right1: u64,
    right5: u64,
    count: u64,
    not_finite: u64,
}

impl Accuracy {
    /// Counts a batch: `logits` is `[targets.len(), classes]`, row-major.
    ///
    /// Ties and NaN count as in [`rank_of`]. With fewer than five classes top-5 is always right.
    ///
    /// # Errors
    /// When the shape does not fit.
    pub fn add(
        &mut self,
        logits: &[f32],
        classes: usize,
        targets: &[usize],
    ) -> Result<(), EvalError> {
        if classes.checked_mul(targets.len()) != Some(logits.len()) {
            return Err(EvalError::Rows {
                values: logits.len(),
                rows: targets.len(),
                width: classes,
            });
        }
        for (row, &target) in logits.chunks_exact(classes.max(1)).zip(targets) {
            let rank = rank_of(row, target);
            self.right1 += u64::from(rank < 1);
            self.right5 += u64::from(rank < 5);
            self.count += 1;
            self.not_finite += u64::from(!row.iter().all(|score| score.is_finite()));
        }
        Ok(())
    }

    /// Share of images whose class has the highest score; NaN before the first image.
    pub fn top1(&self) -> f64 {
        self.right1 as f64 / self.count as f64
    }

    /// Share of images whose class is among the five highest scores; NaN before the first image.
    pub fn top5(&self) -> f64 {
        self.right5 as f64 / self.count as f64
    }

    /// Number of images.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Number of images with a score that is NaN or infinite.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use std::path::PathBuf;

    fn written(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn imagenet_is_complete() {
        let prompts = Prompts::imagenet().unwrap();
        let sizes = [
            prompts.classes.len(),
            prompts.templates.len(),
            prompts.simple_templates.len(),
        ];
        assert_eq!(sizes, [1000, 80, 7]);
        assert_eq!(prompts.of_class(999)[0], "a bad photo of a toilet paper.");
        assert!(prompts.of_class(1000).is_empty());
    }

    #[test]
    fn folders_named_by_wordnet_ids_get_the_names_of_imagenet() {
        let ids: Vec<String> = IMAGENET_IDS.lines().map(str::to_owned).collect();
        assert!(ids.len() == 1000 && ids.is_sorted() && ids.iter().all(|id| is_wordnet_id(id)));
        assert_eq!(
            folder_classes(&ids).unwrap(),
            Prompts::imagenet().unwrap().classes
        );
        let folders = [
            "Siamese_cat",
            "n02123394",
            "n02123397",
            "n03792782",
            "n15075141",
        ];
        let expected = [
            "Siamese cat",
            "Persian cat",
            "n02123397",
            "mountain bike",
            "toilet paper",
        ];
        assert_eq!(
            folder_classes(&folders.map(str::to_owned)).unwrap(),
            expected
        );
        let folders = ["n00000001", "owl_2"].map(str::to_owned);
        assert_eq!(folder_classes(&folders).unwrap(), ["n00000001", "owl 2"]);
    }

    #[test]
    fn placeholders() {
        assert_eq!(prompt("a {} and a {c}", "cat"), "a cat and a cat");
        assert_eq!(prompt("{c}", "{} {c}"), "{} {c}");
    }

    #[test]
    fn lists_in_every_form() {
        let dir = tempfile::tempdir().unwrap();
        let lines = written(&dir, "names.txt", "\u{feff}red fox\r\nowl\n");
        assert_eq!(read_classes(&lines).unwrap(), ["red fox", "owl"]);
        let object = r#"{"classes": ["a", "b"], "templates": ["a {c}."]}"#;
        let object = written(&dir, "both.JSON", object);
        assert_eq!(read_classes(&object).unwrap(), ["a", "b"]);
        assert_eq!(read_templates(&object).unwrap(), ["a {c}."]);
        assert_eq!(
            read_templates(&written(&dir, "t.json", r#"["{}"]"#)).unwrap(),
            ["{}"]
        );
        for class in ["red_fox", "owl"] {
            std::fs::create_dir_all(dir.path().join("folder").join(class)).unwrap();
        }
        assert_eq!(
            read_classes(&dir.path().join("folder")).unwrap(),
            ["owl", "red fox"]
        );
    }

    #[test]
    fn bad_lists_name_the_entry() {
        let dir = tempfile::tempdir().unwrap();
        let message = |result: Result<Vec<String>, EvalError>| result.unwrap_err().to_string();
        let gap = written(&dir, "gap.txt", "cat\n\ndog\n");
        assert!(message(read_classes(&gap)).contains("class name 2 is empty"));
        let plain = written(&dir, "plain.txt", "a {}\na photo\n");
        assert!(
            message(read_templates(&plain))
                .contains("template 2 has neither {} nor {c}: \"a photo\"")
        );
        assert!(message(read_classes(&written(&dir, "x.json", "{}"))).contains("no \"classes\""));
        assert!(message(read_classes(&written(&dir, "y.json", "[1]"))).contains("y.json"));
        assert!(message(read_classes(&written(&dir, "empty.txt", ""))).contains("no class name"));
        assert!(message(read_classes(&dir.path().join("none.txt"))).contains("none.txt"));
    }

    #[test]
    fn accuracy_counts_ties_by_index() {
        let mut accuracy = Accuracy::default();
        let row = [1.0, 3.0, 3.0, 2.0, 0.0, -1.0, 0.0];
        accuracy.add(&row.repeat(4), 7, &[1, 2, 4, 6]).unwrap();
        assert_eq!(
            (accuracy.top1(), accuracy.top5(), accuracy.count()),
            (0.25, 0.75, 4)
        );
        assert_eq!(top_k(&row, 5), [1, 2, 3, 0, 4]);
        assert!(accuracy.add(&row, 7, &[1, 2]).is_err());
        assert!(Accuracy::default().top1().is_nan());
    }

    /// Logits and accuracies by `open_clip_train.zero_shot` (see `tests/parity/export_training.py`).
    #[test]
    fn accuracy_as_open_clip() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity/data/training");
        let expected: serde_json::Value =
            serde_json::from_slice(&std::fs::read(data.join("zeroshot.json")).unwrap()).unwrap();
        let bytes = std::fs::read(data.join("zeroshot.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let logits: Vec<f32> = tensors
            .tensor("output/logits")
            .unwrap()
            .data()
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let targets: Vec<usize> = tensors
            .tensor("input/target")
            .unwrap()
            .data()
            .chunks(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as usize)
            .collect();
        let mut accuracy = Accuracy::default();
        accuracy.add(&logits, 7, &targets).unwrap();
        assert_eq!(accuracy.top1(), expected["top1"].as_f64().unwrap());
        assert_eq!(accuracy.top5(), expected["top5"].as_f64().unwrap());

        let list =
            |key: &str| -> Vec<String> { serde_json::from_value(expected[key].clone()).unwrap() };
        let prompts = Prompts {
            classes: list("classes"),
            templates: list("templates"),
            simple_templates: vec![],
        };
        let texts: Vec<String> = (0..prompts.classes.len())
            .flat_map(|class| prompts.of_class(class))
            .collect();
        assert_eq!(texts, list("texts"));
    }
}
