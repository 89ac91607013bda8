//! Disks that are full or closed: a run goes on or ends with one clear line, and what was saved stays whole.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Ran, Room, weights};

/// A room with four captioned pictures: four steps an epoch.
fn room() -> Room {
    Room::captioned(1)
}

const TRAIN: &str = "train --model tiny.json --train-data train.csv --batch-size 1 --epochs 3 --warmup 1 --workers 1 \
                     --device cpu --resume latest --save-every-n-steps 2";

/// `openclip train … FLAGS` under `shell`, which ends in `exec`.
fn train_under(room: &Room, shell: &str, flags: &str) -> Ran {
    let binary = env!("CARGO_BIN_EXE_openclip");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{shell} {binary} {TRAIN} {flags}")]);
    command.current_dir(room.path(""));
    Ran::from(command.output().unwrap())
}

fn train(room: &Room, flags: &str) -> Ran {
    train_under(room, "exec", flags)
}

fn final_weights(folder: &Path) -> Vec<u8> {
    weights(&folder.join("epoch_3/model.safetensors"))
}

/// Those about checkpoints.
fn warnings(ran: &Ran) -> Vec<&str> {
    let lines = ran
        .stderr
        .lines()
        .filter(|line| line.contains("| WARNING |"));
    lines
        .filter(|line| line.contains("/checkpoints/"))
        .collect()
}

/// What every fault has in common: the run could not save from step 5 on.
fn check(room: &Room, ran: Ran, folder: &Path) {
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    // Steps 6 and 10 and the second epoch each cost a warning, the last epoch the run.
    let told = warnings(&ran);
    assert_eq!(told.len(), 3, "{}", ran.stderr);
    for (line, name) in told.iter().zip(["step_6", "epoch_2", "step_10"]) {
        assert!(line.contains(name) && line.contains("goes on"), "{line}");
    }
    let error = ran.error(1);
    assert!(error.contains("epoch_3"), "{error}");
    let left = fs::read_dir(folder).unwrap().flatten();
    let mut left: Vec<_> = left
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["epoch_1", "step_2", "step_5"]);

    let flags = format!(
        "--logs {}",
        folder.parent().unwrap().parent().unwrap().display()
    );
    train(room, &format!("{flags} --name faulty")).ok();
    train(room, "--name straight").ok();
    let straight = room.path("logs/straight/checkpoints");
    assert!(final_weights(folder) == final_weights(&straight));
}

#[test]
fn files_that_cannot_grow_leave_earlier_checkpoints_whole() {
    let room = room();
    assert_eq!(train(&room, "--name faulty --max-steps 5").status, 3);
    // A megabyte at most, where the weights are more: writing fails as on a full disk, whoever runs this.
    let shell = "trap '' XFSZ; ulimit -f 1024; exec";
    let ran = train_under(&room, shell, "--name faulty");
    check(&room, ran, &room.path("logs/faulty/checkpoints"));
}

#[test]
#[ignore = "needs mount"]
fn needs_mount_a_full_disk_leaves_earlier_checkpoints_whole() {
    let room = room();
    let disk = room.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |size: &str| {
        let options = format!("size={size}{}", if size == "1g" { "" } else { ",remount" });
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&disk)
            .status();
        status.is_ok_and(|status| status.success())
    };
    assert!(mount("1g"), "not permitted to mount a small disk");
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }
    let _unmount = Unmount(&disk);
    let flags = "--logs disk --name faulty";
    assert_eq!(train(&room, &format!("{flags} --max-steps 5")).status, 3);
    // Room for the logs, and for half a checkpoint.
    let used = Command::new("du").arg("-sk").arg(&disk).output().unwrap();
    let used = String::from_utf8(used.stdout).unwrap();
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    assert!(mount(&format!("{}k", used + 9_000)));
    let ran = train(&room, flags);
    assert!(
        warnings(&ran)
            .iter()
            .all(|line| line.contains("No space left")),
        "{}",
        ran.stderr
    );
    assert!(mount("900m"));
    check(&room, ran, &disk.join("faulty/checkpoints"));
}

#[test]
fn a_folder_that_cannot_be_written_is_one_line() {
    let room = room();
    let error = train(&room, "--logs /proc/openclip --name closed").error(1);
    assert!(
        error.contains("cannot write /proc/openclip/closed"),
        "{error}"
    );
}
