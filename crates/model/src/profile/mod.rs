//! Size and cost of a model, with the columns of OpenCLIP's `docs/model_profile.csv`. Nothing is allocated: everything follows
//! from the configuration and from the shapes of the parameters that it asks for.
//!
//! * [`flops`] – operations of a forward pass, and what training keeps of it
//! * [`cost`](self) – both, of a matrix, a kernel, an attention
//! * [`windows`] – those of timm towers whose maps and windows have rules of their own

mod cost;
pub mod flops;
mod windows;

use serde::Serialize;

use crate::Clip;
use crate::config::ModelConfig;
use crate::params::{self, ParamInfo};
use flops::Flops;

/// Size and cost of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// All parameters, buffers not among them.
    pub parameters: usize,
    /// Those of the image tower.
    pub image_parameters: usize,
    /// Those of the text tower, without a caption decoder.
    pub text_parameters: usize,
    /// Width of the shared embedding.
    pub embed_dim: usize,
    /// Height and width of a picture.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels, of a tower whose first layer makes tokens of patches.
    pub patch_size: Option<usize>,
    /// Width of the image tower: of its tokens, of a ConvNeXt's last stage, of a ResNet's stem as OpenCLIP counts it.
    pub image_width: usize,
    /// Width of the text tower's tokens.
    pub text_width: usize,
    /// Tokens of a caption.
    pub context_length: usize,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Computes with QuickGELU.
    pub quick_gelu: bool,
    /// Operations for one picture and one caption; absent for a family whose operations are not counted.
    #[serde(flatten)]
    pub flops: Option<Flops>,
}

/// Ends of the keys that hold a vector per token id.
const VOCABULARIES: [&str; 3] = [
    "token_embedding.weight",
    "word_embeddings.weight",
    "embed_tokens.weight",
];

/// Keys of timm's towers whose length is the width of the features, the first that is there.
const FEATURES: [&str; 5] = [
    "visual.trunk.norm.weight",
    "visual.trunk.fc_norm.weight",
    "visual.trunk.head.norm.weight",
    "visual.trunk.head.fc.weight",
    "visual.head.proj.weight",
];

impl Profile {
    /// Of a model whose weights need not be there.
    pub fn of(name: &str, config: &ModelConfig, model: &Clip) -> Self {
        let (vision, text) = (&config.vision_cfg, &config.text_cfg);
        let (height, width) = vision.image_size.dims();
        let params = params::describe(model);
        let shape = |key: &str| {
            let found = params.iter().find(|param| param.key == key);
            found.map(|param| param.shape.as_slice())
        };
        let (patch_size, image_width) = match vision.timm_model_name() {
            None if vision.is_resnet() => (None, vision.width),
            None => (vision.patch_size, vision.width),
            Some(_) => {
                let patches = shape("visual.trunk.patch_embed.proj.weight");
                let features = FEATURES.into_iter().find_map(shape);
                let patch = patches.and_then(|shape| shape.get(2).copied());
                let width = features.or(patches).and_then(|shape| match *shape {
                    [_, features] => Some(features),
                    _ => shape.first().copied(),
                });
                (patch, width.unwrap_or(vision.width))
            }
        };
        let vocabulary = params
            .iter()
            .find(|param| VOCABULARIES.iter().any(|end| param.key.ends_with(end)));
        let (vocab_size, text_width) = match vocabulary.map(|param| param.shape.as_slice()) {
            Some(&[ids, width]) => (ids, width),
            _ => (text.vocab_size, text.width),
        };
        let count = |part: fn(&str) -> bool| {
            let counted = params.iter().filter(|p| p.is_parameter() && part(&p.key));
            counted.map(ParamInfo::numel).sum()
        };
        Self {
            name: name.to_owned(),
            parameters: count(|_| true),
            image_parameters: count(is_image),
            text_parameters: count(is_text),
            embed_dim: config.embed_dim,
            image_size: [height, width],
            patch_size,
            image_width,
            text_width,
            context_length: text.context_length,
            vocab_size,
            quick_gelu: config.quick_gelu,
            flops: Flops::of(config, &params),
        }
    }
}

/// Whether a key belongs to the image tower.
fn is_image(key: &str) -> bool {
    key.starts_with("visual.")
}

/// Whether a key belongs to the caption decoder.
fn is_decoder(key: &str) -> bool {
    key.starts_with("text_decoder.")
}

/// Whether a key belongs to the text tower.
fn is_text(key: &str) -> bool {
    !is_image(key) && !is_decoder(key) && !key.starts_with("logit_")
}
