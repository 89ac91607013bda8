//! Web servers, and data sets of the Hugging Face hub.

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::StreamExt;
use openclip_model::files::hub;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::{Client, StatusCode};
use url::Url;

use super::answer::{Answer, Failure, Known, with_causes};

/// Redirects and proxies (`HTTPS_PROXY` and its kin) are the client's affair.
static CLIENT: LazyLock<Result<Client, String>> = LazyLock::new(|| {
    let client = Client::builder()
        .user_agent(concat!("openclip/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(20));
    client.build().map_err(|error| error.to_string())
});

pub(super) async fn ask(url: &Url, from: u64, until: Option<u64>) -> Result<Answer, Failure> {
    let client = CLIENT.as_ref().map_err(Failure::transient)?;
    let (address, token) = match url.scheme() {
        "hf" => hub_address(url)?,
        _ => (url.clone(), None),
    };
    let last = until.map_or(String::new(), |until| (until - 1).to_string());
    // Asked for a range from its first byte, a server shows whether it has ranges at all. What is packed cannot be continued.
    let mut request = client
        .get(address)
        .header(RANGE, format!("bytes={from}-{last}"))
        .header(ACCEPT_ENCODING, "identity");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(broken)?;
    let status = answer.status();
    let headers = answer.headers();
    let text = |name| header(headers, name).map(str::to_owned);
    let range = header(headers, CONTENT_RANGE);
    let (start, total, has_ranges) = match status {
        StatusCode::PARTIAL_CONTENT => {
            let range = range.and_then(parse_range);
            let (start, total) = range.filter(|(start, _)| *start == from).ok_or_else(|| {
                Failure::transient("the server sends another part than was asked for")
            })?;
            (start, total, total.is_some())
        }
        StatusCode::OK => (0, answer.content_length(), false),
        // Nothing lies behind the end, which an empty file has at once.
        StatusCode::RANGE_NOT_SATISFIABLE if from >= length(range).unwrap_or(0) => {
            (from, length(range).or(Some(from)), false)
        }
        _ => return Err(refused(url, status, headers)),
    };
    Ok(Answer {
        start,
        known: Known {
            total,
            tag: text(ETAG).or_else(|| text(LAST_MODIFIED)),
            has_ranges,
        },
        pieces: match status {
            StatusCode::RANGE_NOT_SATISFIABLE => futures_util::stream::empty().boxed(),
            _ => answer
                .bytes_stream()
                .map(|piece| piece.map_err(broken))
                .boxed(),
        },
    })
}

fn header(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// First byte and size of the whole, from `bytes 5-9/100`; the size may be `*`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.split_once('/')?;
    let start = range.trim().split('-').next()?.parse().ok()?;
    Some((start, total.trim().parse().ok()))
}

/// Size of the whole, from `bytes */100`.
fn length(range: Option<&str>) -> Option<u64> {
    range?.trim().rsplit_once("*/")?.1.parse().ok()
}

fn refused(url: &Url, status: StatusCode, headers: &HeaderMap) -> Failure {
    let hint = match (url.scheme(), status) {
        // The hub does not tell what is private from what is not there.
        ("hf", StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => {
            "; a private or gated data set needs HF_TOKEN"
        }
        _ => "",
    };
    let reason = format!("the server answers {status}{hint}");
    let seconds = header(headers, RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    let is_transient = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
        );
    let kind = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => io::ErrorKind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    Failure {
        is_transient,
        after: seconds.map(Duration::from_secs),
        ..Failure::last(kind, reason)
    }
}

/// An error of the connection.
fn broken(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let reason = with_causes(&error);
    match error.is_builder() || error.is_redirect() {
        true => Failure::last(io::ErrorKind::InvalidInput, reason),
        false => Failure::transient(reason),
    }
}

/// Address and token of `hf://datasets/ORG/NAME[@REVISION]/PATH`.
fn hub_address(url: &Url) -> Result<(Url, Option<String>), Failure> {
    let malformed = || {
        let reason = format!("{url}: expected hf://datasets/ORG/NAME[@REVISION]/PATH");
        Failure::last(io::ErrorKind::InvalidInput, reason)
    };
    if hub::cache::is_offline() {
        let reason = "HF_HUB_OFFLINE is set";
        return Err(Failure::last(io::ErrorKind::NetworkUnreachable, reason));
    }
    let path = format!("{}{}", url.host_str().unwrap_or_default(), url.path());
    let rest = path.strip_prefix("datasets/").ok_or_else(malformed)?;
    let mut parts = rest.splitn(3, '/');
    let (Some(owner), Some(name), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed());
    };
    let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
    let endpoint = hub::cache::endpoint();
    let address = format!("{endpoint}/datasets/{owner}/{name}/resolve/{revision}/{file}");
    let address = Url::parse(&address).map_err(|_| malformed())?;
    Ok((address, hub::cache::token()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_answers() {
        for (text, expected) in [
            ("bytes 5-9/100", Some((5, Some(100)))),
            ("bytes 0-0/*", Some((0, None))),
            ("bytes */100", None),
            ("lines 1-2/3", None),
        ] {
            assert_eq!(parse_range(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_of_the_hub() {
        let of =
            |text: &str| hub_address(&Url::parse(text).unwrap()).map(|(url, _)| url.to_string());
        assert_eq!(
            of("hf://datasets/org/name@v1/data/a.tar").unwrap(),
            "https://huggingface.co/datasets/org/name/resolve/v1/data/a.tar"
        );
        for text in ["hf://models/o/n/a", "hf://datasets/o/n", "hf://datasets/o"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
