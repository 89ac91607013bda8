//! A line of the table of models.

use serde::Serialize;

use super::flops::Flops;
use crate::family::ParamInfo;
use crate::files::config::ModelConfig;
use crate::files::weights::Part;
use crate::network::clip::Clip;
use crate::network::params;

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

impl Profile {
    /// Of a model whose weights need not be there.
    pub fn of(name: &str, config: &ModelConfig, model: &Clip) -> Self {
        let (vision, text) = (&config.vision_cfg, &config.text_cfg);
        let (height, width) = vision.image_size.dims();
        let params = params::describe(model);
        let (patch_size, image_width) = model.visual.family().patch_and_width(vision, &params);
        let vocabulary = params
            .iter()
            .find(|param| VOCABULARIES.iter().any(|end| param.key.ends_with(end)));
        let (vocab_size, text_width) = match vocabulary.map(|param| param.shape.as_slice()) {
            Some(&[ids, width]) => (ids, width),
            _ => (text.vocab_size, text.width),
        };
        let count = |part: Option<Part>| {
            let owns = |key: &str| part.is_none_or(|part| part.owns(key));
            let counted = params.iter().filter(|p| p.is_parameter() && owns(&p.key));
            counted.map(ParamInfo::numel).sum()
        };
        Self {
            name: name.to_owned(),
            parameters: count(None),
            image_parameters: count(Some(Part::Image)),
            text_parameters: count(Some(Part::Text)),
            embed_dim: config.embed_dim,
            image_size: [height, width],
            patch_size,
            image_width,
            text_width,
            context_length: text.context_length,
            vocab_size,
            quick_gelu: config.quick_gelu,
            flops: Flops::of(model, config, &params),
        }
    }
}
