//! What is asked of anybody far away: an answer, or why there is none.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use url::Url;

use super::super::mask::mask;

/// Hosts and buckets that gave somebody bytes.
static ANSWERED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

pub(super) fn host(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.authority())
}

pub(super) fn has_answered(url: &Url) -> bool {
    let hosts = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    hosts
        .as_ref()
        .is_some_and(|hosts| hosts.contains(&host(url)))
}

pub(super) fn remember_answer(url: &Url) {
    let mut hosts = ANSWERED.lock().unwrap_or_else(PoisonError::into_inner);
    hosts.get_or_insert_default().insert(host(url));
}

/// The same cryptography as downloads from the hub have; another one may be installed already.
pub(super) fn install_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// An error with its causes: the first is rarely the one that says what happened.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        source = cause.source();
    }
    reason
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) kind: io::ErrorKind,
    /// Whether another attempt may succeed.
    pub(super) is_transient: bool,
    /// When to try again, where the server says so.
    pub(super) after: Option<Duration>,
}

impl Failure {
    pub(super) fn transient(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            kind: io::ErrorKind::Other,
            is_transient: true,
            after: None,
        }
    }

    pub(super) fn last(kind: io::ErrorKind, reason: impl ToString) -> Self {
        Self {
            kind,
            is_transient: false,
            ..Self::transient(reason)
        }
    }

    /// On one line, without secrets, after so many attempts.
    pub(super) fn into_error(self, attempts: u32) -> io::Error {
        let reason = mask(&self.reason);
        let mut reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = reason.char_indices().nth(400) {
            reason.truncate(end);
        }
        if self.is_transient && attempts > 1 {
            reason += &format!(" ({attempts} attempts)");
        }
        io::Error::new(self.kind, reason)
    }
}

/// An answer: bytes from `start` on.
pub(super) struct Answer {
    pub(super) start: u64,
    pub(super) known: Known,
    pub(super) pieces: BoxStream<'static, Result<Bytes, Failure>>,
}

/// What an answer says of the file.
#[derive(Clone)]
pub(super) struct Known {
    /// Bytes of the whole.
    pub(super) total: Option<u64>,
    /// What tells this file from the one that may lie there tomorrow.
    pub(super) tag: Option<String>,
    /// Whether any part of it can be asked for.
    pub(super) has_ranges: bool,
}

impl Known {
    /// `None` where the file cannot be read from the middle.
    pub(super) fn version(&self) -> Option<String> {
        let total = self.total.filter(|_| self.has_ranges)?;
        let tag = self.tag.as_deref().unwrap_or_default();
        Some(format!("{total} {tag}"))
    }

    /// Whether another answer is about other bytes. What one of them does not say differs from nothing.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let tags = self.tag.as_ref().zip(other.tag.as_ref());
        let totals = self.total.zip(other.total);
        tags.is_some_and(|(one, other)| one != other)
            || totals.is_some_and(|(one, other)| one != other)
    }
}
