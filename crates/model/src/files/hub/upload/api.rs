//! Requests to the hub: a repository, a branch, what kind a file is of, the commit.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::attempt::{classify, patience, repeat};
use super::super::cache::{endpoint, token};
use super::super::error::Failure;
use super::{Upload, Uploaded, large};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// The longest that the hub may ask to wait before the next attempt.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Bytes of an answer that are read, at most.
const MAX_ANSWER: u64 = 4 << 20;
/// Bytes of a file by which the hub tells text from other content.
const SAMPLE: u64 = 512;

/// The page of a repository, which its owner writes.
const CARD: &str = "README.md";

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
    fn new() -> Self {
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
    fn status(&self, what: &str, url: &str) -> Result<u16, Failure> {
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

/// Makes the repository and the branch if need be, sends what goes to the large storage, and commits.
pub(super) fn commit(upload: &Upload, folder: &Path) -> Result<Uploaded, Failure> {
    let hub = Hub::new();
    let repository = &upload.repository;
    let revision = upload.revision.replace('/', "%2F");
    create(&hub, upload, &revision)?;
    let mut parts = files(folder)?;
    let mut kept = Vec::new();
    let card = format!("{}/{repository}/resolve/{revision}/{CARD}", hub.endpoint);
    if parts.iter().any(|part| part.name == CARD) && hub.status(CARD, &card)? == 200 {
        parts.retain(|part| part.name != CARD);
        kept.push(CARD.to_owned());
    }
    let large = large_files(&hub, upload, &revision, &parts)?;
    let mut lines = vec![json!({
        "key": "header",
        "value": {"summary": upload.message, "description": ""}
    })];
    let (large, small): (Vec<_>, Vec<_>) =
        parts.iter().partition(|part| large.contains(&part.name));
    for (part, checksum) in large::send(&hub, repository, &upload.revision, &large)? {
        lines.push(json!({
            "key": "lfsFile",
            "value": {"path": part.name, "algo": "sha256", "oid": checksum, "size": part.size}
        }));
    }
    for part in small {
        let bytes = fs::read(&part.path).map_err(|error| Failure::Io(part.path.clone(), error))?;
        lines.push(json!({
            "key": "file",
            "value": {"content": STANDARD.encode(bytes), "path": part.name, "encoding": "base64"}
        }));
    }
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let url = format!("{}/api/models/{repository}/commit/{revision}", hub.endpoint);
    let answer = hub.post(
        "the commit",
        &url,
        "application/x-ndjson",
        body.as_bytes(),
        &[],
    )?;
    let page = answer.json()?["commitUrl"].as_str().map(str::to_owned);
    Ok(Uploaded {
        url: page.unwrap_or_else(|| format!("{}/{repository}", hub.endpoint)),
        kept,
    })
}

/// Makes the repository, unless it is there, and the branch.
fn create(hub: &Hub, upload: &Upload, revision: &str) -> Result<(), Failure> {
    let (owner, name) = upload.repository.split_once('/').unwrap_or_default();
    let body =
        json!({"name": name, "organization": owner, "type": "model", "private": upload.private});
    let url = format!("{}/api/repos/create", hub.endpoint);
    let what = "the repository";
    let body = body.to_string();
    // 409: it is there. Whoever may not make one may still write to it.
    let answer = hub.post(what, &url, JSON, body.as_bytes(), &[409, 403])?;
    if answer.status == 403 {
        let page = format!("{}/api/models/{}", hub.endpoint, upload.repository);
        if hub.status(what, &page)? != 200 {
            let refused = answer.success(hub.token.is_some());
            return refused.map(drop).map_err(|failure| failure.of(what));
        }
    }
    if revision != "main" {
        let repository = &upload.repository;
        let url = format!("{}/api/models/{repository}/branch/{revision}", hub.endpoint);
        hub.post("the branch", &url, JSON, b"{}", &[409])?;
    }
    Ok(())
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<Part>, Failure> {
    let failed = |error| Failure::Io(folder.to_path_buf(), error);
    let mut parts = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.') && path.is_file()) else {
            continue;
        };
        let size = fs::metadata(&path).map_err(|error| Failure::Io(path.clone(), error))?;
        parts.push(Part {
            name: name.to_owned(),
            size: size.len(),
            path,
        });
    }
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(parts)
}

/// Names of those files that go to the large storage.
fn large_files(
    hub: &Hub,
    upload: &Upload,
    revision: &str,
    parts: &[Part],
) -> Result<Vec<String>, Failure> {
    let mut asked = Vec::new();
    for part in parts {
        let mut sample = Vec::new();
        let read = File::open(&part.path)
            .and_then(|file| file.take(SAMPLE).read_to_end(&mut sample).map(drop));
        read.map_err(|error| Failure::Io(part.path.clone(), error))?;
        asked
            .push(json!({"path": part.name, "sample": STANDARD.encode(sample), "size": part.size}));
    }
    let url = format!(
        "{}/api/models/{}/preupload/{revision}",
        hub.endpoint, upload.repository
    );
    let what = "the list of files";
    let body = json!({"files": asked}).to_string();
    let answer = hub.post(what, &url, JSON, body.as_bytes(), &[])?.json()?;
    let listed = answer["files"].as_array().cloned().unwrap_or_default();
    let mut large = Vec::new();
    for part in parts {
        let found = listed
            .iter()
            .find(|file| file["path"] == part.name.as_str());
        match found.and_then(|file| file["uploadMode"].as_str()) {
            Some("lfs") if part.size > 0 => large.push(part.name.clone()),
            Some("lfs" | "regular") => {}
            _ => {
                let reason = format!("the hub does not say how {} is sent", part.name);
                return Err(Failure::Final(reason));
            }
        }
    }
    Ok(large)
}
