//! Hugging Face's text towers against `open_clip`: outputs, gradients with and without dropout, state dicts, initial weights,
//! loading and saving. `tests/parity/export_hftext.py` made the fixtures.

use burn::tensor::{DType, Int, Tensor};
use openclip_model::Clip;
use openclip_model::config::ModelConfig;
use openclip_model::factory::{self, CreateOptions};
use openclip_model::layers::Noise;
use openclip_tests::family::{self, same_models};
use openclip_tests::{
    Tensors, device, fixture, json, max_difference, model, model_config, parameters_of, values,
};
use openclip_train::loss::ClipLoss;
use openclip_train::relay;
use serde_json::json;

fn committed() -> Vec<String> {
    family::cases(&fixture("hftext"))
}

fn cfg(case: &str) -> serde_json::Value {
    json(&format!("hftext/{case}.json"))["model_cfg"].clone()
}

fn small(case: &str, dropout: bool) -> (ModelConfig, Clip) {
    let mut cfg = cfg(case);
    if dropout {
        cfg["text_cfg"]["hf_model_config"]["hidden_dropout_prob"] = 0.1.into();
    }
    let config = model_config(&cfg);
    let file = format!("hftext/{case}.safetensors");
    let model = model(&config, &file, "weights/", &device());
    (config, model)
}

/// Features in evaluation, loss and gradients in training; where a case has dropout, with the masks that upstream was given.
#[test]
fn features_loss_and_gradients() {
    same_models(&committed());
}

/// `OPENCLIP_PARITY_DIR` is what `export_hftext.py --fuzz SEED COUNT --output DIR` wrote.
#[test]
#[ignore = "needs models of `export_hftext.py --fuzz`"]
fn random_models() {
    same_models(&family::random_cases());
}

#[test]
fn every_configuration_has_the_state_dict_of_open_clip() {
    family::same_state_dicts("hftext/parameters.json", 17);
}

#[test]
fn initial_weights_are_distributed_as_transformers() {
    family::same_initial_weights("hftext/init.json");
}

/// The rows of padding start at zero, as `padding_idx` makes them.
#[test]
fn padding_starts_at_zero() {
    for (case, keys) in [
        (
            "roberta_mean",
            vec![
                "embeddings.word_embeddings.weight",
                "embeddings.position_embeddings.weight",
            ],
        ),
        ("nllb_cls", vec!["embed_tokens.weight"]),
    ] {
        let config = model_config(&cfg(case));
        let fresh = Clip::new(&config, &device()).unwrap();
        let params = parameters_of(&openclip_model::init::initialise(fresh, &config, 3));
        for key in keys {
            let key = format!("text.transformer.{key}");
            let param = params.iter().find(|param| param.key == key).unwrap();
            let rows = param.values.chunks(param.shape[1]);
            let empty: Vec<usize> = rows
                .enumerate()
                .filter(|(_, row)| row.iter().all(|x| *x == 0.0))
                .map(|(i, _)| i)
                .collect();
            assert_eq!(empty, [1], "{case}: {key}");
        }
    }
}

/// A caption's features do not depend on how far it is padded, nor on the other captions.
#[test]
fn padding_changes_nothing() {
    for case in ["roberta_mean", "mt5_mean", "nllb_cls", "roberta_max"] {
        let (_, model) = small(case, false);
        let file = Tensors::read(&format!("hftext/{case}.safetensors"));
        let tokens = file.tokens("input/text", &device());
        let whole = values(model.encode_text(tokens.clone(), false));
        let short = values(model.encode_text(tokens.slice([0..1, 0..5]), false));
        let apart = max_difference(&short, &whole[..short.len()]);
        assert!(apart <= 1e-5, "{case}: {apart:e}");
    }
}

/// A caption of nothing but padding, which upstream makes NaN of, has finite features and gradients.
#[test]
fn nothing_but_padding_is_finite() {
    for case in committed() {
        let (expected, model) = (
            Tensors::read(&format!("{case}.safetensors")),
            family::model(&case),
        );
        let mut batch = family::batch(&expected, 1);
        let pad = if case.contains("mt5") || case.contains("bert_") {
            0
        } else {
            1
        };
        let [rows, length] = batch.tokens.dims();
        let empty = Tensor::<2, Int>::full([1, length], pad, &batch.tokens.device());
        let rest = batch.tokens.clone().slice_dim(0, 1..rows);
        batch.tokens = Tensor::cat(vec![empty.cast(rest.dtype()), rest], 0);
        let (loss, gradients) = relay::step(&model, &[batch]).unwrap();
        assert!(values(loss)[0].is_finite(), "{case}");
        let norm = openclip_train::optim::gradient_norm(&model, &gradients);
        assert!(norm.is_finite(), "{case}: {norm}");
    }
}

