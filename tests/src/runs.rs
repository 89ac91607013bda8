//! Whole runs of the trainer, as short as they can be.

use std::path::{Path, PathBuf};

use openclip_model::weights::StateDict;
use openclip_train::{TrainConfig, train};
use serde_json::Value;

/// Four pictures of one colour each with their captions, and `train.csv` that lists them.
pub fn write_squares(dir: &Path) {
    let mut rows = String::from("filepath\ttitle\n");
    for (i, colour) in ["red", "green", "blue", "grey"].into_iter().enumerate() {
        let mut ppm = b"P6\n16 16\n255\n".to_vec();
        for _ in 0..256 {
            ppm.extend([0, 1, 2].map(|c| if i == c || i == 3 { 180 } else { 20 }));
        }
        let path = dir.join(format!("{i}.ppm"));
        std::fs::write(&path, ppm).unwrap();
        rows += &format!("{}\ta {colour} square\n", path.display());
    }
    std::fs::write(dir.join("train.csv"), rows).unwrap();
}

/// A run called `name` in `dir` of the model `tiny-vit.json` over [`write_squares`]'s pictures: eight steps of two
/// micro-batches on the CPU.
pub fn run_config(dir: &Path, name: &str) -> TrainConfig {
    TrainConfig {
        model: dir.join("tiny-vit.json").display().to_string(),
        train_data: Some(dir.join("train.csv").display().to_string()),
        logs: dir.join("logs"),
        name: Some(name.into()),
        batch_size: 2,
        accum_freq: 2,
        workers: 1,
        epochs: 8,
        warmup: 1,
        device: "cpu".into(),
        log_every_n_steps: 1,
        ..TrainConfig::default()
    }
}

/// Trains as [`run_config`] says, or `change`, with a model of this configuration. Gives the run's folder and the weights of its last
/// checkpoint.
pub fn small_run(
    dir: &Path,
    model_cfg: &Value,
    name: &str,
    change: impl FnOnce(&mut TrainConfig),
) -> (PathBuf, StateDict) {
    write_squares(dir);
    let mut config = run_config(dir, name);
    std::fs::write(&config.model, model_cfg.to_string()).unwrap();
    change(&mut config);
    let outcome = train(config).unwrap_or_else(|error| panic!("{error}"));
    let file = outcome.checkpoint.unwrap().join("model.safetensors");
    (outcome.run, StateDict::read(&file).unwrap())
}

/// What `train.jsonl` or `results.jsonl` in a run's folder says, line by line.
pub fn lines(run: &Path, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join(file)).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// The loss of every step of a run.
pub fn losses(run: &Path) -> Vec<f64> {
    let steps = lines(run, "train.jsonl").into_iter();
    steps.map(|step| step["loss"].as_f64().unwrap()).collect()
}
