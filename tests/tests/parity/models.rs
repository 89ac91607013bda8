//! Features, logits, loss and parameter gradients of small models against `open_clip`, and the shapes of the big ones.

use burn::tensor::{DType, FloatDType};
use openclip_model::{Clip, params};
use openclip_tests::family::{self, FEATURES, GRADIENTS};
use openclip_tests::{
    Tensors, device, fixture, gradients_of, json, max_difference, model, model_config,
    relative_difference, values,
};
use openclip_train::relay::{self, MicroBatch};

/// Cosines times a scale of up to 100.
const LOGITS: f32 = 1e-3;

struct Case {
    model: Clip,
    batch: MicroBatch,
    expected: Tensors,
}

fn load(path: &str) -> Case {
    let expected = Tensors::read(&format!("{path}.safetensors"));
    Case {
        model: family::model(path),
        batch: family::batch(&expected, 0),
        expected,
    }
}

fn committed() -> Vec<String> {
    family::cases(&fixture("models"))
}

/// Gradients of `batches` against upstream's of the whole batch: the largest relative difference over all parameters.
fn gradient_difference(case: &Case, batches: &[MicroBatch], path: &str) -> f32 {
    let (loss, gradients) = relay::step(&case.model, batches).unwrap();
    let apart = max_difference(&values(loss), case.expected.get("output/loss").1);
    assert!(apart <= FEATURES, "{path}: loss differs by {apart:e}");
    let found = gradients_of(&case.model, &gradients);
    family::same_gradients(path, "grad/", &found, &case.expected, GRADIENTS)
}

/// Compares whole cases; returns the largest differences of features, logits and gradients.
fn compare(paths: &[String]) -> [f32; 3] {
    let mut worst = [0.0_f32; 3];
    for path in paths {
        let case = load(path);
        let Case {
            model,
            batch,
            expected,
        } = &case;
        let features = family::same_features(path, model, batch, expected);
        let logits = values(model.logits(batch.images.clone(), batch.tokens.clone()));
        let logits = max_difference(&logits, expected.get("output/logits_per_image").1);
        assert!(logits <= LOGITS, "{path}: logits differ by {logits:e}");
        let gradients = gradient_difference(&case, std::slice::from_ref(&case.batch), path);
        let found = [features, logits, gradients];
        worst = std::array::from_fn(|i| worst[i].max(found[i]));
    }
    worst
}

#[test]
fn features_logits_loss_and_gradients() {
    let paths = committed();
    let [features, logits, gradients] = compare(&paths);
    println!(
        "{} models: features {features:e}, logits {logits:e}, gradients {gradients:e} relative",
        paths.len()
    );
}

/// `OPENCLIP_PARITY_DIR` is what `tests/parity/export_models.py --fuzz SEED COUNT --output DIR` wrote.
#[test]
#[ignore = "needs models of `export_models.py --fuzz`"]
fn random_models() {
    let paths = family::random_cases();
    let [features, logits, gradients] = compare(&paths);
    // Upstream's gradient of the whole batch, from micro-batches of unequal size.
    let mut accumulated = 0.0_f32;
    for path in &paths {
        let case = load(path);
        let [batch, ..] = case.batch.images.dims();
        for size in 1..batch {
            let starts = (0..batch).step_by(size);
            let parts: Vec<_> = starts
                .map(|from| slice(&case.batch, from..batch.min(from + size)))
                .collect();
            accumulated = accumulated.max(gradient_difference(&case, &parts, path));
        }
    }
    println!(
        "{} models: features {features:e}, logits {logits:e}, gradients {gradients:e} relative, in micro-batches {accumulated:e}",
        paths.len()
    );
}

fn slice(batch: &MicroBatch, rows: std::ops::Range<usize>) -> MicroBatch {
    MicroBatch {
        images: batch.images.clone().slice_dim(0, rows.clone()),
        tokens: batch.tokens.clone().slice_dim(0, rows),
        dropout: batch.dropout,
    }
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("parameters.json", 38);
}

/// How far half precision may be from upstream's, relative to the largest feature. bf16 keeps 8 bits, so each operation rounds by
/// up to 0.4 %; where the roundings fall differs between the libraries, and two blocks add up a few of them.
const BF16: f32 = 3e-2;

