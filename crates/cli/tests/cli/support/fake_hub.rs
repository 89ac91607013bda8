//! A server that takes models as the Hugging Face hub does, and misbehaves when told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::server::sha256;

/// The one token that it takes.
pub const TOKEN: &str = "hf_of_the_tests";

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A refusal, with a reason.
    Status(u16),
    /// A refusal that asks to come again after so many seconds.
    Later(u16, u64),
    /// No answer.
    Silent,
    /// The connection ends before the content was read.
    Cut,
}

#[derive(Default)]
struct State {
    faults: Vec<(&'static str, Fault)>,
    log: Vec<String>,
    /// Repositories by name, with whether they are private.
    repositories: BTreeMap<String, bool>,
    /// The large storage, by sha256.
    objects: BTreeMap<String, Vec<u8>>,
    pieces: BTreeMap<(String, usize), Vec<u8>>,
    /// Files by `REPOSITORY/resolve/REVISION/NAME`.
    files: BTreeMap<String, Vec<u8>>,
    commits: Vec<Value>,
}

struct Shared {
    state: Mutex<State>,
    endpoint: String,
    /// Bytes of a piece, where large files go in pieces.
    chunk: Option<usize>,
}

pub struct FakeHub {
    pub endpoint: String,
    shared: Arc<Shared>,
}

impl FakeHub {
    pub fn new(chunk: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            endpoint: endpoint.clone(),
            chunk,
        });
        let own = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = own.clone();
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while answer(&mut reader, &stream, &shared).is_some() {}
                });
            }
        });
        Self { endpoint, shared }
    }

    /// What happens to the next requests whose `METHOD /path` contains the text, one each.
    pub fn misbehave(&self, faults: &[(&'static str, Fault)]) {
        self.shared.state.lock().unwrap().faults.extend(faults);
    }

    /// The requests since the last call, as `METHOD /path`.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state.lock().unwrap().log)
    }

    /// What was committed, under `/REPOSITORY/resolve/REVISION/NAME`.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.shared.state.lock().unwrap();
        let files = state.files.iter();
        files
            .map(|(path, bytes)| (format!("/{path}"), bytes.clone()))
            .collect()
    }

    /// First lines of the commits.
    pub fn commits(&self) -> Vec<Value> {
        self.shared.state.lock().unwrap().commits.clone()
    }

    pub fn is_private(&self, repository: &str) -> Option<bool> {
        let state = self.shared.state.lock().unwrap();
        state.repositories.get(repository).copied()
    }

    /// A repository that somebody has made, with a page.
    pub fn with_card(self, repository: &str, card: &str) -> Self {
        {
            let mut state = self.shared.state.lock().unwrap();
            state.repositories.insert(repository.to_owned(), false);
            let path = format!("{repository}/resolve/main/README.md");
            state.files.insert(path, card.as_bytes().to_vec());
        }
        self
    }
}

struct Request {
    method: String,
    path: String,
    authorization: Option<String>,
    length: Option<usize>,
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request {
        method,
        path,
        authorization: None,
        length: None,
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Some(request);
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "content-length" => request.length = value.parse().ok(),
            "transfer-encoding" => panic!("storages take content of a known length alone"),
            _ => {}
        }
    }
}

