//! Runs that are kept in an object store: a folder, and a server that speaks S3 and fails.

use std::fs;
use std::path::Path;

use crate::support::s3::{Mood, S3};
use crate::support::{Ran, Room, weights};

const TRAIN: &str = "train --model tiny.json --train-data train.csv --batch-size 2 --epochs 3 --warmup 1 --workers 1 \
                     --device cpu --resume latest --save-every-n-steps 5 --remote-sync-frequency 1";

/// A room with eight captioned pictures, four of them different: four steps an epoch.
fn room() -> Room {
    Room::captioned(2)
}

fn train(room: &Room, server: Option<&S3>, flags: &str) -> Ran {
    let words = format!("{TRAIN} {flags}");
    let mut command = room.command(&words.split_whitespace().collect::<Vec<_>>());
    if let Some(server) = server {
        command
            .env("AWS_ENDPOINT_URL", &server.endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "name")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", "eu-central-1");
        for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
    }
    Ran::from(command.output().unwrap())
}

fn final_weights(run: &Path) -> Vec<u8> {
    weights(&run.join("checkpoints/epoch_3/model.safetensors"))
}

fn lines<'a>(ran: &'a Ran, word: &str) -> Vec<&'a str> {
    ran.stderr
        .lines()
        .filter(|line| line.contains(word))
        .collect()
}

#[test]
fn a_run_goes_on_from_its_copy() {
    let room = room();
    train(&room, None, "--name straight").ok();
    let straight = final_weights(&room.path("logs/straight"));
    let remote = format!("--remote-sync file://{}", room.path("store").display());
    let flags = format!("--name copied {remote}");
    let copy = room.path("store/copied/checkpoints");

    assert_eq!(
        train(&room, None, &format!("{flags} --max-steps 6")).status,
        3
    );
    for name in [
        "step_6/model.safetensors",
        "step_6/optimizer.bpk",
        "step_6/state.json",
        "epoch_1/state.json",
    ] {
        let local = room.path("logs/copied/checkpoints").join(name);
        assert!(
            fs::read(local).unwrap() == fs::read(copy.join(name)).unwrap(),
            "{name}"
        );
    }
    assert!(room.path("store/copied/params.json").exists());

    // The machine is lost; half a copy and a damaged one are in the way.
    fs::remove_dir_all(room.path("logs/copied")).unwrap();
    fs::remove_file(copy.join("step_6/state.json")).unwrap();
    let damaged = copy.join("step_5/model.safetensors");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let again = train(&room, None, &flags).ok();
    let warning = lines(&again, "WARNING");
    assert!(
        warning[0].contains("step_5") && warning[0].contains("model.safetensors"),
        "{}",
        again.stderr
    );
    assert!(
        lines(&again, "Resumed")[0].contains("epoch_1 at step 4"),
        "{}",
        again.stderr
    );
    assert!(final_weights(&room.path("logs/copied")) == straight);
    assert!(final_weights(&room.path("store/copied")) == straight);

    // A checkpoint by its address: downloaded once.
    let from = format!("--resume file://{}/epoch_2", copy.display());
    let first = train(&room, None, &format!("--name elsewhere {from}")).ok();
    assert!(
        lines(&first, "Resumed")[0].contains(".cache/openclip/checkpoints"),
        "{}",
        first.stderr
    );
    assert!(final_weights(&room.path("logs/elsewhere")) == straight);
    fs::remove_file(copy.join("epoch_2/model.safetensors")).unwrap();
    train(&room, None, &format!("--name elsewhere_again {from}")).ok();
    let missing = format!("--name nowhere --resume file://{}/epoch_9", copy.display());
    assert!(train(&room, None, &missing).error(1).contains("epoch_9"));
}

