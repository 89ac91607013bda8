//! `key=value` settings as Python reads them (OpenCLIP's `ParseKwargs`): a literal where the value is one, else the word itself.

use serde_json::{Number, Value};

use crate::error::{CliError, Result};

/// Lists in lists, beyond which a value is taken for a mistake.
const DEPTH: usize = 8;

/// Key and value of `setting`, which was given to `flag`. Tuples become lists.
///
/// # Errors
/// When there is not one `=`, or the value begins as a literal and is none.
pub fn setting<'a>(flag: &str, setting: &'a str) -> Result<(&'a str, Value)> {
    let wrong = |expected: &str| CliError::Usage(format!("{flag} {setting}: expected {expected}"));
    let (key, text) = setting
        .split_once('=')
        .map(|(key, text)| (key.trim(), text.trim()))
        .filter(|(key, text)| !key.is_empty() && !text.is_empty() && !text.contains('='))
        .ok_or_else(|| wrong("key=value"))?;
    let mut reader = Reader {
        rest: text,
        depth: 0,
    };
    match reader.value() {
        Some(value) if reader.rest.is_empty() => Ok((key, value)),
        // A word, such as a name or a path.
        _ if text.starts_with(|first: char| first.is_alphabetic() || "_/~".contains(first)) => {
            Ok((key, text.into()))
        }
        _ => Err(wrong(
            "key=value with a number, True, False, None, a word, 'text' or (a, b)",
        )),
    }
}

/// What is left of a literal.
struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// The literal at the beginning, with the space behind it.
    fn value(&mut self) -> Option<Value> {
        let first = self.rest.chars().next()?;
        let value = match first {
            '(' => self.list(')'),
            '[' => self.list(']'),
            '\'' | '"' => self.text(first).map(Value::from),
            _ => scalar(self.word()),
        }?;
        self.rest = self.rest.trim_start();
        Some(value)
    }

    fn list(&mut self, end: char) -> Option<Value> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        self.rest = self.rest[1..].trim_start();
        let mut values = Vec::new();
        let mut commas = 0;
        while !self.take(end) {
            if values.len() > commas {
                return None;
            }
            values.push(self.value()?);
            commas += usize::from(self.take(','));
        }
        self.depth -= 1;
        // `(a)` is `a`.
        match (end, values.len(), commas) {
            (')', 1, 0) => values.pop(),
            _ => Some(Value::Array(values)),
        }
    }

    /// Steps over `mark` and the space behind it, if it comes next.
    fn take(&mut self, mark: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(mark) else {
            return false;
        };
        self.rest = rest.trim_start();
        true
    }

    fn text(&mut self, quote: char) -> Option<&'a str> {
        let (text, rest) = self.rest[1..].split_once(quote)?;
        self.rest = rest;
        (!text.contains('\\')).then_some(text)
    }

    fn word(&mut self) -> &'a str {
        let ends = |c: char| c.is_whitespace() || ",()[]'\"".contains(c);
        let at = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(at);
        self.rest = rest;
        word
    }
}

fn scalar(word: &str) -> Option<Value> {
    match word {
        "True" => return Some(true.into()),
        "False" => return Some(false.into()),
        "None" => return Some(Value::Null),
        // Rust reads `inf` and `nan` as numbers, Python as names.
        _ if !word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => return None,
        _ if !word.contains(|c: char| c.is_ascii_digit()) => return None,
        _ => {}
    }
    let plain = word.replace('_', "");
    match plain.parse::<i64>() {
        Ok(whole) => Some(whole.into()),
        Err(_) => Number::from_f64(plain.parse().ok()?).map(Value::from),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    /// What `ast.literal_eval` gives, and the text where it raises a `ValueError`.
    #[test]
    fn values_are_those_of_python() {
        for (text, expected) in [
            ("1", json!(1)),
            ("-1", json!(-1)),
            ("+2.5", json!(2.5)),
            ("1e-3", json!(1e-3)),
            (".5", json!(0.5)),
            ("5.", json!(5.0)),
            ("1_000", json!(1000)),
            ("True", json!(true)),
            ("None", json!(null)),
            ("'fast mode'", json!("fast mode")),
            ("\"fast\"", json!("fast")),
            ("(0.9, 0.95)", json!([0.9, 0.95])),
            ("( 0.9 ,0.95, )", json!([0.9, 0.95])),
            ("[1,[2,'x'],()]", json!([1, [2, "x"], []])),
            ("(1)", json!(1)),
            ("(1,)", json!([1])),
            ("fast", json!("fast")),
            ("true", json!("true")),
            ("inf", json!("inf")),
            ("fast-mode", json!("fast-mode")),
            ("/data/x", json!("/data/x")),
        ] {
            let given = format!("key={text}");
            let (key, value) = setting("--opt-kwargs", &given).unwrap();
            assert_eq!((key, value), ("key", expected), "{text}");
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        let deep = format!("key={}", "[".repeat(100));
        for given in [
            "key",
            "=1",
            "key=",
            "a=b=c",
            "key=(1",
            "key=(1 2)",
            "key=[1,,2]",
            "key=[,]",
            "key=1x",
            "key='a",
            "key=(1]",
            "key=1 2",
            "key=-",
            &deep,
        ] {
            let message = setting("--opt-kwargs", given).unwrap_err().message();
            assert!(message.starts_with("--opt-kwargs "), "{message}");
            assert!(message.contains(given), "{message}");
        }
    }
}
