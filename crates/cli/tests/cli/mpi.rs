//! Two processes under `mpirun`: killed, asked to stop, and left alone by one another (feature `mpi`).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::runs::{self, newest_step, workspace};

const EPOCHS: usize = 3;

fn command(dir: &Path, name: &str) -> Command {
    let mut command = Command::new("mpirun");
    command
        .args(["--oversubscribe", "-n", "2"])
        .arg(env!("CARGO_BIN_EXE_openclip"))
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut command = runs::train(command, dir, name, EPOCHS);
    command.args(["--workers", "1"]);
    command
}

fn final_weights(dir: &Path, name: &str) -> Vec<u8> {
    runs::final_weights(dir, name, EPOCHS)
}

/// The processes that `mpirun` has started.
fn ranks(mpirun: &Child) -> Vec<u32> {
    let id = mpirun.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.unwrap_or_default();
    children
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

fn signal(id: u32, name: &str) {
    let status = Command::new("kill")
        .args([name, &id.to_string()])
        .stderr(Stdio::null())
        .status();
    let _ = status.unwrap();
}

/// Waits until the run has saved its state `more` steps on; true if it ended first.
fn ended_before(child: &mut Child, dir: &Path, name: &str, more: u64) -> bool {
    let wanted = newest_step(dir, name) + more;
    let started = Instant::now();
    while newest_step(dir, name) < wanted {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no progress");
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// `OPENCLIP_KILLS` times one rank, the other or `mpirun` itself is killed; beginning anew whenever a run is through.
#[test]
fn killed_ranks_go_on_bit_for_bit() {
    let dir = workspace();
    let dir = dir.path();
    runs::ends_well(command(dir, "straight"));
    let wanted = final_weights(dir, "straight");
    let kills = std::env::var("OPENCLIP_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let (mut killed, mut runs) = (0, 0);
    while killed < kills || runs == 0 {
        let name = format!("killed{runs}");
        let mut child = command(dir, &name).spawn().expect("mpirun");
        if ended_before(&mut child, dir, &name, 1 + killed as u64 % 3) || killed == kills {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            assert!(final_weights(dir, &name) == wanted, "{name} ends elsewhere");
            runs += 1;
            continue;
        }
        std::thread::sleep(Duration::from_millis(7 * killed as u64 % 40));
        let victims = ranks(&child);
        let victim = victims.get(killed % 3).copied().unwrap_or(child.id());
        signal(victim, "-KILL");
        let status = child.wait().unwrap();
        assert!(!status.success());
        // Ranks that outlive their launcher must be gone before the next ones write.
        for id in victims {
            signal(id, "-KILL");
            while Path::new(&format!("/proc/{id}")).exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        killed += 1;
    }
    println!("{killed} kills, {runs} runs ended as one that was left alone");
}

#[test]
fn a_stop_on_one_rank_stops_all_with_a_checkpoint() {
    let dir = workspace();
    let dir = dir.path();
    let mut child = command(dir, "asked").spawn().expect("mpirun");
    assert!(!ended_before(&mut child, dir, "asked", 3));
    signal(ranks(&child)[1], "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    runs::ends_well(command(dir, "asked"));
    runs::ends_well(command(dir, "straight"));
    assert!(final_weights(dir, "straight") == final_weights(dir, "asked"));
}

#[test]
fn a_rank_that_fails_ends_all_with_one_line() {
    let dir = workspace();
    let dir = dir.path();
    fs::write(dir.join("logs"), "no folder").unwrap();
    let started = Instant::now();
    let output = command(dir, "nowhere").output().expect("mpirun");
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().filter(|line| line.contains("error")).collect();
    assert!(lines.iter().any(|line| line.contains("logs")), "{said}");
}
