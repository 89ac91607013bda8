//! Files behind an address, read ahead by tasks of one small runtime.
//!
//! * `http` – web servers and the Hugging Face hub
//! * `objects` – S3, Google's and Azure's stores
//! * `profile` – keys of Amazon's profile files
//!
//! This file holds what they share: a task that reads on where a cut ended, and the reader that waits for it.

mod http;
pub(super) mod objects;
mod profile;

use std::io::{self, BufRead, Read};
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rand::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};
use url::Url;

use super::{Patience, Stream, Watch, cannot_seek, changed, closed, mask};

/// How often who waits asks whether the data are still wanted.
const TICK: Duration = Duration::from_millis(100);
/// Pieces that are read ahead, and their usual size.
const PIECES: usize = 64;
const PIECE: usize = 128 << 10;
/// Pauses between attempts: the first, which doubles, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Longest pause that a server may ask for.
const LONGEST_REQUESTED: Duration = Duration::from_secs(60);

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    // The same cryptography as downloads from the hub have; another one may be installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .thread_name("storage")
        .enable_all();
    builder.build()
});

fn runtime() -> io::Result<&'static Runtime> {
    let failed = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
    RUNTIME.as_ref().map_err(failed)
}

/// Why an attempt failed.
#[derive(Debug)]
struct Failure {
    reason: String,
    kind: io::ErrorKind,
    /// Whether another attempt may succeed.
    is_transient: bool,
    /// When to try again, where the server says so.
    after: Option<Duration>,
}

impl Failure {
    fn transient(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            kind: io::ErrorKind::Other,
            is_transient: true,
            after: None,
        }
    }

    fn last(kind: io::ErrorKind, reason: impl ToString) -> Self {
        Self {
            kind,
            is_transient: false,
            ..Self::transient(reason)
        }
    }

    /// On one line, without secrets.
    fn into_error(self) -> io::Error {
        let reason = mask::mask(&self.reason);
        let mut reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = reason.char_indices().nth(400) {
            reason.truncate(end);
        }
        io::Error::new(self.kind, reason)
    }
}

/// An answer: bytes from `start` on.
struct Answer {
    start: u64,
    /// Bytes of the whole file.
    total: Option<u64>,
    /// What tells this file from the one that may lie there tomorrow.
    tag: Option<String>,
    /// Whether any part of the file can be asked for.
    has_ranges: bool,
    pieces: BoxStream<'static, Result<Bytes, Failure>>,
}

impl Answer {
    fn version(&self) -> Option<String> {
        let total = self.total.filter(|_| self.has_ranges)?;
        Some(format!(
            "{total} {}",
            self.tag.as_deref().unwrap_or_default()
        ))
    }
}

async fn ask(url: &Url, from: u64, until: Option<u64>) -> Result<Answer, Failure> {
    match url.scheme() {
        "http" | "https" | "hf" => http::ask(url, from, until).await,
        _ => objects::ask(url, from, until).await,
    }
}

/// What a task tells the reader.
enum News {
    /// The first answer has come; the version, where the file can be read from the middle.
    Begun(Option<String>),
    Piece(Bytes),
    Failed(io::Error),
}

/// A request under way.
pub struct Request {
    news: io::Result<Receiver<News>>,
}

/// Begins to read from byte `from`, up to `until` if given.
pub(super) fn start(url: &Url, from: u64, until: Option<u64>, patience: Patience) -> Request {
    let news = runtime().map(|runtime| {
        let (sender, news) = channel(PIECES);
        let mut task = Task {
            url: url.clone(),
            at: from,
            until,
            version: None,
            has_begun: false,
            patience,
            sender: sender.clone(),
        };
        runtime.spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = task.run() => {}
            }
        });
        news
    });
    Request { news }
}

struct Task {
    url: Url,
    /// The next byte that the reader waits for.
    at: u64,
    until: Option<u64>,
    version: Option<Option<String>>,
    has_begun: bool,
    patience: Patience,
    sender: Sender<News>,
}

