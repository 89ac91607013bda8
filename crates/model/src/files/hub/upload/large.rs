//! The hub's large storage, which speaks the protocol of Git LFS: files by their sha256, in one piece or in several.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use serde_json::{Map, Value, json};
use ureq::SendBody;

use super::super::attempt::{Bar, Pulse, classify, repeat, sha256};
use super::super::error::Failure;
use super::api::{Answer, Hub, JSON, Part};

/// Content type of the protocol.
const LFS: &str = "application/vnd.git-lfs+json";

/// Sends the files that the storage does not have; each comes back with its sha256.
pub(super) fn send<'a>(
    hub: &Hub,
    repository: &str,
    revision: &str,
    parts: &[&'a Part],
) -> Result<Vec<(&'a Part, String)>, Failure> {
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let mut named = Vec::new();
    for part in parts {
        named.push((*part, sha256(&part.path)?));
    }
    let objects: Vec<_> = named
        .iter()
        .map(|(part, sum)| json!({"oid": sum, "size": part.size}))
        .collect();
    let body = json!({
        "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
        "objects": objects, "ref": {"name": revision},
    });
    let url = format!("{}/{repository}.git/info/lfs/objects/batch", hub.endpoint);
    let what = "the list of large files";
    let body = body.to_string();
    let answer = hub.post(what, &url, LFS, body.as_bytes(), &[])?.json()?;
    let objects = answer["objects"].as_array().cloned().unwrap_or_default();
    for (part, sum) in &named {
        let found = objects.iter().find(|object| object["oid"] == sum.as_str());
        let Some(object) = found else {
            let reason = format!("the hub does not say where {} goes", part.name);
            return Err(Failure::Final(reason));
        };
        if let Some(message) = object["error"]["message"].as_str() {
            let code = &object["error"]["code"];
            let reason = format!("{}: the hub refuses it ({code}): {message}", part.name);
            return Err(Failure::Final(reason));
        }
        match object["actions"].as_object() {
            // It has the file.
            None => log::info!("{} is on the hub already", part.name),
            Some(actions) => file(hub, part, sum, actions)?,
        }
    }
    Ok(named)
}

/// Sends one file to where `actions` say.
fn file(hub: &Hub, part: &Part, sum: &str, actions: &Map<String, Value>) -> Result<(), Failure> {
    let unclear = || Failure::Final(format!("the hub does not say where {} goes", part.name));
    let Some(upload) = actions.get("upload") else {
        return Ok(());
    };
    let target = upload["href"].as_str().ok_or_else(unclear)?;
    let none = Map::new();
    let header = upload["header"].as_object().unwrap_or(&none);
    log::info!("uploading {} ({} bytes)", part.name, part.size);
    let mut bar = Bar::new(Pulse::default());
    bar.start(&part.name, Some(part.size));
    match header.get("chunk_size").map(number) {
        None => {
            piece(hub, part, target, header, 0..part.size, &mut bar)?;
        }
        Some(chunk) => {
            let chunk = chunk.filter(|chunk| *chunk > 0).ok_or_else(unclear)?;
            let mut pieces = Vec::new();
            for number in 1..=part.size.div_ceil(chunk) {
                // The hub numbers its addresses with leading zeros.
                let named = |key: &str| key.parse() == Ok(number);
                let address = header.iter().find(|(key, _)| named(key));
                let address = address.and_then(|(_, address)| address.as_str());
                let start = (number - 1) * chunk;
                let range = start..part.size.min(start + chunk);
                let address = address.ok_or_else(unclear)?;
                let etag = piece(hub, part, address, &none, range, &mut bar)?;
                let etag = etag.ok_or_else(unclear)?;
                pieces.push(json!({"partNumber": number, "etag": etag}));
            }
            let body = json!({"oid": sum, "parts": pieces}).to_string();
            hub.post(&part.name, target, LFS, body.as_bytes(), &[])?;
        }
    }
    drop(bar);
    if let Some(verify) = actions
        .get("verify")
        .and_then(|verify| verify["href"].as_str())
    {
        let body = json!({"oid": sum, "size": part.size}).to_string();
        hub.post(&part.name, verify, JSON, body.as_bytes(), &[])?;
    }
    Ok(())
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Puts some bytes of a file to an address, which is itself the permission to do so; the answer's mark comes back.
fn piece(
    hub: &Hub,
    part: &Part,
    address: &str,
    header: &Map<String, Value>,
    range: std::ops::Range<u64>,
    bar: &mut Bar,
) -> Result<Option<String>, Failure> {
    let failed = |error| Failure::Io(part.path.clone(), error);
    let sent = repeat(&part.name, || {
        let mut file = File::open(&part.path).map_err(failed)?;
        file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        let length = range.end - range.start;
        let mut request = hub.agent.put(address).header("Content-Length", length);
        for (name, value) in header {
            if let Some(value) = value.as_str() {
                request = request.header(name, value);
            }
        }
        let mut reader = Counted {
            file: file.take(length),
            sent: 0,
            bar: &mut *bar,
        };
        let response = request.send(SendBody::from_reader(&mut reader));
        let sent = reader.sent;
        let answer = response.map_err(classify).and_then(Answer::new);
        answer
            .and_then(|answer| answer.success(true))
            .inspect_err(|_| bar.back(sent))
    });
    let answer = sent.map_err(|failure| failure.of(&part.name))?;
    Ok(answer.etag)
}

/// A file whose bytes move a bar as they are read.
struct Counted<'a> {
    file: std::io::Take<File>,
    sent: u64,
    bar: &'a mut Bar,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.sent += count as u64;
        self.bar.advance(count as u64);
        Ok(count)
    }
}
