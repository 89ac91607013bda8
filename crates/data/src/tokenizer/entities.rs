//! HTML's character references, as Python's `html.unescape` and ftfy read them.

use std::borrow::Cow;
use std::sync::OnceLock;

use rustc_hash::FxHashMap;
use serde::Deserialize;

/// Python's tables: names, and the code points that are not taken literally.
const TABLES: &str = include_str!("../../assets/html5_entities.json");

#[derive(Deserialize, Default)]
struct Tables {
    /// `amp`, `amp;`, … and what they stand for.
    #[serde(borrow)]
    names: FxHashMap<&'static str, String>,
    /// Code points that stand for other characters.
    replaced: FxHashMap<u32, char>,
    /// Code points that stand for nothing.
    dropped: Vec<u32>,
}

fn tables() -> &'static Tables {
    static CELL: OnceLock<Tables> = OnceLock::new();
    // The asset is a part of the program; a test reads it.
    CELL.get_or_init(|| serde_json::from_str(TABLES).unwrap_or_default())
}

/// What the number of a reference such as `&#233;` stands for.
fn numbered(number: u32) -> Option<char> {
    let tables = tables();
    if let Some(&char) = tables.replaced.get(&number) {
        return Some(char);
    }
    match char::from_u32(number) {
        Some(_) if tables.dropped.contains(&number) => None,
        Some(char) => Some(char),
        None => Some(char::REPLACEMENT_CHARACTER),
    }
}

/// Number and length in bytes of a reference that starts with `#` (what follows the `&`), without its semicolon.
fn parse_number(text: &str) -> Option<(u32, usize)> {
    let digits = text.strip_prefix('#')?;
    let (digits, radix) = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    let prefix = text.len() - digits.len();
    let values = digits.chars().map_while(|char| char.to_digit(radix));
    let count = values.clone().count();
    let number = values.fold(0_u32, |number, digit| {
        number.saturating_mul(radix).saturating_add(digit)
    });
    (count > 0).then_some((number, prefix + count))
}

/// Resolves every reference, even without its semicolon, as `html.unescape` does.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    /// Most characters of a name.
    const LONGEST: usize = 32;
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some((number, len)) = parse_number(rest) {
            out.extend(numbered(number));
            rest = &rest[len..];
            rest = rest.strip_prefix(';').unwrap_or(rest);
            continue;
        }
        let stops = |char| matches!(char, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
        let mut ends = rest
            .char_indices()
            .take(LONGEST)
            .take_while(|&(_, char)| !stops(char));
        let mut end = ends
            .by_ref()
            .last()
            .map_or(0, |(at, char)| at + char.len_utf8());
        if end > 0 && rest[end..].starts_with(';') {
            end += 1;
        }
        let (name, after) = rest.split_at(end);
        rest = after;
        let names = &tables().names;
        // A name of one character is none; the whole of it may be.
        let longest = (1..=name.len())
            .rev()
            .filter(|&len| name.is_char_boundary(len));
        match longest
            .filter(|&len| len > 1 || len == name.len())
            .find_map(|len| Some((names.get(&name[..len])?, len)))
        {
            Some((value, len)) => {
                out.push_str(value);
                out.push_str(&name[len..]);
            }
            None => {
                out.push('&');
                out.push_str(name);
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Resolves only references that end in a semicolon, and names that were put in upper case, as ftfy does.
pub(super) fn unescape_strict(text: &str) -> Cow<'_, str> {
    /// Most characters between `&` or `&#` and `;`.
    const LONGEST: usize = 24;
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let hash = usize::from(rest[1..].starts_with('#'));
        let name = &rest[1 + hash..];
        let len = name.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if !(1..=LONGEST).contains(&len) || !name[len..].starts_with(';') {
            out.push('&');
            rest = &rest[1..];
            continue;
        }
        let (reference, after) = rest.split_at(1 + hash + len + 1);
        rest = after;
        if hash == 0 {
            out.push_str(&named(reference).unwrap_or_else(|| reference.into()));
            continue;
        }
        match parse_number(&reference[1..]) {
            Some((number, len)) if len + 2 == reference.len() && numbered(number) != Some(';') => {
                out.extend(numbered(number));
            }
            _ => out.push_str(reference),
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What a whole reference such as `&eacute;` or `&EACUTE;` stands for.
fn named(reference: &str) -> Option<String> {
    let names = &tables().names;
    let name = &reference[1..];
    if let Some(value) = names.get(name) {
        return Some(value.clone());
    }
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let value = names.get(&*name.to_ascii_lowercase())?;
    (unescape(reference) == reference).then(|| value.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let tables: Tables = serde_json::from_str(TABLES).unwrap();
        assert_eq!(tables.names.len(), 2231);
        assert_eq!((tables.replaced.len(), tables.dropped.len()), (34, 126));
    }

    #[test]
    fn references_are_resolved() {
        assert_eq!(
            unescape("&amp;&lt&notit;&#233;&#xE9&#;&bogus;&"),
            "&<¬it;éé&#;&bogus;&"
        );
        assert_eq!(
            unescape("&#128;&#0;&#1;&#xD800;&#99999999999;"),
            "€\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(
            unescape_strict("&amp; &lt &eacute; &EACUTE; &SZLIG; &nTILDE;"),
            "& &lt é É SS &nTILDE;"
        );
        assert_eq!(
            unescape_strict("&#59; &#12a; &#38; &#x26;"),
            "&#59; &#12a; & &"
        );
    }
}
