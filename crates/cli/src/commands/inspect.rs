//! `models` and `info`.

use burn::tensor::Device;
use openclip_model::config::ModelConfig;
use openclip_model::{Clip, device, params, registry};
use serde::Serialize;
use serde_json::json;

use super::session::Session;
use crate::args::inspect::{InfoArgs, ModelsArgs};
use crate::error::{Outcome, Result};
use crate::output::Output;

/// Size and shape of a model.
#[derive(Debug, Serialize)]
struct Profile {
    name: String,
    parameters: usize,
    image_parameters: usize,
    text_parameters: usize,
    embed_dim: usize,
    image_size: [usize; 2],
    patch_size: Option<usize>,
    image_width: usize,
    text_width: usize,
    context_length: usize,
    vocab_size: usize,
    quick_gelu: bool,
}

impl Profile {
    /// Of a model whose weights need not be there.
    fn of(name: &str, config: &ModelConfig, model: &Clip) -> Self {
        let (vision, text) = (&config.vision_cfg, &config.text_cfg);
        let (height, width) = vision.image_size.dims();
        let params = params::describe(model);
        let count = |part: fn(&str) -> bool| {
            params
                .iter()
                .filter(|param| param.is_parameter() && part(&param.key))
                .map(|param| param.numel())
                .sum::<usize>()
        };
        Self {
            name: name.to_owned(),
            parameters: count(|_| true),
            image_parameters: count(|key| key.starts_with("visual.")),
            text_parameters: count(|key| !key.starts_with("visual.") && !key.starts_with("logit_")),
            embed_dim: config.embed_dim,
            image_size: [height, width],
            patch_size: vision.patch_size,
            image_width: vision.width,
            text_width: text.width,
            context_length: text.context_length,
            vocab_size: text.vocab_size,
            quick_gelu: config.quick_gelu,
        }
    }
}

/// Lists the built-in models.
pub fn models(args: &ModelsArgs) -> Result {
    // Parameters are described, not allocated, so the device does not matter.
    let device = device::parse("cpu").unwrap_or_else(|_| Device::default());
    let mut profiles = Vec::new();
    for name in registry::names() {
        let config = registry::builtin(name)?;
        profiles.push(Profile::of(name, &config, &Clip::new(&config, &device)?));
    }
    let mut out = Output::stdout();
    if args.json.json {
        out.json(&profiles)?;
        return Ok(Outcome::Done);
    }
    out.line(format_args!(
        "{:<26} {:>10} {:>9} {:>8} {:>6}",
        "model", "parameters", "picture", "context", "embed"
    ))?;
    for p in profiles {
        out.line(format_args!(
            "{:<26} {:>8.1} M {:>9} {:>8} {:>6}",
            p.name,
            p.parameters as f64 / 1e6,
            format!("{}x{}", p.image_size[0], p.image_size[1]),
            p.context_length,
            p.embed_dim,
        ))?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}

/// Describes one model; with weights, after they are loaded.
pub fn info(args: &InfoArgs) -> Result {
    let source = registry::resolve(&args.model.model)?;
    let (profile, preprocess) = if args.model.pretrained.is_some() || source.weights.is_some() {
        let loaded = Session::open(&args.model, &args.preprocess, 0)?.loaded;
        (
            Profile::of(&loaded.name, &loaded.config, &loaded.model),
            loaded.preprocess,
        )
    } else {
        let device = device::parse(&args.model.device)?;
        let config = args.model.options(0).apply(source.config);
        let model = Clip::new(&config, &device)?;
        let preprocess = args
            .preprocess
            .apply(source.preprocess.unwrap_or_default())?;
        (Profile::of(&source.name, &config, &model), preprocess)
    };
    let mut out = Output::stdout();
    if args.json.json {
        let mut value = json!(profile);
        value["preprocess"] = json!(preprocess);
        out.json(&value)?;
        return Ok(Outcome::Done);
    }
    let millions = |count: usize| format!("{:.1} M", count as f64 / 1e6);
    let [height, width] = profile.image_size;
    let patch = profile
        .patch_size
        .map_or(String::new(), |side| format!(", patches of {side}x{side}"));
    let activation = if profile.quick_gelu {
        "QuickGELU"
    } else {
        "GELU"
    };
    for (label, value) in [
        ("model", profile.name),
        ("parameters", millions(profile.parameters)),
        (
            "image tower",
            format!(
                "{}, width {}, {height}x{width} pixels{patch}",
                millions(profile.image_parameters),
                profile.image_width
            ),
        ),
        (
            "text tower",
            format!(
                "{}, width {}, {} tokens of {}",
                millions(profile.text_parameters),
                profile.text_width,
                profile.context_length,
                profile.vocab_size
            ),
        ),
        ("embedding", format!("{} values", profile.embed_dim)),
        ("activation", activation.to_owned()),
        (
            "preprocessing",
            format!(
                "mean {:?}, std {:?}, {}, {}",
                preprocess.mean,
                preprocess.std,
                json!(preprocess.interpolation).as_str().unwrap_or_default(),
                json!(preprocess.resize_mode).as_str().unwrap_or_default()
            ),
        ),
    ] {
        out.line(format_args!("{label:<14} {value}"))?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}
