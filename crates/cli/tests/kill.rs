//! A run that is killed in the middle and resumed ends in the same bits as one that is not.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const EPOCHS: usize = 4;
const STEPS: usize = EPOCHS * 12;

/// A tiny model and 48 pictures with captions.
fn workspace() -> tempfile::TempDir {
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

fn start(dir: &Path, name: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_openclip"))
        .arg("train")
        .arg("--model")
        .arg(dir.join("tiny-vit.json"))
        .arg("--train-data")
        .arg(dir.join("train.csv"))
        .arg("--logs")
        .arg(dir.join("logs"))
        .args(["--name", name, "--resume", "latest", "--device", "cpu"])
        .args([
            "--batch-size",
            "2",
            "--accum-freq",
            "2",
            "--workers",
            "2",
            "--warmup",
            "5",
        ])
        .args([
            "--epochs",
            &EPOCHS.to_string(),
            "--save-every-n-steps",
            "1",
            "--grad-clip-norm",
            "1",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn final_weights(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(folder(dir, name).join(format!("epoch_{EPOCHS}/model.safetensors"))).unwrap()
}

fn folder(dir: &Path, name: &str) -> PathBuf {
    dir.join("logs").join(name).join("checkpoints")
}

fn complete_checkpoints(dir: &Path, name: &str) -> usize {
    let entries = fs::read_dir(folder(dir, name))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter(|entry| entry.path().join("state.json").exists())
        .count()
}

#[test]
fn killed_runs_go_on_bit_for_bit() {
    let dir = workspace();
    let dir = dir.path();
    assert!(start(dir, "straight").wait().unwrap().success());
    let mut kills = 0;
    let status = loop {
        let before = complete_checkpoints(dir, "killed");
        let mut child = start(dir, "killed");
        // At a moment that has nothing to do with the steps, once the run has moved on at least a little.
        let mut patience = Duration::from_millis(7 * (1 + kills) % 40);
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if complete_checkpoints(dir, "killed") > before + kills as usize % 4 {
                if patience.is_zero() {
                    break None;
                }
                std::thread::sleep(patience);
                patience = Duration::ZERO;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        if let Some(status) = ended {
            break status;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    };
    assert!(status.success());
    assert!(kills >= 5, "only {kills} kills in {STEPS} steps");
    assert_eq!(final_weights(dir, "straight"), final_weights(dir, "killed"));
}

#[test]
fn sigterm_saves_and_says_so() {
    let dir = workspace();
    let dir = dir.path();
    let mut child = start(dir, "asked");
    while complete_checkpoints(dir, "asked") < 3 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(start(dir, "asked").wait().unwrap().success());
    assert!(start(dir, "straight").wait().unwrap().success());
    assert_eq!(final_weights(dir, "straight"), final_weights(dir, "asked"));
}
