//! Which model, weights, device and preprocessing.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, ValueEnum};
use openclip_eval::lines::read_labels;
use openclip_model::config::{ImageSize, Interpolation, PreprocessConfig, ResizeMode};
use openclip_model::factory::CreateOptions;
use openclip_train::Precision;

use crate::error::{CliError, Result};
use crate::output::note;

/// The model and where it runs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A built-in name (see `openclip models`), a configuration FILE.json, local-dir:DIR or hf-hub:ORG/NAME
    ///
    /// local-dir:DIR is a folder in the layout of the Hugging Face hub: open_clip_config.json beside the weights, as
    /// `openclip convert --output DIR/` writes it, or config.json of a CLIP or SigLIP of transformers'. It holds one file of
    /// weights, or several shards of them. hf-hub:ORG/NAME is such a repository on the hub; hf-hub:ORG/NAME@REVISION a branch, tag or
    /// commit of it.
    #[arg(long, value_name = "NAME", required = true)]
    pub model: String,
    /// Weights: a .safetensors, .pt, .bin or .bpk file, a folder with one, a tag (see `openclip models --pretrained`), or an
    /// https address
    ///
    /// A folder is that of a model or one of a run's checkpoints. FILE:ENTRY takes one part of a checkpoint, such as
    /// epoch_3.pt:state_dict_ema, or the tensors whose keys begin with ENTRY. Activation and preprocessing come from the file, or from
    /// open_clip_config.json, config.json and preprocessor_config.json beside it, where they say something.
    ///
    /// A tag such as laion2b_s34b_b79k stands for published weights, with their own preprocessing. They are downloaded once
    /// (HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE=1 mean what they do for Python's libraries) unless they lie in
    /// ~/.cache/openclip/MODEL/TAG.safetensors (.pt, .bin) or in Hugging Face's cache. A local-dir: or hf-hub: model brings its
    /// own weights; any other model without this flag has random ones.
    #[arg(long, value_name = "FILE|DIR|TAG|URL")]
    pub pretrained: Option<String>,
    /// Where it runs, and what is set about it.
    #[command(flatten)]
    pub settings: ModelSettings,
}

/// Several models, for `eval`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Models")]
pub struct ModelsArgs {
    /// A built-in name (see `openclip models`), a configuration FILE.json, local-dir:DIR or hf-hub:ORG/NAME; or several
    #[arg(long, value_name = "NAME", num_args = 1.., required_unless_present = "pretrained_model")]
    pub model: Vec<String>,
    /// Weights of each --model, in their order, or several of one: a file, a folder with one, a tag, or an https address
    #[arg(long, value_name = "FILE|DIR|TAG|URL", num_args = 1..)]
    pub pretrained: Vec<String>,
    /// Models with their weights, in place of the two: MODEL,WEIGHTS, or a file that lists such pairs, one a line
    #[arg(long, value_name = "MODEL,WEIGHTS|FILE", num_args = 1.., conflicts_with_all = ["model", "pretrained"])]
    pub pretrained_model: Vec<String>,
    /// Where they run, and what is set about them.
    #[command(flatten)]
    pub settings: ModelSettings,
}

/// Where models run, and what is set about them.
#[derive(Debug, Clone, Args)]
pub struct ModelSettings {
    /// Where downloads go and tags are looked for [default: Hugging Face's cache]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Where to compute: cpu, cuda[:N], rocm[:N], wgpu, vulkan, metal, tch, tch:cuda[:N] or auto
    ///
    /// `auto` takes the first accelerator that this build supports and this machine has, else the CPU. Training takes several,
    /// such as cuda:0,1,2,3: each is a rank with batches of its own.
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "the text is the flag's help, in which [:N] may be left out"
    )]
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Width of the numbers: fp32, amp_bf16, fp16, pure_bf16, pure_fp16 or int8 [default: fp32; train on accelerators: amp_bf16]
    ///
    /// amp_bf16 computes in bfloat16 and keeps the weights in 32 bits: about twice as fast on recent GPUs, slower on
    /// most CPUs. fp16 computes in float16, for GPUs before Ampere, and scales the gradient in training. pure_bf16 and
    /// pure_fp16 keep the weights in 16 bits as well, for half the memory; pure_fp16 does not train. amp is amp_bf16.
    /// int8 multiplies in 8 bits in the blocks of native and timm's transformers: on the CPU, not for training.
    #[arg(long, value_parser = parse_precision)]
    pub precision: Option<PrecisionFlag>,
    /// Another picture size in pixels, one number or height and width; positional embeddings are resized
    #[arg(long, value_name = "PIXELS", num_args = 1..=2, action = ArgAction::Set)]
    pub force_image_size: Option<Vec<usize>>,
    /// Another number of tokens of a caption; positional embeddings are resized
    #[arg(long, value_name = "TOKENS")]
    pub force_context_length: Option<usize>,
    /// Compute with QuickGELU, whatever the configuration says
    ///
    /// For weights that were trained with it, such as OpenAI's, under a configuration without `-quickgelu` in its name.
    #[arg(long)]
    pub force_quick_gelu: bool,
    /// Compute with GELU, whatever configuration and weights say
    ///
    /// OpenAI's weights, and those whose settings say so, bring QuickGELU along; this undoes it.
    #[arg(long, conflicts_with = "force_quick_gelu")]
    pub no_force_quick_gelu: bool,
    /// Compute the MLPs of native towers from 8-bit operands (SwitchBack); the numbers of 8 bits without their speed yet
    #[arg(long, hide_short_help = true)]
    pub int8_linear: bool,
    /// Keep the text tower's weights under `text.`, whatever the configuration says
    #[arg(long)]
    pub force_custom_text: bool,
}

