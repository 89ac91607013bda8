//! Optimizers, against PyTorch and timm, and learning rates that fall from layer to layer, against `open_clip`.
//! `tests/parity/export_optimizers.py` and `export_layer_decay.py` made the fixtures.

use std::collections::HashMap;

use burn::lr_scheduler::LrScheduler;
use burn::module::{Module, Param, ParamGroup, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::Tensor;
use openclip_model::{Clip, params, registry};
use openclip_tests::family::digest;
use openclip_tests::{Tensors, device, json, max_difference, values};
use openclip_train::TrainError;
use openclip_train::optim::{
    Algorithm, Given, LayerDecay, clip_factor, gradient_norm, scale_gradients,
};
use openclip_train::schedule::{Decay, Schedule, StepSchedule};
use serde_json::Value;

const FILE: &str = "optimizers.safetensors";

#[derive(Module, Debug)]
struct Toy {
    decayed_matrix: Param<Tensor<2>>,
    decayed_small: Param<Tensor<2>>,
    decayed_kernel: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    scale: Param<Tensor<1>>,
}

impl Toy {
    fn read(tensors: &Tensors, prefix: &str) -> Self {
        fn param<const D: usize>(tensors: &Tensors, place: String, id: u64) -> Param<Tensor<D>> {
            let tensor = tensors.tensor(&place, &device().autodiff());
            Param::initialized(ParamId::from(id), tensor.require_grad())
        }
        Self {
            decayed_matrix: param(tensors, format!("{prefix}/decayed_matrix"), 1),
            decayed_small: param(tensors, format!("{prefix}/decayed_small"), 2),
            decayed_kernel: param(tensors, format!("{prefix}/decayed_kernel"), 3),
            bias: param(tensors, format!("{prefix}/bias"), 4),
            scale: param(tensors, format!("{prefix}/scale"), 5),
        }
    }

    /// The values of this one as gradients.
    fn gradients(&self) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        gradients.register(1_u64.into(), self.decayed_matrix.val().inner());
        gradients.register(2_u64.into(), self.decayed_small.val().inner());
        gradients.register(3_u64.into(), self.decayed_kernel.val().inner());
        gradients.register(4_u64.into(), self.bias.val().inner());
        gradients.register(5_u64.into(), self.scale.val().inner());
        gradients
    }

    fn values(&self) -> [Vec<f32>; 5] {
        [
            values(self.decayed_matrix.val()),
            values(self.decayed_small.val()),
            values(self.decayed_kernel.val()),
            values(self.bias.val()),
            values(self.scale.val()),
        ]
    }
}

struct Case {
    name: String,
    algorithm: Algorithm,
    rates: Vec<f64>,
    weight_decay: f32,
    kept: Vec<u64>,
    tensors: Tensors,
}

fn cases() -> Vec<Case> {
    let table = json("optimizers.json");
    let numbers = |key: &str| -> Vec<f64> { serde_json::from_value(table[key].clone()).unwrap() };
    let case = |(name, flags): (&String, &Value)| Case {
        name: name.clone(),
        algorithm: named(flags, "ViT-B-32").unwrap(),
        rates: numbers("rates"),
        weight_decay: table["weight_decay"].as_f64().unwrap() as f32,
        kept: numbers("kept")
            .into_iter()
            .map(|step| step as u64)
            .collect(),
        tensors: Tensors::read(FILE),
    };
    let cases: Vec<_> = table["cases"]
        .as_object()
        .unwrap()
        .iter()
        .map(case)
        .collect();
    assert_eq!(cases.len(), 12);
    cases
}

fn named(flags: &Value, model: &str) -> Result<Algorithm, TrainError> {
    let number = |key: &str| flags[key].as_f64();
    let given = Given {
        beta1: number("beta1").map(|x| x as f32),
        beta2: number("beta2").map(|x| x as f32),
        eps: number("eps").map(|x| x as f32),
        momentum: number("momentum"),
        settings: flags["settings"].as_object(),
    };
    Algorithm::named(flags["opt"].as_str().unwrap(), model, &given)
}