#[test]
fn dropout_follows_its_seed_and_keeps_the_expectation() {
    let ones = Tensor::<3>::ones([40, 50, 33], &device());
    for share in [0.1, 0.5] {
        let draw = |seed| values(Noise::new(Some(seed)).dropout(ones.clone(), share));
        let found = draw(5);
        let kept = (1.0 / (1.0 - share)) as f32;
        assert!(found.iter().all(|x| *x == 0.0 || *x == kept));
        let count = found.len() as f64;
        let dropped = found.iter().filter(|x| **x == 0.0).count() as f64 / count;
        let noise = 5.0 * (share * (1.0 - share) / count).sqrt();
        assert!((dropped - share).abs() <= noise, "{dropped} of {share}");
        assert_eq!(found, draw(5));
        assert_ne!(found, draw(6));
    }
    let mut noise = Noise::new(Some(5));
    let [first, second] = [(); 2].map(|()| values(noise.dropout(ones.clone(), 0.5)));
    assert_ne!(
        first, second,
        "a pass draws a mask of its own for each place"
    );
    assert_eq!(
        values(Noise::new(None).dropout(ones.clone(), 0.5)),
        values(ones)
    );
    assert!(!Noise::new(None).chance(0.9));
    let hits = (0..2000).filter(|seed| Noise::new(Some(*seed)).chance(0.3));
    let hits = hits.count() as f64 / 2000.0;
    assert!(
        (hits - 0.3).abs() <= 5.0 * (0.21f64 / 2000.0).sqrt(),
        "{hits}"
    );
}

/// Training drops, evaluation does not, and two micro-batches give each its own masks in both of their passes.
#[test]
fn training_drops_by_its_seed() {
    let (_, model) = small("roberta_mean", true);
    let file = Tensors::read("hftext/roberta_mean.safetensors");
    let tokens = file.tokens("input/text", &device());
    let train = |seed| values(model.encode_text_training(tokens.clone(), DType::F32, seed));
    assert_eq!(train(4), train(4));
    assert_ne!(train(4), train(5));
    assert_ne!(train(4), values(model.encode_text(tokens.clone(), true)));
}

/// Half precision stays near single precision.
#[test]
fn half_precision_is_near() {
    for case in ["roberta_mean", "mt5_mean", "nllb_cls"] {
        let (_, model) = small(case, false);
        let file = Tensors::read(&format!("hftext/{case}.safetensors"));
        let tokens = file.tokens("input/text", &device());
        let half = values(model.encode_text_in(tokens.clone(), true, DType::BF16));
        let apart = max_difference(&half, &values(model.encode_text(tokens, true)));
        assert!(apart <= 0.05 && apart > 0.0, "{case}: {apart}");
    }
}

#[test]
fn training_reduces_the_loss() {
    for case in ["roberta_dropout", "mt5_mean", "nllb_cls"] {
        let config = model_config(&cfg(case));
        let path = fixture("hftext").join(case);
        let losses = family::losses(path.to_str().unwrap(), &config, 30, 5e-3, &ClipLoss);
        let (first, last) = (losses[0], losses[29]);
        println!("{case}: loss {first} to {last}");
        assert!(last < 0.7 * first, "{case}: {losses:?}");
    }
}

