//! Training checkpoints of OpenCLIP, gone on with here as PyTorch goes on with them.
//! `tests/parity/export_resume.py` made the fixtures.

use std::collections::HashSet;

use burn::tensor::FloatDType;
use burn::train::TrainStep;
use glob::Pattern;
use openclip_model::load::load_state_dict;
use openclip_model::lock::Lock;
use openclip_model::weights::{OptimizerState, RawTensor, Slot, StateDict, TrainingCheckpoint};
use openclip_model::{Clip, params};
use openclip_tests::{Tensors, device, fixture, json, max_difference, model_config, parameters_of};
use openclip_train::optim::torch::adopt;
use openclip_train::optim::{Algorithm, Optim};
use openclip_train::relay::{self, MicroBatch};
use openclip_train::task::{Setup, Task};
use serde_json::Value;

/// What a case of the exporter left.
struct Case {
    name: String,
    json: Value,
    clip: Clip,
    checkpoint: TrainingCheckpoint,
    optim: Optim,
}

impl Case {
    fn open(name: &str) -> Self {
        let json = json(&format!("resume/{name}.json"));
        let path = fixture(&format!("resume/{name}.pt"));
        let config = model_config(&json["model_cfg"]);
        let clip = Clip::new(&config, &device().autodiff()).unwrap();
        let weights = StateDict::read(&path).unwrap();
        let number = |key: &str| json["hyperparameters"][key].as_f64().unwrap() as f32;
        Self {
            name: name.into(),
            clip: load_state_dict(clip, &config, weights, &path).unwrap(),
            checkpoint: TrainingCheckpoint::open(&path).unwrap().unwrap(),
            optim: Optim {
                algorithm: Algorithm::AdamW {
                    betas: [number("beta1"), number("beta2")],
                    eps: number("eps"),
                    amsgrad: false,
                },
                weight_decay: number("wd"),
                wd_exclude: Vec::new(),
            },
            json,
        }
    }

    fn state(&self) -> &OptimizerState {
        self.checkpoint.optimizer.as_ref().unwrap()
    }

    /// Why the optimizer is not that of a model with these parameters frozen.
    fn refusal(&self, lock: &Lock) -> String {
        let frozen = lock.frozen(&self.clip);
        let keys = &self.checkpoint.keys;
        adopt(self.state(), keys, &self.clip, &frozen, &self.optim).unwrap_err()
    }
}

/// Five steps at given rates end at PyTorch's weights.
fn goes_on(case: &Case, lock: &Lock) {
    let name = &case.name;
    assert_eq!(case.checkpoint.epoch, 2);
    let frozen = lock.frozen(&case.clip);
    let clip = lock.apply(case.clip.clone());
    let keys = &case.checkpoint.keys;
    let adopted = adopt(case.state(), keys, &clip, &frozen, &case.optim).unwrap();
    assert_eq!(adopted.difference, None);
    let mut optimizer = case.optim.optimizer(&clip).load_record(adopted.record);
    let setup = Setup {
        device: device().autodiff(),
        compute: FloatDType::F32,
        preprocess: Default::default(),
        grad_clip_norm: None,
        seed: 0,
    };
    let mut task = Task::new(clip, setup);
    let tensors = Tensors::read(&format!("resume/{name}.safetensors"));
    let rates = case.json["lr"].as_array().unwrap();
    assert_eq!(rates.len(), 5);
    for (step, rate) in rates.iter().enumerate() {
        let batch = MicroBatch {
            images: tensors.tensor(&format!("input/image.{step}"), &device().autodiff()),
            tokens: tensors.tokens(&format!("input/text.{step}"), &device().autodiff()),
            dropout: 0,
        };
        let (_, gradients) = relay::step(&task.clip, &[batch]).unwrap();
        let rate = rate.as_f64().unwrap();
        task = task.optimize(&mut optimizer, rate.into(), gradients);
    }
    let mut worst = 0.0_f32;
    for param in parameters_of(&task.clip) {
        let wanted = tensors.get(&format!("final/{}", param.key)).1;
        let all = [0..wanted.len(), 0..0];
        let ranges = match param.key.ends_with("in_proj_bias") {
            // The loss does not depend on the bias of the keys: its gradient is rounding noise that AdamW scales up to the learning rate.
            true => [0..wanted.len() / 3, 2 * wanted.len() / 3..wanted.len()],
            false => all,
        };
        for range in ranges {
            let difference = max_difference(&param.values[range.clone()], &wanted[range]);
            assert!(difference <= 1e-5, "{name}: {}: {difference:e}", param.key);
            worst = worst.max(difference);
        }
    }
    println!("{name}: final weights differ by {worst:e}");
}

#[test]
fn moments_of_openclip_3() {
    goes_on(&Case::open("names"), &Lock::default());
}

/// Its main branch leaves tables of positions without decay, as a flag does here.
#[test]
fn moments_of_openclips_main() {
    let mut case = Case::open("declared");
    let keys = &case.checkpoint.keys;
    let adopted = adopt(case.state(), keys, &case.clip, &HashSet::new(), &case.optim).unwrap();
    let difference = adopted.difference.unwrap();
    let named = "--wd-exclude positional_embedding visual.positional_embedding";
    assert!(difference.contains(named), "{difference}");
    case.optim.wd_exclude = vec![Pattern::new("*positional_embedding").unwrap()];
    goes_on(&case, &Lock::default());
}

fn locked_image() -> Lock {
    Lock {
        image: Some(0),
        ..Lock::default()
    }
}

