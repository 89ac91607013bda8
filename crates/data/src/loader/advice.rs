//! What to do when a caller waits for batches.

use std::time::Duration;

use super::activity::Stage;
use super::stats::Waits;

/// The share of time from which on a wait is worth a word.
const NOTABLE: f64 = 0.1;

/// The stage that a caller waits for and what to do about it, in one line; `None` when it hardly waits. `elapsed` is the time on the
/// clock in which the caller waited, but for the start.
pub fn advice(
    waits: &Waits,
    elapsed: Duration,
    workers: usize,
    cores: usize,
) -> Option<(Stage, String)> {
    let share = |wait: Duration| wait.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
    if share(waits.behind_start()) < NOTABLE {
        return None;
    }
    let (stage, wait) = waits.longest();
    let percent = 100.0 * share(wait);
    let has_cores = workers < cores;
    let more_workers = || format!("raise --workers, which is {workers} on {cores} cores");
    let (what, remedy) = match stage {
        Stage::Source => (
            "the source",
            "it is slower than the workers; put the data on a faster disk or nearer, or share it among more ranks".to_owned(),
        ),
        Stage::File => (
            "picture files",
            "raise --workers, since files are waited for side by side, or make shards with `openclip data pack`".to_owned(),
        ),
        Stage::Decoding if has_cores => ("decode", more_workers()),
        Stage::Decoding => (
            "decode",
            format!("all {cores} cores are at work; try --fast-decode, or make the pictures smaller with `openclip data pack --resize`"),
        ),
        Stage::Tokenizing if has_cores => ("the tokenizer", more_workers()),
        Stage::Tokenizing => ("the tokenizer", format!("all {cores} cores are at work")),
        Stage::Assembling => (
            "batches to be put together",
            "one thread does that; it wants memory bandwidth".to_owned(),
        ),
    };
    Some((
        stage,
        format!("waiting for {what} {percent:.0} % of the time: {remedy}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_given_for_what_is_waited_for_longest() {
        let seconds = Duration::from_secs_f64;
        let of = |stages: [f64; 5], workers, cores| {
            let waits = Waits {
                start: seconds(50.0),
                stages: stages.map(seconds),
            };
            advice(&waits, seconds(100.0), workers, cores)
        };
        let text = |stages, workers| {
            of(stages, workers, 8)
                .map(|(_, text)| text)
                .unwrap_or_default()
        };
        // The start does not count.
        assert_eq!(of([0.0; 5], 4, 8), None);
        assert_eq!(of([3.0, 0.0, 6.9, 0.0, 0.0], 4, 8), None);
        assert_eq!(
            text([2.0, 0.0, 34.0, 1.0, 0.0], 4),
            "waiting for decode 34 % of the time: raise --workers, which is 4 on 8 cores"
        );
        let all = text([2.0, 0.0, 34.0, 1.0, 0.0], 8);
        assert!(
            all.contains("all 8 cores") && all.contains("--resize"),
            "{all}"
        );
        let source = text([60.0, 0.0, 20.0, 0.0, 0.0], 4);
        assert!(
            source.starts_with("waiting for the source 60 % of the time: "),
            "{source}"
        );
        assert!(text([0.0, 12.0, 0.0, 0.0, 0.0], 4).contains("data pack"));
        assert!(text([0.0, 0.0, 0.0, 12.0, 0.0], 4).contains("the tokenizer 12 %"));
        let stage = of([0.0, 0.0, 0.0, 0.0, 11.0], 4, 8).map(|(stage, _)| stage);
        assert_eq!(stage, Some(Stage::Assembling));
    }
}
