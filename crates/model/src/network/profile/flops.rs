//! Operations of a forward pass, and what training keeps of it, counted from the shapes of the parameters by the rules of
//! [`crate::family::cost`].

use serde::Serialize;

use crate::family::{Cost, ParamInfo};
use crate::files::config::ModelConfig;
use crate::files::weights::Part;
use crate::network::clip::Clip;
use crate::network::coca::MultimodalTransformer;

/// Operations for one picture and one caption of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// Of everything, a caption decoder included.
    #[serde(rename = "flops")]
    pub total: u64,
    /// Of the image tower.
    #[serde(rename = "image_flops")]
    pub image: u64,
    /// Of the text tower.
    #[serde(rename = "text_flops")]
    pub text: u64,
}

impl Flops {
    /// Counts those of a model with these parameters; `None` for a family that has no rule here.
    pub fn of(model: &Clip, config: &ModelConfig, params: &[ParamInfo]) -> Option<Self> {
        let [image, text, decoder] = parts(model, config, params)?.map(|cost| cost.flops);
        Some(Self {
            total: image + text + decoder,
            image,
            text,
        })
    }
}

/// Values of one sample that training keeps for its backward pass, an estimate from the shapes of the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activations {
    /// In the image tower, without the picture.
    pub image: u64,
    /// In the text tower and the caption decoder.
    pub text: u64,
}

impl Activations {
    /// Those of a model with these parameters, whose blocks may be computed again in the backward pass; `None` for a family that
    /// has no rule here.
    pub fn of(
        model: &Clip,
        config: &ModelConfig,
        params: &[ParamInfo],
        recomputed: bool,
    ) -> Option<Self> {
        let [image, text, decoder] = parts(model, config, params)?.map(|cost| match recomputed {
            true => cost.recomputed(config.quick_gelu),
            false => cost.kept(config.quick_gelu),
        });
        Some(Self {
            image,
            text: text + decoder,
        })
    }
}

/// Of image tower, text tower and caption decoder.
fn parts(model: &Clip, config: &ModelConfig, params: &[ParamInfo]) -> Option<[Cost; 3]> {
    let select = |part: Part| -> Vec<&ParamInfo> {
        let own = params.iter().filter(|param| part.owns(&param.key));
        own.collect()
    };
    Some([
        model.visual.family().cost(config, &select(Part::Image))?,
        model.text.family().cost(config, &select(Part::Text))?,
        MultimodalTransformer::cost(config, &select(Part::Captions))?,
    ])
}
