//! One gradient and one run, however a batch is split: in one piece, in micro-batches, over threads, over MPI processes
//! (feature `mpi`, which needs `mpirun`). `tests/parity/export_objectives.py` made the fixtures.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use burn::module::Module;
use openclip_model::Clip;
use openclip_model::params::ParamValues;
use openclip_model::weights::StateDict;
use openclip_tests::family::{self, equal_gradients, same_gradients};
use openclip_tests::{
    Tensors, device, device_name, gradients_of, json, model, model_config, named_values,
    on_threads, parameters_of, relative_difference, values,
};
use openclip_train::comm::threads::ThreadRank;
use openclip_train::comm::{CommError, Communicator, Single};
use openclip_train::loss::{CaptionObjective, ClipLoss, Objective, SigLipLoss};
use openclip_train::relay::{MicroBatch, Relay};
use openclip_train::{TrainConfig, train};

const CASES: [&str; 4] = ["clip", "siglip", "distill", "coca"];
/// Pairs of a batch.
const PAIRS: usize = 24;
/// PyTorch's f32 sums in another order.
const FROM_UPSTREAM: f32 = 1e-4;
/// Other orders of the same sums.
const FROM_WHOLE: f32 = 1e-5;

/// A rank's own copy of a model. Burn 0.22.1 can lock up where threads differentiate through the same parameters: a backward pass
/// takes the lock of its graph and then that of all graphs, a merge of graphs the other way round.
fn own(model: &Clip) -> Clip {
    model.clone().fork(&device().autodiff())
}

struct Case {
    model: Clip,
    teacher: Option<Clip>,
    objective: Objective,
    expected: Tensors,
}

impl Case {
    fn read(name: &str) -> Self {
        let file = format!("objectives/{name}.safetensors");
        let about = &json("objectives/objectives.json")[name];
        let device = device().autodiff();
        let caption = CaptionObjective {
            weight: 2.0,
            pad: 0,
        };
        Self {
            model: model(
                &model_config(&about["model_cfg"]),
                &file,
                "weights/",
                &device,
            ),
            teacher: (name == "distill").then(|| {
                let config = model_config(&about["teacher_cfg"]);
                model(&config, &file, "teacher/", &openclip_tests::device())
            }),
            objective: Objective {
                distill: (name == "distill").then_some(1.0),
                caption: (name == "coca").then_some(caption),
                ..match name {
                    "siglip" => Objective::of(&SigLipLoss),
                    _ => Objective::of(&ClipLoss),
                }
            },
            expected: Tensors::read(&file),
        }
    }

    /// A rank's share of the gradient made of micro-batches of `size`: the losses of all ranks together – whole, contrastive,
    /// the other one – and every parameter's gradient.
    fn gradient(&self, ranks: &dyn Communicator, size: usize) -> (Vec<f32>, Vec<ParamValues>) {
        let whole = family::batch(&self.expected, 0);
        let rows = PAIRS / ranks.world_size();
        let first = rows * ranks.rank();
        let part = |from| MicroBatch {
            images: whole.images.clone().slice_dim(0, from..from + size),
            tokens: whole.tokens.clone().slice_dim(0, from..from + size),
            dropout: 0,
        };
        let batches: Vec<_> = (first..first + rows).step_by(size).map(part).collect();
        let relay = Relay {
            ranks,
            teacher: self.teacher.as_ref(),
            ..Relay::new(&self.objective)
        };
        let model = own(&self.model);
        let (losses, gradients) = relay.step(&model, &batches).unwrap();
        let losses = [
            Some(losses.total),
            Some(losses.contrastive),
            losses.distill.or(losses.caption),
        ];
        let mut losses: Vec<f32> = losses.into_iter().flatten().map(|l| values(l)[0]).collect();
        ranks.all_reduce(&mut losses).unwrap();
        let found = gradients_of(&model, &gradients);
        (losses, found)
    }

    /// Asserts that losses and gradients are the whole batch's; returns the largest relative difference.
    fn same(
        &self,
        what: &str,
        found: &(Vec<f32>, Vec<ParamValues>),
        whole: &(Vec<f32>, Vec<ParamValues>),
    ) -> f32 {
        for (found, wanted) in found.0.iter().zip(&whole.0) {
            let apart = (found / wanted - 1.0).abs();
            assert!(apart <= FROM_WHOLE, "{what}: loss {found}, not {wanted}");
        }
        equal_gradients(what, &found.1, &whole.1, FROM_WHOLE)
    }
}

