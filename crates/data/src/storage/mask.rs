//! Addresses and commands without their secrets.

use std::sync::LazyLock;

use regex::Regex;

#[allow(
    clippy::expect_used,
    reason = "a constant pattern, compiled in every test"
)]
static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        // user:password@ of an address; a password may hold an @ of its own
        r#"(?i)(?P<a>://)[^/\s'"]+(?P<z>@)"#,
        // signatures and tokens among the parameters of an address
        r#"|(?P<b>[?&][^=&\s'"]*(?:sig|token|secret|password|credential|key)[^=&\s'"]*=)[^&\s'"]+"#,
        r#"|(?P<c>"#,
        // name:password of a command
        r#"(?:^|[\s'":])(?:-u|--user)[\s=]+"#,
        // headers
        r#"|authorization:\s*(?:bearer|basic|token)?\s*"#,
        // what has a secret's name: a word before it, a flag, a variable, a header
        r#"|(?:^|[\s'":-])[\w-]*(?:token|secret|password)[\w-]*\s+"#,
        r#"|(?:^|[\s'":])--?[\w-]*key\s+"#,
        r#"|(?:[\w-]*(?:token|secret|password)[\w-]*|[\w-]*[_-]key)\s*[=:]\s*"#,
        // its value, in quotes or not; what begins with a colon is the next part of a list
        r#")(?:\\?"[^"]+"|\\?'[^']+'|\\?['"]?[^\s'":][^\s'"]*)"#,
        // the same without a space between
        r#"|(?P<d>(?:^|[\s'":])-[a-z]*u\s*)(?:"[^":]+:[^"]+"|'[^':]+:[^']+'|[^\s'":]+:[^\s'"]+)"#,
    ))
    .expect("valid pattern")
});

/// `text` with `***` for what looks like a secret.
pub fn mask(text: &str) -> String {
    SECRETS.replace_all(text, "$a$b$c$d***$z").into_owned()
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
            (
                "pipe:AWS_SECRET_ACCESS_KEY=abc aws s3 cp s3://b/a -",
                "pipe:AWS_SECRET_ACCESS_KEY=*** aws s3 cp s3://b/a -",
            ),
            ("pipe:curl -u me:pass h", "pipe:curl -u *** h"),
            ("HF_TOKEN=\"x y\" get a", "HF_TOKEN=*** get a"),
            ("sh -c 'HF_TOKEN=x get a'", "sh -c 'HF_TOKEN=*** get a'"),
            (
                r#"sh -c "HF_TOKEN=\"x\" get a""#,
                r#"sh -c "HF_TOKEN=*** get a""#,
            ),
            ("cd a;HF_TOKEN='x' get", "cd a;HF_TOKEN=*** get"),
            ("HF_TOKEN=\"x", "HF_TOKEN=***"),
            ("get --token 'x' a.tar", "get --token *** a.tar"),
            ("get --token=x a.tar", "get --token=*** a.tar"),
            ("curl -u \"me:pass\" h", "curl -u *** h"),
            ("curl -u 'me:pa ss' h", "curl -u *** h"),
            ("curl -ume:pass h", "curl -u*** h"),
            ("curl -u\"me:pass\" h", "curl -u*** h"),
            ("curl -sSLu me:pass h", "curl -sSLu *** h"),
            ("curl --user=me:pass h", "curl --user=*** h"),
            (
                "curl -H 'PRIVATE-TOKEN: x' h",
                "curl -H 'PRIVATE-TOKEN: ***' h",
            ),
            ("curl -H \"X-Api-Key: x\" h", "curl -H \"X-Api-Key: ***\" h"),
            ("curl -H X-Api-Key:x h", "curl -H X-Api-Key:*** h"),
            ("az --account-key x -f a", "az --account-key *** -f a"),
            ("az --account-key 'x' a", "az --account-key *** a"),
            ("API_KEY=x get a", "API_KEY=*** get a"),
            ("https://u:p@ss@h/a@b", "https://***@h/a@b"),
            // What only looks like one.
            ("my-token::b.tar", "my-token::b.tar"),
            ("the specified key does not", "the specified key does not"),
            ("NoSuchKey: a/b.tar", "NoSuchKey: a/b.tar"),
            ("tar -xu a.tar", "tar -xu a.tar"),
            ("hf://datasets/o/n@v1/a", "hf://datasets/o/n@v1/a"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }
}
