//! Folders of Hugging Face's transformers: `config.json` of a CLIP or SigLIP as OpenCLIP's configuration, and
//! `preprocessor_config.json` as its preprocessing. The defaults are transformers' own.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::files::config::{Interpolation, ModelConfig, PreprocessConfig, ResizeMode};
use crate::files::config_file;
use crate::files::error::ModelError;

/// Name of the description of a model.
pub const CONFIG: &str = "config.json";

/// Names of the description of its preprocessing, the preferred first. The second has it under `image_processor`.
pub const PREPROCESSORS: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

/// Vocabulary of OpenAI's models, whose tokenizer needs no file.
const CLIP_VOCABULARY: usize = 49408;

/// A tower of either model.
#[derive(Deserialize)]
struct Tower {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    // Of the image tower.
    #[serde(default)]
    image_size: usize,
    #[serde(default)]
    patch_size: usize,
    #[serde(default)]
    num_channels: usize,
    #[serde(default = "yes")]
    vision_use_head: bool,
    // Of the text tower.
    #[serde(default)]
    vocab_size: usize,
    #[serde(default)]
    max_position_embeddings: usize,
    #[serde(default)]
    eos_token_id: Option<usize>,
    #[serde(default)]
    projection_size: Option<usize>,
}

fn yes() -> bool {
    true
}

/// What transformers takes for keys that a `config.json` leaves out.
fn defaults(siglip: bool) -> [Value; 2] {
    match siglip {
        false => [
            json!({"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "image_size": 224, "patch_size": 32, "num_channels": 3}),
            json!({"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
                "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "vocab_size": 49408, "max_position_embeddings": 77,
                "eos_token_id": 49407}),
        ],
        true => [
            json!({"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "image_size": 224, "patch_size": 16,
                "num_channels": 3}),
            json!({"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "vocab_size": 32000,
                "max_position_embeddings": 64}),
        ],
    }
}

/// How a GELU is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gelu {
    Exact,
    Tanh,
    Quick,
}

/// A file, for the errors about it.
struct Origin<'a>(&'a Path);

impl Origin<'_> {
    fn bad(&self, reason: impl Into<String>) -> ModelError {
        ModelError::Transformers {
            path: self.0.to_path_buf(),
            reason: reason.into(),
        }
    }

    fn read(&self) -> Result<Value, ModelError> {
        let text = config_file::bytes(self.0)?;
        serde_json::from_slice(&text).map_err(|error| self.bad(format!("no JSON: {error}")))
    }

    fn tower(&self, config: &Value, name: &str, defaults: &Value) -> Result<Tower, ModelError> {
        let mut keys = defaults.clone();
        // Old files repeat the changes under a name of their own, which wins.
        for place in [name.to_string(), format!("{name}_dict")] {
            let found = config.get(&place).and_then(Value::as_object);
            for (key, value) in found.into_iter().flatten() {
                keys[key] = value.clone();
            }
        }
        Tower::deserialize(keys).map_err(|error| self.bad(format!("{name}: {error}")))
    }

    fn gelu(&self, place: &str, tower: &Tower) -> Result<Gelu, ModelError> {
        match tower.hidden_act.as_str() {
            "quick_gelu" => Ok(Gelu::Quick),
            "gelu" | "gelu_python" => Ok(Gelu::Exact),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Gelu::Tanh),
            other => Err(self.bad(format!(
                "{place}.hidden_act: `{other}`, expected quick_gelu, gelu or gelu_pytorch_tanh"
            ))),
        }
    }
}

/// The model that a `config.json` describes, with `tokenizer` as the name of its tokenizer where that is not OpenAI's.
///
/// # Errors
/// The file cannot be read, or describes no CLIP or SigLIP of two towers; it is named with what it describes.
pub fn config(path: &Path, tokenizer: &str) -> Result<ModelConfig, ModelError> {
    let origin = Origin(path);
    let config = origin.read()?;
    let keys = match config.get("model_type").and_then(Value::as_str) {
        Some("clip") => clip(&origin, &config, tokenizer)?,
        Some("siglip") => siglip(&origin, &config, tokenizer)?,
        Some("siglip2") => {
            let reason = "a SigLIP 2 of pictures of any shape (NaFlex), which is not built here";
            return Err(origin.bad(reason));
        }
        Some(other) => {
            let other: String = other.chars().take(60).collect();
            return Err(origin.bad(format!(
                "model_type is `{other}`; of transformers' models, `clip` and `siglip` are read"
            )));
        }
        None => {
            let reason = match config.get("architecture").and_then(Value::as_str) {
                Some(name) => format!(
                    "timm's image tower {} alone, not a model of pictures and text",
                    name.chars().take(60).collect::<String>()
                ),
                None => "no `model_type`, which transformers' configurations have".into(),
            };
            return Err(origin.bad(reason));
        }
    };
    serde_json::from_value(keys).map_err(|error| origin.bad(error.to_string()))
}

