//! Published weights: which tags a model has, where their files are, and what belongs to them.
//!
//! The facts are OpenCLIP's, in `configs/pretrained.json`. A tag is found whatever its case, and with `-` for `_`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::files::config::PreprocessConfig;

/// Weights that OpenCLIP knows by a tag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pretrained {
    /// Name of the configuration.
    pub model: String,
    /// Name of the weights, in lower case.
    pub tag: String,
    /// Repository of the Hugging Face hub with the file's name behind the last `/`; a name that is empty stands for
    /// [`WEIGHTS`].
    pub hf_hub: String,
    /// The same weights elsewhere; empty if they are nowhere else.
    #[serde(default)]
    pub url: String,
    /// What pictures went through in training.
    #[serde(flatten)]
    pub preprocess: PreprocessConfig,
    /// Trained with QuickGELU.
    #[serde(default)]
    pub quick_gelu: bool,
}

/// Name of the weights in a repository that has OpenCLIP's layout.
pub const WEIGHTS: &str = "open_clip_pytorch_model.bin";

/// What is taken in place of [`WEIGHTS`] where a repository has it.
pub const SAFE_WEIGHTS: &str = "open_clip_model.safetensors";

const TABLE: &str = include_str!("../../configs/pretrained.json");

#[allow(clippy::expect_used)] // The table is part of the program, and tests read it.
static PRETRAINED: LazyLock<Vec<Pretrained>> =
    LazyLock::new(|| serde_json::from_str(TABLE).expect("configs/pretrained.json"));

/// Every model and tag, in OpenCLIP's order.
pub fn all() -> &'static [Pretrained] {
    &PRETRAINED
}

/// The weights of a model.
pub fn of(model: &str) -> impl Iterator<Item = &'static Pretrained> {
    let name = model.replace('/', "-");
    all().iter().filter(move |entry| entry.model == name)
}

/// The weights that `tag` names.
pub fn find(model: &str, tag: &str) -> Option<&'static Pretrained> {
    let tag = tag.to_lowercase().replace('-', "_");
    of(model).find(|entry| entry.tag == tag)
}

impl Pretrained {
    /// Repository on the Hugging Face hub.
    pub fn repository(&self) -> &str {
        self.hf_hub.rsplit_once('/').map_or("", |(repo, _)| repo)
    }

    /// Name of the file in the repository.
    pub fn file(&self) -> &str {
        match self.hf_hub.rsplit_once('/') {
            Some((_, file)) if !file.is_empty() => file,
            _ => WEIGHTS,
        }
    }
}

/// Names under which a repository may hold the file, the preferred first: weights in safetensors win over pickles.
pub fn alternatives(file: &str) -> Vec<String> {
    let safe = match file.strip_suffix(".bin").or(file.strip_suffix(".pth")) {
        _ if file == WEIGHTS => Some(SAFE_WEIGHTS.to_string()),
        stem => stem.map(|stem| format!("{stem}.safetensors")),
    };
    safe.into_iter().chain([file.to_string()]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tags_are_found_in_any_case_and_with_hyphens() {
        let entry = find("ViT-B/32", "LAION2B-S34B-b79k").unwrap();
        assert_eq!(entry.tag, "laion2b_s34b_b79k");
        assert_eq!(entry.repository(), "laion/CLIP-ViT-B-32-laion2B-s34B-b79K");
        assert_eq!(entry.file(), WEIGHTS);
        assert!(find("ViT-B-32", "webli").is_none());
        assert!(find("vit-b-32", "openai").is_none());
    }

    #[test]
    fn safetensors_come_first() {
        assert_eq!(alternatives(WEIGHTS), [SAFE_WEIGHTS, WEIGHTS]);
        assert_eq!(
            alternatives("pytorch_model.bin"),
            ["pytorch_model.safetensors", "pytorch_model.bin"]
        );
        assert_eq!(alternatives("model.safetensors"), ["model.safetensors"]);
    }
}
