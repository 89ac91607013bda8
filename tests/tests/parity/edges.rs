//! Configurations with a value that no model has, or hardly one: every field of a configuration of each family, by turns, is given
//! each of these values. What comes of it is a model that computes, or one error; never a panic.
//!
//! A part of them is tried each time; `OPENCLIP_EDGES=all` tries all, which takes minutes, and a family's name all of that family.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, Int, Tensor, TensorData};
use openclip_model::config::ModelConfig;
use openclip_model::{Clip, init, params, profile, text};
use openclip_tests::{device, json};
use openclip_train::loss::{ClipLoss, Objective};
use openclip_train::relay::{self, MicroBatch};
use serde_json::{Map, Value, json};

/// A small configuration of each family.
const FAMILIES: [&str; 15] = [
    "models/vit_layer_scale",
    "coca/pool",
    "coca/roberta",
    "siglip/class_token",
    "eva/eva02",
    "eva/perception",
    "convnext/linear",
    "resnet/odd_image",
    "mobileclip/mci0",
    "mobileclip/vit",
    "vitamin/channels",
    "timm_towers/swin",
    "timm_towers/relpos",
    "hftext/mt5_dropout",
    "hftext/nllb_dropout",
];

/// Fields that a configuration may leave out.
const UNSET: [(&str, &[&str]); 4] = [
    (
        "",
        &[
            "quick_gelu",
            "custom_text",
            "init_logit_scale",
            "init_logit_bias",
            "multimodal_cfg",
        ],
    ),
    (
        "/vision_cfg",
        &[
            "layers",
            "width",
            "head_width",
            "mlp_ratio",
            "patch_size",
            "image_size",
            "ls_init_value",
            "patch_dropout",
            "no_ln_pre",
            "pos_embed_type",
            "final_ln_after_pool",
            "norm_kwargs",
            "act_kwargs",
            "pool_type",
            "attentional_pool",
            "attn_pooler_queries",
            "attn_pooler_heads",
            "timm_model_name",
            "timm_pool",
            "timm_proj",
            "timm_proj_bias",
            "timm_drop",
            "timm_drop_path",
            "timm_kwargs",
        ],
    ),
    (
        "/vision_cfg/timm_kwargs",
        &[
            "patch_size",
            "embed_dim",
            "embed_dims",
            "dims",
            "depth",
            "depths",
            "layers",
            "num_heads",
            "mlp_ratio",
            "mlp_ratios",
            "init_values",
            "ls_init_value",
            "class_token",
            "no_embed_class",
            "pre_norm",
            "fc_norm",
            "use_fc_norm",
            "global_pool",
            "norm_eps",
            "rel_pos_dim",
            "img_size",
            "window_size",
            "rope_temperature",
            "rope_grid_offset",
            "ref_feat_shape",
            "attn_pool_num_heads",
            "attn_pool_mlp_ratio",
            "use_rot_pos_emb",
            "use_pre_transformer_norm",
            "use_post_norm",
            "qkv_bias",
            "qkv_fused",
            "swiglu_mlp",
            "token_mixers",
            "downsamples",
            "se_downsamples",
            "pos_embs",
            "layer_scale_init_value",
            "embed_cfg",
            "pos_embed",
        ],
    ),
    (
        "/text_cfg",
        &[
            "context_length",
            "vocab_size",
            "width",
            "heads",
            "layers",
            "mlp_ratio",
            "ls_init_value",
            "pad_id",
            "eos_id",
            "no_causal_mask",
            "pool_type",
            "proj_bias",
            "proj_type",
            "final_ln_after_pool",
            "norm_kwargs",
            "act_kwargs",
            "embed_cls",
            "hf_model_name",
            "hf_proj_type",
            "hf_pooler_type",
            "hf_model_config",
        ],
    ),
];

fn values() -> Vec<Value> {
    let mut values = vec![
        Value::Null,
        json!(true),
        json!(false),
        json!(""),
        json!("x"),
        json!([]),
        json!({}),
        json!([0]),
        json!([0, 0]),
        json!([3, 7]),
        json!([1_000_000_000_u64, 1]),
        json!([1, 1, 1, 1]),
        json!([0, 0, 0, 0]),
        json!({"eps": -1.0}),
        json!({"eps": 0}),
        json!({"approximate": "tanh"}),
        json!("avg"),
        json!("none"),
        json!("map"),
        json!("last"),
        json!("sin_cos_2d"),
    ];
    for number in [
        0_i64,
        1,
        2,
        3,
        5,
        7,
        16,
        63,
        -1,
        4096,
        1 << 24,
        1_000_000_000,
        i64::MAX,
    ] {
        values.push(json!(number));
    }
    for number in [0.5, 0.999_999, 1.0, -0.5, 1e-300, 1e9, 1e300, -1e300] {
        values.push(json!(number));
    }
    values.push(json!(u64::MAX));
    values
}

