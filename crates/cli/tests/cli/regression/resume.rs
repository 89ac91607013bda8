//! Going on with a run: of another shape, of OpenCLIP's, of nothing.

use std::f64::consts::PI;
use std::fs;
use std::path::Path;

use openclip_tests::fixture;
use serde_json::Value;

use crate::support::{Ran, Room};

/// Sixteen rows, and files with half and twice as many of them.
fn room() -> Room {
    let room = Room::captioned(4);
    let rows = fs::read_to_string(room.path("train.csv")).unwrap();
    let (header, rows) = rows.split_once('\n').unwrap();
    let lines: Vec<&str> = rows.lines().collect();
    room.write("half.csv", format!("{header}\n{}\n", lines[..8].join("\n")));
    room.write("twice.csv", format!("{header}\n{rows}{rows}"));
    let other = rows.replace("a red", "one red");
    room.write("other.csv", format!("{header}\n{other}"));
    room
}

/// Trains the run `name`; the last flag of a name counts.
fn train(room: &Room, name: &str, flags: &[&str]) -> Ran {
    let usual = [
        ("--model", "tiny.json"),
        ("--train-data", "train.csv"),
        ("--device", "cpu"),
        ("--batch-size", "4"),
        ("--epochs", "8"),
        ("--lr", "1e-3"),
        ("--warmup", "0"),
        ("--workers", "1"),
        ("--log-every-n-steps", "1"),
        ("--logs", "logs"),
        ("--name", name),
    ];
    let mut args = vec!["train"];
    for (flag, value) in usual.iter().filter(|(flag, _)| !flags.contains(flag)) {
        args.extend([flag, value]);
    }
    args.extend(flags);
    room.run(&args)
}

/// The line of every step.
fn steps(room: &Room, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(room.path(&format!("logs/{name}/train.jsonl"))).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn state(room: &Room, name: &str, checkpoint: &str) -> Value {
    let path = room.path(&format!("logs/{name}/checkpoints/{checkpoint}/state.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.unwrap().file_name()),
        );
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(path, to).unwrap()),
        }
    }
}

/// Asserts that the rates of `steps` are half a cosine from 1e-3 at step 0 to 0 at step `total`, from step `at` on.
fn is_cosine(steps: &[Value], at: u64, total: u64) {
    let found: Vec<f64> = steps
        .iter()
        .map(|step| step["lr"].as_f64().unwrap())
        .collect();
    assert_eq!(found.len() as u64, total - at, "{found:?}");
    for (step, found) in (at..).zip(&found) {
        let wanted = 0.5e-3 * (1.0 + (PI * step as f64 / total as f64).cos());
        assert!(
            (found - wanted).abs() < 1e-12,
            "step {step}: {found} instead of {wanted}"
        );
    }
}

/// What is said of the change of an epoch, and of its start.
fn changes(stderr: &str) -> Vec<&str> {
    let is_change = |line: &&str| line.contains("an epoch") && line.contains("WARNING");
    stderr.lines().filter(is_change).collect()
}

/// Goes on from `saved` with other flags, and holds the rates against the rest of a cosine of `total` steps from step `at`.
fn goes_on(room: &Room, saved: &str, flags: &[&str], at: u64, total: u64) -> (String, Ran) {
    let name = format!("{saved} {}", flags.join(" ").replace(',', " "));
    copy(
        &room.path(&format!("logs/{saved}")),
        &room.path(&format!("logs/{name}")),
    );
    let before = steps(room, &name).len();
    let flags: Vec<&str> = flags
        .iter()
        .copied()
        .chain(["--resume", "latest"])
        .collect();
    let ran = train(room, &name, &flags).ok();
    is_cosine(&steps(room, &name)[before..], at, total);
    (name, ran)
}