/// A value of `--precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrecisionFlag {
    /// What is computed.
    pub precision: Precision,
    /// `amp` was asked for, which is float16 on OpenCLIP's GPUs and bfloat16 here.
    is_amp: bool,
}

/// The names OpenCLIP has for precisions.
pub fn parse_precision(name: &str) -> std::result::Result<PrecisionFlag, String> {
    Ok(PrecisionFlag {
        precision: name.parse()?,
        is_amp: name == "amp",
    })
}

impl Deref for ModelArgs {
    type Target = ModelSettings;

    fn deref(&self) -> &ModelSettings {
        &self.settings
    }
}

impl ModelsArgs {
    /// Every model with its weights: one model with each of several weights, or each with its own.
    pub fn each(&self) -> Result<Vec<ModelArgs>> {
        let (models, weights) = (&self.model, &self.pretrained);
        let pairs: Vec<(String, Option<String>)> = match (models.len(), weights.len()) {
            (0, _) => self.listed()?,
            (_, 0) => models.iter().map(|model| (model.clone(), None)).collect(),
            (1, _) => weights
                .iter()
                .map(|weights| (models[0].clone(), Some(weights.clone())))
                .collect(),
            (count, of_weights) if count == of_weights => models
                .iter()
                .cloned()
                .zip(weights.iter().cloned().map(Some))
                .collect(),
            (count, of_weights) => {
                return Err(CliError::Usage(format!(
                    "{count} --model and {of_weights} --pretrained: give as many of each, or one --model"
                )));
            }
        };
        let of_pair = |(model, pretrained)| ModelArgs {
            model,
            pretrained,
            settings: self.settings.clone(),
        };
        Ok(pairs.into_iter().map(of_pair).collect())
    }

    /// The pairs of `--pretrained-model`.
    fn listed(&self) -> Result<Vec<(String, Option<String>)>> {
        let mut lines = Vec::new();
        for word in &self.pretrained_model {
            match Path::new(word).is_file() {
                true => lines.extend(read_labels(Path::new(word))?),
                false => lines.push(word.clone()),
            }
        }
        let pair = |line: String| match line.split_once(',') {
            Some((model, weights)) if !model.trim().is_empty() => {
                Ok((model.trim().to_owned(), Some(weights.trim().to_owned())))
            }
            _ => Err(CliError::Usage(format!(
                "--pretrained-model {line}: expected MODEL,WEIGHTS or a file that lists such pairs"
            ))),
        };
        lines.into_iter().map(pair).collect()
    }
}

impl ModelSettings {
    /// The precision asked for, or `fp32`.
    pub fn precision(&self) -> Precision {
        match self.precision {
            Some(flag) => {
                if flag.is_amp {
                    note("--precision amp is computed as amp_bf16");
                }
                flag.precision
            }
            None => Precision::Fp32,
        }
    }

    /// The activation that a flag asks for.
    pub fn quick_gelu(&self) -> Option<bool> {
        match (self.force_quick_gelu, self.no_force_quick_gelu) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// What the factory is told beyond the model's name.
    pub fn options(&self, seed: u64) -> CreateOptions {
        CreateOptions {
            force_quick_gelu: self.quick_gelu(),
            int8_linear: self.int8_linear,
            force_image_size: self.force_image_size.as_deref().map(image_size),
            force_context_length: self.force_context_length,
            force_patch_dropout: None,
            force_custom_text: self.force_custom_text,
            init_logits: None,
            pretrained_image: false,
            seed,
            cache_dir: self.cache_dir.clone(),
        }
    }
}

fn image_size(sides: &[usize]) -> ImageSize {
    match *sides {
        [height, width] => ImageSize::Rect([height, width]),
        [side, ..] => ImageSize::Square(side),
        [] => ImageSize::Square(0),
    }
}

/// How pictures become the model's input, where that differs from what belongs to the weights.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Preprocessing (default: what belongs to the weights, else OpenAI's)"
)]
pub struct PreprocessArgs {
    /// Mean of the channels that is subtracted, in 0..1: three numbers, or one for all
    #[arg(long, value_name = "R G B", num_args = 1..=3, action = ArgAction::Set, allow_negative_numbers = true)]
    pub image_mean: Option<Vec<f32>>,
    /// Standard deviation of the channels, in 0..1: three numbers, or one for all
    #[arg(long, value_name = "R G B", num_args = 1..=3, action = ArgAction::Set)]
    pub image_std: Option<Vec<f32>>,
    /// How pictures are resampled
    #[arg(long, value_enum)]
    pub image_interpolation: Option<InterpolationFlag>,
    /// What becomes of pictures that are not square: cut out the middle, pad, or squash
    #[arg(long, value_enum)]
    pub image_resize_mode: Option<ResizeModeFlag>,
}