impl Task {
    /// Reads on until all is there, or too many attempts in a row bring nothing.
    async fn run(&mut self) {
        let (mut failures, mut furthest) = (0, self.at);
        loop {
            let Err(failure) = self.attempt().await else {
                return;
            };
            if self.at > furthest {
                (failures, furthest) = (0, self.at);
            }
            failures += 1;
            if !failure.is_transient || failures >= self.patience.attempts {
                let _ = self.sender.send(News::Failed(failure.into_error())).await;
                return;
            }
            let pause = failure.after.map_or_else(
                || LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(failures - 1)),
                |after| after.min(LONGEST_REQUESTED),
            );
            // Many readers that failed together shall not come back together.
            let pause = pause.mul_f64(rand::rng().random_range(0.75..1.25));
            log::warn!(
                "reading {} stopped at byte {}: {}; trying again in {:.1} s",
                mask::mask(self.url.as_str()),
                self.at,
                failure.into_error(),
                pause.as_secs_f64()
            );
            sleep(pause).await;
        }
    }

    async fn attempt(&mut self) -> Result<(), Failure> {
        let seconds = self.patience.timeout;
        let silent = |_| Failure::transient(format!("no answer for {seconds:?}"));
        let answer = ask(&self.url, self.at, self.until);
        let mut answer = timeout(seconds, answer).await.map_err(silent)??;
        let version = answer.version();
        match &self.version {
            None => self.version = Some(version.clone()),
            Some(known) if *known != version && self.at > 0 => {
                return Err(Failure::last(io::ErrorKind::InvalidData, changed()));
            }
            Some(_) => {}
        }
        if !self.has_begun {
            self.has_begun = true;
            self.tell(News::Begun(version)).await;
        }
        let end = self.until.or(answer.total);
        let mut position = answer.start;
        while end != Some(position) {
            let piece = timeout(seconds, answer.pieces.next());
            let Some(piece) = piece.await.map_err(silent)? else {
                break;
            };
            let mut piece = piece?;
            // A server without ranges begins at the first byte again.
            let known = self.at.saturating_sub(position).min(piece.len() as u64);
            position += piece.len() as u64;
            piece.advance(known as usize);
            if let Some(excess) = end.and_then(|end| position.checked_sub(end)) {
                piece.truncate(piece.len().saturating_sub(excess as usize));
                position -= excess;
            }
            self.at += piece.len() as u64;
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(PIECE));
                self.tell(News::Piece(part)).await;
            }
        }
        match end {
            Some(end) if self.at < end => {
                let reason = format!("the connection ended at byte {} of {end}", self.at);
                Err(Failure::transient(reason))
            }
            _ => Ok(()),
        }
    }

    /// A reader that has gone is noticed by [`start`].
    async fn tell(&self, news: News) {
        let _ = self.sender.send(news).await;
    }
}

impl Request {
    /// Waits for the first answer.
    pub(super) fn wait(self, watch: Watch) -> io::Result<Stream> {
        let mut reader = Reader {
            news: self.news?,
            watch,
            piece: Bytes::new(),
        };
        let version = match reader.next()? {
            Some(News::Begun(version)) => version,
            _ => None,
        };
        Ok(Stream {
            input: Box::new(reader),
            version,
        })
    }
}

struct Reader {
    news: Receiver<News>,
    watch: Watch,
    piece: Bytes,
}

impl Reader {
    fn next(&mut self) -> io::Result<Option<News>> {
        if let Ok(news) = self.news.try_recv() {
            return self.sorted(Some(news));
        }
        let runtime = runtime()?;
        loop {
            let news = runtime.block_on(async { timeout(TICK, self.news.recv()).await });
            match news {
                Ok(news) => return self.sorted(news),
                Err(_) if self.watch.is_closed() => return Err(closed()),
                Err(_) => {}
            }
        }
    }

    fn sorted(&self, news: Option<News>) -> io::Result<Option<News>> {
        match news {
            Some(News::Failed(error)) => Err(error),
            news => Ok(news),
        }
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.next()? {
                Some(News::Piece(piece)) => self.piece = piece,
                Some(_) => {}
                None => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        self.piece.advance(amount);
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// `length` bytes from `from` on.
pub(super) fn read_range(
    url: &Url,
    from: u64,
    length: u64,
    version: Option<&str>,
    patience: Patience,
) -> io::Result<Vec<u8>> {
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut stream = start(url, from, Some(from + length), patience).wait(Watch::default())?;
    match stream.version() {
        None => return Err(cannot_seek("a file of this server")),
        found if version.is_some() && found != version => return Err(changed()),
        Some(_) => {}
    }
    let mut bytes = Vec::with_capacity(length.min(1 << 30) as usize);
    stream.read_to_end(&mut bytes)?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Bytes of the whole file.
pub(super) fn length(url: &Url, patience: Patience) -> io::Result<u64> {
    // One byte is asked for: more servers answer that rightly than a request for the header alone.
    let stream = start(url, 0, Some(1), patience).wait(Watch::default())?;
    let length = stream
        .version()
        .and_then(|version| version.split(' ').next()?.parse().ok());
    length.ok_or_else(|| cannot_seek("a file of this server"))
}
