//! Flags of OpenCLIP's trainer that behaved otherwise, and tokens.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Ran, Room};

const TRAIN: &str = "train --model tiny.json --train-data train.csv --batch-size 4 --epochs 2 --warmup 1 --workers 1 --device cpu \
                     --log-every-n-steps 1";

fn words<'a>(line: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    line.split_whitespace()
        .chain(more.iter().copied())
        .collect()
}

fn train(room: &Room, more: &[&str]) -> Ran {
    room.run(&words(TRAIN, more))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_precision_is_told_where_it_was_left_to_the_device() {
    let room = Room::captioned(2);
    let ran = train(&room, &["--name", "left"]).ok();
    assert!(ran.stderr.contains("on cpu, fp32, the default there"));
    assert_eq!(
        json(&room.path("logs/left/params.json"))["precision"],
        "fp32"
    );
    let ran = train(&room, &["--name", "given", "--precision", "amp_bf16"]).ok();
    assert!(ran.stderr.contains("on cpu, amp_bf16\n"), "{}", ran.stderr);
    let planned = room.run(&[
        "train",
        "--model",
        "ViT-B-32",
        "--train-data",
        "x.csv",
        "--dry-run",
        "--device",
        "rocm",
    ]);
    let line = planned.ok().stdout;
    let line = line.lines().find(|line| line.starts_with("precision"));
    assert_eq!(line.unwrap().split_whitespace().nth(1), Some("amp_bf16"));
}

#[test]
fn logs_none_leaves_nothing_behind() {
    let room = Room::captioned(2);
    let before = names(&room.path("."));
    for none in ["none", "None"] {
        let logs = format!("--logs={none}");
        let flags = [
            logs.as_str(),
            "--val-data",
            "train.csv",
            "--save-most-recent",
        ];
        let ran = train(&room, &flags).ok();
        assert_eq!(ran.stdout, "");
        for told in [
            "Train Epoch: 1",
            "Eval Epoch: 2",
            "--logs none: no checkpoint",
        ] {
            assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
        }
        assert_eq!(names(&room.path(".")), before);
    }
    for flags in [
        ["--resume", "latest"],
        ["--remote-sync", "store"],
        ["--keep-best", "clip_val_loss"],
        ["--report-to", "wandb"],
    ] {
        let given = [&["--logs", "none", "--val-data", "train.csv"], &flags[..]].concat();
        let error = train(&room, &given).error(2);
        assert!(
            error.contains(flags[0]) && error.contains("--logs none"),
            "{error}"
        );
    }
    let stopped = train(&room, &["--logs", "none", "--max-steps", "1"]);
    assert_eq!(stopped.status, 3);
    assert!(!stopped.stderr.contains("--resume latest goes on"));
}

#[test]
fn an_evaluation_keeps_the_epoch_of_its_checkpoint() {
    let room = Room::captioned(2);
    for class in ["red", "green"] {
        room.write(
            &format!("classes/{class}/a.png"),
            fs::read(room.path(&format!("{class}.png"))).unwrap(),
        );
    }
    train(&room, &["--name", "first", "--epochs", "3"]).ok();
    let evaluate = "train --model tiny.json --val-data train.csv --imagenet-val classes --workers 1 --device cpu --name second \
                    --resume logs/first/checkpoints/epoch_3";
    room.run(&words(evaluate, &[])).ok();
    let result = json(&room.path("logs/second/results.jsonl"));
    assert_eq!((&result["epoch"], &result["step"]), (&3.into(), &6.into()));
    assert!(result["clip_val_loss"].is_f64());
    assert!(result["imagenet-zeroshot-val-top1"].is_f64());
    let weights = "train --model tiny.json --val-data train.csv --workers 1 --device cpu --name third \
                   --pretrained logs/first/checkpoints/epoch_3/model.safetensors";
    room.run(&words(weights, &[])).ok();
    let again = json(&room.path("logs/third/results.jsonl"));
    assert_eq!(again["epoch"], 0);
    assert_eq!(again["clip_val_loss"], result["clip_val_loss"]);
}

#[test]
fn settings_of_the_optimizer_are_read_as_python_reads_them() {
    let room = Room::captioned(1);
    let ran = train(
        &room,
        &[
            "--opt-kwargs",
            "amsgrad=True",
            "foreach=False",
            "betas=(0.5, 0.75)",
            "maximize=False",
        ],
    )
    .ok();
    assert!(ran.stderr.contains("--opt-kwargs foreach changes nothing"));
    let run = names(&room.path("logs")).pop().unwrap();
    let settings = &json(&room.path("logs").join(run).join("params.json"))["opt_kwargs"];
    assert_eq!(settings["amsgrad"], true);
    assert_eq!(settings["betas"], serde_json::json!([0.5, 0.75]));
    for (given, told) in [
        ("mode=fast", "adamw has no mode"),
        ("maximize=True", "maximize=true is not built"),
        ("amsgrad=often", "amsgrad=\"often\""),
        ("betas=(0.5", "betas=(0.5"),
    ] {
        let error = train(&room, &["--opt-kwargs", given]).error(2);
        assert!(
            error.contains("--opt-kwargs") && error.contains(told),
            "{error}"
        );
    }
}

#[test]
fn a_run_is_copied_to_a_plain_path() {
    let room = Room::captioned(2);
    let absolute = room.path("a store/50%41 ~#ü");
    for (name, store) in [("one", absolute.to_str().unwrap()), ("two", "./near/by")] {
        let flags = ["--name", name, "--remote-sync", store];
        train(&room, &flags).ok();
        let copy = room.path(store).join(name);
        for file in [
            "params.json",
            "checkpoints/epoch_2/state.json",
            "checkpoints/epoch_2/model.safetensors",
        ] {
            let here = fs::read(room.path("logs").join(name).join(file)).unwrap();
            assert!(
                fs::read(copy.join(file)).unwrap() == here,
                "{store}: {file}"
            );
        }
        fs::remove_dir_all(room.path("logs").join(name)).unwrap();
        let again = train(
            &room,
            &[&flags[..], &["--resume", "latest", "--epochs", "3"]].concat(),
        )
        .ok();
        assert!(again.stderr.contains("at step 4 of 6"), "{}", again.stderr);
    }
    let evaluate = "train --model tiny.json --val-data train.csv --workers 1 --device cpu --name three --remote-sync ./near";
    room.run(&words(evaluate, &[])).ok();
    assert!(room.path("near/three/results.jsonl").is_file());
    for (store, told) in [
        ("file://elsewhere/store", "elsewhere"),
        ("ftp://host/store", "s3://"),
        ("./logs", "the run's own folder"),
        ("./logs/four/copies", "the run's own folder"),
    ] {
        let error = train(&room, &["--name", "four", "--remote-sync", store]).error(2);
        assert!(
            error.contains("--remote-sync") && error.contains(told),
            "{error}"
        );
        assert!(!room.path("logs/four").exists());
    }
}

#[cfg(not(feature = "mpi"))]
#[test]
fn several_tasks_in_the_environment_name_the_way_out() {
    let room = Room::captioned(1);
    for (variable, value) in [
        ("SLURM_NTASKS", "4"),
        ("WORLD_SIZE", "2"),
        ("OMPI_COMM_WORLD_SIZE", "2"),
        ("PMI_SIZE", "3"),
        ("SLURM_NTASKS", "4(x2)"),
    ] {
        let run = |more: &[&str], rank: &str| {
            let mut command = room.command(&words(TRAIN, more));
            command.env(variable, value).env("RANK", rank);
            Ran::from(command.output().unwrap())
        };
        let error = run(&["--logs", "none"], "0").error(1);
        assert!(
            error.contains(variable) && error.contains("--single-process"),
            "{error}"
        );
        run(&["--logs", "none", "--single-process"], "0").ok();
        if value.len() == 1 {
            let error = run(&["--single-process"], "1").error(2);
            assert!(error.contains("--name"), "{error}");
        }
    }
}

#[test]
fn an_image_tower_of_openclip_s_own_has_no_published_weights() {
    let room = Room::captioned(1);
    let error = train(&room, &["--pretrained-image"]).error(1);
    assert!(
        error.contains("--pretrained-image") && error.contains("--pretrained)"),
        "{error}"
    );
    assert!(!room.path("logs").exists());
}

#[test]
fn weights_of_an_image_tower_that_are_nowhere_are_named_with_their_place() {
    let room = Room::captioned(1);
    let model = json(&room.path("tiny.json"));
    let mut model = model.as_object().unwrap().clone();
    model["vision_cfg"] = serde_json::json!({
        "image_size": 64, "timm_model_name": "convnext_base", "timm_pool": "", "timm_proj": "linear",
        "timm_kwargs": {"depths": [1, 1, 1, 1], "dims": [4, 4, 4, 4]}
    });
    room.write("tiny.json", serde_json::to_vec(&model).unwrap());
    let mut command = room.command(&words(TRAIN, &["--pretrained-image"]));
    command
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("HF_HOME")
        .env_remove("HF_HUB_CACHE");
    let error = Ran::from(command.output().unwrap()).error(1);
    for told in [
        "timm/convnext_base.fb_in22k_ft_in1k",
        "model.safetensors",
        ".cache/openclip/timm-convnext_base.fb_in22k_ft_in1k",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
}

/// The ids are those of OpenCLIP's `SimpleTokenizer`.
#[test]
fn texts_become_tokens_and_tokens_texts() {
    let room = Room::empty();
    let tokens = |more: &[&str]| {
        room.run(
            &[
                &[
                    "tokens",
                    "--model",
                    "ViT-B-32",
                    "--force-context-length",
                    "9",
                ],
                more,
            ]
            .concat(),
        )
    };
    let ids = tokens(&["--text", "a photo of a cat", "A Dog!"])
        .ok()
        .stdout;
    assert_eq!(
        ids,
        "49406 320 1125 539 320 2368 49407 0 0\n49406 320 1929 256 49407 0 0 0 0\n"
    );
    let text = tokens(&["--decode", "320,1125", "539", "320", "2368"])
        .ok()
        .stdout;
    assert_eq!(text, "a photo of a cat \n");
    let answer = tokens(&["--json", "--text", "a a a a a a a", "a a a a a a a a", ""]).ok();
    assert!(
        answer
            .stderr
            .contains("\"a a a a a a a a\" is cut off at 9 tokens")
    );
    let answer = answer.json();
    assert_eq!(answer["special_tokens"]["<end_of_text>"], 49407);
    assert_eq!(
        (&answer["context_length"], &answer["vocab_size"]),
        (&9.into(), &49408.into())
    );
    let cut: Vec<_> = answer["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text["cut_off"].as_bool())
        .collect();
    assert_eq!(cut, [Some(false), Some(true), Some(false)]);
    let about = room.run(&["tokens", "--model", "ViT-B-32"]).ok().stdout;
    assert!(
        about.contains("context length  77") && about.contains("<start_of_text>"),
        "{about}"
    );
    let error = tokens(&["--decode", "49408"]).error(2);
    assert!(error.contains("--decode 49408"), "{error}");
}

#[test]
fn a_number_of_samples_that_a_csv_does_not_heed() {
    let room = Room::captioned(2);
    let more = ["--logs", "none", "--train-num-samples", "5"];
    let ran = train(&room, &more).ok();
    assert!(
        ran.stderr.contains("--train-num-samples changes nothing"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_setting_out_of_its_range_named_another_flag() {
    let room = Room::captioned(1);
    for (flag, value) in [("--beta1", "1"), ("--beta2", "1.5"), ("--eps", "-1")] {
        let given = format!("{flag}={value}");
        let error = train(&room, &[&given]).error(2);
        assert!(error.starts_with(&format!("{flag}: ")), "{error}");
    }
}
