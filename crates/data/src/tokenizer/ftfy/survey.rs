//! One look at a text that tells which repairs can be left out.

use unicode_normalization::{IsNormalized, is_nfc_quick};

/// What a text has in it. Where a field is false, the repairs that it stands for would change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Survey {
    /// Two characters outside ASCII side by side, or one that alone may come from a wrong decoding.
    pub(super) mojibake: bool,
    /// Characters that are replaced by others, or line breaks other than `\n`.
    pub(super) replaced: bool,
    /// Controls and marks that are removed, escape among them.
    pub(super) removed: bool,
    /// Characters that may not be composed.
    pub(super) decomposed: bool,
}

impl Survey {
    /// Looks at every character once.
    pub(super) fn of(text: &str) -> Self {
        let mut found = Self::default();
        let mut after_ascii = true;
        let mut unusual = false;
        for char in text.chars() {
            if char.is_ascii() {
                after_ascii = true;
                found.replaced |= char == '\r';
                found.removed |= is_removed(char);
                continue;
            }
            found.mojibake |=
                !after_ascii || matches!(char, '\u{80}'..='\u{9f}' | 'Œ' | 'œ' | 'Ã' | 'Â');
            after_ascii = false;
            if !is_inert(char) {
                found.replaced |= may_be_replaced(char);
                found.removed |= is_removed(char);
                unusual |= char >= '\u{300}';
            }
        }
        found.decomposed = unusual && is_nfc_quick(text.chars()) != IsNormalized::Yes;
        found
    }
}

/// Letters, signs and pictures that are common, not replaced, not removed, and composed whatever their neighbours.
pub(super) fn is_inert(char: char) -> bool {
    matches!(
        char,
        '\u{a0}'..='\u{131}'
            | '\u{391}'..='\u{3a1}'
            | '\u{3a3}'..='\u{3ce}'
            | '\u{400}'..='\u{481}'
            | '\u{5d0}'..='\u{5ea}'
            | '\u{621}'..='\u{64a}'
            | '\u{e01}'..='\u{e30}'
            | '\u{1ea0}'..='\u{1ef9}'
            | '\u{2010}'..='\u{2017}'
            | '\u{2020}'..='\u{2027}'
            | '\u{20a0}'..='\u{20bf}'
            | '\u{3001}'..='\u{3029}'
            | '\u{3041}'..='\u{3096}'
            | '\u{30a0}'..='\u{30ff}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{1f300}'..='\u{1faff}'
    )
}

/// The translation's characters lie in these ranges; with them, the line breaks.
pub(super) fn may_be_replaced(char: char) -> bool {
    matches!(
        char,
        '\u{80}'..='\u{9f}'
            | '\u{132}'..='\u{149}'
            | '\u{1c4}'..='\u{1f3}'
            | '\u{2bc}'
            | '\u{2018}'..='\u{201f}'
            | '\u{2028}' | '\u{2029}'
            | '\u{3000}'
            | '\u{fb00}'..='\u{fb06}'
            | '\u{ff01}'..='\u{ffee}'
    )
}

/// Controls other than whitespace, and marks without a meaning in plain text.
pub(super) fn is_removed(char: char) -> bool {
    matches!(
        char,
        '\0'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' | '\u{206a}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}

#[cfg(test)]
mod tests {
    use unicode_normalization::char::canonical_combining_class;

    use super::super::tables::Tables;
    use super::*;

    #[test]
    fn nothing_that_is_repaired_is_overlooked() {
        for &char in Tables::get().translation.keys() {
            assert!(may_be_replaced(char) && !is_inert(char), "{char:?}");
        }
        for char in ('\u{80}'..=char::MAX).filter(|&char| is_inert(char)) {
            let composed = is_nfc_quick([char].into_iter()) == IsNormalized::Yes;
            assert!(
                composed && canonical_combining_class(char) == 0 && !is_removed(char),
                "{char:?}"
            );
        }
        // Below U+0300 everything is composed.
        for char in '\0'..'\u{300}' {
            let composed = is_nfc_quick([char].into_iter()) == IsNormalized::Yes;
            assert!(composed && canonical_combining_class(char) == 0, "{char:?}");
        }
    }

    #[test]
    fn clean_text_has_nothing_to_repair() {
        assert_eq!(
            Survey::of("plain\t\n& caf\u{e9} – 1 © x"),
            Survey::default()
        );
        assert!(
            Survey::of("“").replaced && Survey::of("\r").replaced && Survey::of("\x1b").removed
        );
        assert!(
            Survey::of("e\u{301}").decomposed
                && Survey::of("x Ã x").mojibake
                && Survey::of("é€").mojibake
        );
    }
}
