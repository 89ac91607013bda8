//! `embed` that is killed and started again leaves what a run that is left alone does, to the byte.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::support::Room;
use crate::support::dice::Dice;

const PICTURES: usize = 160;

fn room() -> Room {
    let room = Room::new();
    let mut rows = String::from("filepath\ttitle\n");
    for at in 0..PICTURES {
        let colour = [at, at * 5, at * 11].map(|value| (value % 250) as u8);
        room.picture(&format!("set/{at}.png"), colour);
        rows += &format!("set/{at}.png\tpicture {at}\n");
    }
    // What has no row is counted once.
    room.write("set/bad.png", "no picture");
    rows += "set/bad.png\tnone\n";
    room.write("pairs.csv", rows);
    room
}

fn start(room: &Room, output: &str) -> Child {
    start_on(room, output, "cpu")
}

fn start_on(room: &Room, output: &str, device: &str) -> Child {
    let args = "embed --model tiny.json --pretrained tiny.safetensors --images pairs.csv --batch-size 4 --partition-size 10 --output";
    let args: Vec<&str> = args
        .split(' ')
        .chain([output, "--device", device])
        .collect();
    let mut command = room.command(&args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Every file of a folder, hidden ones too.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = files(&path).into_iter();
            found.extend(inner.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

fn assert_same(found: &BTreeMap<String, Vec<u8>>, wanted: &BTreeMap<String, Vec<u8>>) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted));
    for (name, bytes) in found {
        assert!(*bytes == wanted[name], "{name} differs");
    }
}

/// What a run leaves that is left alone, and how long it takes.
fn alone(room: &Room) -> (BTreeMap<String, Vec<u8>>, Duration) {
    let begun = Instant::now();
    assert!(start(room, "straight").wait().unwrap().success());
    let took = begun.elapsed();
    let files = files(&room.path("straight"));
    assert!(
        // The last partition has nothing but the picture that cannot be read.
        files.contains_key("img_emb/img_emb_15.npy") && files.contains_key("partitions/16.json"),
        "{:?}",
        files.keys()
    );
    (files, took)
}

/// Kills `processes` side by side, one after another of them, `kills` times.
fn kill_and_compare(kills: u32, processes: usize, seed: u64) {
    let room = room();
    let (wanted, took) = alone(&room);
    let mut dice = Dice(seed);
    let mut killed = 0;
    let mut pause = |share: u64| {
        let most = (took.as_micros() as u64 * share / 100).max(1);
        thread::sleep(Duration::from_micros(dice.roll(most)));
    };
    for round in 0.. {
        let output = format!("killed-{round}");
        let mut running: Vec<Child> = (0..processes).map(|_| start(&room, &output)).collect();
        let mut ended = false;
        while !ended && killed < kills {
            // Some are killed while they start, and most get a few partitions further.
            pause(if killed % 5 == 4 { 20 } else { 90 });
            let victim = killed as usize % processes;
            ended = running[victim].try_wait().unwrap().is_some();
            if !ended {
                running[victim].kill().unwrap();
                running[victim].wait().unwrap();
                killed += 1;
                running[victim] = start(&room, &output);
            }
        }
        for mut child in running {
            assert!(child.wait().unwrap().success());
        }
        // One that ended may have left to another what that was killed at.
        assert!(start(&room, &output).wait().unwrap().success());
        assert_same(&files(&room.path(&output)), &wanted);
        if killed >= kills {
            break;
        }
    }
}

#[test]
fn killed_runs_leave_the_same_files() {
    kill_and_compare(6, 1, 1);
}

#[test]
fn two_devices_of_one_process_leave_the_same_files() {
    let room = room();
    let (wanted, _) = alone(&room);
    assert!(start_on(&room, "both", "cpu,cpu").wait().unwrap().success());
    assert_same(&files(&room.path("both")), &wanted);
}

#[test]
fn two_side_by_side_leave_the_same_files() {
    kill_and_compare(6, 2, 2);
}

/// `cargo test --release -p openclip-cli --test cli -- --ignored twenty_kills`
#[test]
#[ignore = "takes minutes"]
fn twenty_kills_of_one_and_of_two() {
    kill_and_compare(20, 1, 3);
    kill_and_compare(20, 2, 4);
}
