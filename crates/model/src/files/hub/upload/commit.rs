//! A folder as one commit.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::super::error::Failure;
use super::api::{Hub, JSON, Part};
use super::large;
use super::target::{Upload, Uploaded};

/// Bytes of a file by which the hub tells text from other content.
const SAMPLE: u64 = 512;

/// The page of a repository, which its owner writes.
const CARD: &str = "README.md";

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
