//! Files behind an address, read ahead by tasks of one small runtime.
//!
//! * `answer` – what all of them answer, or why not
//! * `http` – web servers and the Hugging Face hub
//! * `objects` – S3, Google's and Azure's stores
//! * `profile` – keys of Amazon's profile files
//!
//! This file holds what they share: a task that reads on where a cut ended, and the reader that waits for it.

mod answer;
mod http;
pub(super) mod objects;
mod profile;

use std::io::{self, BufRead, Read};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use rand::Rng;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};
use url::Url;

use self::answer::{Answer, Failure, Known, has_answered, install_cryptography, remember_answer};
use super::mask::mask;
use super::stream::{Patience, Stream, Watch, cannot_seek, changed, closed, read_buffered};

/// How often who waits asks whether the data are still wanted.
const TICK: Duration = Duration::from_millis(100);
/// Pieces that are read ahead, and their usual size.
const PIECES: usize = 64;
const PIECE: usize = 128 << 10;
/// Pauses between attempts: the first, which doubles, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Most attempts at a host that has answered nothing yet: its name may be wrong, and nobody waits long to hear that.
const FIRST_ATTEMPTS: u32 = 5;

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    install_cryptography();
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

async fn ask(url: &Url, from: u64, until: Option<u64>) -> Result<Answer, Failure> {
    match url.scheme() {
        "http" | "https" | "hf" => http::ask(url, from, until).await,
        _ => objects::ask(url, from, until).await,
    }
}

/// What a task tells the reader.
enum News {
    /// The first answer has come.
    Begun(Known),
    Piece(Bytes),
    /// All bytes were sent.
    Ended,
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
            known: None,
            moved: Instant::now(),
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
    known: Option<Known>,
    /// When bytes came last.
    moved: Instant,
    patience: Patience,
    sender: Sender<News>,
}

impl Task {
    /// Reads on until all is there, or until nothing came for as long as patience has it, in time or in attempts.
    async fn run(&mut self) {
        let (mut failures, mut furthest) = (0, self.at);
        self.moved = Instant::now();
        loop {
            let Err(failure) = self.attempt().await else {
                return self.tell(News::Ended).await;
            };
            if self.at > furthest {
                (failures, furthest) = (0, self.at);
            }
            failures += 1;
            let left = self.patience.timeout.saturating_sub(self.moved.elapsed());
            let attempts = match has_answered(&self.url) {
                true => self.patience.attempts,
                false => self.patience.attempts.min(FIRST_ATTEMPTS),
            };
            if !failure.is_transient || failures >= attempts || left.is_zero() {
                let error = failure.into_error(failures);
                return self.tell(News::Failed(error)).await;
            }
            // Many readers that failed together shall not come back together.
            let spread = rand::rng().random_range(0.75..1.25);
            let usual = || LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(failures - 1));
            let pause = failure.after.unwrap_or_else(|| usual().mul_f64(spread));
            let pause = pause.min(left);
            log::warn!(
                "reading {} stopped at byte {}: {}; trying again in {:.1} s",
                mask(self.url.as_str()),
                self.at,
                failure.into_error(1),
                pause.as_secs_f64()
            );
            sleep(pause).await;
        }
    }

    async fn attempt(&mut self) -> Result<(), Failure> {
        // A connection that died without a word is given up in time for a second one.
        let silence = self.patience.timeout / 2;
        let silent = |_| Failure::transient(format!("no answer for {silence:?}"));
        let answer = ask(&self.url, self.at, self.until);
        let mut answer = timeout(silence, answer).await.map_err(silent)??;
        remember_answer(&self.url);
        let mut total = answer.known.total;
        match &self.known {
            None => {
                self.known = Some(answer.known.clone());
                self.tell(News::Begun(answer.known.clone())).await;
            }
            Some(known) if known.differs(&answer.known) => {
                return Err(Failure::last(io::ErrorKind::InvalidData, changed()));
            }
            Some(known) => total = total.or(known.total),
        }
        let end = match (self.until, total) {
            (Some(until), Some(total)) => Some(until.min(total)),
            (until, total) => until.or(total),
        };
        let mut position = answer.start;
        while end != Some(position) {
            let piece = timeout(silence, answer.pieces.next());
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
            self.moved = Instant::now();
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
        let (known, reader) = self.answer(watch)?;
        Ok(Stream::new(reader, known.version()))
    }

    fn answer(self, watch: Watch) -> io::Result<(Known, Reader)> {
        let mut reader = Reader {
            news: self.news?,
            watch,
            piece: Bytes::new(),
            has_ended: false,
        };
        match reader.next()? {
            News::Begun(known) => Ok((known, reader)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

struct Reader {
    news: Receiver<News>,
    watch: Watch,
    piece: Bytes,
    has_ended: bool,
}

impl Reader {
    fn next(&mut self) -> io::Result<News> {
        let runtime = runtime()?;
        loop {
            let news = match self.news.try_recv() {
                Ok(news) => Ok(Some(news)),
                Err(_) => runtime.block_on(async { timeout(TICK, self.news.recv()).await }),
            };
            match news {
                Ok(Some(News::Failed(error))) => return Err(error),
                Ok(Some(news)) => return Ok(news),
                // Who reads ahead says when all was read: bytes that are missing are no end.
                Ok(None) => return Err(io::Error::other("reading has stopped")),
                Err(_) if self.watch.is_closed() => return Err(closed()),
                Err(_) => {}
            }
        }
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.has_ended {
            match self.next()? {
                News::Piece(piece) => self.piece = piece,
                news => self.has_ended = matches!(news, News::Ended),
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
        read_buffered(self, buffer)
    }
}

/// `length` bytes from `from` on.
pub(super) fn read_range(
    url: &Url,
    from: u64,
    length: u64,
    version: Option<&str>,
    patience: Patience,
    watch: Watch,
) -> io::Result<Vec<u8>> {
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut stream = start(url, from, Some(from + length), patience).wait(watch)?;
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
    let (known, _) = start(url, 0, Some(1), patience).answer(Watch::default())?;
    known
        .total
        .ok_or_else(|| io::Error::other("the server does not say how long it is"))
}