#[test]
fn every_split_gives_the_gradient_of_the_whole_batch() {
    for name in CASES {
        let case = Case::read(name);
        let whole = case.gradient(&Single, PAIRS);
        let wanted = ["contrastive_loss", "distill_loss", "caption_loss"];
        let wanted = wanted.iter().filter_map(|loss| {
            let outputs = case.expected.with_prefix("output/");
            outputs.into_iter().find(|(key, _)| key == loss)
        });
        for (found, (loss, wanted)) in whole.0[1..].iter().zip(wanted) {
            let apart = (found / wanted[0] - 1.0).abs();
            assert!(
                apart <= 1e-5,
                "{name}: {loss} is {found}, not {}",
                wanted[0]
            );
        }
        let upstream = same_gradients(name, "grad/", &whole.1, &case.expected, FROM_UPSTREAM);
        let mut worst = 0.0_f32;
        for (world, size) in [
            (1, 12),
            (1, 1),
            (2, 12),
            (2, 4),
            (3, 8),
            (3, 2),
            (4, 6),
            (4, 1),
        ] {
            let what = format!("{name} on {world} ranks in micro-batches of {size}");
            let all = on_threads(world, |rank| case.gradient(&rank, size));
            for found in &all {
                worst = worst.max(case.same(&what, found, &whole));
                let same = found
                    .1
                    .iter()
                    .zip(&all[0].1)
                    .all(|(a, b)| a.values == b.values);
                assert!(same, "{what}: ranks differ");
            }
        }
        println!("{name}: upstream {upstream:e}, splits {worst:e}");
    }
}

/// A rank behind a slow network that notes which threads exchange.
#[derive(Debug)]
struct Watched {
    rank: ThreadRank,
    nanoseconds_a_value: u64,
    threads: Mutex<HashSet<ThreadId>>,
}

impl Watched {
    fn new(rank: ThreadRank, nanoseconds_a_value: u64) -> Self {
        Self {
            rank,
            nanoseconds_a_value,
            threads: Mutex::default(),
        }
    }
}

impl Communicator for Watched {
    fn rank(&self) -> usize {
        self.rank.rank()
    }