/// Places of all fields and list entries, as JSON pointers.
fn places(at: &str, value: &Value, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(key, v)| (key.clone(), v)).collect(),
        Value::Array(items) => (0..).map(|i: usize| i.to_string()).zip(items).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let place = format!("{at}/{key}");
        found.push(place.clone());
        places(&place, child, found);
    }
}

fn set(config: &mut Value, place: &str, value: Value) {
    match config.pointer_mut(place) {
        Some(there) => *there = value,
        None => {
            let (parent, key) = place.rsplit_once('/').unwrap();
            if !parent.is_empty() && config.pointer(parent).is_none() {
                set(config, parent, Value::Object(Map::new()));
            }
            if let Some(Value::Object(fields)) = config.pointer_mut(parent) {
                fields.insert(key.into(), value);
            }
        }
    }
}

/// One of so many is tried, where nothing else is asked for; no divisor of the number of values.
const PART: usize = 29;

/// Numbers that a test may make.
const ROOM: usize = 1 << 20;

/// What a configuration comes to: `None` for an error, else whether it is small enough to compute, which it then did.
fn attempt(config: Value) -> Option<bool> {
    let config: ModelConfig = serde_json::from_value(config).ok()?;
    let device = device();
    let model = Clip::new(&config, &device).ok()?;
    let described = params::describe(&model);
    let _ = profile::Profile::of("edge", &config, &model);
    let _ = model.clone().with_grad_checkpointing().unwrap();
    let numbers = described
        .iter()
        .fold(0, |sum: usize, param| sum.saturating_add(param.numel()));
    let (height, width) = config.vision_cfg.image_size.dims();
    let length = config.text_cfg.context_length;
    if numbers > ROOM || height * width > 96 * 96 || length > 128 || described.len() > 4096 {
        return Some(false);
    }
    let model = init::initialise(model, &config, 0);
    let vocabulary = text::vocabulary(&config).unwrap();
    let image = |device: &Device| Tensor::<4>::ones([2, 3, height, width], device);
    let ids: Vec<i32> = (0..2 * length)
        .map(|i| ((i * 5 + 1) % vocabulary) as i32)
        .collect();
    let ids = TensorData::new(ids, [2, length]);
    let tokens = |device: &Device| Tensor::<2, Int>::from_data(ids.clone(), device);
    for features in [
        model.encode_image(image(&device), true),
        model.encode_text(tokens(&device), true),
        model.clone().folded().encode_image(image(&device), true),
    ] {
        assert_eq!(features.dims(), [2, config.embed_dim]);
        features.try_into_vec_as::<f32>().unwrap();
    }
    let training = device.autodiff();
    let batches = [MicroBatch {
        images: image(&training),
        tokens: tokens(&training),
        dropout: 1,
    }];
    let model = init::initialise(Clip::new(&config, &training).unwrap(), &config, 0);
    if model.writes_captions() {
        return Some(true);
    }
    relay::step_toward(&model, &batches, &Objective::of(&ClipLoss)).unwrap();
    Some(true)
}

#[test]
fn a_field_with_any_value_is_a_model_or_an_error() {
    let only = std::env::var("OPENCLIP_EDGES").ok();
    let (mut tried, mut refused, mut computed, mut panics) = (0, 0, 0, Vec::new());
    for family in FAMILIES {
        let step = match only.as_deref() {
            None => PART,
            Some("all") => 1,
            Some(name) if family.contains(name) => 1,
            Some(_) => continue,
        };
        let whole = json(&format!("{family}.json"))["model_cfg"].clone();
        assert_eq!(attempt(whole.clone()), Some(true), "{family}");
        let mut found = Vec::new();
        places("", &whole, &mut found);
        for (parent, keys) in UNSET {
            found.extend(keys.iter().map(|key| format!("{parent}/{key}")));
        }
        found.sort();
        found.dedup();
        let pairs = found
            .iter()
            .flat_map(|place| values().into_iter().map(move |value| (place, value)));
        for (place, value) in pairs.step_by(step) {
            let mut config = whole.clone();
            set(&mut config, place, value.clone());
            tried += 1;
            match catch_unwind(AssertUnwindSafe(|| attempt(config))) {
                Ok(None) => refused += 1,
                Ok(Some(whole)) => computed += usize::from(whole),
                Err(panic) => {
                    let text = openclip_data::error::panic_message(panic.as_ref());
                    panics.push(format!("{family}: {place} = {value}: {text}"));
                }
            }
        }
    }
    println!("{tried} configurations, {refused} refused, {computed} computed");
    assert!(
        panics.is_empty(),
        "{} panics:\n{}",
        panics.len(),
        panics.join("\n")
    );
}