impl Case {
    fn optimizer(&self) -> ModuleOptimizer {
        let decayed = ParamGroup::from_ids([1, 2, 3].map(|id: u64| id.into()).to_vec());
        self.algorithm.optimizer(decayed, self.weight_decay)
    }

    /// Step `step`, from 1, with the limit that the optimizer sets to the gradient.
    fn step(&self, optimizer: &mut ModuleOptimizer, toy: Toy, step: u64) -> Toy {
        let gradients = Toy::read(&self.tensors, &format!("gradient/{step}")).gradients();
        let norm = gradient_norm(&toy, &gradients);
        let factor = clip_factor(norm, self.algorithm.max_grad_norm());
        let gradients = scale_gradients(&toy, gradients, factor);
        optimizer.step(self.rates[step as usize - 1], toy, gradients)
    }
}

#[test]
fn twelve_steps_of_every_optimizer() {
    for case in cases() {
        let mut toy = Toy::read(&case.tensors, "start");
        let mut optimizer = case.optimizer();
        let mut worst = 0.0_f32;
        for step in 1..=case.rates.len() as u64 {
            toy = case.step(&mut optimizer, toy, step);
            if case.kept.contains(&step) {
                let expected = Toy::read(&case.tensors, &format!("{}/{step}", case.name));
                let found = toy.values();
                for (found, expected) in found.iter().zip(&expected.values()) {
                    worst = worst.max(max_difference(found, expected));
                }
            }
        }
        // Values move by 0.1 to 0.3; f32 strays from f64 by 6e-7.
        assert!(worst <= 2e-6, "{}: {worst:e}", case.name);
    }
}

#[test]
fn every_optimizer_goes_on_bit_for_bit_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    for case in cases() {
        let path = dir.path().join(format!("{}.bpk", case.name));
        let run = |interrupted: bool| {
            let mut toy = Toy::read(&case.tensors, "start");
            let mut optimizer = case.optimizer();
            for step in 1..=case.rates.len() as u64 {
                if interrupted && step == 7 {
                    optimizer.to_record().save(&path).unwrap();
                    let record = OptimizerRecord::load(&path).unwrap();
                    optimizer = case.optimizer().load_record(record);
                }
                toy = case.step(&mut optimizer, toy, step);
            }
            toy.values()
        };
        assert_eq!(run(false), run(true), "{}", case.name);
    }
}

#[test]
fn settings_that_do_not_fit_are_named() {
    for (flags, expected) in [
        (
            r#"{"opt": "muon"}"#,
            "--opt: muon is not built; there are adamw,",
        ),
        (
            r#"{"opt": "lion", "eps": 1e-3}"#,
            "--eps: lion has no such setting; it has betas",
        ),
        (
            r#"{"opt": "adafactor", "beta1": 0.9}"#,
            "--beta1: adafactor has no such setting",
        ),
        (
            r#"{"opt": "adamw", "momentum": 0.9}"#,
            "--momentum: adamw has no such setting",
        ),
        (
            r#"{"opt": "lamb", "settings": {"trust_clip": true}}"#,
            "--opt-kwargs: lamb: trust_clip=true is not built; it is false",
        ),
        (
            r#"{"opt": "adamw", "settings": {"mode": "fast"}}"#,
            "--opt-kwargs: adamw has no mode; it has ",
        ),
        (
            r#"{"opt": "adamw", "settings": {"lr": 0.1}}"#,
            "--opt-kwargs: adamw has no lr; --lr sets it; it has ",
        ),
        (
            r#"{"opt": "adamw", "settings": {"eps": "small"}}"#,
            "--opt-kwargs: adamw: eps=\"small\": ",
        ),
        (
            r#"{"opt": "lion", "settings": {"betas": [0.9]}}"#,
            "--opt-kwargs: lion: ",
        ),
        (
            r#"{"opt": "lion", "settings": {"betas": [0.9, 1.5]}}"#,
            "out of its range",
        ),
        (
            r#"{"opt": "adafactor", "settings": {"decay_rate": 0.8}}"#,
            "out of its range",
        ),
        (
            r#"{"opt": "sgd", "settings": {"nesterov": 1}}"#,
            "--opt-kwargs: sgd: ",
        ),
    ] {
        let error = named(&serde_json::from_str(flags).unwrap(), "RN50").unwrap_err();
        assert!(error.to_string().contains(expected), "{flags}: {error}");
    }
}

