//! `--int8-linear`: SwitchBack's layer against the paper's formulas in integers (`tests/parity/export_int8.py`), and in models.

use burn::tensor::Tensor;
use openclip_model::Clip;
use openclip_model::layers::switch_back::switch_back;
use openclip_tests::{
    Tensors, device, gradients_of, json, max_difference, model_config, relative_difference, values,
};
use openclip_train::relay::{self, MicroBatch};

/// f32 against f64, relative to the largest value.
const TOLERANCE: f32 = 1e-6;

#[test]
fn forward_and_gradients_are_the_paper_s() {
    let (expected, device) = (Tensors::read("int8.safetensors"), device().autodiff());
    for case in ["square", "wide", "narrow", "long"] {
        let get = |name: &str| -> Tensor<2> { expected.tensor(&format!("{case}/{name}"), &device) };
        let x = get("x").require_grad();
        let weight = get("weight").transpose().detach().require_grad();
        let bias = expected.tensor::<1>(&format!("{case}/bias"), &device);
        let bias = bias.require_grad();
        let y = switch_back(x.clone(), weight.clone()) + bias.clone().unsqueeze();
        let same = |name: &str, found: Vec<f32>| {
            let wanted = expected.get(&format!("{case}/{name}")).1;
            let apart = relative_difference(&found, wanted);
            println!("{case} {name}: {apart:e}");
            assert!(apart <= TOLERANCE, "{case} {name}: {apart:e}");
        };
        same("y", values(y.clone()));
        let mut gradients = (y * get("gradient")).sum().backward();
        same("dx", values(x.grad_remove(&mut gradients).unwrap()));
        let of_weight = weight.grad_remove(&mut gradients).unwrap();
        same("dweight", values(of_weight.transpose()));
        same("dbias", values(bias.grad_remove(&mut gradients).unwrap()));
    }
}

fn read(path: &str) -> (Clip, MicroBatch) {
    let config = model_config(&json(&format!("{path}.json"))["model_cfg"]);
    let (file, device) = (format!("{path}.safetensors"), device().autodiff());
    let expected = Tensors::read(&file);
    let batch = MicroBatch {
        images: expected.tensor("input/image", &device),
        tokens: expected.tokens("input/text", &device),
        dropout: 0,
    };
    (
        openclip_tests::model(&config, &file, "weights/", &device),
        batch,
    )
}

#[test]
fn models_are_near_and_every_parameter_learns() {
    let (model, batch) = read("models/vit_plain");
    let eight = model.clone().with_int8_linear().unwrap();
    let features = |model: &Clip| values(model.encode_image(batch.images.clone(), true));
    let apart = max_difference(&features(&eight), &features(&model));
    assert!(apart > 1e-6 && apart < 0.05, "features differ by {apart:e}");
    let gradient = |model: &Clip| {
        let (_, gradients) = relay::step(model, std::slice::from_ref(&batch)).unwrap();
        gradients_of(model, &gradients)
    };
    let (found, wanted) = (gradient(&eight), gradient(&model));
    assert_eq!(found.len(), wanted.len());
    let recomputed = eight.clone().with_grad_checkpointing().unwrap();
    for (a, b) in gradient(&recomputed).iter().zip(&found) {
        assert_eq!(a.values, b.values, "{}", a.key);
    }
}

#[test]
fn a_model_without_such_layers_says_so() {
    let config = model_config(&json("siglip/plain.json")["model_cfg"]);
    let mut config = config;
    config
        .text_cfg
        .extra
        .insert("hf_model_name".into(), serde_json::Value::Null);
    let model = Clip::new(&config, &device()).unwrap();
    // The native text tower has them.
    assert!(model.with_int8_linear().is_ok());
    let config = model_config(&json("hftext/roberta_mean.json")["model_cfg"]);
    let model = Clip::new(&config, &device()).unwrap();
    let native_image =
        config.vision_cfg.timm_model_name().is_none() && !config.vision_cfg.layers.is_array();
    assert_eq!(model.with_int8_linear().is_ok(), native_image);
}
