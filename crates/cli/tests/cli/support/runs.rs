//! Training runs that are killed and resumed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::weights;

/// A tiny model and 48 pictures with captions.
pub fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = r#"{"embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2, "patch_dropout": 0.2},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}"#;
    fs::write(dir.path().join("tiny-vit.json"), model).unwrap();
    let mut rows = String::from("filepath\ttitle\n");
    for i in 0..48_u32 {
        let mut ppm = b"P6\n24 30\n255\n".to_vec();
        ppm.extend((0..24 * 30 * 3_u32).map(|at| (at * (i + 3) % 251) as u8));
        let path = dir.path().join(format!("{i:02}.ppm"));
        fs::write(&path, ppm).unwrap();
        rows += &format!("{}\tpicture {i} with {} stripes\n", path.display(), i % 7);
    }
    fs::write(dir.path().join("train.csv"), rows).unwrap();
    dir
}

/// Gives `command` the flags of the run `name`, which goes on where it was and saves every step. A checkpoint has 19 MB: older ones
/// go meanwhile.
pub fn train(mut command: Command, dir: &Path, name: &str, epochs: usize) -> Command {
    command
        .arg("train")
        .arg("--model")
        .arg(dir.join("tiny-vit.json"))
        .arg("--train-data")
        .arg(dir.join("train.csv"))
        .arg("--logs")
        .arg(dir.join("logs"))
        .args(["--name", name, "--resume", "latest", "--device", "cpu"])
        .args(["--batch-size", "2", "--warmup", "5"])
        .args(["--epochs", &epochs.to_string()])
        .args(["--save-every-n-steps", "1", "--keep-last", "3"])
        .args(["--grad-clip-norm", "1"]);
    command
}

/// Runs what has to end well.
pub fn ends_well(mut command: Command) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {status}\n{said}");
}

/// Where the run keeps its checkpoints.
pub fn folder(dir: &Path, name: &str) -> PathBuf {
    dir.join("logs").join(name).join("checkpoints")
}

/// The weights after all epochs.
pub fn final_weights(dir: &Path, name: &str, epochs: usize) -> Vec<u8> {
    weights(&folder(dir, name).join(format!("epoch_{epochs}/model.safetensors")))
}

/// The checkpoints of the run, finished or not.
pub fn names(dir: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(folder(dir, name)).into_iter().flatten();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The highest step of a complete checkpoint; 0 without any.
pub fn newest_step(dir: &Path, name: &str) -> u64 {
    let states = names(dir, name).into_iter().filter_map(|checkpoint| {
        if checkpoint.starts_with('.') {
            return None;
        }
        let text = fs::read(folder(dir, name).join(checkpoint).join("state.json")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&text).ok()?;
        state["step"].as_u64()
    });
    states.max().unwrap_or(0)
}
