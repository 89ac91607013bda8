//! What is wrong with a set, by kind.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::source::Problem;

/// How often a kind of problem occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemCount {
    /// The kind, in words.
    pub kind: String,
    /// How often.
    pub count: u64,
    /// The first of them: where it is and what was found.
    pub example: String,
    /// Whether nothing is lost by it.
    pub harmless: bool,
}

/// Counts problems by kind, with the first of each, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Problems(Vec<ProblemCount>);

impl Problems {
    /// Counts one.
    pub fn add(&mut self, problem: Problem) {
        let kind = problem.kind.to_string();
        match self.0.iter_mut().find(|known| known.kind == kind) {
            Some(known) => known.count += 1,
            None => self.0.push(ProblemCount {
                kind,
                count: 1,
                example: format!("{}: {}", problem.place, problem.reason),
                harmless: problem.kind.is_harmless(),
            }),
        }
    }

    /// The kinds that occurred.
    pub fn counts(&self) -> Vec<ProblemCount> {
        self.0.clone()
    }

    /// How many samples and shards are broken.
    pub fn broken(&self) -> u64 {
        let broken = self.0.iter().filter(|known| !known.harmless);
        broken.map(|known| known.count).sum()
    }
}

/// `3 × missing image; the first: a.tar: 7: members: txt`, or `nothing at all`.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else {
            return f.write_str("nothing at all");
        };
        for known in &self.0 {
            write!(f, "{} × {}, ", known.count, known.kind)?;
        }
        write!(f, "the first: {}", first.example)
    }
}