    fn world_size(&self) -> usize {
        self.rank.world_size()
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        self.rank.all_gather(bytes)
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommError> {
        self.threads.lock().unwrap().insert(thread::current().id());
        thread::sleep(Duration::from_nanos(
            values.len() as u64 * self.nanoseconds_a_value,
        ));
        self.rank.all_reduce(values)
    }
}

#[test]
fn pictures_gradients_travel_while_captions_are_back_propagated() {
    for (name, threads) in [("clip", 2), ("siglip", 2), ("distill", 2), ("coca", 1)] {
        let case = Case::read(name);
        let found = on_threads(2, |rank| {
            let ranks = Watched::new(rank, 0);
            case.gradient(&ranks, 4);
            ranks.threads.into_inner().unwrap().len()
        });
        assert_eq!(found, [threads; 2], "{name}");
    }
}

/// How much of an exchange the backward pass hides, for `OPENCLIP_BENCH_MODEL` and a network of 100 MB/s.
#[test]
#[ignore = "measures"]
fn hidden_exchange() {
    let name = std::env::var("OPENCLIP_BENCH_MODEL").unwrap_or("ViT-B-32".into());
    let options = openclip_model::factory::CreateOptions::default();
    let device = device().autodiff();
    let loaded = openclip_model::factory::create(&name, None, &device, &options).unwrap();
    let model = loaded.model;
    let values: usize = parameters_of(&model).iter().map(|p| p.values.len()).sum();
    let images = burn::tensor::Tensor::ones([4, 3, 224, 224], &device);
    let tokens = burn::tensor::Tensor::ones([4, 77], &device);
    for nanoseconds in [0, 40, 0, 40] {
        let took = on_threads(2, |rank| {
            let batch = MicroBatch {
                images: images.clone(),
                tokens: tokens.clone(),
                dropout: 0,
            };
            let ranks = Watched::new(rank, nanoseconds);
            let objective = Objective::of(&ClipLoss);
            let relay = Relay {
                ranks: &ranks,
                ..Relay::new(&objective)
            };
            let model = own(&model);
            let start = Instant::now();
            relay.step(&model, &[batch]).unwrap();
            start.elapsed()
        });
        let network = Duration::from_nanos(values as u64 * nanoseconds);
        println!("{name}: exchange {network:?}, step {took:?}");
    }
}

/// Sixty coloured pictures with captions, and flags for twenty steps of 24 of them.
fn config(dir: &Path, name: &str) -> TrainConfig {
    let [model, data] = ["tiny-vit.json", "pairs.csv"].map(|name| dir.join(name));
    if !data.exists() {
        let mut cfg = json("objectives/objectives.json")["clip"]["model_cfg"].clone();
        cfg["text_cfg"]["vocab_size"] = 49408.into();
        std::fs::write(&model, cfg.to_string()).unwrap();
        let mut rows = String::from("filepath\ttitle\n");
        for i in 0..60_u8 {
            let mut ppm = b"P6\n12 12\n255\n".to_vec();
            ppm.extend((0..432_u32).map(|p| (p * (7 + u32::from(i)) % 251) as u8));
            let path = dir.join(format!("{i}.ppm"));
            std::fs::write(&path, ppm).unwrap();
            rows += &format!("{}\tpattern number {i}\n", path.display());
        }
        std::fs::write(&data, rows).unwrap();
    }
    TrainConfig {
        model: model.display().to_string(),
        train_data: Some(data.display().to_string()),
        logs: dir.join("logs"),
        name: Some(name.into()),
        batch_size: PAIRS,
        workers: 1,
        epochs: 10,
        warmup: 1,
        device: "cpu".into(),
        log_every_n_steps: 1,
        ..TrainConfig::default()
    }
}

/// The weights that such a run ends with.
fn run(dir: &Path, name: &str, change: impl FnOnce(&mut TrainConfig)) -> StateDict {
    let mut config = config(dir, name);
    change(&mut config);
    let outcome = train(config).unwrap_or_else(|error| panic!("{error}"));
    StateDict::read(&outcome.checkpoint.unwrap().join("model.safetensors")).unwrap()
}

/// A bias of attention's keys changes no output: its gradient is rounding noise, which AdamW turns into steps.
fn without_key_bias(key: &str, mut values: Vec<f32>) -> Vec<f32> {
    if key.ends_with("in_proj_bias") {
        let width = values.len() / 3;
        values.drain(width..2 * width);
    }
    values
}

fn apart(a: &StateDict, b: &StateDict) -> f32 {
    assert_eq!(a.tensors.len(), b.tensors.len());
    let pairs = named_values(a).into_iter().zip(named_values(b));
    let apart = pairs.map(|((key, a), (other, b))| {
        assert_eq!(key, other);
        let [a, b] = [a, b].map(|values| without_key_bias(&key, values));
        relative_difference(&a, &b)
    });
    apart.fold(0.0, f32::max)
}

/// Augmentation included: a picture is cropped alike whichever rank has it.
#[test]
fn every_split_trains_the_same_weights() {
    if device_name() != "cpu" {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = run(dir.path(), "whole", |_| {});
    let mut worst = 0.0_f32;
    for (world, size, accum) in [(1, 6, 4), (2, 12, 1), (3, 4, 2), (4, 6, 1)] {
        let name = format!("{world}x{size}x{accum}");
        let found = run(dir.path(), &name, |config| {
            config.device = vec!["cpu"; world].join(",");
            (config.batch_size, config.accum_freq) = (size, accum);
        });
        let apart = apart(&found, &whole);
        assert!(apart <= 1e-4, "{name}: {apart:e}");
        worst = worst.max(apart);
    }
    println!("weights after 20 steps {worst:e}");
}

/// Two ranks, stopped in mid-epoch, go on exactly, and another number of ranks goes on with the same pictures.
#[test]
fn ranks_resume_exactly() {
    if device_name() != "cpu" {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let two = |config: &mut TrainConfig| {
        (config.device, config.batch_size) = ("cpu,cpu".into(), 12);
    };
    let whole = run(dir.path(), "two", two);
    for (name, ranks) in [("stopped", 2), ("shrunk", 1)] {
        run(dir.path(), name, |config| {
            two(config);
            config.max_steps = Some(7);
        });
        let found = run(dir.path(), name, |config| {
            two(config);
            config.resume = Some("latest".into());
            if ranks == 1 {
                (config.device, config.batch_size) = ("cpu".into(), 24);
            }
        });
        let apart = apart(&found, &whole);
        assert!(
            apart <= if ranks == 2 { 0.0 } else { 1e-4 },
            "{name}: {apart:e}"
        );
    }
}

/// A rank that cannot go on ends the run with its own reason, not with another rank's.
#[test]
fn a_failing_rank_ends_the_run_with_its_reason() {
    if device_name() != "cpu" {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let good = TrainConfig {
        epochs: 1,
        ..config(dir.path(), "good")
    };
    train(good.clone()).unwrap();
    let config = TrainConfig {
        device: "cpu,cpu".into(),
        batch_size: 12,
        ..good
    };
    let error = train(config.clone()).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    // A rank without a device leaves no folder behind.
    let config = TrainConfig {
        device: "cpu,abacus".into(),
        name: Some("never".into()),
        ..config
    };
    let error = train(config).unwrap_err().to_string();
    assert!(error.contains("abacus"), "{error}");
    assert!(!dir.path().join("logs/never").exists());
}

/// The same gradients and weights over MPI: this test starts itself again under `mpirun`.
#[cfg(feature = "mpi")]
mod mpi {
    use openclip_tests::processes::{folder, launch};
    use openclip_train::comm::mpi::MpiRank;

    use super::*;

    #[test]
    #[ignore = "run by processes_give_the_gradient_of_the_whole_batch"]
    fn gradient_of_a_process() {
        let ranks = MpiRank::join().unwrap();
        for name in CASES {
            for size in [PAIRS / ranks.world_size(), 2] {
                let (losses, gradients) = Case::read(name).gradient(&ranks, size);
                let values: Vec<u8> = losses
                    .iter()
                    .chain(gradients.iter().flat_map(|p| &p.values))
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                let file = format!("{name}.{size}.{}", ranks.rank());
                std::fs::write(folder().join(file), values).unwrap();
            }
        }
    }

    #[test]
    fn processes_give_the_gradient_of_the_whole_batch() {
        for world in [2, 3, 4] {
            let dir = tempfile::tempdir().unwrap();
            launch(world, gradient_of_a_process, dir.path());
            for name in CASES {
                let case = Case::read(name);
                let whole = case.gradient(&Single, PAIRS);
                for size in [PAIRS / world, 2] {
                    let read =
                        |rank| std::fs::read(dir.path().join(format!("{name}.{size}.{rank}")));
                    let first = read(0).unwrap();
                    for rank in 1..world {
                        assert!(read(rank).unwrap() == first, "{name}: ranks differ");
                    }
                    let mut values = first
                        .chunks_exact(4)
                        .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                    let losses = values.by_ref().take(whole.0.len()).collect();
                    let mut gradients = whole.1.clone();
                    for param in &mut gradients {
                        param.values = values.by_ref().take(param.values.len()).collect();
                    }
                    let what = format!("{name} on {world} processes by {size}");
                    let apart = case.same(&what, &(losses, gradients), &whole);
                    println!("{what}: {apart:e}");
                }
            }
        }
    }

    #[test]
    #[ignore = "run by processes_train_the_same_weights"]
    fn run_of_a_process() {
        let world = std::env::var("OMPI_COMM_WORLD_SIZE").unwrap();
        let size = PAIRS / world.parse::<usize>().unwrap();
        train(TrainConfig {
            batch_size: size,
            ..config(&folder(), &world)
        })
        .unwrap();
    }

    #[test]
    fn processes_train_the_same_weights() {
        let dir = tempfile::tempdir().unwrap();
        let whole = run(dir.path(), "whole", |_| {});
        for world in [2, 3, 4] {
            launch(world, run_of_a_process, dir.path());
            let file = format!("logs/{world}/checkpoints/epoch_10/model.safetensors");
            let apart = apart(&StateDict::read(&dir.path().join(file)).unwrap(), &whole);
            println!("weights after 20 steps on {world} processes: {apart:e}");
            assert!(apart <= 1e-4, "{world} processes: {apart:e}");
        }
    }
}
