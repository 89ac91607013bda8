//! A web server for tests, which misbehaves when told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What becomes of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another status.
    Status(u16),
    /// Another status, and after how many seconds to come again.
    Later(u16, u64),
    /// The connection ends after so many bytes of the content.
    Cut(usize),
    /// After so many bytes nothing more is sent, and the connection stays.
    Stall(usize),
    /// Not even a header.
    Silent,
    /// A part that begins a byte later than was asked for.
    OtherPart,
    /// A length that is so many bytes too large.
    TooLong(usize),
    /// A length that is so many bytes too small.
    TooShort(usize),
    /// No length; the connection's end is the content's, after so many bytes.
    NoLength(usize),
    /// The whole, whatever part was asked for.
    IgnoreRange,
    /// The content lies elsewhere.
    Redirect(String),
    /// As if the file had been written anew.
    Changed,
}

/// A request: path with query, range, `authorization`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// As it stands in the first line.
    pub target: String,
    /// Such as `5-` or `0-9`.
    pub range: String,
    /// Empty without one.
    pub authorization: String,
}

#[derive(Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    next: Mutex<VecDeque<Fault>>,
    always: Mutex<BTreeMap<String, Fault>>,
    log: Mutex<Vec<Request>>,
    sent: AtomicU64,
    is_over: AtomicBool,
}

/// Serves files by their path.
pub struct Web {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Web {
    /// With these files, each under `/NAME`.
    pub fn new<N: Into<String>>(files: impl IntoIterator<Item = (N, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let files = files.into_iter().map(|(name, bytes)| (name.into(), bytes));
        shared.files.lock().unwrap().extend(files);
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&own);
                std::thread::spawn(move || while answer(&stream, &shared).is_some() {});
            }
        });
        Self { address, shared }
    }

    /// The address of a file, or with an empty name that of the server.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// What happens to the next requests, one after another.
    pub fn next(&self, faults: &[Fault]) {
        self.shared.next.lock().unwrap().extend(faults.to_vec());
    }

    /// What happens to every request whose path contains `part`.
    pub fn always(&self, part: &str, fault: Fault) {
        let mut always = self.shared.always.lock().unwrap();
        always.insert(part.to_owned(), fault);
    }

    /// Ends all faults.
    pub fn mend(&self) {
        self.shared.next.lock().unwrap().clear();
        self.shared.always.lock().unwrap().clear();
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.shared.log.lock().unwrap())
    }

    /// Bytes of contents that were sent in all.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Ends the server, and cuts the connections that there are.
    pub fn end(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.end();
    }
}

/// Method and target, and the headers that matter.
fn read_request(stream: &TcpStream) -> Option<(bool, Request)> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let is_head = words.next()? == "HEAD";
    let mut request = Request {
        target: words.next()?.to_owned(),
        ..Request::default()
    };
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            return Some((is_head, request));
        }
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value.trim().trim_start_matches("bytes=").to_owned(),
            "authorization" => request.authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    None
}

/// Answers one request; `None` ends the connection.
fn answer(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let (is_head, request) = read_request(stream)?;
    if shared.is_over.load(Ordering::Relaxed) {
        return None;
    }
    let range = request.range.clone();
    // A proxy is asked for whole addresses.
    let target = request.target.clone();
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => target.trim_start_matches('/'),
    };
    let path = target.split('?').next()?.to_owned();
    shared.log.lock().unwrap().push(request);
    let fault = shared.next.lock().unwrap().pop_front().or_else(|| {
        let always = shared.always.lock().unwrap();
        let mut found = always.iter().filter(|(part, _)| path.contains(*part));
        found.next().map(|(_, fault)| fault.clone())
    });
    let refuse = |status: u16, header: &str| {
        let head = format!("HTTP/1.1 {status} Whatever\r\n{header}Content-Length: 0\r\n\r\n");
        let mut stream = stream;
        stream.write_all(head.as_bytes()).ok()
    };
    match &fault {
        Some(Fault::Status(status)) => return refuse(*status, ""),
        Some(Fault::Later(status, seconds)) => {
            return refuse(*status, &format!("Retry-After: {seconds}\r\n"));
        }
        Some(Fault::Redirect(to)) => return refuse(302, &format!("Location: {to}\r\n")),
        Some(Fault::Silent) => return stall(shared),
        _ => {}
    }
    let Some(bytes) = shared.files.lock().unwrap().get(&path).cloned() else {
        return refuse(404, "");
    };
    let tag = match fault {
        Some(Fault::Changed) => "other",
        _ => "one",
    };
    let part = range
        .split_once('-')
        .filter(|_| fault != Some(Fault::IgnoreRange));
    let (mut first, mut end) = (0, bytes.len());
    let mut head = format!("ETag: \"{tag}\"\r\n");
    let status = match part {
        None => "200 OK",
        Some((from, last)) => {
            first = from.parse::<usize>().ok()? + usize::from(fault == Some(Fault::OtherPart));
            end = last.parse().map_or(end, |last: usize| end.min(last + 1));
            if first >= bytes.len() {
                return refuse(416, &format!("Content-Range: bytes */{}\r\n", bytes.len()));
            }
            head += &format!(
                "Content-Range: bytes {first}-{}/{}\r\n",
                end - 1,
                bytes.len()
            );
            "206 Partial Content"
        }
    };
    let content = &bytes[first..end];
    let length = match fault {
        Some(Fault::TooLong(more)) => content.len() + more,
        Some(Fault::TooShort(less)) => content.len() - less,
        _ => content.len(),
    };
    let sent = match fault {
        Some(Fault::Cut(sent) | Fault::Stall(sent) | Fault::NoLength(sent)) => sent,
        _ => content.len(),
    };
    head = match fault {
        Some(Fault::NoLength(_)) => format!("HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n"),
        _ => format!("HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\n\r\n"),
    };
    let mut writer = stream;
    writer.write_all(head.as_bytes()).ok()?;
    let content = match is_head {
        true => &[],
        false => &content[..sent.min(content.len())],
    };
    for piece in content.chunks(16 << 10) {
        if shared.is_over.load(Ordering::Relaxed) {
            return None;
        }
        writer.write_all(piece).ok()?;
        let sent = piece.len() as u64;
        shared.sent.fetch_add(sent, Ordering::Relaxed);
    }
    match fault {
        Some(Fault::Stall(_)) => stall(shared),
        None | Some(Fault::OtherPart | Fault::IgnoreRange | Fault::Changed) => Some(()),
        _ => None,
    }
}

/// Keeps the connection, and says nothing.
fn stall(shared: &Shared) -> Option<()> {
    while !shared.is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}
