//! What the binary says, word for word. `INSTA_UPDATE=always` writes the texts under `snapshots/` anew, for `git diff` to show.

use std::fs;

use crate::support::Room;
use crate::usage::{COMMANDS, OF_DATA};

/// Asserts that `openclip ARGS` in `room` prints and ends as `snapshots/NAME.snap` has it.
fn same(room: &Room, name: &str, args: &[&str]) {
    let ran = room.run(args);
    let room = room.path("").display().to_string();
    // Lists of JSON a line an entry.
    let stdout = ran.stdout.replace("},{", "},\n{");
    let stderr = ran.stderr.replace(&room, "ROOM/");
    let text = format!(
        "$ openclip {}\n{stdout}--- stderr\n{stderr}--- status {}",
        args.join(" "),
        ran.status
    );
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn help() {
    let room = Room::empty();
    same(&room, "help", &["--help"]);
    same(&room, "version", &["--version"]);
    for command in COMMANDS {
        same(&room, &format!("help_{command}"), &[command, "--help"]);
    }
    for command in OF_DATA {
        same(
            &room,
            &format!("help_data_{command}"),
            &["data", command, "--help"],
        );
    }
}

#[test]
fn models() {
    let room = Room::empty();
    same(&room, "models", &["models"]);
    same(&room, "models_json", &["models", "--json"]);
    let info = ["info", "--model", "ViT-B-32"];
    same(&room, "info", &info);
    same(&room, "info_json", &[&info[..], &["--json"]].concat());
}

#[test]
fn arguments_that_are_wrong() {
    let room = Room::empty();
    for (name, args) in [
        ("unknown_command", "clasify"),
        ("unknown_model", "info --model ViT-B32"),
        ("unknown_flag", "info --modle ViT-B-32"),
        ("missing_flag", "classify --model ViT-B-32 --image a.png"),
        ("bad_value", "train --train-data x.csv --batch-size many"),
        ("bad_choice", "train --train-data x.csv --precision int4"),
        ("refused_flag", "train --train-data x.csv --horovod"),
        ("unknown_device", "bench --model ViT-B-32 --device gpu"),
        (
            "unknown_weights",
            "info --model ViT-B-32 --pretrained laion2b",
        ),
    ] {
        let args: Vec<_> = args.split(' ').collect();
        same(&room, &format!("error_{name}"), &args);
    }
}

#[test]
fn files_that_are_wrong() {
    let room = Room::new();
    let mut cut = fs::read(room.path("tiny.safetensors")).unwrap();
    cut.truncate(cut.len() - 100);
    room.write("cut.safetensors", cut);
    let tiny = fs::read_to_string(room.path("tiny.json")).unwrap();
    room.write(
        "wide.json",
        tiny.replace("\"embed_dim\": 16", "\"embed_dim\": 24"),
    );
    room.write("text.png", "hello");
    let classify = |name: &str, model: &str, weights: &str, image: &str| {
        let args = ["classify", "--model", model, "--pretrained", weights];
        let ask = ["--image", image, "--text", "x"];
        same(&room, &format!("error_{name}"), &[&args[..], &ask].concat());
    };
    let good = "tiny.safetensors";
    classify("missing_picture", "tiny.json", good, "absent.png");
    classify("no_picture", "tiny.json", good, "text.png");
    classify("missing_model", "absent.json", good, "red.png");
    classify("cut_weights", "tiny.json", "cut.safetensors", "red.png");
    classify("other_weights", "wide.json", good, "red.png");
    let train = "train --model tiny.json --train-data absent.csv --device cpu";
    let train: Vec<_> = train.split(' ').collect();
    same(&room, "error_missing_data", &train);
}

/// What a run would need follows from the configuration alone.
#[test]
fn plans() {
    let room = Room::empty();
    let data = "--dataset-type synthetic --train-num-samples 64 --device cpu --dry-run";
    for (name, flags) in [
        ("dry_run", "--model ViT-B-32 --batch-size 8"),
        (
            "dry_run_recompute",
            "--model RN50 --batch-size 32 --grad-checkpointing",
        ),
        (
            "dry_run_locked",
            "--model ViT-B-32 --batch-size 8 --lock-image",
        ),
    ] {
        let args = format!("train {flags} {data}");
        let args: Vec<_> = args.split(' ').collect();
        same(&room, name, &args);
    }
}