#[test]
fn settings_with_one_value_may_be_written_out() {
    let flags =
        r#"{"opt": "adamw", "settings": {"maximize": false, "amsgrad": true, "betas": [0, 0.5]}}"#;
    let found = named(&serde_json::from_str(flags).unwrap(), "RN50").unwrap();
    let expected = Algorithm::AdamW {
        betas: [0.0, 0.5],
        eps: 1e-8,
        amsgrad: true,
    };
    assert_eq!(found, expected);
}

#[test]
fn parameters_stand_as_deep_as_in_open_clip() {
    let table = json("layer_decay.json");
    let table = table.as_object().unwrap();
    assert_eq!(table.len(), 17);
    for (name, towers) in table {
        let model = Clip::new(&registry::builtin(name).unwrap(), &device()).unwrap();
        let keys: HashMap<_, _> = params::describe(&model)
            .into_iter()
            .filter(|param| param.is_parameter())
            .map(|param| (param.id, param.key))
            .collect();
        for (tower, layers) in towers.as_object().unwrap() {
            let decay = 0.5_f64;
            let decay = match tower.as_str() {
                "image" => LayerDecay {
                    image: Some(decay),
                    text: None,
                },
                _ => LayerDecay {
                    image: None,
                    text: Some(decay),
                },
            };
            let mut scales = decay.scales(&model);
            scales.sort_by(|a, b| b.0.total_cmp(&a.0));
            let layers = layers.as_array().unwrap();
            assert_eq!(scales.len(), layers.len(), "{name}, {tower}");
            for (depth, ((scale, group), expected)) in (1..).zip(scales.iter().zip(layers)) {
                let place = format!("{name}, {tower}, {depth} below the output");
                assert_eq!(*scale, 0.5_f64.powi(depth), "{place}");
                let own = keys.iter().filter(|(id, _)| group.matches(id, None));
                let own: Vec<_> = own.map(|(_, key)| key.clone()).collect();
                assert_eq!(expected[0], own.len(), "{place}: {own:?}");
                assert_eq!(expected[1], digest(own), "{place}");
            }
        }
    }
}

#[test]
fn the_schedule_of_lower_layers_is_scaled() {
    let model = Clip::new(&registry::builtin("ViT-B-32").unwrap(), &device()).unwrap();
    let schedule = Schedule {
        lr: 1.0,
        warmup: 2,
        total: 10,
        decay: Decay::Const,
    };
    let schedule = StepSchedule {
        schedule,
        step: 0,
        skip: false,
        scale: 1.0,
    };
    let decay = LayerDecay {
        image: Some(0.5),
        text: Some(0.1),
    };
    let mut scheduler = decay.scheduler(&model, schedule.clone());
    let id = |key: &str| {
        let all = params::describe(&model);
        all.iter().find(|param| param.key == key).unwrap().id
    };
    for base in [0.5, 1.0, 1.0] {
        let rates = scheduler.step();
        assert_eq!(rates.base(), base);
        for (key, scale) in [
            ("logit_scale", 1.0),
            ("visual.proj", 1.0),
            ("visual.ln_post.weight", 0.5),
            ("visual.transformer.resblocks.10.ln_1.bias", 0.25),
            ("text_projection", 1.0),
            ("transformer.resblocks.10.ln_1.bias", 0.01),
        ] {
            let found = rates.lr_from_param(id(key), None);
            assert!((found - base * scale).abs() < 1e-12, "{key}: {found}");
        }
    }
    let mut scaled = StepSchedule {
        skip: true,
        scale: 0.5,
        ..schedule
    };
    assert_eq!(scaled.step(), 0.5);
    let wrong = LayerDecay {
        image: Some(1.5),
        text: None,
    }
    .checked();
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .starts_with("--image-layer-decay: 1.5 ")
    );
}
