//! A caption and those it is compared with.

use super::ptb;

/// A caption that was written, and those that are right, as words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// What was written.
    pub written: Vec<String>,
    /// What is right, at least one.
    pub right: Vec<Vec<String>>,
}

impl Pair {
    /// Takes the captions apart.
    pub fn new(written: &str, right: &[String]) -> Self {
        Self {
            written: ptb::words(written),
            right: right.iter().map(|caption| ptb::words(caption)).collect(),
        }
    }
}
