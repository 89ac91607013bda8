//! CoCa: a contrastive model with a decoder that writes captions (`coca_model.py`; Yu et al. 2022, arXiv 2205.01917).
//!
//! It is a [`Clip`] whose `text_decoder` is there. The picture's tokens and the caption's tokens, as the two towers leave them,
//! go through the decoder, whose output at a position is about the next token.

use burn::tensor::{DType, Device, Int, Tensor};

use crate::clip::{ClipOutput, l2_normalize};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::init::Init;
use crate::text::{MultimodalTransformer, TextTower, hf};
use crate::vision::{VisionTower, VisionTransformer};
use crate::weights::StateDict;
use crate::{Clip, config::MultimodalConfig};

/// What [`Clip::forward_caption`] returns.
#[derive(Debug, Clone)]
pub struct CaptionOutput {
    /// Features of unit length, and the inverse temperature.
    pub features: ClipOutput,
    /// Prediction of the token after each but the last, `[batch, length − 1, vocabulary]` in f32.
    pub logits: Tensor<3>,
    /// Those tokens, `[batch, length − 1]`.
    pub labels: Tensor<2, Int>,
}

/// The parts of a model that can write captions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Captioner<'a> {
    pub(crate) visual: &'a VisionTransformer,
    pub(crate) text: &'a TextTower,
    pub(crate) decoder: &'a MultimodalTransformer,
}

/// The decoder of a configuration, where it has one, after a check that both towers give it tokens.
pub(crate) fn decoder(
    config: &ModelConfig,
    device: &Device,
) -> Result<Option<MultimodalTransformer>, ModelError> {
    let Some(decoder) = config.multimodal()? else {
        return Ok(None);
    };
    if let Some(name) = config.vision_cfg.timm_model_name() {
        return Err(ModelError::Family {
            field: "multimodal_cfg with vision_cfg.timm_model_name",
            value: name.to_string(),
        });
    }
    MultimodalTransformer::new(config, &decoder, device).map(Some)
}

/// Where a Hugging Face tower reads more token ids than the decoder of `config` knows, the number of both.
///
/// OpenCLIP makes such a decoder for `text_cfg.vocab_size`, which is CLIP's unless it is given, and its published model cannot
/// write the ids beyond. A model that is trained from scratch should.
pub(crate) fn whole_vocabulary(config: &ModelConfig) -> Result<Option<usize>, ModelError> {
    let arch = match config.multimodal()? {
        Some(_) => hf::arch(config)?,
        None => None,
    };
    let ids = arch.map(|arch| arch.vocab_size);
    Ok(ids.filter(|ids| *ids > config.text_cfg.vocab_size))
}

/// The number of token ids that the decoder in a file knows, where the configuration leaves it open as
/// [`whole_vocabulary`] says and the file has another than `config`.
pub(crate) fn stored_vocabulary(config: &ModelConfig, dict: &StateDict) -> Option<usize> {
    let projection = dict.tensors.get("text_decoder.text_projection")?;
    let stored = *projection.shape.get(1)?;
    let whole = whole_vocabulary(config).ok()??;
    (stored == whole).then_some(stored)
}

/// How a parameter that only CoCa has starts; `None` for every other.
///
/// Upstream never initialises its decoder: PyTorch's defaults stay, and the projection is memory as it was found. It starts here
/// as the text tower's projection does.
pub(crate) fn initial(key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
    let xavier = || Init::Uniform((6.0 / (shape[0] + shape[1]) as f64).sqrt());
    match key {
        "text.cls_emb" | "cls_emb" => return Some(Init::Normal(0.01)),
        "visual.attn_pool.query" => return Some(Init::Normal(1.0)),
        "visual.attn_pool.attn.q_proj_weight"
        | "visual.attn_pool.attn.k_proj_weight"
        | "visual.attn_pool.attn.v_proj_weight" => return Some(xavier()),
        _ => {}
    }
    let name = key.strip_prefix("text_decoder.")?;
    let decoder = config.multimodal().ok()??;
    let width = decoder.width as f64;
    let mut parts = name.rsplit('.');
    let leaf = parts.next().unwrap_or_default();
    let module = parts.next().unwrap_or_default();
    Some(match (module, leaf) {
        ("", "text_projection") => Init::Normal(width.powf(-0.5)),
        (norm, leaf) if norm.starts_with("ln_") => {
            Init::Constant(if leaf == "weight" { 1.0 } else { 0.0 })
        }
        ("ls_1" | "ls_2", _) => Init::Constant(decoder.ls_init_value.unwrap_or(1.0)),
        (_, "in_proj_weight") => xavier(),
        (_, "in_proj_bias") | ("out_proj", "bias") => Init::Constant(0.0),
        ("c_proj", "bias") => Init::Uniform((width * MultimodalConfig::MLP_RATIO).powf(-0.5)),
        (_, "bias") => Init::Uniform(width.powf(-0.5)),
        _ => Init::Uniform((shape.iter().skip(1).product::<usize>().max(1) as f64).powf(-0.5)),
    })
}

impl Clip {
    /// The parts that write captions.
    ///
    /// # Errors
    /// The model has no caption decoder, or towers of a family that gives it no tokens.
    pub(crate) fn captioner(&self) -> Result<Captioner<'_>, ModelError> {
        let refuse = |reason: &str| Err(ModelError::invalid("multimodal_cfg", reason));
        let Some(decoder) = &self.text_decoder else {
            return refuse("the model has no caption decoder; a coca_* model has");
        };
        match &self.visual {
            VisionTower::Vit(visual) => Ok(Captioner {
                visual,
                text: &self.text,
                decoder,
            }),
            _ => refuse("only the native ViT gives a caption decoder its tokens"),
        }
    }

    /// Whether the model can write captions.
    pub fn writes_captions(&self) -> bool {
        self.captioner().is_ok()
    }

    /// Normalised pixels `[batch, 3, height, width]` and token ids `[batch, length]` → features and caption logits; the whole
    /// model computes in the dtype of `image`.
    ///
    /// `training` seeds what is random in training, such as patch dropout.
    ///
    /// # Errors
    /// As [`Self::writes_captions`] says; captions of one token or of more than the decoder's context.
    pub fn forward_caption(
        &self,
        image: Tensor<4>,
        tokens: Tensor<2, Int>,
        training: Option<u64>,
    ) -> Result<CaptionOutput, ModelError> {
        let parts = self.captioner()?;
        let [_, length] = tokens.dims();
        let longest = parts.decoder.context_length() + 1;
        if !(2..=longest).contains(&length) {
            return Err(ModelError::invalid(
                "multimodal_cfg.context_length",
                format!("captions of {length} tokens, expected 2 to {longest}"),
            ));
        }
        let dtype = image.dtype();
        let unit = |features: Tensor<2>| l2_normalize(features.cast(DType::F32));
        let (image, image_tokens) = parts.visual.forward_with_tokens(image, training);
        let (text, text_tokens) = parts
            .text
            .forward_with_tokens(tokens.clone(), dtype, training);
        let text_tokens = text_tokens.slice_dim(1, 0..length - 1);
        Ok(CaptionOutput {
            features: self.join(unit(image), unit(text)),
            logits: parts
                .decoder
                .forward(image_tokens, text_tokens)
                .cast(DType::F32),
            labels: tokens.slice_dim(1, 1..length),
        })
    }
}
