//! Which checkpoints a run leaves, that each is the run at its step, and what becomes of damaged ones.

use std::fs;
use std::path::{Path, PathBuf};

use openclip_tests::runs::{lines, small_run};
use openclip_train::{TrainConfig, TrainError, train};
use serde_json::{Value, json};

/// Four steps an epoch, three epochs, unless `change` says otherwise; gives the folder of the checkpoints.
fn run(dir: &Path, name: &str, change: impl FnOnce(&mut TrainConfig)) -> PathBuf {
    let model = json!({
        "embed_dim": 8,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1, "patch_dropout": 0.25},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    });
    let (run, _) = small_run(dir, &model, name, |config| {
        (config.batch_size, config.accum_freq, config.epochs) = (4, 1, 3);
        // The four pictures four times.
        let few = config.train_data.as_deref().unwrap();
        let rows = fs::read_to_string(few).unwrap();
        let (header, rows) = rows.split_once('\n').unwrap();
        let many = few.replace("train.csv", "many.csv");
        fs::write(&many, format!("{header}\n{}", rows.repeat(4))).unwrap();
        config.train_data = Some(many);
        change(config);
    });
    run.join("checkpoints")
}

/// The same stopped behind every step but the last, so that each leaves a checkpoint however slow the disk is.
fn step_by_step(dir: &Path, name: &str, change: impl Fn(&mut TrainConfig)) -> PathBuf {
    for stop in 1..12 {
        run(dir, name, |config| {
            change(config);
            (config.resume, config.max_steps) = (Some("latest".into()), Some(stop));
        });
    }
    run(dir, name, |config| {
        change(config);
        config.resume = Some("latest".into());
    })
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn bytes(folder: &Path, name: &str, file: &str) -> Vec<u8> {
    fs::read(folder.join(name).join(file)).unwrap()
}

fn state(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&bytes(folder, name, "state.json")).unwrap()
}

/// The same weights and counters; the optimizer's file has no fixed order.
fn same(a: &Path, b: &Path, name: &str) {
    for file in ["model.safetensors", "open_clip_config.json"] {
        let [a, b] = [a, b].map(|folder| bytes(folder, name, file));
        assert!(a == b, "{name}/{file}");
    }
    let [a, b] = [a, b].map(|folder| {
        let mut state = state(folder, name);
        let files = state["files"].as_array_mut().unwrap();
        files.retain(|file| file["name"] != "optimizer.bpk");
        state["crc32"] = Value::Null;
        state
    });
    assert_eq!(a, b, "{name}");
}

const FILES: [&str; 4] = [
    "model.safetensors",
    "optimizer.bpk",
    "open_clip_config.json",
    "state.json",
];

#[test]
fn a_checkpoint_is_the_run_at_its_step_whatever_follows() {
    let dir = tempfile::tempdir().unwrap();
    let all = run(dir.path(), "all", |config| {
        config.save_every_n_steps = Some(1);
    });
    // A run that ends at a step writes its state after it, with nothing going on meanwhile. Where writing takes longer than a step,
    // some steps have no checkpoint.
    let stopped = step_by_step(dir.path(), "stopped", |_| {});
    let written = names(&all);
    let steps = written.iter().filter(|name| name.starts_with("step_"));
    assert!(steps.clone().count() >= 2, "{written:?}");
    steps.for_each(|name| same(&all, &stopped, name));
    // The optimizer's state is read back: the run that goes on from a checkpoint in the middle has the same end.
    let folder = dir.path().join("logs/on/checkpoints");
    fs::create_dir_all(&folder).unwrap();
    fs::rename(stopped.join("step_5"), folder.join("step_5")).unwrap();
    run(dir.path(), "on", |config| {
        config.resume = Some("latest".into())
    });
    same(&all, &folder, "epoch_3");
}

