//! A server with the hub's answers, which misbehaves when told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of one answer with a file's content. Questions for the first byte, by which `hf-hub` learns about a file, get an
/// answer unless it is [`Fault::Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Another status, whatever was asked.
    Status(u16),
    /// The connection ends after so many bytes.
    Cut(usize),
    /// A byte is another one.
    Damage,
    /// The whole file, whatever part was asked for.
    IgnoreRange,
    /// Nothing more is sent.
    Stall,
}

struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    faults: Mutex<VecDeque<Fault>>,
    log: Mutex<Vec<String>>,
}

/// Serves `/ORG/NAME/resolve/main/FILE` as the hub does: large files by their sha256 and behind a redirection to
/// `/cdn/…`; everything else as plain files.
pub struct Server {
    pub endpoint: String,
    shared: Arc<Shared>,
}

impl Server {
    pub fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter();
        let shared = Arc::new(Shared {
            files: files
                .map(|(path, bytes)| (path.to_string(), bytes.clone()))
                .collect(),
            faults: Mutex::default(),
            log: Mutex::default(),
        });
        let (own, base) = (shared.clone(), endpoint.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, base) = (own.clone(), base.clone());
                std::thread::spawn(move || while answer(&stream, &shared, &base).is_some() {});
            }
        });
        Self { endpoint, shared }
    }

    /// The next answers with content.
    pub fn misbehave(&self, faults: &[Fault]) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// Faults that are still to come.
    pub fn pending(&self) -> usize {
        self.shared.faults.lock().unwrap().len()
    }

    /// The requests since the last call: path and range.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.log.lock().unwrap())
    }
}

fn answer(stream: &TcpStream, shared: &Shared, base: &str) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    let path = request.split(' ').nth(1)?.to_owned();
    let mut range = None;
    for line in lines {
        let line = line.ok()?.to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("range: bytes=") {
            range = Some(bytes.to_owned());
        }
    }
    let asked = range.clone().unwrap_or_default();
    shared.log.lock().unwrap().push(format!("{path} {asked}"));
    let is_probe = range.as_deref() == Some("0-0");
    let mut faults = shared.faults.lock().unwrap();
    let fault = match faults.front() {
        Some(Fault::Status(_)) => faults.pop_front(),
        _ if is_probe => None,
        // A redirection has no content.
        _ if !path.starts_with("/cdn/") && path.contains("/resolve/") && is_large(&path) => None,
        _ => faults.pop_front(),
    };
    drop(faults);
    if let Some(Fault::Status(code)) = fault {
        return send(stream, &format!("{code} Whatever"), &[], b"");
    }
    let (name, resolved) = match path.strip_prefix("/cdn") {
        Some(name) => (name, true),
        None => (path.as_str(), false),
    };
    let Some(bytes) = shared.files.get(name) else {
        return send(stream, "404 Not Found", &[], b"");
    };
    let etag = match is_large(name) {
        true => sha256(bytes),
        false => "d6b0a2a1d7a2ad0a1f1f0d7a4c1f3a0f4bd3a0c1".to_owned(),
    };
    if name.contains("/resolve/") && is_large(name) && !resolved {
        let location = format!("{base}/cdn{name}");
        let headers = [
            ("Location", location.as_str()),
            ("X-Repo-Commit", "abc123"),
            ("X-Linked-Etag", &format!("\"{etag}\"")),
        ];
        return send(stream, "302 Found", &headers, b"");
    }
    let (first, last) = match range.as_deref().and_then(|range| range.split_once('-')) {
        Some((first, last)) if fault != Some(Fault::IgnoreRange) => {
            let first = first.parse::<usize>().ok()?;
            (first, last.parse().unwrap_or(bytes.len() - 1))
        }
        _ => (0, bytes.len() - 1),
    };
    if first >= bytes.len() {
        return send(stream, "416 Range Not Satisfiable", &[], b"");
    }
    let mut content = bytes[first..=last].to_vec();
    if fault == Some(Fault::Damage) {
        *content.last_mut()? ^= 1;
    }
    let content_range = format!("bytes {first}-{last}/{}", bytes.len());
    let mut headers = vec![
        ("Etag", etag.as_str()),
        ("X-Repo-Commit", "abc123"),
        ("Content-Range", &content_range),
    ];
    let status = match range {
        Some(_) if fault != Some(Fault::IgnoreRange) => "206 Partial Content",
        _ => {
            headers.pop();
            "200 OK"
        }
    };
    let sent = match fault {
        Some(Fault::Cut(count)) => count.min(content.len()),
        Some(Fault::Stall) => content.len() / 2,
        _ => content.len(),
    };
    write(stream, status, &headers, content.len(), &content[..sent])?;
    if fault == Some(Fault::Stall) {
        std::thread::sleep(Duration::from_secs(20));
    }
    (sent == content.len()).then_some(())
}

/// Whether the hub keeps a file by its checksum.
fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".bin")
}

fn send(stream: &TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<()> {
    write(stream, status, headers, body.len(), body)
}

fn write(
    mut stream: &TcpStream,
    status: &str,
    headers: &[(&str, &str)],
    length: usize,
    body: &[u8],
) -> Option<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    stream.flush().ok()
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
