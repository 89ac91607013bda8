//! Every flag of every command with values that it may not expect: the answer is a result or an error that names it, never a panic.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::Room;

/// Longest that a command may take for a handful of tiny pictures.
const PATIENCE: Duration = Duration::from_secs(60);

fn values() -> Vec<OsString> {
    let long = "a".repeat(100_000);
    let mut values: Vec<OsString> = [
        "0",
        "-1",
        "1",
        "3",
        "7",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775807",
        "4294967296",
        "1e300",
        "-1e300",
        "1e-300",
        "nan",
        "inf",
        "-inf",
        "",
        " ",
        "x",
        "ä",
        "{0..99999999999}.tar",
        "a::b",
        "a=b",
        "a=1",
        "(1,2)",
        "/dev/null",
        "red.png",
        "folder",
        "missing/file",
        "red.png/file",
        "tiny.json",
        "train.csv",
        &long,
    ]
    .map(OsString::from)
    .into();
    values.push(OsString::from_vec(vec![0xff, 0xfe, b'a']));
    values
}

/// Flags with a value, as the help lists them.
fn flags(room: &Room, command: &str) -> Vec<String> {
    let help = room.run(&[command, "--help"]).ok().stdout;
    let lines = help.lines().map(str::trim_start);
    let flags = lines.filter(|line| line.starts_with("--") || line.starts_with("-"));
    let flags = flags.filter(|line| line.contains('<') || line.contains('['));
    let names =
        flags.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    let mut names: Vec<String> = names
        .map(|name| name.trim_end_matches(',').into())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Runs a command with one more flag, or with another value of one that it has.
fn run(room: &Room, base: &[&str], flag: &str, value: &OsString) -> Result<i32, String> {
    let mut command = room.command(&[]);
    let mut words = base.iter().peekable();
    while let Some(word) = words.next() {
        if word == &flag {
            words.next_if(|value| !value.starts_with("--"));
            continue;
        }
        command.arg(word);
    }
    let mut joined = OsString::from(format!("{flag}="));
    joined.push(value);
    command.arg(joined);
    command
        .env("HF_HUB_OFFLINE", "1")
        .env("OMPI_COMM_WORLD_SIZE", "");
    let out = tempfile::tempfile().unwrap();
    command
        .stdout(Stdio::null())
        .stderr(out.try_clone().unwrap());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                return Err("takes more than a minute".into());
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut text = String::new();
    let mut out = out;
    std::io::Seek::seek(&mut out, std::io::SeekFrom::Start(0)).unwrap();
    std::io::Read::read_to_string(&mut out, &mut text).unwrap();
    match status.code() {
        Some(code @ 0..=3) if !text.contains("panicked") => {
            match code == 1 && !text.contains("error: ") {
                true => Err(format!("no error: {text}")),
                false => Ok(code),
            }
        }
        code => Err(format!("status {code:?}: {text}")),
    }
}

/// Commands that do something within the folder, and quickly.
const BASES: [&[&str]; 10] = [
    &["models"],
    &["info", "--model", "tiny.json"],
    &[
        "classify",
        "--model",
        "tiny.json",
        "--image",
        "red.png",
        "--text",
        "a cat",
    ],
    &[
        "caption",
        "--model",
        "coca.json",
        "--image",
        "red.png",
        "--seq-len",
        "8",
    ],
    &[
        "embed",
        "--model",
        "tiny.json",
        "--images",
        "folder",
        "--output",
        "vectors",
    ],
    &["eval", "--model", "tiny.json", "--val-data", "train.csv"],
    &["eval", "--model", "tiny.json", "--zeroshot", "classes"],
    &[
        "convert",
        "--model",
        "tiny.json",
        "--output",
        "out.safetensors",
    ],
    &[
        "bench",
        "--model",
        "tiny.json",
        "--batch",
        "2",
        "--steps",
        "1",
        "--warmup",
        "0",
    ],
    &[
        "train",
        "--model",
        "tiny.json",
        "--train-data",
        "train.csv",
        "--batch-size",
        "4",
        "--epochs",
        "1",
        "--warmup",
        "1",
        "--workers",
        "1",
        "--val-data",
        "train.csv",
        "--device",
        "cpu",
    ],
];

fn sweep(picked: impl Fn(&str, &str) -> bool) {
    let room = Room::captioned(2);
    let json = std::fs::read_to_string(room.path("tiny.json")).unwrap();
    let decoder = "\"custom_text\": true, \"multimodal_cfg\": {\"context_length\": 16, \"width\": 32, \"heads\": 2, \"layers\": 1},";
    room.write("coca.json", json.replacen('{', &format!("{{{decoder}"), 1));
    room.picture("folder/one.png", [1, 2, 3]);
    room.picture("classes/cat/one.png", [1, 2, 3]);
    room.picture("classes/dog/one.png", [3, 2, 1]);
    let (mut tried, mut failed) = ([0; 4], Vec::new());
    for base in BASES {
        for flag in flags(&room, base[0]) {
            if !picked(base[0], &flag) {
                continue;
            }
            for value in values() {
                match run(&room, base, &flag, &value) {
                    Ok(code) => tried[code as usize] += 1,
                    Err(reason) => {
                        let mut text = format!("{} {flag} {value:?}: {reason}", base[0]);
                        text.truncate(text.floor_char_boundary(600));
                        failed.push(text);
                    }
                }
            }
        }
    }
    println!("{tried:?} by exit status");
    assert!(
        failed.is_empty(),
        "{} of them:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn no_value_of_a_flag_ends_in_a_panic() {
    sweep(|command, flag| {
        command == "bench" && flag != "--pretrained"
            || flag == "--force-image-size" && command != "train"
    });
}

#[test]
#[ignore = "takes many minutes"]
fn no_value_of_any_flag_ends_in_a_panic() {
    let only = std::env::var("OPENCLIP_SWEEP").unwrap_or_default();
    sweep(|command, flag| format!("{command} {flag}").contains(&only));
}
