//! Training from shards wherever they lie: commands, object stores, the hub, and what their environment says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use openclip_tests::web::{Fault, Web};

use crate::support::s3::{Mood, S3};
use crate::support::{Ran, Room, weights};

const SHARDS: usize = 4;

/// `aws s3 cp s3://bucket/NAME -`, of files in the folder.
const AWS: &str = r#"#!/bin/sh
case "$1 $2 $3 $4" in
"s3 cp s3://bucket/"*" -") exec cat "${3#s3://bucket/}" ;;
esac
echo "fatal error: what is $*?" >&2
exit 1
"#;

/// Four shards of eight captioned pictures in three colours, a model, and something that is called `aws`.
struct Site {
    room: Room,
}

impl Site {
    fn new() -> Self {
        let room = Room::captioned(0);
        let colours = ["red", "green", "blue", "gray"];
        for number in 0..SHARDS {
            let mut archive = tar::Builder::new(Vec::new());
            for sample in 0..8 {
                let colour = colours[(number + sample) % 4];
                let picture = fs::read(room.path(&format!("{colour}.png"))).unwrap();
                let caption = format!("a {colour} picture, the {sample} of {number}");
                for (suffix, bytes) in [("png", &picture[..]), ("txt", caption.as_bytes())] {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(bytes.len() as u64);
                    header.set_mode(0o644);
                    let name = format!("{number}{sample}.{suffix}");
                    archive.append_data(&mut header, name, bytes).unwrap();
                }
            }
            room.write(&shard(number), archive.into_inner().unwrap());
        }
        room.write("bin/aws", AWS);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(room.path("bin/aws"), executable).unwrap();
        Self { room }
    }

    fn shards(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let read = |number| {
            (
                shard(number),
                fs::read(self.room.path(&shard(number))).unwrap(),
            )
        };
        (0..SHARDS).map(read)
    }

    /// An S3 server with the shards below `data/`.
    fn s3(&self) -> S3 {
        let server = S3::new();
        for (name, bytes) in self.shards() {
            server.put(&format!("data/{name}"), bytes);
        }
        server
    }

    /// A run of this name, two epochs of sixteen samples.
    fn train(&self, name: &str, data: &str, flags: &str) -> Command {
        let fixed = "--model tiny.json --train-num-samples 16 --batch-size 4 --epochs 2 --warmup 1 --workers 1 --device cpu \
                     --log-every-n-steps 1";
        let mut args = vec!["train", "--name", name, "--train-data", data];
        args.extend(fixed.split_whitespace());
        args.extend(flags.split_whitespace());
        let mut command = self.room.command(&args);
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.room.path("bin").display());
        command.env("PATH", path);
        // Nothing of who runs the tests.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_ascii_uppercase();
            if ["AWS_", "HF_", "GOOGLE_", "AZURE_"]
                .iter()
                .any(|start| text.starts_with(start))
                || text.ends_with("_PROXY")
            {
                command.env_remove(name);
            }
        }
        command.env("OPENCLIP_DATA_TIMEOUT", "5");
        command
    }

    fn weights(&self, name: &str) -> Vec<u8> {
        weights(&self.room.path(&format!(
            "logs/{name}/checkpoints/epoch_2/model.safetensors"
        )))
    }
}

fn shard(number: usize) -> String {
    format!("{number:05}.tar")
}

fn run(mut command: Command) -> Ran {
    Ran::from(command.output().unwrap())
}

/// With what a client needs to know of the server.
fn amazon(mut command: Command, server: &S3) -> Command {
    command
        .env("AWS_ENDPOINT_URL", &server.endpoint)
        .env("AWS_ACCESS_KEY_ID", "name")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "eu-central-1");
    command
}

