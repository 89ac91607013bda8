//! Brace expansion of shard names, with the meaning of Python's `braceexpand` (which OpenCLIP uses):
//! `{a,b}`, `{00..10}`, `{10..0..2}`, `{a..e}`, nested, `\{` for a literal brace.

use crate::error::DataError;
use crate::storage::mask;

/// Most names that one pattern may expand to: a typing mistake such as `{0..1000000000}` shall not fill the memory.
pub const MAX_NAMES: usize = 10_000_000;
/// Most bytes of all names together.
const MAX_BYTES: usize = 1 << 31;
/// Deepest nesting of braces.
const MAX_DEPTH: i64 = 64;
/// Most digits of a number; a file's name has no more.
const MAX_DIGITS: usize = 255;

/// Every name that `pattern` stands for, in order.
///
/// # Errors
/// When braces are unbalanced or there are more than [`MAX_NAMES`] names.
pub fn expand(pattern: &str) -> Result<Vec<String>, DataError> {
    let fail = |reason: &str| DataError::Braces {
        pattern: mask(pattern),
        reason: reason.to_owned(),
    };
    match depth(pattern) {
        None => return Err(fail("unbalanced braces")),
        Some(MAX_DEPTH..) => return Err(fail("braces inside of braces without end")),
        Some(_) => {}
    }
    let names = product(pattern)
        .ok_or_else(|| fail("it stands for more than ten million names, or very long ones"))?;
    Ok(names.into_iter().map(|name| unescape(&name)).collect())
}

/// How deep braces are nested; `None` where they are not balanced.
fn depth(pattern: &str) -> Option<i64> {
    let (mut depth, mut deepest) = (0_i64, 0);
    for (_, c) in unescaped(pattern) {
        depth += i64::from(c == '{') - i64::from(c == '}');
        deepest = deepest.max(depth);
        if depth < 0 {
            return None;
        }
    }
    (depth == 0).then_some(deepest)
}

/// The characters that no backslash stands before, with their places.
fn unescaped(text: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut escaped = false;
    text.char_indices().filter(move |&(_, c)| {
        let plain = !escaped && c != '\\';
        escaped = !escaped && c == '\\';
        plain
    })
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' {
            chars.next().unwrap_or(c)
        } else {
            c
        });
    }
    out
}

/// All combinations of the parts of a balanced pattern; `None` when they are too many.
fn product(pattern: &str) -> Option<Vec<String>> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((literal, inside, after)) = first_group(rest) {
        names = combine(names, &[literal.to_owned()])?;
        names = combine(names, &alternatives(inside)?)?;
        rest = after;
    }
    combine(names, &[rest.to_owned()])
}

fn combine(heads: Vec<String>, tails: &[String]) -> Option<Vec<String>> {
    let bytes = |names: &[String]| names.iter().map(String::len).sum::<usize>();
    let head_bytes = bytes(&heads).checked_mul(tails.len())?;
    let tail_bytes = bytes(tails).checked_mul(heads.len())?;
    if heads.len().checked_mul(tails.len())? > MAX_NAMES
        || head_bytes.checked_add(tail_bytes)? > MAX_BYTES
    {
        return None;
    }
    Some(
        heads
            .iter()
            .flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}")))
            .collect(),
    )
}

/// Splits at the first outermost `{…}`: what stands before, inside and after it.
fn first_group(text: &str) -> Option<(&str, &str, &str)> {
    let mut depth = 0;
    let mut open = 0;
    for (at, c) in unescaped(text) {
        match c {
            '{' => {
                if depth == 0 {
                    open = at;
                }
                depth += 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some((&text[..open], &text[open + 1..at], &text[at + 1..]));
                }
            }
            _ => {}
        }
    }
    None
}

/// What the inside of a pair of braces stands for.
fn alternatives(inside: &str) -> Option<Vec<String>> {
    if let Some(names) = range(inside) {
        return names;
    }
    let mut depth = 0;
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, c) in unescaped(inside) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if parts.is_empty() {
        // Neither a range nor a list: the braces are literal, what they hold may still have braces of its own.
        return Some(
            product(inside)?
                .into_iter()
                .map(|name| format!("{{{name}}}"))
                .collect(),
        );
    }
    parts.push(&inside[start..]);
    let mut names = Vec::new();
    for part in parts {
        names.extend(product(part)?);
    }
    Some(names)
}

