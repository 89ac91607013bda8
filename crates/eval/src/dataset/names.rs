//! What the classes of a set are called, and the templates that make prompts of their names.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::EvalError;
use crate::lines::read_text;
use crate::zero_shot::Prompts;

/// Class names beside a set's pictures, one a line.
const CLASSES: &str = "classnames.txt";
/// Templates there, one a line, with `{c}` where the class name goes.
const TEMPLATES: &str = "zeroshot_classification_templates.txt";

/// Names and templates of CLIP_benchmark's sets.
const BUILT_IN: &str = include_str!("../../configs/clip_benchmark.json");
/// Sets of ImageNet's classes.
const IMAGENET: [&str; 3] = ["imagenet1k", "imagenetv2", "imagenet_sketch"];

#[derive(Deserialize)]
struct BuiltIn {
    classnames: HashMap<String, Vec<String>>,
    templates: HashMap<String, Vec<String>>,
}

/// Names and templates, where a set brings them along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Class names; the label is the index.
    pub classes: Option<Vec<String>>,
    /// Templates with `{}` or `{c}`.
    pub templates: Option<Vec<String>>,
}

impl Names {
    /// Reads both from the first of `folders` that has them.
    ///
    /// # Errors
    /// When a file cannot be read, has an empty line between others, or a template has no place for the class name.
    pub(crate) fn beside(folders: &[&Path]) -> Result<Self, EvalError> {
        Ok(Self {
            classes: first(folders, CLASSES, |name| !name.is_empty(), "is empty")?,
            templates: first(
                folders,
                TEMPLATES,
                |template| template.contains("{}") || template.contains("{c}"),
                "has neither {} nor {c}",
            )?,
        })
    }

    /// What is missing here, from CLIP_benchmark's lists for the set of this name, such as `cars` or `wds/vtab/pets`.
    ///
    /// # Errors
    /// When the embedded lists are malformed.
    pub fn or_built_in(&self, name: &str) -> Result<Self, EvalError> {
        let name = name.strip_prefix("wds/").unwrap_or(name);
        if IMAGENET.contains(&name) {
            let imagenet = Prompts::imagenet()?;
            return Ok(Self {
                classes: self.classes.clone().or(Some(imagenet.classes)),
                templates: self.templates.clone().or(Some(imagenet.templates)),
            });
        }
        let mut known: BuiltIn =
            serde_json::from_str(BUILT_IN).map_err(|source| EvalError::Json {
                path: "configs/eval/clip_benchmark.json".into(),
                source,
            })?;
        let plain = name.strip_prefix("vtab/").unwrap_or(name);
        let classes = if name == "vtab/caltech101" {
            "caltech101_vtab"
        } else {
            plain
        };
        let classes = known.classnames.remove(classes);
        Ok(Self {
            classes: self.classes.clone().or(classes),
            templates: self.templates.clone().or(known.templates.remove(plain)),
        })
    }
}

fn first(
    folders: &[&Path],
    name: &str,
    is_good: fn(&str) -> bool,
    problem: &str,
) -> Result<Option<Vec<String>>, EvalError> {
    let paths = folders.iter().map(|folder| folder.join(name));
    let Some(path) = paths.into_iter().find(|path| path.is_file()) else {
        return Ok(None);
    };
    log::info!("{} is read", path.display());
    let text = read_text(&path)?;
    let lines: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    if lines.is_empty() {
        return Err(EvalError::list(
            &path,
            "there is nothing in it; expected one a line",
        ));
    }
    match lines.iter().position(|line| !is_good(line)) {
        Some(at) => Err(EvalError::list(
            &path,
            format!("line {} {problem}: {:?}", at + 1, lines[at]),
        )),
        None => Ok(Some(lines)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sets_of_clip_benchmark_have_built_in_names() {
        let count = |name| {
            let names = Names::default().or_built_in(name).unwrap();
            [names.classes, names.templates].map(|list| list.map(|list| list.len()))
        };
        assert_eq!(count("wds/vtab/pets"), [Some(37), Some(1)]);
        assert_eq!(count("vtab/caltech101"), [Some(102), Some(34)]);
        assert_eq!(count("imagenetv2"), [Some(1000), Some(80)]);
        assert_eq!(count("cars"), [None, Some(8)]);
        assert_eq!(count("/data/pets"), [None, None]);
        let own = Names {
            classes: Some(vec!["a".into()]),
            templates: None,
        };
        let names = own.or_built_in("pets").unwrap();
        assert_eq!(
            (names.classes, names.templates.map(|list| list.len())),
            (own.classes, Some(1))
        );
    }

    #[test]
    fn every_built_in_template_has_a_place() {
        let known: BuiltIn = serde_json::from_str(BUILT_IN).unwrap();
        // ImageNet's are the seventeenth.
        assert_eq!((known.classnames.len(), known.templates.len()), (16, 31));
        assert!(
            known
                .templates
                .values()
                .flatten()
                .all(|template| template.contains("{c}"))
        );
    }
}