fn answer(reader: &mut impl BufRead, stream: &TcpStream, shared: &Shared) -> Option<()> {
    let request = read_request(reader)?;
    let name = format!("{} {}", request.method, request.path);
    let fault = {
        let mut state = shared.state.lock().unwrap();
        state.log.push(name.clone());
        let place = state
            .faults
            .iter()
            .position(|(part, _)| name.contains(part));
        place.map(|place| state.faults.remove(place).1)
    };
    if fault == Some(Fault::Cut) {
        return None;
    }
    let mut body = vec![0; request.length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let says = json!({"error": "so it is\nhere"});
    match fault {
        Some(Fault::Status(code)) => return send(stream, code, "", &says),
        Some(Fault::Later(code, wait)) => {
            return send(stream, code, &format!("Retry-After: {wait}\r\n"), &says);
        }
        Some(Fault::Silent) => {
            std::thread::sleep(Duration::from_secs(20));
            return None;
        }
        _ => {}
    }
    let is_storage = request.method == "PUT";
    let expected = format!("Bearer {TOKEN}");
    match &request.authorization {
        Some(_) if is_storage => panic!("an address of a storage is no place for a token"),
        Some(token) if *token != expected => return send(stream, 401, "", &says),
        None if !is_storage => return send(stream, 401, "", &Value::Null),
        _ => {}
    }
    let mut state = shared.state.lock().unwrap();
    let (code, header, reply) = reply(&mut state, shared, &request, &body);
    drop(state);
    send(stream, code, &header, &reply)
}

fn reply(
    state: &mut State,
    shared: &Shared,
    request: &Request,
    body: &[u8],
) -> (u16, String, Value) {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let ok = |value: Value| (200, String::new(), value);
    let parts: Vec<_> = request.path.trim_start_matches('/').split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["api", "repos", "create"]) => {
            let text = |key: &str| json[key].as_str().unwrap().to_owned();
            let name = format!("{}/{}", text("organization"), text("name"));
            if state.repositories.contains_key(&name) {
                return (409, String::new(), json!({"error": "it is there"}));
            }
            let private = json["private"].as_bool().unwrap();
            state.repositories.insert(name, private);
            ok(json!({}))
        }
        ("HEAD", ["api", "models", org, name]) => {
            let found = state.repositories.contains_key(&format!("{org}/{name}"));
            (if found { 200 } else { 404 }, String::new(), Value::Null)
        }
        ("POST", ["api", "models", _, _, "branch", _]) => ok(json!({})),
        ("HEAD", [org, name, "resolve", revision, file]) => {
            let path = format!("{org}/{name}/resolve/{revision}/{file}");
            let found = state.files.contains_key(&path);
            (if found { 200 } else { 404 }, String::new(), Value::Null)
        }
        ("POST", ["api", "models", _, _, "preupload", _]) => {
            let modes = json["files"].as_array().unwrap().iter().map(|file| {
                let path = file["path"].as_str().unwrap();
                assert!(file["sample"].is_string());
                let large = path.ends_with(".safetensors") || path.ends_with(".bin");
                json!({"path": path, "uploadMode": if large { "lfs" } else { "regular" }, "shouldIgnore": false})
            });
            ok(json!({"files": modes.collect::<Vec<_>>()}))
        }
        ("POST", [_, _, "info", "lfs", "objects", "batch"]) => {
            let objects = json["objects"].as_array().unwrap().iter();
            let objects = objects.map(|object| placed(state, shared, object));
            ok(json!({"objects": objects.collect::<Vec<_>>()}))
        }
        ("PUT", ["storage", sum]) => {
            assert_eq!(sha256(body), *sum);
            state.objects.insert(sum.to_string(), body.to_vec());
            (200, "ETag: \"whole\"\r\n".into(), Value::Null)
        }
        ("PUT", ["storage", sum, number]) => {
            let number = number.parse().unwrap();
            state
                .pieces
                .insert((sum.to_string(), number), body.to_vec());
            (200, format!("ETag: \"piece-{number}\"\r\n"), Value::Null)
        }
        ("POST", ["complete", sum]) => {
            let mut whole = Vec::new();
            for (at, part) in json["parts"].as_array().unwrap().iter().enumerate() {
                assert_eq!(part["partNumber"], at + 1);
                assert_eq!(part["etag"], format!("\"piece-{}\"", at + 1));
                whole.extend(state.pieces.remove(&(sum.to_string(), at + 1)).unwrap());
            }
            assert_eq!(sha256(&whole), *sum);
            state.objects.insert(sum.to_string(), whole);
            ok(json!({}))
        }
        ("POST", ["verify"]) => {
            let object = &state.objects[json["oid"].as_str().unwrap()];
            assert_eq!(json["size"], object.len());
            ok(json!({}))
        }
        ("POST", ["api", "models", org, name, "commit", revision]) => {
            let root = format!("{org}/{name}/resolve/{revision}");
            for line in body
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                let line: Value = serde_json::from_slice(line).unwrap();
                let value = &line["value"];
                let path = || format!("{root}/{}", value["path"].as_str().unwrap());
                match line["key"].as_str().unwrap() {
                    "header" => state.commits.push(value.clone()),
                    "file" => {
                        let bytes = decode(value["content"].as_str().unwrap());
                        state.files.insert(path(), bytes);
                    }
                    "lfsFile" => {
                        let bytes = state.objects[value["oid"].as_str().unwrap()].clone();
                        assert_eq!(value["size"], bytes.len());
                        state.files.insert(path(), bytes);
                    }
                    other => panic!("{other}"),
                }
            }
            ok(json!({"commitUrl": format!("{}/{org}/{name}/commit/abc123", shared.endpoint)}))
        }
        _ => (404, String::new(), json!({"error": "no such page"})),
    }
}

/// Where a large file goes.
fn placed(state: &State, shared: &Shared, object: &Value) -> Value {
    let (sum, size) = (
        object["oid"].as_str().unwrap(),
        object["size"].as_u64().unwrap(),
    );
    let mut answer = object.clone();
    if state.objects.contains_key(sum) {
        return answer;
    }
    let base = &shared.endpoint;
    let upload = match shared.chunk {
        None => json!({"href": format!("{base}/storage/{sum}")}),
        Some(chunk) => {
            let mut header = serde_json::Map::new();
            header.insert("chunk_size".into(), chunk.to_string().into());
            for number in 1..=size.div_ceil(chunk as u64) {
                let address = format!("{base}/storage/{sum}/{number}");
                header.insert(format!("{number:05}"), address.into());
            }
            json!({"href": format!("{base}/complete/{sum}"), "header": header})
        }
    };
    answer["actions"] = json!({"upload": upload, "verify": {"href": format!("{base}/verify")}});
    answer
}

fn decode(text: &str) -> Vec<u8> {
    let mut bits = 0_u32;
    let mut bytes = Vec::new();
    for (at, c) in text.bytes().filter(|c| *c != b'=').enumerate() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        if at % 4 != 0 {
            bytes.push((bits >> (6 - 2 * (at % 4))) as u8);
        }
    }
    bytes
}

fn send(mut stream: &TcpStream, code: u16, header: &str, body: &Value) -> Option<()> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {code} Whatever\r\nContent-Length: {length}\r\n{header}\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    stream.flush().ok()
}