#[test]
fn bf16_features() {
    if !device().supports_dtype(DType::BF16) {
        return;
    }
    let expected = Tensors::read("bf16.safetensors");
    let mut names: Vec<&str> = expected
        .with_prefix("")
        .map(|(key, _)| key.split_once('/').unwrap().0)
        .collect();
    names.dedup();
    assert_eq!(names.len(), 5);
    for name in names {
        let case = load(&format!("models/{name}"));
        let exact = |kind: &str| case.expected.get(&format!("output/{kind}_features")).1;
        for (precision, model) in [
            ("amp_bf16", case.model.clone()),
            (
                "pure_bf16",
                params::cast(case.model.clone(), FloatDType::BF16),
            ),
        ] {
            let image = model.encode_image(case.batch.images.clone().cast(DType::BF16), false);
            let text = model.encode_text_in(case.batch.tokens.clone(), false, DType::BF16);
            assert_eq!((image.dtype(), text.dtype()), (DType::F32, DType::F32));
            for (kind, found) in [("image", values(image)), ("text", values(text))] {
                let wanted = expected
                    .get(&format!("{name}/{precision}/{kind}_features"))
                    .1;
                let (apart, ours, theirs) = (
                    relative_difference(&found, wanted),
                    relative_difference(&found, exact(kind)),
                    relative_difference(wanted, exact(kind)),
                );
                println!(
                    "{name} {precision} {kind}: apart {apart:e}, from f32 {ours:e} and {theirs:e}"
                );
                assert!(
                    apart <= BF16,
                    "{name} {precision}: {kind} features differ by {apart:e}"
                );
                // As accurate as upstream, give or take.
                assert!(
                    ours <= BF16.min(3.0 * theirs + 1e-2),
                    "{name} {precision}: {kind} {ours:e}, {theirs:e}"
                );
            }
        }
    }
}

/// The number of kept patches, seen where all patches are alike.
#[test]
fn patch_dropout_keeps_as_many_patches() {
    let cases = json("training/patch_dropout.json");
    let file = "training/patch_dropout.safetensors";
    let expected = Tensors::read(file);
    for (i, config) in cases["cases"].as_array().unwrap().iter().enumerate() {
        let model = model(
            &model_config(config),
            file,
            &format!("{i}/weights/"),
            &device(),
        );
        let image = expected.tensor(&format!("{i}/input/image"), &device());
        let found = values(model.visual.forward(image.clone(), Some(7)));
        let wanted = expected.get(&format!("{i}/image_features")).1;
        let difference = max_difference(&found, wanted);
        assert!(difference <= FEATURES, "{i}: {difference:e}");
        // Without dropout the class token attends to more of them.
        let all = values(model.visual.forward(image, None));
        assert!(max_difference(&all, wanted) > 10.0 * FEATURES, "{i}");
    }
}

/// A text shorter than the context, as upstream's `text` towers take it.
#[test]
fn short_texts_are_padded_ones_cut() {
    let case = load("models/custom_text");
    let full = case.model.encode_text(case.batch.tokens.clone(), false);
    let ids = case.batch.tokens.clone();
    let [_, context] = ids.dims();
    // A causal tower does not see the padding behind the end of the text, which all captions but the second leave.
    let rows = 2..3;
    let tokens = ids.slice_dim(0, rows.clone());
    let end = (0..context)
        .rev()
        .find(|&i| values(tokens.clone().slice_dim(1, i..i + 1).float())[0] != 0.0);
    let short = case
        .model
        .encode_text(tokens.slice_dim(1, 0..end.unwrap() + 1), false);
    assert!(max_difference(&values(short), &values(full.slice_dim(0, rows))) < 1e-5);
}

fn build(change: impl Fn(&mut serde_json::Value)) -> Result<Clip, String> {
    let mut cfg = json("models/vit_plain.json")["model_cfg"].clone();
    change(&mut cfg);
    let config = serde_json::from_value(cfg).map_err(|error| error.to_string())?;
    Clip::new(&config, &device()).map_err(|error| error.to_string())
}

/// What `dataclasses.asdict` of upstream's `CLIPVisionCfg` and `CLIPTextCfg` spells out.
#[test]
fn spelled_out_defaults_are_accepted() {
    let clip = build(|cfg| {
        let vision = serde_json::json!({
            "ls_init_value": null, "patch_dropout": 0, "attentional_pool": false, "attn_pooler_queries": 256,
            "attn_pooler_heads": 8, "no_ln_pre": false, "pos_embed_type": "learnable", "final_ln_after_pool": false,
            "pool_type": "tok", "output_tokens": false, "act_kwargs": null, "norm_kwargs": null, "block_type": null,
            "qk_norm": false, "scaled_cosine_attn": false, "scale_heads": false, "scale_attn_inner": false,
            "scale_attn": false, "scale_fc": false, "timm_model_name": null, "timm_model_pretrained": false,
            "timm_pool": "avg", "timm_proj": "linear", "timm_proj_bias": false, "timm_drop": 0.0, "timm_drop_path": null,
            "mlp_ratio": 4, "image_size": [12, 12],
        });
        let text = serde_json::json!({
            "hf_tokenizer_name": null, "tokenizer_mode": null, "tokenizer_kwargs": null, "mlp_ratio": 4.0,
            "ls_init_value": null, "embed_cls": false, "pad_id": 0, "eos_id": 2, "no_causal_mask": false,
            "final_ln_after_pool": false, "pool_type": "argmax", "proj_bias": false, "proj_type": "linear",
            "output_tokens": false, "act_kwargs": null, "norm_kwargs": null, "block_type": "default", "qk_norm": false,
            "hf_model_name": null, "hf_model_pretrained": true, "hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler",
        });
        for (place, spelled) in [("vision_cfg", vision), ("text_cfg", text)] {
            cfg[place]
                .as_object_mut()
                .unwrap()
                .extend(spelled.as_object().unwrap().clone());
        }
        cfg["multimodal_cfg"] = serde_json::Value::Null;
        cfg["init_logit_bias"] = serde_json::Value::Null;
    });
    let plain = build(|_| {}).unwrap();
    let shapes = |clip: &Clip| {
        params::describe(clip)
            .into_iter()
            .map(|p| (p.key, p.shape))
            .collect::<Vec<_>>()
    };
    assert_eq!(shapes(&clip.unwrap()), shapes(&plain));
}