#[test]
fn the_lines_of_openclip_that_pipe_shards() {
    let site = Site::new();
    run(site.train("local", "{00000..00003}.tar", "")).ok();
    let local = site.weights("local");
    let pipe = "pipe:aws s3 cp s3://bucket/{00000..00003}.tar -";
    for (name, kind) in [
        ("known", "--dataset-type webdataset"),
        ("auto", "--dataset-type auto"),
    ] {
        run(site.train(name, pipe, kind)).ok();
        assert!(site.weights(name) == local, "{name}");
    }

    let mut validated = site.train("validated", pipe, "");
    validated.args([
        "--val-data",
        "pipe:aws s3 cp s3://bucket/{00002..00003}.tar -",
    ]);
    run(validated).ok();
    let results = site.room.path("logs/validated/results.jsonl");
    let results = fs::read_to_string(results).unwrap();
    assert!(results.contains("\"clip_val_loss\""), "{results}");

    let parts = "pipe:aws s3 cp s3://bucket/{00000..00001}.tar -::{00002..00003}.tar";
    let factors = "--dataset-resampled --train-data-upsampling-factors 3::1";
    run(site.train("parts", parts, factors)).ok();
    let same = "{00000..00001}.tar::{00002..00003}.tar";
    run(site.train("same", same, factors)).ok();
    assert!(site.weights("parts") == site.weights("same"));
    run(site.train("drawn", pipe, "--dataset-resampled")).ok();
}

#[test]
fn a_pipe_that_fails_is_told_with_what_it_said() {
    let site = Site::new();
    let start = Instant::now();
    let data = "pipe:aws s3 mv s3://bucket/{000..999}.tar";
    let error = run(site.train("none", data, "--dataset-type webdataset")).error(1);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    for words in ["exit status 1", "fatal error: what is s3 mv s3://bucket/"] {
        assert!(error.contains(words), "{error}");
    }
    // One of five fails; its samples are missing, and that is said.
    let data = "pipe:aws s3 cp s3://bucket/{00000..00004}.tar -";
    let ran = run(site.train("some", data, "")).ok();
    assert!(ran.stderr.contains("00004.tar"), "{}", ran.stderr);
}

#[test]
fn shards_in_a_store() {
    let site = Site::new();
    run(site.train("local", "{00000..00003}.tar", "")).ok();
    let local = site.weights("local");
    let server = site.s3();
    let data = "s3://bucket/data/{00000..00003}.tar";
    let train = |name: &str, flags: &str| run(amazon(site.train(name, data, flags), &server));
    train("store", "").ok();
    assert!(site.weights("store") == local);
    server.requests();
    // Slow down, and a connection that is cut, cost time alone.
    server.set(Mood::Cut(1000));
    train("cut", "").ok();
    assert!(site.weights("cut") == local);
    server.set(Mood::Status(503));
    let error = train("slow", "").error(1);
    assert!(
        error.contains("503") && error.contains("SlowDown"),
        "{error}"
    );
    server.set(Mood::Well);
    // Killed in mid-epoch and resumed.
    let stopped = train(
        "resumed",
        "--max-steps 2 --save-every-n-steps 1 --resume latest",
    );
    assert_eq!(stopped.status, 3, "{}", stopped.stderr);
    train("resumed", "--save-every-n-steps 1 --resume latest").ok();
    assert!(site.weights("resumed") == local);
}

#[test]
fn what_a_store_refuses() {
    let site = Site::new();
    let server = site.s3();
    let data = "s3://bucket/data/{00000..00003}.tar";
    let fails = |command: Command, words: &[&str]| {
        let start = Instant::now();
        let error = run(command).error(1);
        let took = start.elapsed();
        assert!(took < Duration::from_secs(12), "{took:?}: {error}");
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(!error.contains("secret"), "{error}");
    };
    let mut wrong = amazon(site.train("wrong", data, ""), &server);
    wrong.env("AWS_ACCESS_KEY_ID", "other");
    fails(wrong, &["403", "InvalidAccessKeyId"]);
    let nowhere = site.train("nowhere", "s3://nothing/{0..999}.tar", "");
    fails(amazon(nowhere, &server), &["404", "NoSuchBucket"]);
    let missing = site.train("missing", "s3://bucket/{0..999}.tar", "");
    fails(amazon(missing, &server), &["NoSuchKey"]);
    // No keys at all, and nobody who would give this machine a role.
    let mut keyless = amazon(site.train("keyless", data, ""), &server);
    keyless.env_remove("AWS_ACCESS_KEY_ID");
    keyless.env_remove("AWS_SECRET_ACCESS_KEY");
    fails(
        keyless,
        &["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SKIP_SIGNATURE"],
    );
    let mut half = amazon(site.train("half", data, ""), &server);
    half.env_remove("AWS_SECRET_ACCESS_KEY");
    fails(half, &["AWS_SECRET_ACCESS_KEY"]);
    let azure = site.train("azure", "az://box/{0..3}.tar", "");
    fails(azure, &["AZURE_STORAGE_ACCOUNT_NAME"]);
    let mut google = site.train("google", "gs://box/{0..3}.tar", "");
    google.env("GOOGLE_APPLICATION_CREDENTIALS", "no-such-file.json");
    fails(google, &["no-such-file.json"]);
    let google = site.train("google2", "gs://box/{0..3}.tar", "");
    fails(google, &["GOOGLE_APPLICATION_CREDENTIALS"]);
}