#[test]
fn s3_gets_whole_checkpoints_and_gives_them_back() {
    let (room, server) = (room(), S3::new());
    train(&room, None, "--name straight").ok();
    let flags = "--name run --remote-sync s3://bucket/some/runs";
    let first = train(&room, Some(&server), &format!("{flags} --max-steps 6"));
    assert_eq!(first.status, 3, "{}", first.stderr);
    let fault = |line: &&str| !line.contains("is left out");
    assert!(
        !lines(&first, "WARNING").iter().any(fault),
        "{}",
        first.stderr
    );
    let objects = server.objects();
    let name = "some/runs/run/checkpoints/step_6";
    for file in [
        "model.safetensors",
        "optimizer.bpk",
        "open_clip_config.json",
        "state.json",
    ] {
        let local = fs::read(room.path("logs/run/checkpoints/step_6").join(file)).unwrap();
        assert!(objects[&format!("{name}/{file}")] == local, "{file}");
    }
    let of_step: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| request.starts_with('P') && request.contains("/step_6/"))
        .collect();
    assert_eq!(of_step.last().unwrap(), &format!("PUT {name}/state.json"));
    assert_eq!(
        of_step
            .iter()
            .filter(|request| request.ends_with("state.json"))
            .count(),
        1
    );

    fs::remove_dir_all(room.path("logs/run")).unwrap();
    let second = train(&room, Some(&server), flags).ok();
    assert!(
        lines(&second, "Resumed")[0].contains("step_6 at step 6"),
        "{}",
        second.stderr
    );
    assert!(final_weights(&room.path("logs/run")) == final_weights(&room.path("logs/straight")));
}

#[test]
fn a_server_that_fails_is_told_of_once_and_stops_nothing() {
    let (room, server) = (room(), S3::new());
    train(&room, None, "--name straight").ok();
    let straight = final_weights(&room.path("logs/straight"));
    server.set(Mood::Status(500));
    let flags = "--remote-sync s3://bucket";
    // Without a checkpoint here, one that cannot be seen there must not be trained over.
    let error = train(&room, Some(&server), &format!("--name all {flags}")).error(1);
    assert!(
        error.contains("s3://bucket/all/checkpoints") && error.contains("500"),
        "{error}"
    );

    assert_eq!(train(&room, None, "--name all --max-steps 2").status, 3);
    let ran = train(&room, Some(&server), &format!("--name all {flags}")).ok();
    let mut warnings = lines(&ran, "WARNING");
    // The disk may be slower than the steps.
    warnings.retain(|line| !line.contains("is left out"));
    assert_eq!(warnings.len(), 3, "{}", ran.stderr);
    assert!(warnings[0].contains("cannot list") && warnings[0].contains("passed over"));
    assert!(warnings[1].contains("cannot read") && warnings[1].contains("tried again every 1 s"));
    assert!(
        warnings[2].contains("the last copy failed"),
        "{}",
        ran.stderr
    );
    assert!(final_weights(&room.path("logs/all")) == straight);

    // It fails in the middle of a copy: what is there is whole or not there.
    server.set(Mood::After(9, 503));
    train(&room, None, "--name half --max-steps 6");
    let ran = train(
        &room,
        Some(&server),
        &format!("--name half {flags} --epochs 2"),
    )
    .ok();
    assert!(!lines(&ran, "WARNING").is_empty());
    for (key, state) in server.objects() {
        if let Some(folder) = key.strip_suffix("/state.json") {
            let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
            for file in state["files"].as_array().unwrap() {
                let name = format!("{folder}/{}", file["name"].as_str().unwrap());
                assert_eq!(server.objects()[&name].len() as u64, file["bytes"]);
            }
        }
    }
}

#[test]
fn a_server_that_never_answers_delays_the_end_and_no_more() {
    let (room, server) = (room(), S3::new());
    assert_eq!(train(&room, None, "--name run --max-steps 2").status, 3);
    server.set(Mood::Silent);
    let words = format!(
        "{TRAIN} --name run --resume logs/run/checkpoints/step_2 --remote-sync s3://bucket"
    );
    let started = std::time::Instant::now();
    let flags = words.strip_prefix(TRAIN).unwrap();
    let ran = train(&room, Some(&server), flags).ok();
    assert!(
        ran.stderr.contains("has not come to its end in 10 s"),
        "{}",
        ran.stderr
    );
    assert!(started.elapsed().as_secs() < 40);
}

#[test]
fn addresses_that_cannot_be_used_are_refused() {
    let room = room();
    for url in ["ftp://host/path", "bucket/path"] {
        let error = train(&room, None, &format!("--remote-sync {url}")).error(2);
        assert!(
            error.contains("--remote-sync") && error.contains(url),
            "{error}"
        );
    }
    assert!(!room.path("logs").exists());
}