#[test]
fn moments_without_frozen_parameters() {
    goes_on(&Case::open("locked"), &locked_image());
}

#[test]
fn moments_of_other_parameters_are_refused() {
    let refusal = Case::open("locked").refusal(&Lock::default());
    assert!(refusal.contains("other parameters"), "{refusal}");
    assert!(refusal.contains("OpenCLIP 3"), "{refusal}");
    let refusal = Case::open("names").refusal(&locked_image());
    assert!(refusal.contains("other parameters"), "{refusal}");
    // As many, but not these.
    let mut case = Case::open("names");
    let state = case.checkpoint.optimizer.as_mut().unwrap();
    for entries in state.slots.values_mut() {
        let moment = RawTensor::from_f32(vec![0.0; 3], vec![3]);
        let moment = openclip_model::weights::Entry::Tensor(moment);
        entries.insert("exp_avg".into(), moment);
    }
    let refusal = case.refusal(&Lock::default());
    assert!(refusal.contains("its moments have [3]"), "{refusal}");
}

/// A sharded run gathers its state under the parameters' keys.
#[test]
fn moments_by_key() {
    let mut case = Case::open("names");
    let trained = params::describe(&case.clip);
    let decays =
        |param: &&params::ParamInfo| openclip_train::optim::decays(&param.key, &param.shape);
    let key = |key: &String| trained.iter().find(|p| format!("module.{}", p.key) == *key);
    let ordered: Vec<_> = case.checkpoint.keys.iter().filter_map(key).collect();
    let (decayed, others): (Vec<_>, Vec<_>) = ordered.into_iter().partition(decays);
    let keys: Vec<_> = others.into_iter().chain(decayed).map(|p| &p.key).collect();
    let by_key = |slot: Slot| match slot {
        Slot::Index(at) => Slot::Key(keys[at as usize].clone()),
        Slot::Key(key) => panic!("{key}"),
    };
    let state = case.checkpoint.optimizer.as_mut().unwrap();
    for group in &mut state.groups {
        group.params = group.params.drain(..).map(by_key).collect();
    }
    let slots = std::mem::take(&mut state.slots).into_iter();
    state.slots = slots
        .map(|(slot, entries)| (by_key(slot), entries))
        .collect();
    goes_on(&case, &Lock::default());
}

#[test]
fn settings_that_differ_are_told() {
    let mut case = Case::open("names");
    case.optim.algorithm = Algorithm::AdamW {
        betas: [0.9, 0.95],
        eps: 1e-6,
        amsgrad: false,
    };
    case.optim.weight_decay = 0.1;
    let keys = &case.checkpoint.keys;
    let adopted = adopt(case.state(), keys, &case.clip, &HashSet::new(), &case.optim).unwrap();
    let difference = adopted.difference.unwrap();
    assert_eq!(
        difference,
        "betas [0.9, 0.98] (here [0.9, 0.95]), weight decay 0.2 (here 0.1)"
    );
    case.optim.algorithm = Algorithm::Lion { betas: [0.9, 0.99] };
    assert!(case.refusal(&Lock::default()).contains("--opt"));
}

/// Every other optimizer is known by what it keeps.
#[test]
fn other_optimizers_are_refused_by_name() {
    use openclip_model::weights::Entry;
    for (name, keeps, settings) in [
        ("SGD", &["momentum_buffer"][..], &["dampening"][..]),
        ("SGD", &[], &["dampening"]),
        ("Lion", &["exp_avg"], &["betas"]),
        (
            "Adafactor",
            &["step", "exp_avg_sq_row", "exp_avg_sq_col"],
            &["clip_threshold"],
        ),
        (
            "NAdam",
            &["step", "exp_avg", "exp_avg_sq", "mu_product"],
            &["momentum_decay"],
        ),
        (
            "LAMB",
            &["exp_avg", "exp_avg_sq"],
            &["always_adapt", "grad_averaging"],
        ),
        ("RMSprop", &["step", "square_avg"], &["alpha"]),
        ("Muon", &["step", "exp_avg", "exp_avg_sq"], &["ns_steps"]),
        (
            "timm",
            &["step", "exp_avg", "exp_avg_sq"],
            &["amsgrad", "caution"],
        ),
        ("RAdam", &["step", "exp_avg", "exp_avg_sq"], &["betas"]),
        (
            "Adam,",
            &["step", "exp_avg", "exp_avg_sq"],
            &["amsgrad", "decoupled_weight_decay"],
        ),
        ("magic", &["magic"], &["amsgrad"]),
    ] {
        let mut case = Case::open("names");
        let state = case.checkpoint.optimizer.as_mut().unwrap();
        for entries in state.slots.values_mut() {
            *entries = keeps
                .iter()
                .map(|key| ((*key).into(), Entry::Number(1.0)))
                .collect();
        }
        for group in &mut state.groups {
            group.settings = settings
                .iter()
                .map(|key| ((*key).into(), Entry::Flag(false)))
                .collect();
        }
        let refusal = case.refusal(&Lock::default());
        assert!(refusal.contains(name), "{name}: {refusal}");
    }
}

#[test]
fn a_checkpoint_without_optimizer_has_its_epoch() {
    let path = fixture("resume/weights.pt");
    let checkpoint = TrainingCheckpoint::open(&path).unwrap().unwrap();
    assert_eq!(
        (checkpoint.epoch, checkpoint.optimizer.is_none()),
        (2, true)
    );
    // Weights in another format are none.
    let path = fixture("resume/names.safetensors");
    assert!(TrainingCheckpoint::open(&path).unwrap().is_none());
}
