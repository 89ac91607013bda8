//! One request to the hub, and what its answer means.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::super::attempt::{classify, patience, repeat};
use super::super::cache::{endpoint, token};
use super::super::error::Failure;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// The longest that the hub may ask to wait before the next attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Bytes of an answer that are read, at most.
const MAX_ANSWER: u64 = 4 << 20;

pub(super) const JSON: &str = "application/json";

/// The hub, and who asks it.
pub(super) struct Hub {
    pub agent: ureq::Agent,
    pub endpoint: String,
    pub token: Option<String>,
}

/// What the hub answered.
pub(super) struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    retry_after: Option<u64>,
    body: String,
}

impl Answer {
    pub fn new(response: ureq::http::Response<ureq::Body>) -> Result<Self, Failure> {
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (etag, wait) = (header("etag"), header("retry-after"));
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let mut reader = response.into_body().into_reader().take(MAX_ANSWER);
        reader
            .read_to_end(&mut body)
            .map_err(|error| Failure::Transient(format!("the connection broke ({error})")))?;
        Ok(Self {
            status,
            etag,
            retry_after: wait.and_then(|wait| wait.trim().parse().ok()),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// What the answer says.
    pub fn json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.body)
            .map_err(|_| Failure::Final("the answer is not the hub's".into()))
    }

    /// The answer if it is a success, else what to do about it.
    pub fn success(self, has_token: bool) -> Result<Self, Failure> {
        let status = self.status;
        if (200..300).contains(&status) {
            return Ok(self);
        }
        let said = self.reason();
        let wait = Duration::from_secs(self.retry_after.unwrap_or(0));
        Err(match status {
            401 if has_token => Failure::Final(format!(
                "the hub does not take the token (HTTP 401){said}; one with write access goes into HF_TOKEN"
            )),
            401 => Failure::Final(format!(
                "it takes a token with write access, in HF_TOKEN or from `hf auth login` (HTTP 401){said}"
            )),
            403 => Failure::Final(format!("the token may not do that (HTTP 403){said}")),
            404 => Failure::Final(format!(
                "the hub has no such repository or branch (HTTP 404){said}"
            )),
            413 => Failure::Final(format!("it is larger than the hub takes (HTTP 413){said}")),
            408 | 425 | 429 | 500.. if wait > LONGEST_WAIT => Failure::Final(format!(
                "the hub answered with HTTP {status}{said} and asks to wait {} s",
                wait.as_secs()
            )),
            408 | 425 | 429 | 500.. => {
                let reason = format!("the hub answered with HTTP {status}{said}");
                match wait.is_zero() {
                    true => Failure::Transient(reason),
                    false => Failure::Later(reason, wait),
                }
            }
            _ => Failure::Final(format!("the hub answered with HTTP {status}{said}")),
        })
    }

    /// What the hub says about its refusal, on one line.
    fn reason(&self) -> String {
        let json: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let text = json["error"].as_str().or(json["message"].as_str());
        let words: Vec<_> = text.unwrap_or_default().split_whitespace().collect();
        let line: String = words.join(" ").chars().take(200).collect();
        match line.is_empty() {
            true => line,
            false => format!(": {line}"),
        }
    }
}

impl Hub {
    pub fn new() -> Self {
        let agent = ureq::Agent::config_builder()
            .user_agent(concat!("openclip/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(patience()))
            .timeout_per_read(Some(patience()))
            .timeout_per_write(Some(patience()))
            .build()
            .into();
        Self {
            agent,
            endpoint: endpoint(),
            token: token(),
        }
    }

    /// Posts `body` to an address of the hub, again while that can help; statuses in `also` are successes as well.
    pub fn post(
        &self,
        what: &str,
        url: &str,
        kind: &str,
        body: &[u8],
        also: &[u16],
    ) -> Result<Answer, Failure> {
        repeat(what, || {
            let mut request = self.agent.post(url).header("Content-Type", kind);
            if kind != JSON {
                request = request.header("Accept", kind);
            }
            if let Some(token) = &self.token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let answer = Answer::new(request.send(body).map_err(classify)?)?;
            match also.contains(&answer.status) {
                true => Ok(answer),
                false => answer.success(self.token.is_some()),
            }
        })
        .map_err(|failure| failure.of(what))
    }

    /// The status of a page.
    pub fn status(&self, what: &str, url: &str) -> Result<u16, Failure> {
        repeat(what, || {
            let mut request = self.agent.head(url);
            if let Some(token) = &self.token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let answer = Answer::new(request.call().map_err(classify)?)?;
            match answer.status {
                400..=499 if answer.status != 429 => Ok(answer.status),
                // A file of the large storage lies behind a redirection.
                300..=399 => Ok(200),
                _ => answer.success(self.token.is_some()).map(|ok| ok.status),
            }
        })
        .map_err(|failure| failure.of(what))
    }
}

/// A file on its way.
pub(super) struct Part {
    pub name: String,
    pub path: PathBuf,
    pub size: u64,
}