/// `1..5`, `05..10`, `10..0..2`, `a..e`, `e..a..2`. The outer `None` says that this is no range, the inner that it is
/// too long.
#[allow(clippy::option_option)]
fn range(inside: &str) -> Option<Option<Vec<String>>> {
    let mut parts = inside.split("..");
    let (first, last, step) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let step = match step {
        None => 1,
        Some(step) => integer(step)?.unsigned_abs().max(1),
    };
    if let (Some(from), Some(to)) = (integer(first), integer(last)) {
        let zero_led = |text: &&str| {
            !["0", "-0"].contains(text) && text.trim_start_matches('-').starts_with('0')
        };
        let padded = [first, last].iter().any(zero_led);
        let width = if padded {
            first.len().max(last.len())
        } else {
            0
        };
        if width > MAX_DIGITS {
            return Some(None);
        }
        return Some(
            count(from, to, step).map(|numbers| numbers.map(|n| format!("{n:0width$}")).collect()),
        );
    }
    let letters: Vec<char> = ('A'..='Z').chain('a'..='z').collect();
    let place = |text: &str| {
        let mut chars = text.chars();
        let c = chars.next().filter(|_| chars.next().is_none())?;
        letters
            .iter()
            .position(|&letter| letter == c)
            .map(|at| at as i64)
    };
    let (from, to) = (place(first)?, place(last)?);
    Some(
        count(from, to, step)
            .map(|places| places.map(|at| letters[at as usize].to_string()).collect()),
    )
}

fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        None
    } else {
        text.parse().ok()
    }
}

/// From `from` to `to`, both included, up or down.
fn count(from: i64, to: i64, step: u64) -> Option<impl Iterator<Item = i64>> {
    let steps = from.abs_diff(to) / step;
    if steps >= MAX_NAMES as u64 {
        return None;
    }
    let step = if from <= to {
        step as i64
    } else {
        -(step as i64)
    };
    Some((0..=steps as i64).map(move |n| from.wrapping_add(n.wrapping_mul(step))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// The right-hand sides are what Python's `braceexpand` 0.1.7 gives.
    #[test]
    fn equals_python_braceexpand() {
        for (pattern, expected) in [
            ("shard.tar", "shard.tar"),
            ("{0..3}", "0 1 2 3"),
            ("{07..10}", "07 08 09 10"),
            ("{000..003}.tar", "000.tar 001.tar 002.tar 003.tar"),
            ("{0..10..5}", "0 5 10"),
            ("{4..1}", "4 3 2 1"),
            ("{2..-1}", "2 1 0 -1"),
            ("{-01..1}", "-01 000 001"),
            ("{00..2}", "00 01 02"),
            ("{0..00}", "00"),
            ("{-0..1}", "0 1"),
            ("{a..e..2}", "a c e"),
            ("{Y..b}", "Y Z a b"),
            ("{b..Y}", "b a Z Y"),
            ("x{,.bak}", "x x.bak"),
            ("p{2.{5..7},3.{2,3}}", "p2.5 p2.6 p2.7 p3.2 p3.3"),
            ("a{b}c", "a{b}c"),
            ("{x{1,2}}", "{x1} {x2}"),
            (r"\{1,2\}", "{1,2}"),
            (r"{1\,2,3}", "1,2 3"),
            ("{1..2}_{a,b}", "1_a 1_b 2_a 2_b"),
            ("{1..x}", "{1..x}"),
            ("{5..5}", "5"),
            ("{1..5..0}", "1 2 3 4 5"),
            ("{5..1..-2}", "5 3 1"),
        ] {
            assert_eq!(expand(pattern).unwrap().join(" "), expected, "{pattern}");
        }
    }

    #[test]
    fn unbalanced_or_endless_patterns_are_errors() {
        for pattern in [
            "{1,2",
            "1}",
            "}{",
            "{0..100000000000}",
            "{0..9999}{0..9999}{0..9999}",
        ] {
            let error = expand(pattern).unwrap_err().to_string();
            assert!(error.contains(pattern), "{error}");
        }
    }

    /// The first overflowed the stack, the second is beyond what Rust writes a number with, the third beyond the memory.
    #[test]
    fn patterns_beyond_measure_are_refused() {
        let deep = format!("{}a{}", "{".repeat(100_000), "}".repeat(100_000));
        let digits = format!("{{{}1..2}}", "0".repeat(100_000));
        let long = format!("{{1..1000000}}{}", "x".repeat(100_000));
        for pattern in [deep, digits, long] {
            assert!(matches!(expand(&pattern), Err(DataError::Braces { .. })));
        }
        assert_eq!(expand("{01..2}").unwrap(), ["01", "02"]);
        assert_eq!(
            expand(&format!("{{{}..{}..{}}}", i64::MIN, i64::MAX, i64::MAX))
                .unwrap()
                .len(),
            3
        );
    }
}
