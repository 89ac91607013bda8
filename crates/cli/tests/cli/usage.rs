//! Help, flags, exit statuses and streams.

use std::io::Read;
use std::process::Stdio;

use crate::support::{Ran, Room};

pub const COMMANDS: [&str; 17] = [
    "models",
    "info",
    "classify",
    "caption",
    "embed",
    "search",
    "index",
    "eval",
    "tokens",
    "convert",
    "push",
    "train",
    "finetune",
    "interpolate",
    "data",
    "bench",
    "quickstart",
];

/// What `data` can do.
pub const OF_DATA: [&str; 4] = ["inspect", "verify", "pack", "bench"];

#[test]
fn help_names_every_command_and_shows_examples() {
    let room = Room::empty();
    let help = room.run(&["--help"]).ok().stdout;
    let others = ["Examples:", "local-dir:DIR", "Exit status"];
    for word in COMMANDS.into_iter().chain(others) {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    let commands = COMMANDS.map(|command| vec![command]).into_iter();
    for command in commands.chain(OF_DATA.map(|command| vec!["data", command])) {
        let help = room.run(&[&command[..], &["--help"]].concat()).ok().stdout;
        assert!(help.contains("Example"), "{command:?}\n{help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 120),
            "{command:?}\n{help}"
        );
    }
    assert!(
        room.run(&["--version"])
            .ok()
            .stdout
            .starts_with("openclip ")
    );
}

#[test]
fn help_of_train_is_grouped_and_hides_what_it_refuses() {
    let help = Room::empty().run(&["train", "--help"]).ok().stdout;
    let headings = [
        "Training data:",
        "Data format:",
        "Loading:",
        "Model:",
        "Schedule and optimizer:",
        "Run folder, checkpoints and logs:",
        "Validation data:",
        "Preprocessing",
        "Augmentation:",
    ];
    for heading in headings {
        assert!(help.contains(heading), "{heading} is not in\n{help}");
    }
    for flag in [
        "--train-data",
        "--accum-freq",
        "--save-every-n-steps",
        "[default: 0.0005]",
        "[default: RN50]",
    ] {
        assert!(help.contains(flag), "{flag} is not in\n{help}");
    }
    assert!(
        !help.contains("--horovod") && !help.contains("--dist-url"),
        "{help}"
    );
}

#[test]
fn no_argument_and_wrong_arguments_are_usage() {
    let room = Room::empty();
    assert_eq!(room.run(&[]).status, 2);
    assert_eq!(room.run(&["clasify"]).status, 2);
    let ran = room.run(&["classify", "--model", "ViT-B-32", "--image", "a.png"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("--text"), "{}", ran.stderr);
    let ran = room.run(&["embed", "--model", "ViT-B-32", "--output", "x"]);
    assert_eq!(ran.status, 2);
    let ran = room.run(&["eval", "--model", "ViT-B-32", "--classes", "c.txt"]);
    assert!(
        ran.status == 2 && ran.stderr.contains("--zeroshot"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_unknown_model_gets_a_suggestion() {
    let error = Room::empty().run(&["info", "--model", "ViT-B32"]).error(2);
    assert!(
        error.contains("did you mean `ViT-B-32`?") && error.contains("openclip models"),
        "{error}"
    );
}

#[test]
fn an_unknown_device_lists_what_there_is() {
    let room = Room::empty();
    let ask = ["bench", "--model", "ViT-B-32", "--device"];
    let error = room.run(&[&ask[..], &["gpu"]].concat()).error(2);
    assert!(
        error.starts_with("--device gpu: ") && error.contains("cuda[:N]"),
        "{error}"
    );
    if cfg!(not(feature = "rocm")) {
        let error = room.run(&[&ask[..], &["rocm"]].concat()).error(2);
        assert!(error.contains("--features rocm"), "{error}");
    }
}

fn train(more: &[&str]) -> Ran {
    Room::empty().run(
        &[
            &["train", "--model", "ViT-S-32", "--train-data", "x.csv"],
            more,
        ]
        .concat(),
    )
}

#[test]
fn features_to_come_are_refused_by_name_before_any_work() {
    assert_eq!(train(&["--horovod"]).error(2), "--horovod is not built yet");
    let error = train(&["--fsdp", "--audio-ext", "wav", "--length-bucketing"]).error(2);
    assert_eq!(
        error,
        "--fsdp, --length-bucketing, --audio-ext wav are not built yet"
    );
    assert_eq!(
        train(&["--report-to", "trackio,tensorboard"]).error(2),
        "--report-to trackio is not built yet"
    );
    assert!(
        train(&["--precision", "int4"])
            .stderr
            .contains("expected fp32, amp, amp_bf16, fp16")
    );
    assert_eq!(train(&["--not-a-flag"]).status, 2);
}

#[test]
fn flags_of_pytorch_are_noted() {
    let ran = train(&[
        "--local-loss",
        "--gather-with-grad",
        "--dist-url",
        "env://",
        "--precision",
        "amp",
    ]);
    // x.csv is not there.
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    for note in [
        "note: --local-loss changes nothing",
        "note: --gather-with-grad",
        "note: --dist-url",
        "amp_bf16",
    ] {
        assert!(ran.stderr.contains(note), "{}", ran.stderr);
    }
    let error = ran.stderr.lines().last().unwrap();
    assert!(error.starts_with("error: x.csv: "), "{}", ran.stderr);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let room = Room::empty();
    for args in [&["models", "--json"][..], &["models"], &["train", "--help"]] {
        let mut child = room
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
        assert_eq!(stderr, "");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let room = Room::empty();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = room.command(&["models"]).stdout(full).output().unwrap();
    let ran = Ran::from(output);
    assert_eq!(ran.status, 1);
    assert!(
        ran.stderr.starts_with("error: standard output: "),
        "{}",
        ran.stderr
    );
}
