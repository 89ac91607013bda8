//! The map behind a timm tower to the shared embedding (`timm_model.py::TimmModel`).

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::family::Init;
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TimmOptions, TimmProj};
use crate::layers::{Activation, Linear, TimmMlp};

/// Layers under `visual.head`; neither is there when the trunk's own output is the embedding.
#[derive(Module, Debug)]
pub struct TimmHead {
    /// One matrix.
    pub proj: Option<Linear>,
    /// Two matrices with a GELU between them; the hidden width is twice the embedding's.
    pub mlp: Option<TimmMlp>,
}

impl TimmHead {
    /// From `features` of the trunk to `embed_dim`.
    ///
    /// # Errors
    /// No map is configured and the widths differ.
    pub fn new(
        options: &TimmOptions,
        features: usize,
        embed_dim: usize,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let bias = options.proj_bias;
        let (mut proj, mut mlp) = (None, None);
        match options.projection()? {
            TimmProj::Linear => proj = Some(Linear::new(features, embed_dim, bias, device)),
            TimmProj::Mlp => {
                let widths = [features, 2 * embed_dim, embed_dim];
                mlp = Some(TimmMlp::new(widths, bias, Activation::Gelu, device));
            }
            TimmProj::Classifier => {}
            TimmProj::None if features == embed_dim => {}
            TimmProj::None => {
                return Err(ModelError::invalid(
                    "vision_cfg.timm_proj",
                    format!(
                        "`none`, but {} gives {features} features and embed_dim is {embed_dim}",
                        options.model_name
                    ),
                ));
            }
        }
        Ok(Self { proj, mlp })
    }

    /// `[batch, features]` → `[batch, embed_dim]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match (&self.proj, &self.mlp) {
            (Some(proj), _) => proj.forward(x),
            (None, Some(mlp)) => mlp.forward(x),
            (None, None) => x,
        }
    }
}

/// How a parameter behind a trunk of `features` starts: as PyTorch's linear layers do.
pub(crate) fn initial_head(
    key: &str,
    shape: &[usize],
    features: usize,
    config: &ModelConfig,
) -> Init {
    match key {
        "visual.head.mlp.fc2.bias" => Init::of_inputs(2 * config.embed_dim),
        _ if shape.len() > 1 => Init::of_matrix(shape),
        _ => Init::of_inputs(features),
    }
}
