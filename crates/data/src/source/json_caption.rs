//! The `.json` member of a sample, as img2dataset and other Python programs write it.

use serde_json::Value;

/// The document. Python writes `NaN` and `Infinity` for numbers that JSON has no word for; they are read as `null`.
///
/// # Errors
/// When the bytes are no JSON.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes)
        .or_else(|error| serde_json::from_slice(&without_nan(bytes)).map_err(|_| error))
        .map_err(|error| format!("its .json is malformed: {error}"))
}

/// The same document with `null` for Python's words outside strings.
fn without_nan(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut in_string = false;
    while let Some((&byte, behind)) = rest.split_first() {
        let words: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
        let word = words.into_iter().find(|word| rest.starts_with(word));
        match (in_string, byte, word) {
            (false, _, Some(word)) => {
                out.extend_from_slice(b"null");
                rest = &rest[word.len()..];
                continue;
            }
            (true, b'\\', _) => {
                let escaped = rest.len().min(2);
                out.extend_from_slice(&rest[..escaped]);
                rest = &rest[escaped..];
                continue;
            }
            (_, b'"', _) => in_string = !in_string,
            _ => {}
        }
        out.push(byte);
        rest = behind;
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documents_as_python_writes_them() {
        let caption = |json: &str| parse(json.as_bytes()).map(|value| value["caption"].clone());
        let text = |text: &str| Ok(Value::from(text));
        assert_eq!(caption(r#"{"caption": "a cat"}"#), text("a cat"));
        assert_eq!(caption(r#"{"caption": null, "key": "1"}"#), Ok(Value::Null));
        assert_eq!(
            caption(r#"{"a": NaN, "b": [-Infinity], "caption": "NaN \"NaN\" is Infinity"}"#),
            text("NaN \"NaN\" is Infinity")
        );
        assert_eq!(caption(r#"{"caption": NaN}"#), Ok(Value::Null));
        for broken in [r#"{"caption": "a"#, "", "\u{feff}{}", "NaNa", "[Infinity"] {
            assert!(
                caption(broken).unwrap_err().contains("malformed"),
                "{broken}"
            );
        }
    }
}
