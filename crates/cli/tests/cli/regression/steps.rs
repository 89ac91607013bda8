//! What training does when something beside it fails.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Ran, Room, weights};

/// Four steps an epoch of two pairs each.
fn room() -> Room {
    Room::captioned(2)
}

fn train(room: &Room, flags: &str) -> Ran {
    let words = format!(
        "train --model tiny.json --train-data train.csv --batch-size 2 --epochs 3 --warmup 1 --workers 1 --device cpu \
         --log-every-n-steps 1 {flags}"
    );
    room.run(&words.split_whitespace().collect::<Vec<_>>())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn checkpoints(room: &Room, run: &str) -> Vec<String> {
    names(&room.path(&format!("logs/{run}/checkpoints")))
}

fn warnings(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines.filter(|line| line.contains("| WARNING |")).collect()
}

fn steps(room: &Room, run: &str) -> Vec<u64> {
    let text = fs::read_to_string(room.path(&format!("logs/{run}/train.jsonl"))).unwrap();
    let step = |line: &str| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64();
    text.lines().map(|line| step(line).unwrap()).collect()
}

/// A rate at which the first step ruins the weights.
const RUIN: &str = "--lr 1e30 --max-bad-steps 3 --save-every-n-steps 1 --keep-last 2";

#[test]
fn ruined_weights_push_no_good_checkpoint_out() {
    let room = room();
    let good = |step: u64| {
        room.path(&format!(
            "logs/run/checkpoints/step_{step}/model.safetensors"
        ))
    };
    let stop_at = |step: u64| {
        let ran = train(
            &room,
            &format!("--name run --resume latest --max-steps {step} --keep-last 2"),
        );
        assert_eq!(ran.status, 3, "{}", ran.stderr);
    };
    let ruin = |step: u64| {
        let before = weights(&good(step));
        let flags = format!("--name run --resume latest {RUIN} --save-most-recent --ema-decay 0.5");
        let error = train(&room, &flags).error(1);
        assert!(error.contains("3 bad steps in a row"), "{error}");
        let named = format!("the last good checkpoint is ./logs/run/checkpoints/step_{step}");
        assert!(error.ends_with(&named), "{error}");
        let left = [format!("step_{}", step - 1), format!("step_{step}")];
        assert_eq!(checkpoints(&room, "run"), left);
        assert!(weights(&good(step)) == before);
    };
    // Step 3 is taken and leaves weights that no other step can be taken from, not even before the epoch ends.
    stop_at(1);
    stop_at(2);
    ruin(2);
    // Step 4 is the last of its epoch.
    stop_at(3);
    ruin(3);
    train(&room, "--name run --resume latest").ok();
    train(&room, "--name straight").ok();
    let end = |run: &str| {
        weights(&room.path(&format!("logs/{run}/checkpoints/epoch_3/model.safetensors")))
    };
    assert!(end("run") == end("straight"));
}

#[test]
fn a_run_that_is_ruined_at_once_names_no_checkpoint() {
    let room = room();
    let error = train(&room, &format!("--name run {RUIN}")).error(1);
    assert!(error.contains("no good checkpoint of this run"), "{error}");
    assert_eq!(checkpoints(&room, "run"), [""; 0]);
    // Nor does one that is asked to stop, or ends, before it has noticed.
    for (name, flags) in [
        ("stopped", "--max-steps 1"),
        ("ended", "--epochs 1 --batch-size 8"),
    ] {
        let error = train(&room, &format!("--name {name} --lr 1e30 {flags}")).error(1);
        assert!(
            error.contains("not finite") && error.contains("not saved"),
            "{error}"
        );
        assert_eq!(checkpoints(&room, name), [""; 0]);
    }
}

#[test]
fn a_bad_epoch_is_neither_the_best_nor_the_most_recent() {
    let room = room();
    let flags =
        "--val-data train.csv --keep-best image_to_text_R@1 --save-most-recent --save-frequency 0";
    train(&room, &format!("--name run --epochs 1 {flags}")).ok();
    assert_eq!(checkpoints(&room, "run"), ["best", "epoch_1", "latest"]);
    let state = |name: &str| {
        fs::read(room.path(&format!("logs/run/checkpoints/{name}/state.json"))).unwrap()
    };
    let before = ["best", "latest"].map(state);
    let flags = format!("{flags} --lr 1e30 --max-bad-steps 6 --resume latest");
    let ran = train(&room, &format!("--name run {flags}"));
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    let left_out = warnings(&ran.stderr);
    assert!(
        left_out
            .iter()
            .any(|line| line.contains("latest is not written")),
        "{}",
        ran.stderr
    );
    assert_eq!(checkpoints(&room, "run"), ["best", "epoch_1", "latest"]);
    assert!(["best", "latest"].map(state) == before);
}

/// Each of the files that a run adds to fails from the start, and comes back when the run is resumed.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_the_journal_a_warning_and_the_run_nothing() {
    let room = room();
    let broken = room.path("logs/run");
    let full = |name: &str| std::os::unix::fs::symlink("/dev/full", broken.join(name)).unwrap();
    fs::create_dir_all(&broken).unwrap();
    full("train.jsonl");
    full("results.jsonl");
    fs::write(broken.join("tensorboard"), "a file").unwrap();
    fs::create_dir(broken.join("loss.svg")).unwrap();
    let flags = "--val-data train.csv --report-to tensorboard";
    let ran = train(&room, &format!("--name run {flags}")).ok();
    for name in ["train.jsonl", "results.jsonl", "tensorboard", "loss.svg"] {
        let told = warnings(&ran.stderr);
        let told = told
            .iter()
            .filter(|line| line.contains(&format!("run/{name}")));
        assert_eq!(told.count(), 1, "{name}: {}", ran.stderr);
    }
    assert_eq!(checkpoints(&room, "run"), ["epoch_1", "epoch_2", "epoch_3"]);
    // A log on a full disk says so on the terminal.
    fs::create_dir_all(room.path("logs/mute")).unwrap();
    fs::remove_dir_all(room.path("logs/run")).unwrap();
    train(&room, &format!("--name run {flags} --max-steps 3"));
    fs::remove_file(broken.join("out.log")).unwrap();
    full("out.log");
    let ran = train(&room, &format!("--name run --resume latest {flags}")).ok();
    let told = warnings(&ran.stderr);
    let told = told.iter().filter(|line| line.contains("out.log"));
    assert_eq!(told.count(), 1, "{}", ran.stderr);
    assert_eq!(steps(&room, "run"), (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_damaged_line_in_the_middle_hides_itself_alone() {
    let room = room();
    assert_eq!(train(&room, "--name run --max-steps 6").status, 3);
    let path = room.path("logs/run/train.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"step\":3", "\"st\u{0}", 1)).unwrap();
    let ran = train(&room, "--name run --resume latest").ok();
    let told = warnings(&ran.stderr);
    let told: Vec<_> = told
        .iter()
        .filter(|line| line.contains("train.jsonl"))
        .collect();
    assert!(
        told.len() == 1 && told[0].contains("line 3"),
        "{}",
        ran.stderr
    );
    let plot = fs::read_to_string(room.path("logs/run/loss.svg")).unwrap();
    assert!(plot.contains("</svg>"));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 12);
}

#[test]
fn the_plot_says_which_loss_it_shows() {
    let room = room();
    for (flags, title) in [
        ("", "CLIP&apos;s contrastive loss"),
        ("--siglip", "SigLIP&apos;s sigmoid loss"),
    ] {
        let name = format!("run{}", flags.len());
        train(&room, &format!("--name {name} --epochs 1 {flags}")).ok();
        let plot = fs::read_to_string(room.path(&format!("logs/{name}/loss.svg"))).unwrap();
        assert!(plot.contains(title), "{title}");
    }
}

#[test]
fn settings_that_teach_nothing_are_told_at_the_start() {
    let room = room();
    for (name, flags, expected) in [
        ("warmup", "--warmup 12", "--warmup 12: the run has 12 steps"),
        ("one", "--batch-size 1 --epochs 1", "a step has one pair"),
        ("rate", "--lr 0", "--lr 0"),
        (
            "locked",
            "--lock-image --lock-text",
            "both towers are locked",
        ),
    ] {
        let ran = train(&room, &format!("--name {name} {flags}")).ok();
        let told = warnings(&ran.stderr);
        assert!(
            told.len() == 1 && told[0].contains(expected),
            "{name}: {}",
            ran.stderr
        );
        let before = ran.stderr.find("WARNING").unwrap() < ran.stderr.find("Train Epoch").unwrap();
        assert!(before, "{}", ran.stderr);
    }
    let ran = train(&room, "--name usual --warmup 11").ok();
    assert!(warnings(&ran.stderr).is_empty(), "{}", ran.stderr);
    // Without a whole step there is nothing to run.
    for flags in ["--batch-size 9", "--accum-freq 5"] {
        let ran = train(&room, &format!("--name none {flags}"));
        let status = ran.status;
        let error = ran.error(status);
        assert!(
            error.contains("batch") && !room.path("logs/none").exists(),
            "{error}"
        );
    }
}

#[test]
fn a_validation_set_without_a_picture_ends_the_run_before_it_starts() {
    let room = room();
    room.write(
        "gone.csv",
        "filepath\ttitle\nnowhere.png\ta picture\nneither.png\tanother\n",
    );
    room.write("empty.csv", "filepath\ttitle\n");
    for class in ["cat", "dog"] {
        room.write(&format!("classes/{class}/picture.png"), "no picture");
    }
    for (flags, words) in [
        (
            "--val-data gone.csv",
            ["--val-data", "gone.csv", "2 × unreadable image"],
        ),
        ("--val-data empty.csv", ["--val-data", "empty.csv", ""]),
        ("--val-data missing.csv", ["--val-data", "missing.csv", ""]),
        (
            "--imagenet-val classes",
            ["--imagenet-val", "classes", "2 × undecodable image"],
        ),
        ("--imagenet-val missing", ["--imagenet-val", "missing", ""]),
    ] {
        let ran = train(&room, &format!("--name run {flags}"));
        let status = ran.status;
        let error = ran.error(status);
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(!room.path("logs/run").exists(), "{flags}");
    }
    // What is never measured is not looked at.
    train(
        &room,
        "--name run --val-data gone.csv --val-frequency 0 --epochs 1",
    )
    .ok();
}