/// Whether a `config.json` is one of a CLIP or SigLIP.
pub fn is_known(path: &Path) -> bool {
    let config = Origin(path).read().unwrap_or_default();
    matches!(config["model_type"].as_str(), Some("clip" | "siglip"))
}

/// Hidden width relative to the width, so that their product, truncated, is the hidden width again.
fn ratio(tower: &Tower) -> f64 {
    let (width, hidden) = (tower.hidden_size as f64, tower.intermediate_size as f64);
    match (width * (hidden / width)) as usize == tower.intermediate_size {
        true => hidden / width,
        false => (hidden + 0.5) / width,
    }
}

fn clip(origin: &Origin<'_>, config: &Value, tokenizer: &str) -> Result<Value, ModelError> {
    let [image, text] = defaults(false);
    let image = origin.tower(config, "vision_config", &image)?;
    let text = origin.tower(config, "text_config", &text)?;
    check_towers(origin, &image, &text)?;
    let gelus = [
        origin.gelu("vision_config", &image)?,
        origin.gelu("text_config", &text)?,
    ];
    let quick = gelus == [Gelu::Quick; 2];
    if !quick && gelus.contains(&Gelu::Quick) {
        return Err(origin.bad("one tower has quick_gelu and the other another hidden_act"));
    }
    let act = |gelu| match gelu {
        Gelu::Tanh => json!({"approximate": "tanh"}),
        _ => Value::Null,
    };
    let mut vision_cfg = json!({
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "width": image.hidden_size,
        "layers": image.num_hidden_layers,
        "head_width": image.hidden_size / image.num_attention_heads,
        "mlp_ratio": ratio(&image),
        "norm_kwargs": {"eps": image.layer_norm_eps},
        "act_kwargs": act(gelus[0]),
    });
    let mut text_cfg = json!({
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
        "width": text.hidden_size,
        "heads": text.num_attention_heads,
        "layers": text.num_hidden_layers,
        "mlp_ratio": ratio(&text),
        "norm_kwargs": {"eps": text.layer_norm_eps},
        "act_kwargs": act(gelus[1]),
    });
    for tower in [&mut vision_cfg, &mut text_cfg] {
        if tower["norm_kwargs"]["eps"] == 1e-5 {
            tower["norm_kwargs"] = Value::Null;
        }
        drop_nulls(tower);
    }
    // An id of 2 is that of old files, for which transformers takes the largest id.
    match text.eos_token_id {
        Some(eos) if eos != 2 && eos + 1 != text.vocab_size => {
            text_cfg["pool_type"] = "eos".into();
            text_cfg["eos_id"] = eos.into();
        }
        _ => {}
    }
    if text.vocab_size != CLIP_VOCABULARY {
        text_cfg["hf_tokenizer_name"] = tokenizer.into();
    }
    let number = |name: &str, default: f64| match config.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_f64()
            .ok_or_else(|| origin.bad(format!("{name}: {value}, expected a number"))),
    };
    Ok(json!({
        "embed_dim": number("projection_dim", 512.0)? as usize,
        "quick_gelu": quick,
        "init_logit_scale": number("logit_scale_init_value", 2.6592)?,
        "vision_cfg": vision_cfg,
        "text_cfg": text_cfg,
    }))
}

fn siglip(origin: &Origin<'_>, config: &Value, tokenizer: &str) -> Result<Value, ModelError> {
    let [image, text] = defaults(true);
    let image = origin.tower(config, "vision_config", &image)?;
    let text = origin.tower(config, "text_config", &text)?;
    check_towers(origin, &image, &text)?;
    if !image.vision_use_head {
        return Err(
            origin.bad("vision_config.vision_use_head: false; expected a tower with a pool")
        );
    }
    let embed_dim = text.projection_size.unwrap_or(text.hidden_size);
    if embed_dim != image.hidden_size {
        return Err(origin.bad(format!(
            "text_config.projection_size: {embed_dim}, expected the image tower's hidden_size {}",
            image.hidden_size
        )));
    }
    let act_layer = match origin.gelu("vision_config", &image)? {
        Gelu::Exact => "gelu",
        Gelu::Tanh => "gelu_tanh",
        Gelu::Quick => "quick_gelu",
    };
    let act_kwargs = match origin.gelu("text_config", &text)? {
        Gelu::Exact => Value::Null,
        Gelu::Tanh => json!({"approximate": "tanh"}),
        Gelu::Quick => return Err(origin.bad("text_config.hidden_act: quick_gelu in a SigLIP")),
    };
    let mut kwargs = Map::new();
    // Changes to the tower that is named.
    for (key, value, named) in [
        ("patch_size", json!(image.patch_size), json!(16)),
        ("embed_dim", json!(image.hidden_size), json!(768)),
        ("depth", json!(image.num_hidden_layers), json!(12)),
        ("num_heads", json!(image.num_attention_heads), json!(12)),
        ("mlp_ratio", json!(ratio(&image)), json!(4.0)),
        ("act_layer", json!(act_layer), json!("gelu")),
        ("norm_eps", json!(image.layer_norm_eps), json!(1e-6)),
    ] {
        if value != named {
            kwargs.insert(key.into(), value);
        }
    }
    let mut text_cfg = json!({
        "context_length": text.max_position_embeddings,
        "vocab_size": text.vocab_size,
        "hf_tokenizer_name": tokenizer,
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": text.hidden_size,
        "heads": text.num_attention_heads,
        "layers": text.num_hidden_layers,
        "mlp_ratio": ratio(&text),
        "no_causal_mask": true,
        "proj_bias": true,
        "pool_type": "last",
        "norm_kwargs": {"eps": text.layer_norm_eps},
        "act_kwargs": act_kwargs,
    });
    drop_nulls(&mut text_cfg);
    Ok(json!({
        "embed_dim": embed_dim,
        "init_logit_bias": -10,
        "custom_text": true,
        "vision_cfg": {
            "image_size": image.image_size,
            "timm_model_name": "vit_base_patch16_siglip_224",
            "timm_model_pretrained": false,
            "timm_pool": "map",
            "timm_proj": "none",
            "timm_kwargs": kwargs,
        },
        "text_cfg": text_cfg,
    }))
}

