//! What lies behind a caption's end, which CPUs leave out: features and gradients are those of all tokens.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use openclip_model::Clip;
use openclip_model::init::initialise;
use openclip_tests::{device, max_difference, model_config, values};
use serde_json::json;

const LENGTH: usize = 12;

/// A text tower that stands for a caption by `pool`, and captions of several lengths.
fn made(pool: &str, causal: bool) -> (Clip, Tensor<2, Int>) {
    let device = device().autodiff();
    let config = model_config(&json!({
        "embed_dim": 16,
        "vision_cfg": { "image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1 },
        "text_cfg": {
            "context_length": LENGTH, "vocab_size": 50, "width": 16, "heads": 2, "layers": 3,
            "pool_type": pool, "eos_id": 49, "no_causal_mask": !causal,
        },
    }));
    let model = initialise(Clip::new(&config, &device).unwrap(), &config, 5);
    let captions = [2, 5, 7, 3].map(|length| {
        (0..LENGTH as i64).map(move |place| match place + 1 {
            end if end == length => 49,
            end if end > length => 0,
            _ => 1 + place * 7 % 40,
        })
    });
    let ids: Vec<i64> = captions.into_iter().flatten().collect();
    let tokens = Tensor::from_data(TensorData::new(ids, [4, LENGTH]), &device);
    (model, tokens)
}

struct Gradients<'a>(&'a burn::tensor::Gradients, Vec<(String, Vec<f32>)>);

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.0) {
            self.1.push((param.id.to_string(), values(gradient)));
        }
    }
}

fn learned(
    model: &Clip,
    features: Tensor<2>,
    device: &Device,
) -> (Vec<f32>, Vec<(String, Vec<f32>)>) {
    device.seed(1);
    let factors = Tensor::random(features.dims(), Distribution::Default, device);
    let gradients = (features.clone() * factors).sum().backward();
    let mut found = Gradients(&gradients, Vec::new());
    model.text.visit(&mut found);
    (values(features), found.1)
}

#[test]
fn the_end_of_a_caption_is_the_end_of_its_work() {
    for (pool, causal) in [
        ("argmax", true),
        ("eos", true),
        ("first", true),
        ("last", true),
        ("last", false),
        ("argmax", false),
    ] {
        let (model, tokens) = made(pool, causal);
        let device = tokens.device();
        let cut = model.text.forward(tokens.clone(), DType::F32, Some(1));
        let (whole, _) = model.text.forward_with_tokens(tokens, DType::F32, Some(1));
        let (cut, whole) = (
            learned(&model, cut, &device),
            learned(&model, whole, &device),
        );
        let apart = max_difference(&cut.0, &whole.0);
        assert!(apart <= 1e-5, "{pool}, causal {causal}: features {apart:e}");
        assert_eq!(cut.1.len(), whole.1.len(), "{pool}");
        for ((id, cut), (other, whole)) in cut.1.iter().zip(&whole.1) {
            assert_eq!(id, other);
            let apart = max_difference(cut, whole);
            assert!(
                apart <= 1e-5,
                "{pool}, causal {causal}, {id}: gradient {apart:e}"
            );
        }
    }
}
