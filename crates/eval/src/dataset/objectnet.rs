//! ObjectNet as it is unpacked: of its 313 classes the 113 that are ImageNet's as well.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use openclip_data::source::Item;
use openclip_data::source::image_folder::ImageFolder;
use openclip_data::source::table::Table;

use super::names::Names;
use super::pictures::{Bytes, Pictures};
use super::targets::Dataset;
use crate::error::EvalError;
use crate::lines::read_text;

/// What the folders are called.
const LABELS: &str = "folder_to_objectnet_label.json";
/// The classes that are ImageNet's, by what they are called.
const SHARED: &str = "objectnet_to_imagenet_1k.json";

/// Opens `dir`, which has `images/` and `mappings/` or holds the folder that has; `None` if it is another set.
pub(super) fn open(dir: &Path) -> Result<Option<Dataset>, EvalError> {
    let roots = [dir.to_owned(), dir.join("objectnet-1.0")];
    let file = |name: &str| {
        let places = roots
            .iter()
            .flat_map(|root| [root.join("mappings").join(name), root.join(name)]);
        places.into_iter().find(|path| path.is_file())
    };
    let images = roots
        .iter()
        .map(|root| root.join("images"))
        .find(|path| path.is_dir());
    let (Some(images), Some(labels), Some(shared)) = (images, file(LABELS), file(SHARED)) else {
        return Ok(None);
    };
    let (labels, shared) = (read(&labels)?, read(&shared)?);
    let folder = ImageFolder::open(&images)?;
    let mut classes = Vec::new();
    let mut class_of = vec![None; folder.classes().len()];
    for (class, name) in class_of.iter_mut().zip(folder.classes()) {
        let label = labels.get(name).filter(|label| shared.contains_key(*label));
        if let Some(label) = label {
            *class = Some(classes.len());
            classes.push(label.to_lowercase());
        }
    }
    let mut pictures = Pictures::new(dir.display().to_string());
    let mut of_picture = Vec::new();
    for index in 0..folder.len() {
        if let Item::Sample(sample) = folder.item(index)
            && let Some(Some(class)) = sample.label.map(|label| class_of[label])
        {
            of_picture.push(class);
            pictures.push(sample.name, Bytes::Whole(sample.image));
        }
    }
    if of_picture.is_empty() {
        let problem = format!("none of its folders is of a class in {SHARED}");
        return Err(EvalError::list(&images, problem));
    }
    let templates = Names::beside(&[dir])?.templates;
    Ok(Some(Dataset::labelled(
        Arc::new(pictures),
        of_picture,
        Names {
            classes: Some(classes),
            templates,
        },
    )))
}

fn read(path: &Path) -> Result<BTreeMap<String, String>, EvalError> {
    serde_json::from_str(&read_text(path)?).map_err(|source| EvalError::Json {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::targets::{Labels, Targets};
    use super::*;

    #[test]
    fn classes_that_are_not_imagenets_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join("objectnet-1.0").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for name in [
            "air_freshener/a.png",
            "alarm_clock/b.png",
            "zip_bag/c.png",
            "zip_bag/d.png",
        ] {
            write(&format!("images/{name}"), "x");
        }
        assert!(open(dir.path()).unwrap().is_none());
        let labels = r#"{"air_freshener": "Air freshener", "alarm_clock": "Alarm clock", "zip_bag": "Zip bag"}"#;
        write(&format!("mappings/{LABELS}"), labels);
        write(
            &format!("mappings/{SHARED}"),
            r#"{"Alarm clock": "analog clock; digital clock", "Zip bag": "plastic bag"}"#,
        );
        let set = open(dir.path()).unwrap().unwrap();
        let Targets::Labels { labels, names, .. } = set.targets else {
            unreachable!()
        };
        assert_eq!(labels, Labels::One(vec![0, 1, 1]));
        assert_eq!(names.classes.unwrap(), ["alarm clock", "zip bag"]);
    }
}
