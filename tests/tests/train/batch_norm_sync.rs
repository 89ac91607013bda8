//! `--use-bn-sync`: ranks that hold parts of a batch compute what one rank computes with the whole of it, whose BatchNorm
//! `--test parity resnet` compares with upstream.

use std::sync::Arc;

use burn::tensor::Tensor;
use openclip_model::Clip;
use openclip_tests::{
    Tensors, device, gradients_of, json, largest, max_difference, model_config, on_threads,
    parameters_of, values,
};
use openclip_train::comm::batch_norm::BatchNormRanks;
use openclip_train::comm::{Communicator, Single};
use openclip_train::loss::{ClipLoss, Objective};
use openclip_train::relay::{MicroBatch, Relay};

/// Of features and running statistics: sums of f32 in another order.
const VALUES: f32 = 1e-4;
/// Of gradients, through dozens of norms of few values: no more than from upstream.
const GRADIENTS: f32 = 4e-4;
/// Models with BatchNorm.
const PATHS: [&str; 2] = ["resnet/odd_image", "mobileclip/mci0"];
/// Samples of the whole batch.
const SAMPLES: usize = 6;

/// What a rank finds, by name.
type Found = Vec<(String, Vec<f32>)>;

fn read(path: &str, order: &[usize; SAMPLES]) -> (Clip, MicroBatch) {
    let config = model_config(&json(&format!("{path}.json"))["model_cfg"]);
    let device = device().autodiff();
    let file = format!("{path}.safetensors");
    let model = openclip_tests::model(&config, &file, "weights/", &device);
    let expected = Tensors::read(&file);
    let images: Tensor<4> = expected.tensor("input/image", &device);
    let tokens = expected.tokens("input/text", &device);
    let rows = |i: usize| (i % images.dims()[0])..(i % images.dims()[0] + 1);
    // Every sample differs in brightness, so that parts of the batch have other statistics than the whole.
    let image = |i| images.clone().slice_dim(0, rows(i)) * (1.0 + 0.3 * i as f32);
    let batch = MicroBatch {
        images: Tensor::cat(order.iter().map(|i| image(*i)).collect(), 0),
        tokens: Tensor::cat(
            order
                .iter()
                .map(|i| tokens.clone().slice_dim(0, rows(*i)))
                .collect(),
            0,
        ),
        dropout: 0,
    };
    (model, batch)
}

/// One rank's step in `parts` micro-batches: features of its samples, gradients and running statistics.
fn step(path: &str, ranks: Arc<dyn Communicator>, synchronise: bool, parts: usize) -> Found {
    step_of(path, ranks, synchronise, parts, &[0, 1, 2, 3, 4, 5])
}

/// Of samples in this order.
fn step_of(
    path: &str,
    ranks: Arc<dyn Communicator>,
    synchronise: bool,
    parts: usize,
    order: &[usize; SAMPLES],
) -> Found {
    let (model, batch) = read(path, order);
    let share = SAMPLES / ranks.world_size();
    let first = share * ranks.rank();
    let part = |from: usize, size: usize| MicroBatch {
        images: batch.images.clone().slice_dim(0, from..from + size),
        tokens: batch.tokens.clone().slice_dim(0, from..from + size),
        dropout: 0,
    };
    if synchronise {
        let sum = Arc::new(BatchNormRanks(Arc::clone(&ranks)));
        assert!(model.synchronise_batch_norm(sum));
    }
    let mine = part(first, share);
    let features = model.encode_image_training(mine.images, 0).inner();
    model.drop_pending_statistics();
    let objective = Objective::of(&ClipLoss);
    let relay = Relay {
        ranks: ranks.as_ref(),
        ..Relay::new(&objective)
    };
    let size = share / parts;
    let batches: Vec<_> = (0..parts).map(|i| part(first + i * size, size)).collect();
    let (_, gradients) = relay.step(&model, &batches).unwrap();
    let mut found = vec![("features".to_owned(), values(features))];
    let gradients = gradients_of(&model, &gradients);
    found.extend(
        gradients
            .into_iter()
            .map(|p| (format!("gradient of {}", p.key), p.values)),
    );
    let running = parameters_of(&model.apply_pending_statistics());
    let running = running.into_iter().filter(|p| p.key.contains("running_"));
    found.extend(running.map(|p| (p.key, p.values)));
    found
}

