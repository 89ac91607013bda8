//! Under which prefix a file holds a model.
//!
//! Trainers wrap models, and their names get into the keys: `model.` of Lightning, `module.` of an average of weights, `student.` of
//! a distillation. The file is read with each beginning of its keys taken off, and the one reading under which it is the model wins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::diagnosis;
use super::keys::{self, normalise};
use crate::family::ParamInfo;
use crate::files::weights::{StateDict, WeightsError};

/// Parts of a key that a prefix has, at most.
const MAX_PARTS: usize = 6;

/// What the model asks for.
pub(super) struct Wanted<'a> {
    pub params: &'a [ParamInfo],
    /// Whether the text tower's keys lie under `text.`.
    pub custom_text: bool,
}

impl Wanted<'_> {
    /// The tensors of a file under the model's keys.
    fn read(&self, dict: StateDict) -> Result<StateDict, WeightsError> {
        Ok(keys::with_text_prefix(normalise(dict)?, self.custom_text))
    }

    /// Keys that a state dict lacks, and keys that it has beyond the model's.
    fn differences(&self, dict: &StateDict) -> (usize, usize) {
        let has = |param: &&ParamInfo| dict.tensors.contains_key(&param.key);
        let common = self.params.iter().filter(has).count();
        let optional = self.params.iter().filter(|param| !has(param));
        let optional = optional.filter(|param| param.key == "logit_bias").count();
        (
            self.params.len() - common - optional,
            dict.tensors.len() - common,
        )
    }

    /// Whether all tensors have the model's shapes, but for positions, which are resized.
    fn has_shapes_of(&self, dict: &StateDict) -> bool {
        self.params.iter().all(|param| {
            let shape = dict.tensors.get(&param.key).map(|tensor| &tensor.shape);
            let is_scalar = param.shape.is_empty();
            is_scalar
                || param.key.contains("pos")
                || shape.is_none_or(|shape| *shape == param.shape)
        })
    }
}

/// The tensors of the model in `raw`, which came from `file` with the keys that it has, under OpenCLIP's; and a word about the prefix
/// if one was taken off.
///
/// Where no reading fits, the one that has most of the model is returned, so that what differs can be told.
///
/// # Errors
/// Several readings fit, or the file holds something else than a whole model.
pub(super) fn choose(
    raw: &StateDict,
    wanted: &Wanted<'_>,
    file: &Path,
) -> Result<(StateDict, Option<String>), WeightsError> {
    let whole = wanted.read(raw.clone())?;
    let (missing, unexpected) = wanted.differences(&whole);
    if missing + unexpected == 0 {
        return Ok((whole, None));
    }
    let mut fitting = Vec::new();
    let mut nearest = (missing, None);
    for prefix in prefixes(raw, wanted.params.len() / 2) {
        // What cannot be brought into OpenCLIP's form is no model.
        let Ok(inner) = wanted.read(raw.under(&prefix)) else {
            continue;
        };
        let (missing, unexpected) = wanted.differences(&inner);
        if missing + unexpected == 0 {
            fitting.push((prefix, inner));
        } else if missing < nearest.0 {
            nearest = (missing, Some((prefix, inner)));
        }
    }
    // A prefix that goes on with what is taken off in any case says no more than the shorter one.
    let count = |prefix: &str| {
        raw.tensors
            .keys()
            .filter(|key| key.starts_with(prefix))
            .count()
    };
    let mut distinct: Vec<(String, StateDict)> = Vec::new();
    for (prefix, inner) in fitting {
        let same = |other: &str| prefix.starts_with(other) && count(&prefix) == count(other);
        if !distinct.iter().any(|(other, _)| same(other)) {
            distinct.push((prefix, inner));
        }
    }
    let mut fitting = distinct;
    if fitting.len() > 1 && fitting.iter().any(|(_, inner)| wanted.has_shapes_of(inner)) {
        fitting.retain(|(_, inner)| wanted.has_shapes_of(inner));
    }
    let is_complete = missing == 0;
    match (fitting.len(), nearest.1) {
        (1, _) if !is_complete => {
            let (prefix, inner) = fitting.swap_remove(0);
            let word = word(raw, &prefix, file);
            Ok((inner, Some(word)))
        }
        (0, nearest) => {
            let near = nearest.as_ref().map_or(&whole, |(_, inner)| inner);
            if let Some(what) = diagnosis::what(raw, near) {
                return Err(WeightsError::NoWholeModel {
                    file: file.to_path_buf(),
                    what,
                });
            }
            Ok(match nearest {
                Some((prefix, inner)) => {
                    // What is missing is told of these keys, in an error that names no prefix.
                    log::warn!("{}", word(raw, &prefix, file));
                    (inner, None)
                }
                None => (whole, None),
            })
        }
        _ => Err(WeightsError::Ambiguous {
            file: file.to_path_buf(),
            prefixes: fitting.into_iter().map(|(prefix, _)| prefix).collect(),
            bare: is_complete,
        }),
    }
}

fn word(raw: &StateDict, prefix: &str, file: &Path) -> String {
    let others = raw.tensors.keys().filter(|key| !key.starts_with(prefix));
    let others = match others.count() {
        0 => String::new(),
        1 => "; another tensor is passed over".into(),
        count => format!("; {count} other tensors are passed over"),
    };
    let file = file.display();
    format!("{file}: the model's keys begin with `{prefix}`, which is taken off{others}")
}

/// Beginnings, each up to a dot, that at least so many keys have.
fn prefixes(dict: &StateDict, least: usize) -> BTreeSet<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for key in dict.tensors.keys() {
        for (dot, _) in key.match_indices('.').take(MAX_PARTS) {
            *counts.entry(&key[..=dot]).or_default() += 1;
        }
    }
    let frequent = counts
        .into_iter()
        .filter(|(_, count)| *count >= least.max(1));
    frequent.map(|(prefix, _)| prefix.to_string()).collect()
}
