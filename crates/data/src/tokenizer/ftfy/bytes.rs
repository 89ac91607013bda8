//! Bytes that are nearly UTF-8.

use std::sync::OnceLock;

use regex::bytes::Regex;

/// UTF-8 sequences in which a space stands for byte `A0`, where they make likely characters.
const ALTERED: &str = r"(?-u)[\xc2\xc3\xc5\xce\xd0\xd9] |[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]|[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] |\xf0 [\x80-\xbf][\x80-\xbf]|\xf0[\x80-\xbf] [\x80-\xbf]|\xf0[\x80-\xbf][\x80-\xbf] ";

/// UTF-8 and CESU-8 sequences of which a byte was lost, which left `1A` or a question mark.
const LOSSY: &str = r"(?-u)[\xc2-\xdf]\x1a|[\xc2-\xc3]\?|\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]|\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]|[\xe0-\xef][\x1a?][\x1a\x80-\xbf]|[\xe0-\xef][\x1a\x80-\xbf][\x1a?]|[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]|\x1a";

fn compiled(cell: &'static OnceLock<Option<Regex>>, pattern: &str) -> Option<&'static Regex> {
    cell.get_or_init(|| Regex::new(pattern).ok()).as_ref()
}

fn altered() -> Option<&'static Regex> {
    static CELL: OnceLock<Option<Regex>> = OnceLock::new();
    compiled(&CELL, ALTERED)
}

fn lossy() -> Option<&'static Regex> {
    static CELL: OnceLock<Option<Regex>> = OnceLock::new();
    compiled(&CELL, LOSSY)
}

/// Puts `A0` back where a space took its place.
pub(super) fn restore_no_break_spaces(bytes: Vec<u8>) -> Vec<u8> {
    let Some(pattern) = altered() else {
        return bytes;
    };
    if !pattern.is_match(&bytes) {
        return bytes;
    }
    // `C3 20` is most often the word `à`, whose own space has to stay; but not in Portuguese `às`, `àquele`, …
    let mut spaced = Vec::with_capacity(bytes.len() + 4);
    let mut rest = &bytes[..];
    while let Some((&first, after)) = rest.split_first() {
        spaced.push(first);
        rest = after;
        if let Some(after) = after.strip_prefix(b" ").filter(|_| first == 0xc3) {
            let joined: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
            if !joined.iter().any(|word| after.starts_with(word)) {
                spaced.extend_from_slice(b"\xa0 ");
                rest = after;
            }
        }
    }
    let restore = |found: &regex::bytes::Captures<'_>| -> Vec<u8> {
        found[0]
            .iter()
            .map(|&byte| if byte == b' ' { 0xa0 } else { byte })
            .collect()
    };
    pattern.replace_all(&spaced, restore).into_owned()
}

/// Replaces sequences of which a byte was lost by the replacement character.
pub(super) fn replace_lossy_sequences(bytes: Vec<u8>) -> Vec<u8> {
    match lossy() {
        Some(pattern) if pattern.is_match(&bytes) => pattern
            .replace_all(&bytes, regex::bytes::NoExpand("\u{fffd}".as_bytes()))
            .into_owned(),
        _ => bytes,
    }
}

/// UTF-8, in which astral characters may be written as two surrogates (CESU-8) and zero as `C0 80` (Java).
pub(super) fn decode(bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let special = (0..rest.len()).find_map(|at| Some((at, variant(&rest[at..])?)));
        let Some((at, (char, len))) = special else {
            out.push_str(std::str::from_utf8(rest).ok()?);
            return Some(out);
        };
        out.push_str(std::str::from_utf8(&rest[..at]).ok()?);
        out.push(char);
        rest = &rest[at + len..];
    }
}

/// The character that starts `bytes` in a way that UTF-8 does not allow, and its length.
///
/// ftfy's own patterns take a line break at the end of the text for the end, and what is left of a sequence there for the
/// whole of it.
fn variant(bytes: &[u8]) -> Option<(char, usize)> {
    let continuation = |byte: u8| matches!(byte, 0x80..=0xbf);
    match *bytes {
        [0xc0, 0x80, ..] | [0xc0, b'\n'] => Some(('\0', 2)),
        [
            0xed,
            high @ 0xa0..=0xaf,
            second,
            0xed,
            low @ 0xb0..=0xbf,
            last,
            ..,
        ] if continuation(second)
            && (continuation(last) || (last == b'\n' && bytes.len() == 6)) =>
        {
            let code = u32::from(high & 0x0f) << 16
                | u32::from(second & 0x3f) << 10
                | u32::from(low & 0x0f) << 6
                | u32::from(last & 0x3f);
            Some((char::from_u32(code + 0x10000)?, 6))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_compile() {
        assert!(altered().is_some() && lossy().is_some());
    }

    #[test]
    fn spaces_are_restored() {
        let restored = |bytes: &[u8]| restore_no_break_spaces(bytes.to_vec());
        assert_eq!(restored(b"voil\xc3 le"), b"voil\xc3\xa0 le");
        assert_eq!(restored(b"\xc3 s vezes"), b"\xc3\xa0s vezes");
        assert_eq!(restored(b"\xe2\x82 x"), b"\xe2\x82\xa0x");
        assert_eq!(restored(b"plain"), b"plain");
    }

    #[test]
    fn lost_bytes_are_marked() {
        assert_eq!(
            replace_lossy_sequences(b"\xe2\x80\x1a x".to_vec()),
            "\u{fffd} x".as_bytes()
        );
        assert_eq!(replace_lossy_sequences(b"why?".to_vec()), b"why?");
    }

    #[test]
    fn variants_of_utf8_are_decoded() {
        assert_eq!(decode("é".as_bytes()).unwrap(), "é");
        assert_eq!(
            decode(b"a\xed\xa0\xbd\xed\xb8\x8db\xc0\x80").unwrap(),
            "a😍b\0"
        );
        assert_eq!(decode(b"\xed\xa0\xbd"), None);
        assert_eq!(decode(b"\xff"), None);
    }
}