fn on_ranks(path: &str, size: usize, synchronise: bool, parts: usize) -> Vec<Found> {
    on_threads(size, |rank| step(path, Arc::new(rank), synchronise, parts))
}

/// Largest differences of `found` from `wanted`, relative to the largest value: of features and running statistics, and of
/// gradients, where it is at least a thousandth of the largest of all.
fn differences(found: &[Found], wanted: &Found) -> [f32; 2] {
    let is_gradient = |name: &str| name.starts_with("gradient");
    let gradients = wanted.iter().filter(|(name, _)| is_gradient(name));
    let total = gradients.map(|(_, g)| largest(g)).fold(0.0, f32::max);
    assert!(total > 0.0);
    let mut worst = [0.0_f32; 2];
    for (i, (name, wanted)) in wanted.iter().enumerate() {
        let (kind, floor) = match is_gradient(name) {
            true => (1, 1e-3 * total),
            false => (0, 1e-6),
        };
        let copies: Vec<Vec<f32>> = match i {
            // Each rank has the features of its own samples.
            0 => vec![found.iter().flat_map(|rank| rank[0].1.clone()).collect()],
            _ => found.iter().map(|rank| rank[i].1.clone()).collect(),
        };
        for copy in copies {
            let apart = max_difference(&copy, wanted) / largest(wanted).max(floor);
            worst[kind] = worst[kind].max(apart);
        }
    }
    worst
}

fn close(what: &str, found: &[Found], whole: &Found) {
    let [values, gradients] = differences(found, whole);
    println!("{what}: {values:e}, gradients {gradients:e}");
    assert!(values <= VALUES, "{what}: {values:e}");
    assert!(gradients <= GRADIENTS, "{what}: {gradients:e}");
}

#[test]
fn ranks_together_normalise_as_one() {
    for path in PATHS {
        let whole = step(path, Arc::new(Single), false, 1);
        for size in [2, 3] {
            let found = on_ranks(path, size, true, 1);
            close(&format!("{path}, {size} ranks"), &found, &whole);
        }
        // The comparison can tell: each rank by itself is far off.
        let [values, gradients] = differences(&on_ranks(path, 2, false, 1), &whole);
        assert!(
            values > 100.0 * VALUES && gradients > 100.0 * GRADIENTS,
            "{path}"
        );
    }
}

#[test]
fn micro_batches_of_ranks_normalise_as_micro_batches_of_one() {
    let path = "resnet/odd_image";
    let found = on_ranks(path, 2, true, 3);
    // Micro-batch i of one rank alone holds the samples of micro-batch i of both.
    let order = [0, 3, 1, 4, 2, 5];
    let whole = step_of(path, Arc::new(Single), true, 3, &order);
    for rank in &found {
        for (a, b) in rank.iter().zip(&whole).skip(1) {
            assert_eq!(a.0, b.0);
            let size = largest(&b.1).max(1e-2);
            let apart = max_difference(&a.1, &b.1) / size;
            assert!(apart <= GRADIENTS, "{}: {apart:e}", a.0);
        }
    }
}

/// The same over MPI: this test starts itself again under `mpirun`.
#[cfg(feature = "mpi")]
mod mpi {
    use openclip_tests::processes::{folder, launch};
    use openclip_train::comm::mpi::MpiRank;

    use super::*;

    #[test]
    #[ignore = "run by processes_together_normalise_as_one"]
    fn step_of_a_process() {
        let ranks = Arc::new(MpiRank::join().unwrap());
        for path in PATHS {
            let found = step(path, ranks.clone(), true, 1);
            let file = folder().join(format!("{}.{}", path.replace('/', "."), ranks.rank()));
            std::fs::write(file, serde_json::to_vec(&found).unwrap()).unwrap();
        }
    }

    #[test]
    fn processes_together_normalise_as_one() {
        for world in [2, 3] {
            let dir = tempfile::tempdir().unwrap();
            launch(world, step_of_a_process, dir.path());
            for path in PATHS {
                let read = |rank| {
                    let file = dir
                        .path()
                        .join(format!("{}.{rank}", path.replace('/', ".")));
                    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
                };
                let found: Vec<Found> = (0..world).map(read).collect();
                let whole = step(path, Arc::new(Single), false, 1);
                close(&format!("{path}, {world} processes"), &found, &whole);
            }
        }
    }
}
