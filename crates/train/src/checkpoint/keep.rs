//! Which older checkpoints may go once a newer one is on disk.

use std::fs;
use std::io;
use std::path::Path;

use super::folder::remove;

/// How many checkpoints stay. `latest`, `best` and whatever has another name always do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Newest checkpoints within epochs (`--keep-last`); all when absent.
    pub steps: Option<usize>,
    /// Keep one of each kind alone (`--delete-previous-checkpoint`).
    pub newest_only: bool,
}

impl Retention {
    /// Newest checkpoints of a kind that stay.
    fn limits(self) -> [(&'static str, usize); 2] {
        let all = match self.newest_only {
            true => 1,
            false => usize::MAX,
        };
        [("step_", self.steps.unwrap_or(all)), ("epoch_", all)]
    }

    /// Removes what may go from `dir` now that `written` is complete there. Checkpoints with a higher number, which a
    /// run that went back to an earlier one leaves behind, are not counted.
    ///
    /// # Errors
    /// When a folder cannot be removed.
    pub fn apply(self, dir: &Path, written: &str) -> io::Result<()> {
        for (kind, limit) in self.limits() {
            let Some(newest) = number(written, kind) else {
                continue;
            };
            let mut numbers: Vec<u64> = fs::read_dir(dir)?
                .flatten()
                .filter_map(|entry| number(entry.file_name().to_str()?, kind))
                .filter(|number| *number <= newest)
                .collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            for number in numbers.into_iter().skip(limit.max(1)) {
                remove(&dir.join(format!("{kind}{number}")))?;
            }
        }
        Ok(())
    }
}

fn number(name: &str, kind: &str) -> Option<u64> {
    name.strip_prefix(kind)?.parse().ok()
}

/// Removes what a process that was killed left half written in `dir`, which nobody else writes to.
pub fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            // It takes room and nothing else.
            let _ = remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn left(retention: Retention, written: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            "step_5", "step_10", "step_15", "step_99", "epoch_1", "epoch_2", "latest", "best",
            "mine",
        ];
        for name in names {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        retention.apply(dir.path(), written).unwrap();
        names
            .into_iter()
            .filter(|name| dir.path().join(name).exists())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_newest_of_each_kind_stay() {
        let gone = |retention, written| {
            let left = left(retention, written);
            let all = self::left(Retention::default(), written);
            all.into_iter()
                .filter(|name| !left.contains(name))
                .collect::<Vec<_>>()
        };
        let last = |steps| Retention {
            steps: Some(steps),
            newest_only: false,
        };
        assert_eq!(gone(last(2), "step_15"), ["step_5"]);
        assert_eq!(gone(last(1), "step_15"), ["step_5", "step_10"]);
        assert_eq!(gone(last(1), "step_10"), ["step_5"]);
        assert_eq!(gone(last(1), "epoch_2"), [""; 0]);
        let newest = Retention {
            steps: None,
            newest_only: true,
        };
        assert_eq!(gone(newest, "epoch_2"), ["epoch_1"]);
        assert_eq!(gone(newest, "step_15"), ["step_5", "step_10"]);
        assert_eq!(gone(newest, "latest"), [""; 0]);
    }
}
