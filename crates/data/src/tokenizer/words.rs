//! Cleaned text to words, as CLIP's pattern cuts it:
//!
//! ```text
//! <start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+      (ignoring case)
//! ```

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The pattern's alternatives that are fixed strings. Ignoring case, `ſ` is an `s`.
const SPECIAL: [&str; 2] = ["<start_of_text>", "<end_of_text>"];
const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// In no word.
    Space,
    Letter,
    Number,
    Other,
}

const ASCII: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        let char = byte as u8;
        if char.is_ascii_alphabetic() {
            classes[byte] = Class::Letter;
        } else if char.is_ascii_digit() {
            classes[byte] = Class::Number;
        } else if matches!(char, b' ' | b'\t'..=b'\r') {
            classes[byte] = Class::Space;
        }
        byte += 1;
    }
    classes
};

/// Ignoring case, this mark is the letter iota to the negated set, but no letter to the others: nothing matches it.
const YPOGEGRAMMENI: char = '\u{345}';

/// Letters that need no search in Unicode's tables.
fn is_common_letter(char: char) -> bool {
    matches!(
        char,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2af}' | '\u{3a3}'..='\u{3f5}' | '\u{3f7}'..='\u{481}'
            | '\u{5d0}'..='\u{5ea}' | '\u{620}'..='\u{64a}' | '\u{e01}'..='\u{e30}' | '\u{1e00}'..='\u{1f15}'
            | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
    )
}

fn class_of_char(char: char) -> Class {
    if is_common_letter(char) {
        return Class::Letter;
    }
    match char.general_category_group() {
        _ if char == YPOGEGRAMMENI => Class::Space,
        GeneralCategoryGroup::Letter => Class::Letter,
        GeneralCategoryGroup::Number => Class::Number,
        _ if char.is_whitespace() => Class::Space,
        _ => Class::Other,
    }
}

/// Class and length in bytes of the character that starts at `at`; nothing at the end of the text.
fn class_at(text: &str, at: usize) -> Option<(Class, usize)> {
    match text.as_bytes().get(at)? {
        &byte if byte < 128 => Some((ASCII[usize::from(byte)], 1)),
        _ => text[at..]
            .chars()
            .next()
            .map(|char| (class_of_char(char), char.len_utf8())),
    }
}

/// Length in bytes of `word`, all lowercase ASCII, at the start of `text`, ignoring case.
fn starts_with(text: &str, word: &str) -> Option<usize> {
    let mut chars = text.chars();
    for expected in word.chars() {
        let char = chars.next()?;
        if char.to_ascii_lowercase() != expected && !(char == 'ſ' && expected == 's') {
            return None;
        }
    }
    Some(text.len() - chars.as_str().len())
}

/// The words of a text, in order.
pub(super) struct Words<'a> {
    text: &'a str,
    at: usize,
}

/// Cuts `text` into words.
pub(super) fn words(text: &str) -> Words<'_> {
    Words { text, at: 0 }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (mut class, mut len) = class_at(self.text, self.at)?;
        while class == Class::Space {
            self.at += len;
            (class, len) = class_at(self.text, self.at)?;
        }
        let start = self.at;
        let fixed: &[&str] = match self.text.as_bytes()[start] {
            b'\'' => &CONTRACTIONS,
            b'<' => &SPECIAL,
            _ => &[],
        };
        if let Some(len) = fixed
            .iter()
            .find_map(|word| starts_with(&self.text[start..], word))
        {
            self.at += len;
            return Some(&self.text[start..self.at]);
        }
        self.at += len;
        if class != Class::Number {
            while let Some((_, len)) =
                class_at(self.text, self.at).filter(|(next, _)| *next == class)
            {
                self.at += len;
            }
        }
        Some(&self.text[start..self.at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_letters_are_letters() {
        for char in (char::MIN..=char::MAX).filter(|&char| is_common_letter(char)) {
            assert_eq!(
                char.general_category_group(),
                GeneralCategoryGroup::Letter,
                "{char:?}"
            );
        }
    }

    #[test]
    fn words_are_those_of_the_pattern() {
        let cut = |text| words(text).collect::<Vec<_>>();
        assert_eq!(cut(" it's  2024"), ["it", "'s", "2", "0", "2", "4"]);
        assert_eq!(cut("!'s 'LL 'ſ"), ["!'", "s", "'LL", "'ſ"]);
        assert_eq!(
            cut("!<end_of_text>"),
            ["!<", "end", "_", "of", "_", "text", ">"]
        );
        assert_eq!(cut("a<End_Of_Text>b"), ["a", "<End_Of_Text>", "b"]);
        assert_eq!(cut("½é你—😀"), ["½", "é你", "—😀"]);
        assert_eq!(cut(" "), [""; 0]);
        assert_eq!(cut("α\u{345}α?\u{345}!"), ["α", "α", "?", "!"]);
    }
}
