//! The repairs of ftfy 6.3 (`fix_text` with its default settings), on which OpenCLIP's ids depend.
//!
//! * [`encoding`] – text that was decoded with the wrong encoding (mojibake)
//! * [`bytes`] – what is done to such text's bytes before they are decoded again
//! * [`repeat`] – a repair as often as it has an effect
//! * [`survey`] – which repairs a text needs at all
//! * [`tables`] – ftfy's character tables and patterns
//!
//! Python strings may hold surrogates, which ftfy joins; Rust's cannot, so that step has no counterpart.

mod bytes;
mod encoding;
mod repeat;
mod survey;
mod tables;

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use self::encoding::fix_encoding;
use self::repeat::repeated;
use self::survey::{Survey, is_removed};
use self::tables::Tables;
use super::entities::unescape_strict;

/// Longest stretch without a line break that is repaired at once, in characters.
const LONGEST_SEGMENT: usize = 1_000_000;

/// Repairs `text` line by line.
pub(super) fn fix_text(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    // Where a tag may start, entities are left for whoever reads the tags: from that line on.
    let mut entities = true;
    let mut rest = text;
    while !rest.is_empty() {
        let (segment, after) = rest.split_at(segment_length(rest));
        entities &= !segment.contains('<');
        let fixed = repeated(segment, |text| fix_once(text, entities));
        let fixed = fixed.map_or(Cow::Borrowed(segment), Cow::Owned);
        if segment.len() == text.len() {
            return fixed;
        }
        out.push_str(&fixed);
        rest = after;
    }
    Cow::Owned(out)
}

/// Bytes up to and including the first line break.
fn segment_length(text: &str) -> usize {
    let line = text.find('\n').map_or(text.len(), |at| at + 1);
    if line <= LONGEST_SEGMENT {
        return line;
    }
    text[..line]
        .char_indices()
        .nth(LONGEST_SEGMENT)
        .map_or(line, |(at, _)| at)
}

/// One round of repairs, if they change anything.
fn fix_once(text: &str, entities: bool) -> Option<String> {
    let mut fixed = if entities {
        unescape_strict(text)
    } else {
        Cow::Borrowed(text)
    };
    let mut survey = Survey::of(&fixed);
    if survey.mojibake {
        apply(&mut fixed, &mut survey, fix_encoding);
    }
    if survey.replaced {
        apply(&mut fixed, &mut survey, replace_characters);
    }
    if survey.removed {
        apply(&mut fixed, &mut survey, remove_terminal_escapes);
        apply(&mut fixed, &mut survey, |text| {
            Some(text.replace(is_removed, ""))
        });
    }
    if survey.decomposed {
        fixed = Cow::Owned(fixed.nfc().collect());
    }
    match fixed {
        Cow::Owned(fixed) if fixed != text => Some(fixed),
        _ => None,
    }
}

fn apply(text: &mut Cow<'_, str>, survey: &mut Survey, fix: impl Fn(&str) -> Option<String>) {
    if let Some(fixed) = fix(text) {
        *survey = Survey::of(&fixed);
        *text = Cow::Owned(fixed);
    }
}

/// C1 controls, ligatures, widths, quotes and line breaks.
fn replace_characters(text: &str) -> Option<String> {
    let translation = &Tables::get().translation;
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            _ if char.is_ascii() => out.push(char),
            _ => match translation.get(&char) {
                Some(replacement) => out.push_str(replacement),
                None => out.push(char),
            },
        }
    }
    Some(out)
}

/// Commands to a terminal: escape, `[`, numbers, a letter.
fn remove_terminal_escapes(text: &str) -> Option<String> {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find("\x1b[") {
        let arguments = &rest[at + 2..];
        let is_argument =
            |char: char| char == ';' || char.general_category() == GeneralCategory::DecimalNumber;
        let after = arguments.trim_start_matches(is_argument);
        match after.strip_prefix(|char: char| char.is_ascii_alphabetic()) {
            Some(after) => {
                out.push_str(&rest[..at]);
                rest = after;
            }
            None => {
                out.push_str(&rest[..at + 2]);
                rest = arguments;
            }
        }
    }
    (rest.len() < text.len()).then(|| out + rest)
}

#[cfg(test)]
mod tests {
    use super::fix_text;

    #[test]
    fn text_is_repaired() {
        for (text, fixed) in [
            ("", ""),
            ("plain\ntext", "plain\ntext"),
            ("sÃ³", "só"),
            ("voilÃ  le travail", "voilà le travail"),
            (
                "The Mona Lisa doesnÃ¢â‚¬â„¢t have eyebrows.",
                "The Mona Lisa doesn't have eyebrows.",
            ),
            ("l’humanitÃ©", "l'humanité"),
            ("&lt;b&gt; &amp;amp;", "<b> &"),
            ("<b>&amp;\n&amp;", "<b>&amp;\n&amp;"),
            ("\x1b[36;44mblue\x1b[0m \x1b[;", "blue [;"),
            ("ﬂuﬃeﬆ ＬＯＵＤ　ＮＯＩＳＥＳ", "fluffiest LOUD NOISES"),
            ("a\r\nb\rc\u{2028}d", "a\nb\nc\nd"),
            ("e\u{301} \u{feff}\x07", "é "),
            ("“quoted” \u{91}x\u{92}", "\"quoted\" 'x'"),
            ("¯\\_(ツ)_/¯", "¯\\_(ツ)_/¯"),
        ] {
            assert_eq!(fix_text(text), fixed, "{text:?}");
        }
    }
}
