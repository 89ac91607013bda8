//! Mojibake: UTF-8 that was decoded as if it were a single-byte encoding.

use super::bytes::{decode, replace_lossy_sequences, restore_no_break_spaces};
use super::tables::{Patterns, Tables};

/// Undoes wrong decodings until the text looks right; nothing where it already does.
pub(super) fn fix_encoding(text: &str) -> Option<String> {
    let mut fixed = None;
    // Each step shortens the text or removes a control; the bound only keeps a mistake from running for ever.
    for _ in 0..text.len() + 16 {
        match fix_step(fixed.as_deref().unwrap_or(text)) {
            Some(better) => fixed = Some(better),
            None => break,
        }
    }
    fixed
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
    let mut after_ascii = true;
    // What the pattern finds has two characters outside ASCII side by side, or one of these.
    let possible = text.chars().any(|char| {
        let pair = !after_ascii && !char.is_ascii();
        after_ascii = char.is_ascii();
        pair || matches!(char, '\u{80}'..='\u{9f}' | 'Œ' | 'œ' | 'Ã' | 'Â')
    });
    possible && Patterns::get().is_some_and(|patterns| patterns.badness.is_match(text))
}

/// Undoes wrong decodings of parts of a text that as a whole was decoded rightly.
fn fix_parts(text: &str) -> Option<String> {
    let patterns = Patterns::get()?;
    let mut out = String::new();
    let (mut done, mut at) = (0, 0);
    while let Some(found) = patterns.detector.find_at(text, at) {
        let before = text[..found.start()].char_indices().next_back();
        if before.is_some_and(|(start, _)| {
            patterns
                .detector_not_after
                .is_match(&text[start..found.start()])
        }) {
            at = found.start()
                + text[found.start()..]
                    .chars()
                    .next()
                    .map_or(1, char::len_utf8);
            continue;
        }
        let part = found.as_str();
        if part.len() < text.len() && is_bad(part) {
            out.push_str(&text[done..found.start()]);
            out.push_str(fix_encoding(part).as_deref().unwrap_or(part));
            done = found.end();
        }
        at = found.end();
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
        let pattern = &Patterns::get().unwrap().badness;
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
