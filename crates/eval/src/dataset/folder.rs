//! Pictures in one folder per class.

use std::path::Path;
use std::sync::Arc;

use openclip_data::source::Item;
use openclip_data::source::table::Table;

use super::names::Names;
use super::pictures::{Bytes, Pictures};
use super::targets::Dataset;
use crate::error::EvalError;
use crate::validation::{ZeroShot, imagenet_v2_root};

/// Opens the class folders in `root`, which are called by the `classnames.txt` in it or in `above`, else by their own names.
pub(super) fn open(root: &Path, above: &Path) -> Result<Dataset, EvalError> {
    let names = Names::beside(&[root, above])?;
    let root = &imagenet_v2_root(root);
    let set = ZeroShot::named("", root, names.clone())?;
    let names = Names {
        classes: Some(set.prompts.classes),
        ..names
    };
    let mut pictures = Pictures::new(root.display().to_string());
    let mut labels = Vec::with_capacity(set.folder.len());
    for index in 0..set.folder.len() {
        if let Item::Sample(sample) = set.folder.item(index) {
            labels.push(sample.label.unwrap_or_default());
            pictures.push(sample.name, Bytes::Whole(sample.image));
        }
    }
    Ok(Dataset::labelled(Arc::new(pictures), labels, names))
}
