//! Captions that begin with a hyphen, such as `--text "-5 degrees"`.
//!
//! clap takes every word with a hyphen for a flag, or, if it is told not to, every flag behind `--text` for a caption, a mistyped
//! one included. A flag has letters behind its hyphens and no blank; any other word is a caption, and is attached to its flag:
//! `--text=-5 degrees`.

use std::ffi::{OsStr, OsString};

/// Flags that take captions.
const FLAGS: [&str; 2] = ["--text", "--prompt"];

/// The same command line with captions attached to their flags where one of them begins with a hyphen.
pub fn attach(args: Vec<OsString>) -> Vec<OsString> {
    let mut out = Vec::with_capacity(args.len());
    let mut args = args.into_iter().peekable();
    while let Some(word) = args.next() {
        if !FLAGS.iter().any(|flag| word == *flag) {
            out.push(word);
            continue;
        }
        let mut values = Vec::new();
        while let Some(value) = args.next_if(|next| !is_flag(next)) {
            values.push(value);
        }
        if !values.iter().any(|value| begins_with_hyphen(value)) {
            out.push(word);
            out.extend(values);
            continue;
        }
        out.extend(values.into_iter().map(|value| {
            let mut attached = word.clone();
            attached.push("=");
            attached.push(value);
            attached
        }));
    }
    out
}

fn begins_with_hyphen(word: &OsStr) -> bool {
    word.as_encoded_bytes().first() == Some(&b'-')
}

/// Whether a word can be a flag, known or mistyped: `-x`, `--long-name`, `--name=value`, `--`.
fn is_flag(word: &OsStr) -> bool {
    let word = word.as_encoded_bytes();
    let Some(rest) = word.strip_prefix(b"-") else {
        return false;
    };
    let name = rest.strip_prefix(b"-").unwrap_or(rest);
    let name = name.split(|byte| *byte == b'=').next().unwrap_or(name);
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match name.first() {
        Some(first) => first.is_ascii_alphabetic() && name.iter().all(is_word),
        None => word == b"--",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(line: &[&str]) -> Vec<String> {
        let line = line.iter().map(OsString::from).collect();
        let words = attach(line).into_iter();
        words
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn captions_with_a_hyphen_are_attached() {
        assert_eq!(
            attached(&["classify", "--text", "a", "-5 degrees", "b c", "--json"]),
            [
                "classify",
                "--text=a",
                "--text=-5 degrees",
                "--text=b c",
                "--json"
            ]
        );
        for text in ["-5", "- a list", "--- rule", "-x y", "-°C", "-(brackets)"] {
            assert_eq!(attached(&["--prompt", text]), [format!("--prompt={text}")]);
        }
    }

    #[test]
    fn flags_stay_flags_known_or_not() {
        for flag in ["--json", "--jsno", "-h", "-json", "--a_b=c d", "--"] {
            let line = ["--text", "a", flag];
            assert_eq!(attached(&line), line);
        }
        let others = ["--image-mean", "-5", "--text=-5", "-5 x", "-"];
        assert_eq!(attached(&others), others);
    }
}