/// A value of `--image-interpolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InterpolationFlag {
    /// Cubic convolution.
    Bicubic,
    /// Triangle filter.
    Bilinear,
    /// One of the two by chance in timm's augmentation (--aug-cfg use_timm=True), else bicubic.
    Random,
}

/// A value of `--image-resize-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResizeModeFlag {
    /// Shorter side to the target, then cut.
    Shortest,
    /// Longer side to the target, then pad.
    Longest,
    /// Both sides to the target.
    Squash,
}

impl PreprocessArgs {
    /// `--image-mean`.
    pub fn mean(&self) -> Result<Option<[f32; 3]>> {
        channels("--image-mean", self.image_mean.as_deref())
    }

    /// `--image-std`; zero would divide by nothing.
    pub fn std(&self) -> Result<Option<[f32; 3]>> {
        let std = channels("--image-std", self.image_std.as_deref())?;
        match std {
            Some(std) if std.iter().any(|value| *value <= 0.0) => Err(CliError::Usage(
                "--image-std: expected numbers above 0".into(),
            )),
            std => Ok(std),
        }
    }

    /// `--image-interpolation`.
    pub fn interpolation(&self) -> Option<Interpolation> {
        self.image_interpolation.map(|flag| match flag {
            InterpolationFlag::Bicubic => Interpolation::Bicubic,
            InterpolationFlag::Bilinear => Interpolation::Bilinear,
            InterpolationFlag::Random => Interpolation::Random,
        })
    }

    /// `--image-resize-mode`.
    pub fn resize_mode(&self) -> Option<ResizeMode> {
        self.image_resize_mode.map(|flag| match flag {
            ResizeModeFlag::Shortest => ResizeMode::Shortest,
            ResizeModeFlag::Longest => ResizeMode::Longest,
            ResizeModeFlag::Squash => ResizeMode::Squash,
        })
    }

    /// `own` with everything replaced that was asked for.
    pub fn apply(&self, own: PreprocessConfig) -> Result<PreprocessConfig> {
        Ok(PreprocessConfig {
            mean: self.mean()?.unwrap_or(own.mean),
            std: self.std()?.unwrap_or(own.std),
            interpolation: self.interpolation().unwrap_or(own.interpolation),
            resize_mode: self.resize_mode().unwrap_or(own.resize_mode),
        })
    }
}

fn channels(flag: &str, values: Option<&[f32]>) -> Result<Option<[f32; 3]>> {
    let channels = match values {
        None => return Ok(None),
        Some(&[all]) => [all; 3],
        Some(&[r, g, b]) => [r, g, b],
        Some(other) => {
            let found = other.len();
            return Err(CliError::Usage(format!(
                "{flag}: expected 1 or 3 numbers, found {found}"
            )));
        }
    };
    match channels.iter().all(|value| value.is_finite()) {
        true => Ok(Some(channels)),
        false => Err(CliError::Usage(format!("{flag}: expected finite numbers"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn precisions_have_openclips_names() {
        let of = |name| parse_precision(name).map(|flag| flag.precision);
        assert_eq!(of("amp"), Ok(Precision::AmpBf16));
        assert_eq!(of("amp_bfloat16"), Ok(Precision::AmpBf16));
        assert_eq!(of("bf16"), Ok(Precision::PureBf16));
        assert_eq!(of("fp16"), Ok(Precision::AmpFp16));
        assert_eq!(of("pure_fp16"), Ok(Precision::PureFp16));
        assert_eq!(of("int8"), Ok(Precision::Int8));
        assert!(of("int4").unwrap_err().contains("expected fp32"));
    }

    #[test]
    fn only_what_was_asked_for_is_replaced() {
        let args = PreprocessArgs {
            image_mean: Some(vec![0.5]),
            image_resize_mode: Some(ResizeModeFlag::Squash),
            ..PreprocessArgs::default()
        };
        let own = PreprocessConfig::default();
        let found = args.apply(own.clone()).unwrap();
        assert_eq!(found.mean, [0.5; 3]);
        assert_eq!(found.std, own.std);
        assert_eq!(found.resize_mode, ResizeMode::Squash);
    }

    #[test]
    fn two_channels_and_a_zero_deviation_are_refused() {
        let mean = PreprocessArgs {
            image_mean: Some(vec![0.5, 0.5]),
            ..Default::default()
        };
        assert!(
            mean.mean()
                .unwrap_err()
                .message()
                .contains("1 or 3 numbers")
        );
        let std = PreprocessArgs {
            image_std: Some(vec![0.0]),
            ..Default::default()
        };
        assert!(std.std().unwrap_err().message().contains("above 0"));
    }
}
