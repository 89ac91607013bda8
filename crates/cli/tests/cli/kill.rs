//! A run that is killed in the middle and resumed ends in the same bits as one that is not.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::dice::Dice;
use crate::support::runs::{self, final_weights, names, newest_step, workspace};

const EPOCHS: usize = 4;

fn command(dir: &Path, name: &str, epochs: usize, flags: &[&str]) -> Command {
    let command = Command::new(env!("CARGO_BIN_EXE_openclip"));
    let mut command = runs::train(command, dir, name, epochs);
    command
        .args(["--accum-freq", "2", "--workers", "2"])
        .args(flags);
    command
}

/// Starts what will be killed or asked to stop.
fn start(mut command: Command) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a run at `kills` random moments, each time after it has got a little further and once while it starts, and holds
/// its end against that of a run left alone. Says how many kills hit a checkpoint that was being written.
fn kill_and_compare(kills: u64, epochs: usize, seed: u64) -> usize {
    let dir = workspace();
    let dir = dir.path();
    runs::ends_well(command(dir, "straight", epochs, &[]));
    // `latest` is replaced meanwhile.
    let flags = ["--save-most-recent"];
    let mut dice = Dice(seed);
    let (mut killed, mut while_writing) = (0, 0);
    while killed < kills {
        let mut child = start(command(dir, "killed", epochs, &flags));
        if killed % 10 == 5 {
            std::thread::sleep(Duration::from_millis(dice.roll(300)));
        } else {
            let newest = newest_step(dir, "killed");
            while newest_step(dir, "killed") <= newest + dice.roll(3) {
                let ended = child.try_wait().unwrap();
                assert_eq!(
                    ended, None,
                    "it ended after {killed} kills: more epochs are needed"
                );
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_micros(dice.roll(40_000)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        while_writing += usize::from(
            names(dir, "killed")
                .iter()
                .any(|name| name.starts_with('.')),
        );
    }
    runs::ends_well(command(dir, "killed", epochs, &flags));
    assert!(
        final_weights(dir, "straight", epochs) == final_weights(dir, "killed", epochs),
        "the weights differ"
    );
    while_writing
}

#[test]
fn killed_runs_go_on_bit_for_bit() {
    kill_and_compare(8, 8, 1);
}

/// `cargo test --release -p openclip-cli --test cli -- --ignored --nocapture fifty_kills`
#[test]
#[ignore = "takes minutes"]
fn fifty_kills() {
    for seed in [2, 3] {
        let while_writing = kill_and_compare(50, 40, seed);
        println!("50 kills, {while_writing} while a checkpoint was being written");
        assert!(while_writing > 0);
    }
}

#[test]
fn sigterm_saves_and_says_so() {
    let dir = workspace();
    let dir = dir.path();
    let mut child = start(command(dir, "asked", EPOCHS, &[]));
    while newest_step(dir, "asked") < 3 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(3));
    for name in ["asked", "straight"] {
        runs::ends_well(command(dir, name, EPOCHS, &[]));
    }
    assert!(final_weights(dir, "straight", EPOCHS) == final_weights(dir, "asked", EPOCHS));
}
