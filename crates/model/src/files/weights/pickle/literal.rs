//! Numbers and texts of a pickle.

use super::value::Value;

/// `INT` of protocol 0: decimal digits, or a boolean.
pub(super) fn int_line<'a>(line: &[u8]) -> Value<'a> {
    match line {
        b"00" => Value::Bool(false),
        b"01" => Value::Bool(true),
        line => decimal(line),
    }
}

/// `LONG` of protocol 0: decimal digits with an `L` behind them.
pub(super) fn long_line<'a>(line: &[u8]) -> Value<'a> {
    decimal(line.strip_suffix(b"L").unwrap_or(line))
}

fn decimal<'a>(line: &[u8]) -> Value<'a> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    text.trim().parse().map_or(Value::Opaque, Value::Int)
}

/// `FLOAT` of protocol 0.
pub(super) fn float_line<'a>(line: &[u8]) -> Value<'a> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    text.trim().parse().map_or(Value::Opaque, Value::Float)
}

/// Two's complement, little-endian. Integers beyond 64 bits are only ever seeds and the like.
pub(super) fn long<'a>(bytes: &[u8]) -> Value<'a> {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

/// UTF-8; Python also writes halves of surrogate pairs, which are no Unicode.
pub(super) fn text(bytes: &[u8]) -> Value<'_> {
    std::str::from_utf8(bytes).map_or(Value::Opaque, Value::Str)
}

/// `UNICODE` of protocol 0, and `STRING` without its quotes. With an escape in them nobody asks for them.
pub(super) fn text_line(line: &[u8]) -> Value<'_> {
    let quoted = [b'\'', b'"'].iter().find_map(|quote| {
        let inner = line.strip_prefix(std::slice::from_ref(quote))?;
        inner.strip_suffix(std::slice::from_ref(quote))
    });
    let line = quoted.unwrap_or(line);
    match line.is_ascii() && !line.contains(&b'\\') {
        true => text(line),
        false => Value::Opaque,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn numbers_are_pythons() {
        for (bytes, value) in [
            (&[][..], 0),
            (&[0xff], -1),
            (&[0xff, 0], 255),
            (&[0, 0, 0, 0, 0, 0, 0, 0x80], i64::MIN),
        ] {
            let Value::Int(found) = long(bytes) else {
                panic!("{bytes:?}");
            };
            assert_eq!(found, value);
        }
        assert!(matches!(long(&[1; 9]), Value::Opaque));
        assert!(matches!(long_line(b"-12L"), Value::Int(-12)));
        assert!(matches!(
            long_line(b"1195470371460388013333560L"),
            Value::Opaque
        ));
        assert!(matches!(int_line(b"01"), Value::Bool(true)));
        assert!(matches!(int_line(b"1"), Value::Int(1)));
        assert!(matches!(float_line(b"1e-3"), Value::Float(x) if x == 1e-3));
        assert!(matches!(text_line(b"'plain'"), Value::Str("plain")));
        assert!(matches!(text_line(b"a\\u00e9"), Value::Opaque));
        assert!(matches!(text(&[0xed, 0xa0, 0x80]), Value::Opaque));
    }
}