fn check_towers(origin: &Origin<'_>, image: &Tower, text: &Tower) -> Result<(), ModelError> {
    if image.num_channels != 3 {
        let found = image.num_channels;
        return Err(origin.bad(format!("vision_config.num_channels: {found}, expected 3")));
    }
    for (place, tower) in [("vision_config", image), ("text_config", text)] {
        let (width, heads) = (tower.hidden_size, tower.num_attention_heads);
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            let reason = format!("{place}.num_attention_heads: {heads} does not divide {width}");
            return Err(origin.bad(reason));
        }
    }
    Ok(())
}

fn drop_nulls(keys: &mut Value) {
    if let Some(keys) = keys.as_object_mut() {
        keys.retain(|_, value| !value.is_null());
    }
}

/// What the pictures of a folder's model go through, where the folder says it.
///
/// # Errors
/// The file and the key whose value cannot be followed here.
pub fn preprocess(folder: &Path) -> Result<Option<PreprocessConfig>, ModelError> {
    for (index, name) in PREPROCESSORS.iter().enumerate() {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let origin = Origin(&path);
        let mut keys = origin.read()?;
        if index > 0 {
            keys = keys["image_processor"].take();
        }
        if keys.is_object() {
            return processor(&origin, &keys).map(Some);
        }
    }
    Ok(None)
}

/// What transformers' image processors of CLIP and SigLIP do.
fn processor(origin: &Origin<'_>, keys: &Value) -> Result<PreprocessConfig, ModelError> {
    let bad = |name: &str, expected: &str| {
        let found: String = keys[name].to_string().chars().take(60).collect();
        origin.bad(format!("{name}: {found}, expected {expected}"))
    };
    let is_off = |name: &str| keys[name] == Value::Bool(false);
    for name in ["do_resize", "do_rescale"] {
        if is_off(name) {
            return Err(bad(name, "true"));
        }
    }
    let factor = keys["rescale_factor"].as_f64();
    if factor.is_some_and(|factor| (factor * 255.0 - 1.0).abs() > 1e-6) {
        return Err(bad("rescale_factor", "1/255"));
    }
    let interpolation = match keys["resample"].as_u64() {
        Some(2) => Interpolation::Bilinear,
        Some(3) => Interpolation::Bicubic,
        None if keys["resample"].is_null() => Interpolation::Bicubic,
        _ => return Err(bad("resample", "2 (bilinear) or 3 (bicubic)")),
    };
    let channels = |name: &str| {
        PreprocessConfig::read(
            &[(name[6..].to_string(), keys[name].clone())]
                .into_iter()
                .collect(),
        )
        .map_err(|_| bad(name, "three numbers"))
    };
    let (mean, std) = match is_off("do_normalize") {
        true => ([0.0; 3], [1.0; 3]),
        false => (channels("image_mean")?.mean, channels("image_std")?.std),
    };
    // Both sides where both are given, as in SigLIP's; the shorter one where a cut follows, as in CLIP's.
    let size = &keys["size"];
    let resize_mode = match (size["height"].as_u64(), size["width"].as_u64()) {
        (Some(_), Some(_)) => ResizeMode::Squash,
        _ => ResizeMode::Shortest,
    };
    let side = |value: &Value| {
        let sides = ["shortest_edge", "height"].map(|name| value[name].as_u64());
        value.as_u64().or(sides[0]).or(sides[1])
    };
    let (resized, cut) = (side(size), side(&keys["crop_size"]));
    if resize_mode == ResizeMode::Shortest {
        if is_off("do_center_crop") {
            return Err(bad(
                "do_center_crop",
                "true where `size` is that of the shorter side",
            ));
        }
        if let (Some(resized), Some(cut)) = (resized, cut)
            && resized != cut
        {
            return Err(bad(
                "size",
                &format!("the crop_size {cut}: pictures are resized to what is cut out"),
            ));
        }
    }
    Ok(PreprocessConfig {
        mean,
        std,
        interpolation,
        resize_mode,
    })
}