#[test]
fn older_checkpoints_go_as_the_flags_say() {
    let dir = tempfile::tempdir().unwrap();
    let left =
        |name: &str, change: fn(&mut TrainConfig)| names(&step_by_step(dir.path(), name, change));
    let kept = left("last", |config| config.keep_last = Some(2));
    assert_eq!(
        kept,
        ["epoch_1", "epoch_2", "epoch_3", "step_10", "step_11"]
    );
    let kept = left("newest", |config| config.delete_previous_checkpoint = true);
    assert_eq!(kept, ["epoch_3", "step_11"]);
    let kept = left("both", |config| {
        (config.delete_previous_checkpoint, config.keep_last) = (true, Some(3));
    });
    assert_eq!(kept, ["epoch_3", "step_10", "step_11", "step_9"]);
    let kept = names(&run(dir.path(), "minutes", |config| {
        (config.save_every_minutes, config.epochs) = (Some(0.0), 1);
    }));
    assert!(kept.starts_with(&["epoch_1".to_owned(), "step_1".to_owned()]));
}

#[test]
fn the_most_recent_epoch_is_kept_and_resumed_from() {
    let dir = tempfile::tempdir().unwrap();
    let straight = run(dir.path(), "straight", |_| {});
    let recent = |stop| {
        run(dir.path(), "recent", |config| {
            (config.save_frequency, config.save_most_recent) = (0, true);
            config.max_steps = stop;
            config.resume = Some("latest".into());
        })
    };
    let folder = recent(Some(6));
    assert_eq!(names(&folder), ["latest", "step_6"]);
    assert_eq!(state(&folder, "latest")["step"], 4);
    fs::remove_dir_all(folder.join("step_6")).unwrap();
    recent(Some(10));
    assert_eq!(names(&folder), ["latest", "step_10"]);
    let file = "model.safetensors";
    assert!(bytes(&folder, "latest", file) == bytes(&straight, "epoch_2", file));
    recent(None);
    assert_eq!(names(&folder), ["epoch_3", "latest", "step_10"]);
    for name in ["latest", "epoch_3"] {
        assert!(bytes(&folder, name, file) == bytes(&straight, "epoch_3", file));
    }
}

/// Epoch and value of the best line of `results.jsonl`.
fn best(folder: &Path, metric: &str, better: fn(f64, f64) -> bool) -> (u64, f64) {
    lines(folder.parent().unwrap(), "results.jsonl")
        .into_iter()
        .map(|line| {
            (
                line["epoch"].as_u64().unwrap(),
                line[metric].as_f64().unwrap(),
            )
        })
        .reduce(
            |best, line| {
                if better(line.1, best.1) { line } else { best }
            },
        )
        .unwrap()
}

#[test]
fn the_best_epoch_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let wild = |config: &mut TrainConfig, metric: &str| {
        config.val_data.clone_from(&config.train_data);
        config.keep_best = Some(metric.into());
        // A lot, so that the loss goes up as well as down.
        (config.lr, config.lr_scheduler, config.epochs) = (0.003, "const".into(), 6);
    };
    for (name, frequency) in [("saved", 1), ("held", 0)] {
        for (metric, better) in [
            ("clip_val_loss", f64::lt as fn(&f64, &f64) -> bool),
            ("image_to_text_R@1", f64::gt),
        ] {
            let folder = run(dir.path(), &format!("{name}_{metric}"), |config| {
                wild(config, metric);
                config.save_frequency = frequency;
            });
            let better = match better(&0.0, &1.0) {
                true => |a: f64, b: f64| a < b,
                false => |a: f64, b: f64| a > b,
            };
            let (epoch, value) = best(&folder, metric, better);
            let state = state(&folder, "best");
            assert_eq!(state["epoch"], epoch, "{metric}");
            assert_eq!(state["metric"], json!({"name": metric, "value": value}));
            if frequency == 1 {
                let epoch = format!("epoch_{epoch}");
                for file in ["model.safetensors", "optimizer.bpk"] {
                    assert!(bytes(&folder, "best", file) == bytes(&folder, &epoch, file));
                }
            } else {
                assert_eq!(names(&folder), ["best", "epoch_6"]);
            }
        }
    }
    // The bar stays where it is when the run is resumed.
    let folder = dir.path().join("logs/saved_clip_val_loss/checkpoints");
    let before = best(&folder, "clip_val_loss", |a, b| a < b);
    run(dir.path(), "saved_clip_val_loss", |config| {
        wild(config, "clip_val_loss");
        (config.resume, config.epochs, config.lr) = (Some("latest".into()), 7, 0.5);
    });
    let after = best(&folder, "clip_val_loss", |a, b| a < b);
    assert_eq!(before, after, "the last epoch was meant to be worse");
    assert_eq!(state(&folder, "best")["epoch"], before.0);
}