#[test]
fn keys_in_a_profile() {
    let site = Site::new();
    let server = site.s3();
    let config = format!(
        "[profile work]\nregion = eu-west-1\nendpoint_url = {}\n",
        server.endpoint
    );
    site.room.write(".aws/config", config);
    let keys = "[default]\naws_access_key_id = other\naws_secret_access_key = x\n\n\
                [work]\naws_access_key_id = name\naws_secret_access_key = secret\n";
    site.room.write(".aws/credentials", keys);
    let data = "s3://bucket/data/{00000..00003}.tar";
    let mut work = site.train("work", data, "");
    work.env("AWS_PROFILE", "work");
    run(work).ok();
    let mut default = site.train("default", data, "");
    default.env("AWS_ENDPOINT_URL", &server.endpoint);
    assert!(run(default).error(1).contains("InvalidAccessKeyId"));
    let mut unknown = site.train("unknown", data, "");
    unknown
        .env("AWS_PROFILE", "play")
        .env("AWS_ENDPOINT_URL", &server.endpoint);
    let error = run(unknown).error(1);
    assert!(error.contains("play"), "{error}");
    let mut elsewhere = site.train("elsewhere", data, "");
    site.room.write("keys", keys.replace("[work]", "[else]"));
    elsewhere
        .env("AWS_PROFILE", "else")
        .env("AWS_SHARED_CREDENTIALS_FILE", "keys")
        .env("AWS_ENDPOINT_URL", &server.endpoint);
    run(elsewhere).ok();
}

#[test]
fn data_sets_of_the_hub_and_proxies() {
    let site = Site::new();
    run(site.train("local", "{00000..00003}.tar", "")).ok();
    let local = site.weights("local");
    let below = |prefix: &str| {
        let files = site
            .shards()
            .map(|(name, bytes)| (format!("{prefix}/{name}"), bytes));
        Web::new(files.collect::<Vec<_>>())
    };
    let hub = below("datasets/org/set/resolve/main/data");
    let data = "hf://datasets/org/set/data/{00000..00003}.tar";
    let train = |name: &str, hub: &Web, data: &str| {
        let mut command = site.train(name, data, "");
        command.env("HF_ENDPOINT", hub.url("").trim_end_matches('/'));
        command.env("HF_TOKEN", "hf_abc");
        run(command)
    };
    train("hub", &hub, data).ok();
    assert!(site.weights("hub") == local);
    let asked = hub.requests();
    assert!(
        asked
            .iter()
            .all(|request| request.authorization == "Bearer hf_abc")
    );
    // Where the file is elsewhere, the token stays here.
    let store = below("blob");
    for (name, _) in site.shards() {
        // Another host by its name, though the same machine.
        let to = store
            .url(&format!("blob/{name}"))
            .replace("127.0.0.1", "localhost");
        hub.always(&name, Fault::Redirect(to));
    }
    train("away", &hub, data).ok();
    assert!(site.weights("away") == local);
    let asked = store.requests();
    assert!(!asked.is_empty() && asked.iter().all(|request| request.authorization.is_empty()));
    hub.mend();
    hub.always("set/", Fault::Status(401));
    let error = train("private", &hub, data).error(1);
    assert!(
        error.contains("401") && error.contains("HF_TOKEN"),
        "{error}"
    );
    assert!(!error.contains("hf_abc"), "{error}");
    let error = train("odd", &hub, "hf://datasets/org/{00000..00003}.tar").error(1);
    assert!(error.contains("hf://datasets/ORG/NAME"), "{error}");

    let proxy = below("data");
    let mut command = site.train("proxy", "http://far.example/data/{00000..00003}.tar", "");
    command
        .env("HTTP_PROXY", proxy.url(""))
        .env("http_proxy", proxy.url(""));
    run(command).ok();
    assert!(site.weights("proxy") == local);
    let asked = proxy.requests();
    assert!(
        asked
            .iter()
            .any(|request| request.target.starts_with("http://far.example/data/0"))
    );
}
