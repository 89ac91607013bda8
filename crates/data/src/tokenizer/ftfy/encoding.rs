//! Mojibake: UTF-8 that was decoded as if it were a single-byte encoding.

use super::bytes::{decode, replace_lossy_sequences, restore_no_break_spaces};
use super::repeat::repeated;
use super::survey::Survey;
use super::tables::{Detector, Tables, badness};

/// Undoes wrong decodings until the text looks right; nothing where it already does.
pub(super) fn fix_encoding(text: &str) -> Option<String> {
    repeated(text, fix_step)
}

/// Undoes one wrong decoding.
fn fix_step(text: &str) -> Option<String> {
    if !is_bad(text) {
        return None;
    }
    let tables = Tables::get();
    let changed = |fixed: String| (fixed != text).then_some(fixed);
    for map in &tables.charmaps {
        let Some(mut bytes) = map.encode(text) else {
            continue;
        };
        if !map.macroman {
            bytes = restore_no_break_spaces(bytes);
        }
        if map.sloppy {
            bytes = replace_lossy_sequences(bytes);
        }
        if let Some(fixed) = decode(&bytes) {
            return changed(fixed);
        }
    }
    if let Some(fixed) = fix_parts(text).and_then(changed) {
        return Some(fixed);
    }
    changed(replace_c1_controls(text))
}

/// Whether characters stand beside each other that hardly do in text that was decoded rightly.
fn is_bad(text: &str) -> bool {
    Survey::of(text).mojibake && badness().is_some_and(|pattern| pattern.is_match(text))
}

/// Undoes wrong decodings of parts of a text that as a whole was decoded rightly.
fn fix_parts(text: &str) -> Option<String> {
    let detector = Detector::get()?;
    let mut out = String::new();
    let mut done = 0;
    let mut next = 0;
    let mut before = "";
    for (at, char) in text.char_indices() {
        let here = &text[at..at + char.len_utf8()];
        let after = std::mem::replace(&mut before, here);
        if at < next || char.is_ascii() || detector.not_after.is_match(after) {
            continue;
        }
        let Some(found) = detector.start.find(&text[at..]) else {
            continue;
        };
        next = at + found.len();
        let part = found.as_str();
        if part.len() < text.len() && is_bad(part) {
            out.push_str(&text[done..at]);
            out.push_str(fix_encoding(part).as_deref().unwrap_or(part));
            done = next;
        }
    }
    (done > 0).then(|| out + &text[done..])
}

/// C1 controls as the characters of Windows-1252.
fn replace_c1_controls(text: &str) -> String {
    let windows_1252 = &Tables::get().windows_1252;
    let replace = |char| match char {
        '\u{80}'..='\u{9f}' => windows_1252
            .get(char as usize - 0x80)
            .copied()
            .unwrap_or(char),
        _ => char,
    };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefilter_agrees_with_the_pattern() {
        let pattern = badness().unwrap();
        for text in [
            "à²",
            "Ã ",
            "a Â b",
            "Œ",
            "x\u{85}",
            "вЂ",
            "ГўВЂВ.a",
            "é€",
            "√±",
            "aαƒ",
            "ā€",
            "°é",
        ] {
            assert_eq!(is_bad(text), pattern.is_match(text), "{text}");
        }
    }

    #[test]
    fn parts_are_fixed() {
        assert_eq!(
            fix_encoding("漢字 â€œquotedâ€\u{9d}").unwrap(),
            "漢字 “quoted”"
        );
        assert_eq!(fix_encoding("café"), None);
    }
}
