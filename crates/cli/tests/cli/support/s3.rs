//! A server that speaks as much S3 as an object store's client needs, and fails when told to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As S3 does.
    Well,
    /// With this status.
    Status(u16),
    /// With this status after so many requests that are answered.
    After(usize, u16),
    /// The next content ends after so many bytes.
    Cut(usize),
    /// Not at all.
    Silent,
}

struct Shared {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    parts: Mutex<BTreeMap<u32, Vec<u8>>>,
    mood: Mutex<Mood>,
    log: Mutex<Vec<String>>,
}

/// One bucket, of any name but `nothing`, for who has the key `name`.
pub struct S3 {
    pub endpoint: String,
    shared: Arc<Shared>,
}

impl S3 {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            parts: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            log: Mutex::default(),
        });
        let own = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = own.clone();
                std::thread::spawn(move || while answer(&stream, &shared).is_some() {});
            }
        });
        Self { endpoint, shared }
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Places an object.
    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        self.shared
            .objects
            .lock()
            .unwrap()
            .insert(key.into(), bytes);
    }

    /// Keys and contents.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.shared.objects.lock().unwrap().clone()
    }

    /// The requests since the last call: method and key.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.log.lock().unwrap())
    }
}

fn answer(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut range, mut is_known) = (0, None, true);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        if let Some(value) = line.strip_prefix("range: bytes=") {
            let (first, last) = value.split_once('-')?;
            range = Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()));
        }
        if line.starts_with("authorization:") {
            is_known = line.contains("credential=name/");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let key = path
        .trim_start_matches('/')
        .split_once('/')
        .map_or("", |(_, key)| key);
    let key = key.replace("%40", "@");
    shared.log.lock().unwrap().push(format!("{method} {key}"));
    let mut mood = shared.mood.lock().unwrap();
    let status = match *mood {
        Mood::Well | Mood::Cut(_) => None,
        Mood::Status(status) => Some(status),
        Mood::After(0, status) => Some(status),
        Mood::After(left, status) => {
            *mood = Mood::After(left - 1, status);
            None
        }
        Mood::Silent => {
            drop(mood);
            std::thread::sleep(Duration::from_secs(60));
            return None;
        }
    };
    let cut = match *mood {
        Mood::Cut(count) => {
            *mood = Mood::Well;
            Some(count)
        }
        _ => None,
    };
    drop(mood);
    let bucket = path.trim_start_matches('/').split('/').next()?;
    let refusal = match (is_known, bucket, status) {
        (false, ..) => Some((403, "InvalidAccessKeyId")),
        (_, "nothing", _) => Some((404, "NoSuchBucket")),
        (_, _, Some(503)) => Some((503, "SlowDown")),
        (_, _, status) => status.map(|status| (status, "InternalError")),
    };
    if let Some((status, code)) = refusal {
        let body = format!("<Error>\n<Code>{code}</Code>\n</Error>");
        return send(
            stream,
            &format!("{status} Whatever"),
            body.as_bytes(),
            method == "HEAD",
        );
    }
    let mut objects = shared.objects.lock().unwrap();
    let parts = || shared.parts.lock().unwrap();
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    match method.as_str() {
        "PUT" if value("partNumber").is_some() => {
            parts().insert(value("partNumber")?.parse().ok()?, body);
            send(stream, "200 OK", b"", false)
        }
        "PUT" => {
            objects.insert(key, body);
            send(stream, "200 OK", b"", false)
        }
        "POST" if value("uploadId").is_some() => {
            let whole = std::mem::take(&mut *parts()).into_values().flatten();
            objects.insert(key, whole.collect());
            let xml =
                "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
            send(stream, "200 OK", xml.as_bytes(), false)
        }
        "POST" if query.starts_with("uploads") => {
            let xml = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
            send(stream, "200 OK", xml.as_bytes(), false)
        }
        "POST" => {
            // Removal of several at once.
            let mut xml = String::from("<DeleteResult>");
            for key in String::from_utf8_lossy(&body).split("<Key>").skip(1) {
                let key = key.split("</Key>").next()?;
                objects.remove(key);
                write!(xml, "<Deleted><Key>{key}</Key></Deleted>").ok()?;
            }
            send(
                stream,
                "200 OK",
                (xml + "</DeleteResult>").as_bytes(),
                false,
            )
        }
        "DELETE" => {
            objects.remove(&key);
            send(stream, "204 No Content", b"", false)
        }
        _ if key.is_empty() => {
            let prefix = value("prefix").unwrap_or("").replace("%2F", "/");
            let mut xml = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
            for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
                let size = object.len();
                write!(
                    xml,
                    "<Contents><Key>{key}</Key><Size>{size}</Size><ETag>\"x\"</ETag>\
                     <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
                .ok()?;
            }
            send(
                stream,
                "200 OK",
                (xml + "</ListBucketResult>").as_bytes(),
                false,
            )
        }
        _ => match objects.get(&key) {
            Some(object) => {
                let (first, last) = range.unwrap_or((0, None));
                let end = last.map_or(object.len(), |last| object.len().min(last + 1));
                let part = object.get(first..end)?;
                let all = format!("bytes {first}-{}/{}", end.wrapping_sub(1), object.len());
                let (status, extra) = match range {
                    Some(_) => ("206 Partial Content", format!("Content-Range: {all}\r\n")),
                    None => ("200 OK", String::new()),
                };
                let shown = match (method.as_str(), cut) {
                    ("HEAD", _) => &[],
                    (_, Some(count)) => &part[..count.min(part.len())],
                    _ => part,
                };
                write(stream, status, &extra, part.len(), shown)?;
                cut.is_none().then_some(())
            }
            None => send(
                stream,
                "404 Not Found",
                b"<Error><Code>NoSuchKey</Code></Error>",
                method == "HEAD",
            ),
        },
    }
}

fn send(stream: &TcpStream, status: &str, body: &[u8], head: bool) -> Option<()> {
    let shown = if head { &[] } else { body };
    write(stream, status, "", body.len(), shown)
}

fn write(
    mut stream: &TcpStream,
    status: &str,
    extra: &str,
    length: usize,
    shown: &[u8],
) -> Option<()> {
    let headers = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{extra}ETag: \"x\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
    );
    stream.write_all(headers.as_bytes()).ok()?;
    stream.write_all(shown).ok()?;
    stream.flush().ok()
}