#[test]
fn a_metric_that_nothing_measures_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (metric, word) in [
        ("image_to_text_R@1", "--val-data"),
        ("text_retrieval_recall@5", "--val-data"),
        ("imagenet-zeroshot-val-top1", "--imagenet-val"),
        ("top1", "image_to_text_R@1"),
    ] {
        let error = train(TrainConfig {
            dataset_type: "synthetic".into(),
            keep_best: Some(metric.into()),
            logs: dir.path().join("logs"),
            ..TrainConfig::default()
        })
        .unwrap_err();
        assert!(matches!(error, TrainError::Flag { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let straight = run(dir.path(), "straight", |_| {});
    type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;
    let damages: [(&str, Damage); 3] = [
        ("cut", |mut bytes| {
            bytes.truncate(bytes.len() - 1);
            Some(bytes)
        }),
        ("flipped", |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            Some(bytes)
        }),
        ("gone", |_| None),
    ];
    for file in FILES {
        for (damage, damaged) in &damages {
            let name = format!("{file}_{damage}");
            let part = |stop| {
                run(dir.path(), &name, |config| {
                    config.save_every_n_steps = Some(3);
                    config.max_steps = stop;
                    config.resume = Some("latest".into());
                })
            };
            let folder = part(Some(7));
            assert_eq!(names(&folder), ["epoch_1", "step_3", "step_6", "step_7"]);
            let newest = folder.join("step_7").join(file);
            match damaged(fs::read(&newest).unwrap()) {
                Some(bytes) => fs::write(&newest, bytes).unwrap(),
                None => fs::remove_file(&newest).unwrap(),
            }
            part(None);
            let log = fs::read_to_string(folder.parent().unwrap().join("out.log")).unwrap();
            let warning = log.lines().find(|line| line.contains("WARNING")).unwrap();
            assert!(
                warning.contains("step_7") && warning.contains(file),
                "{warning}"
            );
            let resumed = log.lines().find(|line| line.contains("Resumed")).unwrap();
            assert!(resumed.contains("step_6 at step 6"), "{resumed}");
            let file = "model.safetensors";
            assert!(bytes(&folder, "epoch_3", file) == bytes(&straight, "epoch_3", file));
        }
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_costs_a_warning_and_the_last_one_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let part = |name: &str, stop| {
        let mut result = None;
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(dir.path(), name, |config| {
                config.save_every_n_steps = Some(6);
                config.max_steps = stop;
                config.resume = Some("latest".into());
            })
        }));
        if let Err(panic) = caught {
            result = panic.downcast_ref::<String>().cloned();
        }
        result
    };
    let folder = |name: &str| dir.path().join("logs").join(name).join("checkpoints");
    // A file where the scratch folder should be.
    let block = |name: &str, checkpoint: &str| {
        fs::write(folder(name).join(format!(".{checkpoint}.tmp")), "").unwrap();
    };
    assert_eq!(part("some", Some(3)), None);
    block("some", "step_6");
    assert_eq!(part("some", None), None);
    let log = fs::read_to_string(dir.path().join("logs/some/out.log")).unwrap();
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains("WARNING"))
        .collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(
        warnings[0].contains("step_6") && warnings[0].contains("goes on"),
        "{log}"
    );
    assert!(folder("some").join("epoch_2/state.json").exists());
    assert!(!folder("some").join("step_6").exists());

    assert_eq!(part("last", Some(3)), None);
    block("last", "epoch_3");
    let error = part("last", None).unwrap();
    assert!(
        error.contains("cannot write checkpoint") && error.contains("epoch_3"),
        "{error}"
    );
    for name in ["step_3", "epoch_1", "step_6", "epoch_2"] {
        openclip_train::checkpoint::open(&folder("last").join(name)).unwrap();
    }
    fs::remove_file(folder("last").join(".epoch_3.tmp")).unwrap();
    assert_eq!(part("last", None), None);
    let file = "model.safetensors";
    assert!(bytes(&folder("last"), "epoch_3", file) == bytes(&folder("some"), "epoch_3", file));
}