#[test]
fn options_that_are_not_built_are_refused_by_name() {
    for (place, key, value) in [
        ("vision_cfg", "qk_norm", serde_json::json!(true)),
        ("text_cfg", "scale_heads", serde_json::json!(true)),
        ("vision_cfg", "block_type", serde_json::json!("custom")),
        (
            "vision_cfg",
            "timm_model_name",
            serde_json::json!("vit_of_no_family"),
        ),
        (
            "vision_cfg",
            "attentional_pool",
            serde_json::json!("parallel"),
        ),
        (
            "text_cfg",
            "hf_model_name",
            serde_json::json!("encoder-of-no-family"),
        ),
        ("vision_cfg", "ptach_size", serde_json::json!(16)),
        ("text_cfg", "context_lenght", serde_json::json!(77)),
    ] {
        let error = build(|cfg| cfg[place][key] = value.clone()).expect_err(key);
        assert!(error.contains(key), "{error}");
    }
    for (key, value) in [
        ("multimodal_cfg", serde_json::json!({"width": 8})),
        ("quick_gleu", serde_json::json!(true)),
    ] {
        let error = build(|cfg| cfg[key] = value.clone()).expect_err(key);
        assert!(error.contains(key), "{error}");
    }
    for (place, key, value) in [
        ("vision_cfg", "width", serde_json::json!(0)),
        ("vision_cfg", "width", serde_json::json!(1_u64 << 40)),
        ("vision_cfg", "layers", serde_json::json!(1_u64 << 62)),
        ("vision_cfg", "image_size", serde_json::json!(1_u64 << 62)),
        ("vision_cfg", "image_size", serde_json::json!([0, 12])),
        ("vision_cfg", "patch_dropout", serde_json::json!(1.0)),
        ("vision_cfg", "patch_dropout", serde_json::json!(-0.5)),
        ("vision_cfg", "mlp_ratio", serde_json::json!(-4.0)),
        ("text_cfg", "layers", serde_json::json!(1_u64 << 62)),
        ("text_cfg", "vocab_size", serde_json::json!(u64::MAX)),
        ("text_cfg", "context_length", serde_json::json!(0)),
        ("text_cfg", "width", serde_json::json!(0)),
        ("vision_cfg", "patch_size", serde_json::json!(0)),
        ("vision_cfg", "patch_size", serde_json::json!(13)),
        ("vision_cfg", "head_width", serde_json::json!(0)),
        ("vision_cfg", "pool_type", serde_json::json!("none")),
        ("vision_cfg", "pos_embed_type", serde_json::json!("rotary")),
        ("text_cfg", "heads", serde_json::json!(5)),
        ("text_cfg", "proj_type", serde_json::json!("mlp")),
    ] {
        build(|cfg| cfg[place][key] = value.clone()).expect_err(key);
    }
    // Two heads of a width of 20, three of 7.
    build(|cfg| {
        cfg["vision_cfg"]["width"] = 20.into();
        cfg["vision_cfg"]["head_width"] = 6.into();
    })
    .expect_err("heads that do not divide the width");
    // A table of sines and cosines needs a square grid and a width that four divides.
    let table =
        |cfg: &mut serde_json::Value| cfg["vision_cfg"]["pos_embed_type"] = "sin_cos_2d".into();
    assert!(build(table).is_ok());
    for (key, value) in [
        ("image_size", serde_json::json!([12, 16])),
        ("width", serde_json::json!(30)),
    ] {
        build(|cfg| {
            table(cfg);
            cfg["vision_cfg"][key] = value.clone();
        })
        .expect_err(key);
    }
}