#[test]
fn what_no_encoder_has_is_refused_by_name() {
    let encoder = "hf_model_config";
    for (case, key, value, word) in [
        (
            "roberta_mean",
            "hf_pooler_type",
            json!("sum_pooler"),
            "sum_pooler",
        ),
        ("roberta_mean", "hf_proj_type", json!("conv"), "conv"),
        ("roberta_mean", "hf_proj_type", json!(null), "hf_proj_type"),
        ("roberta_mean", "hf_model_name", json!("gpt2"), "gpt2"),
        (
            "roberta_mean",
            "context_length",
            json!(15),
            "context_length",
        ),
        (
            "roberta_mean",
            "context_lenght",
            json!(15),
            "context_lenght",
        ),
        (
            "roberta_mean",
            encoder,
            json!({"num_attention_heads": 7}),
            "heads",
        ),
        (
            "roberta_mean",
            encoder,
            json!({"hidden_act": "silu"}),
            "silu",
        ),
        (
            "roberta_mean",
            encoder,
            json!({"hidden_size": -1}),
            "hidden_size",
        ),
        (
            "roberta_mean",
            encoder,
            json!({"model_type": "gpt2"}),
            "gpt2",
        ),
        (
            "roberta_mean",
            encoder,
            json!({"pad_token_id": 50265}),
            "pad_token_id",
        ),
        (
            "mt5_mean",
            encoder,
            json!({"dropout_rate": 1.0}),
            "dropout_rate",
        ),
        (
            "mt5_mean",
            encoder,
            json!({"feed_forward_proj": "relu"}),
            "feed_forward_proj",
        ),
        (
            "nllb_cls",
            encoder,
            json!({"vocab_size": 1u64 << 60}),
            "hf_model_name",
        ),
    ] {
        let mut cfg = cfg(case);
        cfg["text_cfg"][key] = value;
        if key == "hf_proj_type" {
            cfg["embed_dim"] = 9.into();
        }
        let error = Clip::new(&model_config(&cfg), &device()).unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

/// A name that is a folder stands for the `config.json` in it.
#[test]
fn a_folder_s_config_json_names_an_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let mut cfg = cfg("roberta_mean");
    let mut encoder = cfg["text_cfg"]["hf_model_config"].take();
    encoder["model_type"] = "xlm-roberta".into();
    encoder["type_vocab_size"] = 2.into();
    std::fs::write(folder.path().join("config.json"), encoder.to_string()).unwrap();
    cfg["text_cfg"]["hf_model_config"] = json!({});
    cfg["text_cfg"]["hf_model_name"] = folder.path().to_str().unwrap().into();
    let file = "hftext/roberta_mean.safetensors";
    let model = model(&model_config(&cfg), file, "weights/", &device());
    let expected = Tensors::read(file);
    let found = values(model.encode_text(expected.tokens("input/text", &device()), false));
    let apart = max_difference(&found, expected.get("output/text_features").1);
    // The file has the norms' default ε and not RoBERTa's.
    assert!(apart <= 1e-3, "{apart:e}");
    std::fs::write(folder.path().join("config.json"), "{").unwrap();
    let error = Clip::new(&model_config(&cfg), &device()).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
}

/// A model without weights of its own starts from what is published for its encoder, or says that it does not.
#[test]
fn training_starts_from_published_encoders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    for (kind, case) in [
        ("roberta", "roberta_mean"),
        ("mt5", "mt5_mean"),
        ("nllb", "nllb_mean"),
    ] {
        let mut cfg = cfg(case);
        let encoder = fixture(&format!("hftext/encoders/{kind}"));
        cfg["text_cfg"]["hf_model_config"] = json!({});
        cfg["text_cfg"]["hf_model_name"] = encoder.to_str().unwrap().into();
        let create = |cfg: &serde_json::Value| {
            std::fs::write(&path, cfg.to_string()).unwrap();
            let options = CreateOptions {
                cache_dir: Some(folder.path().into()),
                ..CreateOptions::default()
            };
            factory::create(path.to_str().unwrap(), None, &device(), &options)
        };
        let loaded = create(&cfg).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let expected = Tensors::read(&format!("hftext/encoders/{kind}/encoder.safetensors"));
        let found = parameters_of(&loaded.model);
        let mut compared = 0;
        for param in &found {
            if let Some(name) = param.key.strip_prefix("text.transformer.") {
                assert_eq!(param.values, expected.get(name).1, "{kind}: {name}");
                compared += 1;
            }
        }
        assert_eq!(compared, expected.with_prefix("").count(), "{kind}");
        cfg["text_cfg"]["hf_model_config"] = json!({"vocab_size": 25});
        let error = create(&cfg).unwrap_err().to_string();
        assert!(error.contains("text.transformer."), "{error}");
        cfg["text_cfg"]["hf_model_pretrained"] = false.into();
        assert!(create(&cfg).unwrap().warnings.is_empty());
    }
    let mut cfg = cfg("roberta_mean");
    cfg["text_cfg"]["hf_model_name"] = "nobody/roberta-base".into();
    std::fs::write(&path, cfg.to_string()).unwrap();
    let options = CreateOptions::default();
    let loaded = factory::create(path.to_str().unwrap(), None, &device(), &options).unwrap();
    assert!(loaded.warnings[0].contains("nobody-roberta-base"));
}

/// Writes files for `export_hftext.py --saved DIR` into `OPENCLIP_PARITY_DIR`.
#[test]
#[ignore = "writes files for Python to load"]
fn save_for_open_clip() {
    family::save_for_python("hftext");
}
