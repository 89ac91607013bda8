//! ftfy's character tables and patterns, read from its export when the first text needs them.

use std::sync::OnceLock;

use regex::Regex;
use rustc_hash::FxHashMap;
use serde::Deserialize;

/// Exported from ftfy, patterns in the syntax of the `regex` crate.
const EXPORT: &str = include_str!("../../../assets/ftfy.json");

#[derive(Deserialize, Default)]
struct Export {
    badness: String,
    detector: String,
    detector_not_after: String,
    translation: FxHashMap<char, String>,
    charmaps: FxHashMap<String, String>,
}

/// The encodings that text may have been decoded with by mistake, in the order in which they are tried.
const ENCODINGS: [&str; 10] = [
    "latin-1",
    "sloppy-windows-1252",
    "sloppy-windows-1251",
    "sloppy-windows-1250",
    "sloppy-windows-1253",
    "sloppy-windows-1254",
    "sloppy-windows-1257",
    "iso-8859-2",
    "macroman",
    "cp437",
];

/// A single-byte encoding.
pub(super) struct Charmap {
    /// Bytes of the characters outside ASCII.
    bytes: FxHashMap<char, u8>,
    /// Every byte has a character; `0x1A` stands for the replacement character.
    pub(super) sloppy: bool,
    /// MacRoman, whose dashes look like damage where there is none.
    pub(super) macroman: bool,
}

impl Charmap {
    /// The bytes that would decode to `text`.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let encode = |char: char| match char {
            '\x1a' if self.sloppy => None,
            char::REPLACEMENT_CHARACTER if self.sloppy => Some(0x1a),
            char if char.is_ascii() => Some(char as u8),
            char => self.bytes.get(&char).copied(),
        };
        text.chars().map(encode).collect()
    }
}

/// Tables that need no compilation.
pub(super) struct Tables {
    /// Replacements of single characters.
    pub(super) translation: FxHashMap<char, String>,
    /// Encodings in the order in which they are tried.
    pub(super) charmaps: Vec<Charmap>,
    /// Characters of bytes 0x80–0xFF in Windows-1252; holes stand for themselves.
    pub(super) windows_1252: Vec<char>,
    badness: String,
    detector: String,
    detector_not_after: String,
}

impl Tables {
    /// The one copy of the process.
    pub(super) fn get() -> &'static Self {
        static TABLES: OnceLock<Tables> = OnceLock::new();
        TABLES.get_or_init(|| {
            // The asset is a part of the program; a test reads it.
            let export: Export = serde_json::from_str(EXPORT).unwrap_or_default();
            let chars = |name: &str| {
                export
                    .charmaps
                    .get(name)
                    .map(|chars| chars.chars())
                    .into_iter()
                    .flatten()
            };
            let charmap = |&name: &&str| Charmap {
                bytes: chars(name).zip(0x80..=0xff).collect(),
                sloppy: name.starts_with("sloppy"),
                macroman: name == "macroman",
            };
            Self {
                charmaps: ENCODINGS.iter().map(charmap).collect(),
                windows_1252: chars("sloppy-windows-1252").collect(),
                translation: export.translation,
                badness: export.badness,
                detector: export.detector,
                detector_not_after: export.detector_not_after,
            }
        })
    }
}

/// Characters that hardly stand beside each other unless an encoding was mistaken. Nothing if the regex crate refuses the
/// pattern, which a test rules out; so below.
pub(super) fn badness() -> Option<&'static Regex> {
    static BADNESS: OnceLock<Option<Regex>> = OnceLock::new();
    BADNESS
        .get_or_init(|| Regex::new(&Tables::get().badness).ok())
        .as_ref()
}

/// How UTF-8 looks that was decoded with a single-byte encoding.
pub(super) struct Detector {
    /// At the start of a text.
    pub(super) start: Regex,
    /// Characters behind which it does not count.
    pub(super) not_after: Regex,
}

impl Detector {
    /// The one copy of the process.
    pub(super) fn get() -> Option<&'static Self> {
        static DETECTOR: OnceLock<Option<Detector>> = OnceLock::new();
        let compile = || {
            let tables = Tables::get();
            let start = Regex::new(&format!("^{}", tables.detector)).ok()?;
            let not_after = Regex::new(&tables.detector_not_after).ok()?;
            Some(Detector { start, not_after })
        };
        DETECTOR.get_or_init(compile).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_complete() {
        serde_json::from_str::<Export>(EXPORT).unwrap();
        let tables = Tables::get();
        assert!(tables.charmaps.iter().all(|map| map.bytes.len() == 128));
        assert_eq!(tables.windows_1252.len(), 128);
        assert!(badness().is_some() && Detector::get().is_some());
    }
}
