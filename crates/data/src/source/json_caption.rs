//! The caption in the `.json` member of a sample, as img2dataset writes it.

use serde_json::Value;

/// The text under `caption`; `None` where there is none, or `null`.
///
/// Python writes `NaN` and `Infinity` for numbers that JSON has no word for; they are read as `null`.
///
/// # Errors
/// When the bytes are no JSON, or the caption is no text.
pub(super) fn json_caption(bytes: &[u8]) -> Result<Option<String>, String> {
    let value = serde_json::from_slice(bytes)
        .or_else(|error| serde_json::from_slice(&without_nan(bytes)).map_err(|_| error));
    match value {
        Ok(Value::Object(mut fields)) => match fields.remove("caption") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err("the caption in its .json is not a text".to_owned()),
        },
        Ok(_) => Ok(None),
        Err(error) => Err(format!("its .json is malformed: {error}")),
    }
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
    fn captions_as_python_writes_them() {
        let caption = |json: &str| json_caption(json.as_bytes());
        let text = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(caption(r#"{"caption": "a cat"}"#), text("a cat"));
        assert_eq!(caption(r#"{"caption": null, "key": "1"}"#), Ok(None));
        assert_eq!(caption(r#"["a", "list"]"#), Ok(None));
        assert_eq!(
            caption(r#"{"a": NaN, "b": [-Infinity], "caption": "NaN \"NaN\" is Infinity"}"#),
            text("NaN \"NaN\" is Infinity")
        );
        assert!(
            caption(r#"{"caption": ["a"]}"#)
                .unwrap_err()
                .contains("not a text")
        );
        assert!(
            caption(r#"{"caption": "a"#)
                .unwrap_err()
                .contains("malformed")
        );
    }
}
