//! What a walk through folders leaves out, counted by reason.

use std::collections::BTreeMap;
use std::fmt;

/// Why a file or folder is left out, in the order in which the reasons are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Neither its extension nor its first bytes are those of a picture; or a pipe, socket or device.
    NotAPicture,
    /// Its name starts with a dot. A hidden folder counts once, with all that is in it.
    Hidden,
    /// What macOS (`._` names, `.DS_Store`, `__MACOSX`) and other systems put beside files.
    System,
    /// It cannot be opened, or is a link to nothing.
    Unreadable,
    /// A link to a folder that it lies in.
    Loop,
}

impl Reason {
    /// Whether a picture may be lost by it.
    pub fn loses_pictures(self) -> bool {
        matches!(self, Self::Unreadable | Self::Loop)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAPicture => "not a picture",
            Self::Hidden => "hidden",
            Self::System => "left there by macOS or another system",
            Self::Unreadable => "unreadable",
            Self::Loop => "link to a folder around it",
        })
    }
}

/// How much was left out, by reason, with an example of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    found: BTreeMap<Reason, (u64, String)>,
}

impl LeftOut {
    pub(super) fn add(&mut self, reason: Reason, name: &str) {
        let (count, _) = self
            .found
            .entry(reason)
            .or_insert_with(|| (0, name.to_owned()));
        *count += 1;
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How much was left out for a reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.found.get(&reason).map_or(0, |(count, _)| *count)
    }

    /// Whether a picture may be among it.
    pub fn loses_pictures(&self) -> bool {
        self.found.keys().any(|reason| reason.loses_pictures())
    }
}

/// `3 not a picture (notes.txt, …), 1 hidden (.cache)`
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        for (at, (reason, (count, example))) in self.found.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            let more = if *count > 1 { ", …" } else { "" };
            write!(f, "{comma}{count} {reason} ({example}{more})")?;
        }
        Ok(())
    }
}