#[test]
fn the_learning_rate_was_zero_after_a_change_of_the_steps_per_epoch() {
    let room = room();
    assert_eq!(train(&room, "whole", &["--max-steps", "16"]).status, 3);
    for (flags, at, total) in [
        (&["--batch-size", "8"][..], 8, 16),
        (&["--batch-size", "2"], 32, 64),
        (&["--accum-freq", "2"], 8, 16),
        (&["--device", "cpu,cpu"], 8, 16),
        (&["--train-data", "half.csv"], 8, 16),
        (&["--train-data", "twice.csv"], 32, 64),
        (
            &["--dataset-type", "synthetic", "--train-num-samples", "12"],
            12,
            24,
        ),
    ] {
        let (name, ran) = goes_on(&room, "whole", flags, at, total);
        let said = changes(&ran.stderr);
        assert_eq!(said.len(), 1, "{name}: {}", ran.stderr);
        assert!(
            said[0].contains("was 4 steps of 4 (16 samples)"),
            "{}",
            said[0]
        );
        assert!(!said[0].contains("again"), "{}", said[0]);
        assert_eq!(state(&room, &name, "epoch_8")["step"], 16 + total - at);
    }
    // The steps are the same, and so is the schedule.
    let (_, ran) = goes_on(&room, "whole", &["--epochs", "16"], 16, 64);
    assert!(changes(&ran.stderr).is_empty(), "{}", ran.stderr);
    let (_, ran) = goes_on(&room, "whole", &["--train-data", "other.csv"], 16, 32);
    assert!(
        ran.stderr.contains("the training data are others"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_change_in_mid_epoch_was_refused_or_ended_the_epoch_at_the_wrong_sample() {
    let room = room();
    assert_eq!(train(&room, "mid", &["--max-steps", "18"]).status, 3);
    for (flags, at, total, samples) in [
        (&["--batch-size", "4"][..], 18, 32, 128),
        (&["--batch-size", "8"], 9, 16, 128),
        (&["--batch-size", "2"], 36, 64, 128),
        (&["--batch-size", "1", "--accum-freq", "2"], 36, 64, 128),
        (&["--device", "cpu,cpu"], 9, 16, 128),
        // Nothing is left of three steps of five samples but one step.
        (&["--batch-size", "5"], 14, 24, 72 + 10 * 5),
    ] {
        let (name, ran) = goes_on(&room, "mid", flags, at, total);
        assert_eq!(
            state(&room, &name, "epoch_8")["samples_seen"],
            samples,
            "{name}"
        );
        assert_eq!(
            changes(&ran.stderr).len(),
            usize::from(total != 32),
            "{}",
            ran.stderr
        );
    }
    for (data, at, total, samples) in [
        ("half.csv", 8, 16, 72 + 32),
        ("twice.csv", 32, 64, 72 + 128),
        ("other.csv", 16, 32, 72 + 64),
    ] {
        let (name, ran) = goes_on(&room, "mid", &["--train-data", data], at, total);
        assert_eq!(
            state(&room, &name, "epoch_8")["samples_seen"],
            samples,
            "{name}"
        );
        assert!(
            ran.stderr.contains("epoch 5 begins again"),
            "{}",
            ran.stderr
        );
    }
    // A second change goes on from the first, though its steps have smaller numbers in the schedule.
    assert_eq!(
        train(
            &room,
            "mid",
            &[
                "--batch-size",
                "8",
                "--resume",
                "latest",
                "--max-steps",
                "21"
            ]
        )
        .status,
        3
    );
    let (name, _) = goes_on(
        &room,
        "mid",
        &["--batch-size", "4", "--save-frequency", "1"],
        24,
        32,
    );
    assert_eq!(state(&room, &name, "epoch_8")["samples_seen"], 128);
}

#[test]
fn a_resume_that_found_nothing_or_had_nothing_to_do_was_silent() {
    let room = room();
    let ran = train(&room, "new", &["--resume", "latest", "--epochs", "1"]).ok();
    assert!(
        ran.stderr
            .contains("--resume latest: no checkpoint in logs/new/checkpoints"),
        "{}",
        ran.stderr
    );
    let ran = train(&room, "new", &["--resume", "latest", "--epochs", "1"]).ok();
    assert!(
        ran.stderr
            .contains("nothing left to train: 1 epochs are done of 1"),
        "{}",
        ran.stderr
    );
    assert_eq!(steps(&room, "new").len(), 4);
    let more = ["--resume", "latest", "--epochs", "2", "--max-steps", "4"];
    let ran = train(&room, "new", &more);
    assert_eq!((ran.status, steps(&room, "new").len()), (3, 4));
    assert!(
        ran.stderr.contains("4 steps are done of 4 (--max-steps)"),
        "{}",
        ran.stderr
    );
}

/// The model of the fixtures, whose 48 tokens are words of a file.
fn tiny_openclip(room: &Room) {
    let json = fs::read(fixture("resume/names.json")).unwrap();
    let mut config = serde_json::from_slice::<Value>(&json).unwrap()["model_cfg"].take();
    config["text_cfg"]["hf_tokenizer_name"] = "words".into();
    room.write("tiny.json", config.to_string());
    let words = [
        "<pad>", "<unk>", "a", "red", "green", "blue", "gray", "picture",
    ];
    let vocabulary = (0..)
        .zip(words)
        .map(|(id, word)| (word.to_owned(), Value::from(id)));
    let vocabulary: serde_json::Map<_, _> = vocabulary.collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    });
    room.write("words/tokenizer.json", tokenizer.to_string());
    room.write("words/tokenizer_config.json", r#"{"pad_token": "<pad>"}"#);
}

#[test]
fn a_training_checkpoint_of_openclip_began_at_epoch_0_without_its_moments() {
    let room = room();
    tiny_openclip(&room);
    let names = fixture("resume/names.pt");
    let names = names.to_str().unwrap();
    let ran = train(&room, "named", &["--resume", names]).ok();
    assert!(!ran.stderr.contains("weights alone"), "{}", ran.stderr);
    assert!(ran.stderr.contains("at step 8 of 32"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("betas [0.9, 0.98] (here [0.9, 0.999])"),
        "{}",
        ran.stderr
    );
    is_cosine(&steps(&room, "named"), 8, 32);
    assert_eq!(state(&room, "named", "epoch_8")["step"], 32);

    // In the folder of a run it is found, until a checkpoint of the run's own gets further.
    fs::create_dir_all(room.path("logs/moved/checkpoints")).unwrap();
    for (from, to) in [("weights", "epoch_1.pt"), ("names", "epoch_2.pt")] {
        let from = fixture(&format!("resume/{from}.pt"));
        fs::copy(from, room.path(&format!("logs/moved/checkpoints/{to}"))).unwrap();
    }
    room.write("logs/moved/checkpoints/epoch_9.pt", "half a file");
    let latest = ["--resume", "latest", "--max-steps", "9"];
    let ran = train(&room, "moved", &latest);
    assert_eq!(ran.status, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("epoch_2.pt at step 8 of 32"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("epoch_9.pt"), "{}", ran.stderr);
    let ran = train(&room, "moved", &["--resume", "latest"]).ok();
    assert!(
        ran.stderr.contains("step_9 at step 9 of 32"),
        "{}",
        ran.stderr
    );

    let weights = fixture("resume/weights.pt");
    let ran = train(&room, "bare", &["--resume", weights.to_str().unwrap()]).ok();
    assert!(
        ran.stderr.contains("moments start at zero"),
        "{}",
        ran.stderr
    );
    is_cosine(&steps(&room, "bare"), 8, 32);

    for (flags, reason) in [
        (&["--opt", "lion"][..], "--opt asks for"),
        (&["--lock-image"], "other parameters"),
        (&["--force-image-size", "18"], "other parameters"),
    ] {
        let flags: Vec<&str> = flags.iter().copied().chain(["--resume", names]).collect();
        let error = train(&room, "refused", &flags).error(1);
        assert!(
            error.contains(reason) && error.contains("names.pt"),
            "{error}"
        );
        assert!(
            !room.path("logs/refused").exists(),
            "the name is still free"
        );
    }
}

/// Shards of twelve samples, of which a step of five leaves two for a third, which is filled up.
#[test]
fn a_change_in_mid_epoch_of_shards_goes_on_at_its_share() {
    let room = room();
    for shard in 0..2 {
        let mut tar = tar::Builder::new(Vec::new());
        for key in 0..6 {
            let name = ["red", "green", "blue", "gray"][key % 4];
            let picture = fs::read(room.path(&format!("{name}.png"))).unwrap();
            for (extension, bytes) in [("png", picture.as_slice()), ("txt", name.as_bytes())] {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, format!("{key}.{extension}"), bytes)
                    .unwrap();
            }
        }
        room.write(&format!("s-{shard}.tar"), tar.into_inner().unwrap());
    }
    for resampled in [false, true] {
        let name = format!("shards {resampled}");
        let data = ["--train-data", "s-{0..1}.tar", "--train-num-samples", "12"];
        let flags = |more: &[&'static str]| {
            let resampled = resampled.then_some("--dataset-resampled");
            let all = data.iter().copied().chain(resampled);
            all.chain(more.iter().copied()).collect::<Vec<_>>()
        };
        assert_eq!(
            train(
                &room,
                &name,
                &flags(&["--batch-size", "3", "--max-steps", "18"])
            )
            .status,
            3
        );
        for (more, at, total, samples) in [
            (&["--batch-size", "3"][..], 18, 32, 96),
            (&["--batch-size", "6"], 9, 16, 96),
            (&["--batch-size", "3", "--device", "cpu,cpu"], 9, 16, 96),
            // Six samples are left: a step of five, and one of a single sample and four others.
            (&["--batch-size", "5"], 13, 24, 54 + 11 * 5),
        ] {
            let (name, _) = goes_on(&room, &name, &flags(more), at, total);
            assert_eq!(
                state(&room, &name, "epoch_8")["samples_seen"],
                samples,
                "{name}"
            );
        }
        let fewer = [
            "--train-data",
            "s-{0..1}.tar",
            "--train-num-samples",
            "6",
            "--batch-size",
            "3",
        ];
        let fewer: Vec<&str> = fewer
            .into_iter()
            .chain(resampled.then_some("--dataset-resampled"))
            .collect();
        let (_, ran) = goes_on(&room, &name, &fewer, 8, 16);
        assert!(
            ran.stderr.contains("epoch 5 begins again"),
            "{}",
            ran.stderr
        );
    }
}
