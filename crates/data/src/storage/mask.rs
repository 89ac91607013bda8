//! Addresses and commands without their secrets.

use std::sync::LazyLock;

use regex::Regex;

#[allow(
    clippy::expect_used,
    reason = "a constant pattern, compiled in every test"
)]
static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        // user:password@ of an address
        r#"(?i)(?P<a>://)[^/@\s'"]+(?P<z>@)"#,
        // signatures and tokens among the parameters of an address
        r#"|(?P<b>[?&][^=&\s'"]*(?:sig|token|secret|password|credential|key)[^=&\s'"]*=)[^&\s'"]+"#,
        // name:password of a command
        r#"|(?P<e>(?:^|\s)(?:-u|--user)[\s=]+)[^\s'"]+"#,
        // headers and flags of a command, and variables before it
        r#"|(?P<c>authorization:\s*(?:bearer|basic|token)?\s*)[^\s'"]+"#,
        r#"|(?P<d>(?:^|[\s-])[\w-]*(?:token|secret|password|secret_access_key|session_token)[\w-]*[=\s]\s*)[^\s'"]+"#,
    ))
    .expect("valid pattern")
});

/// `text` with `***` for what looks like a secret.
pub(crate) fn mask(text: &str) -> String {
    SECRETS.replace_all(text, "$a$b$c$d$e***$z").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_come_through() {
        for (text, expected) in [
            ("https://host/a.tar", "https://host/a.tar"),
            ("https://me:pass@host/a", "https://***@host/a"),
            (
                "https://h/a?X-Amz-Signature=0a1&X-Amz-Date=2",
                "https://h/a?X-Amz-Signature=***&X-Amz-Date=2",
            ),
            ("https://h/a?sv=1&sig=ab%2F", "https://h/a?sv=1&sig=***"),
            (
                "curl -H 'Authorization: Bearer hf_x' https://h/a",
                "curl -H 'Authorization: Bearer ***' https://h/a",
            ),
            (
                "AWS_SECRET_ACCESS_KEY=abc aws s3 cp s3://b/a -",
                "AWS_SECRET_ACCESS_KEY=*** aws s3 cp s3://b/a -",
            ),
            ("curl -u me:pass https://h/a", "curl -u *** https://h/a"),
            ("get --token abc a.tar", "get --token *** a.tar"),
            (
                "aws s3 cp s3://bucket/00001.tar -",
                "aws s3 cp s3://bucket/00001.tar -",
            ),
            ("cat tokens/a.tar", "cat tokens/a.tar"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }
}
