//! Lists of captions and labels in text files.

use std::path::Path;

use crate::error::EvalError;

/// The text of a file, without the mark that some editors put at the beginning of UTF-8.
///
/// # Errors
/// When the file cannot be read, or is not UTF-8: the error names the line.
pub fn read_text(path: &Path) -> Result<String, EvalError> {
    let problem = |problem: String| EvalError::List {
        path: path.to_owned(),
        problem,
    };
    let bytes = std::fs::read(path).map_err(|error| EvalError::io(path, error))?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(problem("is UTF-16; save it as UTF-8".to_owned()));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        problem(format!("line {line} is not UTF-8"))
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// One label a line, without the blanks around it; blank lines are passed over.
///
/// # Errors
/// As those of [`read_text`], and when there is no label.
pub fn read_labels(path: &Path) -> Result<Vec<String>, EvalError> {
    let text = read_text(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let labels: Vec<String> = lines.map(str::to_owned).collect();
    match labels.is_empty() {
        true => Err(EvalError::List {
            path: path.to_owned(),
            problem: "no label in it; expected one per line".to_owned(),
        }),
        false => Ok(labels),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn labels(bytes: &[u8]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels.txt");
        std::fs::write(&path, bytes).unwrap();
        read_labels(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn one_label_a_line_however_the_file_was_saved() {
        let text = "\u{feff}a cat\r\n\r\n  ein Hund \n   \n-5 degrees";
        assert_eq!(
            labels(text.as_bytes()).unwrap(),
            ["a cat", "ein Hund", "-5 degrees"]
        );
    }

    #[test]
    fn files_that_are_no_list_are_errors_that_say_why() {
        assert!(
            labels(b"fine\ncaf\xe9\n")
                .unwrap_err()
                .ends_with("labels.txt: line 2 is not UTF-8")
        );
        assert!(labels(b"\xff\xfea\0").unwrap_err().contains("UTF-16"));
        for empty in [&b""[..], b" \n\n", b"\xef\xbb\xbf\n"] {
            assert!(labels(empty).unwrap_err().contains("no label"));
        }
    }
}
