//! What a step costs that is told to the journal, from the first to the millionth: time, memory, and reading it all again.
//!
//! `cargo run --release -p openclip-train --example journal_time`
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use openclip_train::TrainError;
use openclip_train::journal::{Journal, JournalOptions, RunStatus, StepFigures};
use openclip_train::memory::MemoryUse;

/// Steps between two lines of the output.
const PART: u64 = 100_000;

fn main() -> Result<(), TrainError> {
    let dir = std::env::temp_dir().join("openclip-journal-time");
    std::fs::create_dir_all(&dir).map_err(|source| TrainError::Write {
        path: dir.clone(),
        source,
    })?;
    let result = measure(&dir);
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn measure(dir: &Path) -> Result<(), TrainError> {
    let mut journal = Journal::open(dir, JournalOptions::default())?;
    let status = RunStatus {
        samples: 1,
        epoch_samples: 1,
        steps_left: 1,
        memory: MemoryUse::default(),
    };
    for part in 0..10 {
        let started = Instant::now();
        let mut slowest = 0.0_f64;
        for step in part * PART + 1..=(part + 1) * PART {
            let figures = StepFigures {
                step,
                loss: 1.0 + (step as f64 * 0.01).sin(),
                ..StepFigures::default()
            };
            let begun = Instant::now();
            journal.step(figures, step.is_multiple_of(100).then_some(status));
            slowest = slowest.max(begun.elapsed().as_secs_f64());
        }
        let each = started.elapsed().as_secs_f64() * 1e6 / PART as f64;
        let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let memory = memory.lines().find(|line| line.starts_with("VmRSS"));
        println!(
            "up to step {}: {each:.2} µs a step, {:.2} ms the slowest, {}",
            (part + 1) * PART,
            1e3 * slowest,
            memory.unwrap_or_default()
        );
    }
    let started = Instant::now();
    journal.finish();
    println!("the last picture: {:?}", started.elapsed());
    let started = Instant::now();
    drop(Journal::open(dir, JournalOptions::default())?);
    println!("read again and drawn: {:?}", started.elapsed());
    Ok(())
}
