//! What OpenCLIP does to a caption before it is cut into words.

use std::borrow::Cow;

use super::entities::unescape;
use super::ftfy::fix_text;

/// How captions are cleaned. Every way repairs broken encodings, resolves entities and collapses whitespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clean {
    /// Lower case.
    #[default]
    Lower,
    /// Nothing more.
    Whitespace,
    /// Lower case, without punctuation; underscores become spaces.
    Canonicalize,
}

impl Clean {
    /// By OpenCLIP's name: `lower`, `whitespace` or `canonicalize`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "lower" => Some(Self::Lower),
            "whitespace" => Some(Self::Whitespace),
            "canonicalize" => Some(Self::Canonicalize),
            _ => None,
        }
    }

    /// The cleaned caption.
    pub fn apply(self, text: &str) -> String {
        let text = basic_clean(text);
        match self {
            Self::Lower => lower(&collapse_whitespace(&text)),
            Self::Whitespace => collapse_whitespace(&text),
            Self::Canonicalize => {
                let text = text
                    .replace('_', " ")
                    .replace(|char: char| char.is_ascii_punctuation(), "");
                collapse_whitespace(&lower(&text))
            }
        }
    }

    /// The cleaned caption, for a caller to whom all whitespace is alike. (After the repairs, this is what Unicode
    /// counts as whitespace: Python's own four controls are gone.)
    pub(super) fn for_words(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Lower => Cow::Owned(lower(&basic_clean(text))),
            Self::Whitespace => basic_clean(text),
            Self::Canonicalize => Cow::Owned(self.apply(text)),
        }
    }
}

/// Whether repairs leave a text alone, up to which whitespace it uses: ASCII without control characters and without
/// anything that could be an entity.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut ampersand = false;
    for &byte in bytes {
        match byte {
            b'&' => ampersand = true,
            b' '..=b'~' | b'\t' | b'\n' | b'\x0c' | b'\r' => {}
            _ => return false,
        }
    }
    !ampersand
        || !bytes
            .windows(2)
            .any(|pair| pair[0] == b'&' && (pair[1] == b'#' || pair[1].is_ascii_alphanumeric()))
}

/// Repairs of encodings and entities.
fn basic_clean(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let text = fix_text(text);
    if text.contains('&') {
        Cow::Owned(unescape(&unescape(&text)).into_owned())
    } else {
        text
    }
}

/// What Python's `str` counts as whitespace.
fn is_whitespace(char: char) -> bool {
    char.is_whitespace() || matches!(char, '\x1c'..='\x1f')
}

/// Words with one space between them.
fn collapse_whitespace(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_whitespace).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Whether a letter has a lower case since Unicode 16 or 17 only, which Python before 3.14 does not know.
fn is_recent_capital(char: char) -> bool {
    matches!(
        char,
        '\u{1C89}' | '\u{A7CB}' | '\u{A7CC}' | '\u{A7CE}' | '\u{A7D2}' | '\u{A7D4}' | '\u{A7DA}' | '\u{A7DC}'
            | '\u{10D50}'..='\u{10D65}' | '\u{16EA0}'..='\u{16EB8}'
    )
}

/// A lower-case letter to Unicode up to 15 and to Python before 3.14, so that a capital sigma before it is not final.
const PHARYNGEAL: char = 'ʕ';

/// Python's `str.lower`.
fn lower(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    if text.contains('Σ') && text.contains(PHARYNGEAL) {
        let mut stand_ins = '\u{250}'..='\u{293}';
        if let Some(letter) = stand_ins.find(|&letter| !text.contains(letter)) {
            return lower(&text.replace(PHARYNGEAL, letter.encode_utf8(&mut [0; 2])))
                .replace(letter, PHARYNGEAL.encode_utf8(&mut [0; 2]));
        }
    }
    // No recent capital starts with another byte.
    if !text.bytes().any(|byte| matches!(byte, 0xe1 | 0xea | 0xf0)) {
        return text.to_lowercase();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_recent_capital) {
        let (before, after) = rest.split_at(at);
        out.push_str(&before.to_lowercase());
        let mut chars = after.chars();
        out.extend(chars.next());
        rest = chars.as_str();
    }
    out.push_str(&rest.to_lowercase());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_cleaned() {
        assert_eq!(
            Clean::Lower.apply(" A\u{a0}Caf\u{e9}\x1c &amp;lt;B&amp;gt;\r\n"),
            "a café <b>"
        );
        assert_eq!(Clean::Whitespace.apply("ＡＢ  ΣΑΣ"), "AB ΣΑΣ");
        assert_eq!(
            Clean::Canonicalize.apply("A_photo (of) it's, ÉT"),
            "a photo of its ét"
        );
        assert_eq!(Clean::Lower.apply("ΟΔΟΣ İ ΑΣʕΑ"), "οδος i\u{307} ασʕα");
    }

    #[test]
    fn plain_text_has_nothing_to_repair() {
        assert!(is_plain("black & white\t<b> &; &"));
        for text in ["a&b", "&#32", "\x0b", "\x7f", "é"] {
            assert!(!is_plain(text), "{text}");
        }
    }
}
