//! What a command writes: `pipe:COMMAND`.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::mask::mask;
use super::stream::{Patience, Watch, closed, read_buffered};

/// Most bytes that are read from a command at a time, and how many such pieces wait at most.
const PIECE: usize = 128 << 10;
const PIECES: usize = 64;
/// How much of what a command says on its standard error is kept.
const LAST_WORDS: usize = 2000;
/// How often who waits asks whether the data are still wanted.
const TICK: Duration = Duration::from_millis(100);
/// How long a command that has closed its output may take to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long the last words of a command that has ended may be under way.
const LAST_WORDS_TAKE: Duration = Duration::from_millis(500);

/// Runs the command that is its first argument and ends it, with all that it started, when standard input closes: with the run,
/// however that ends. What the command leaves in the background is told to end with it. The shell's own standard input is no longer
/// that of what runs in the background, hence the copy; and it waits for what it killed, since nobody else may.
const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
{ read -r _ <&3; kill -9 0; } >/dev/null 2>&1 &
sh -c "$1" 3<&-
status=$?
exec >/dev/null 2>&1
kill -9 $!
wait $!
trap '' TERM
kill -TERM 0
exit $status"#;

/// A command that runs.
pub struct Running {
    child: Child,
    /// The command ends when this is dropped.
    lifeline: Option<ChildStdin>,
    pieces: Receiver<io::Result<Vec<u8>>>,
    last_words: Arc<Mutex<VecDeque<u8>>>,
    listener: JoinHandle<()>,
    patience: Patience,
}

/// Starts `sh -c COMMAND`, in a group of processes of its own.
pub(super) fn start(command: &str, patience: Patience) -> io::Result<Running> {
    let mut shell = Command::new("sh");
    shell.args(["-c", SUPERVISOR, "sh", command]);
    shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut shell, 0);
    let mut child = shell.spawn()?;
    let (sender, pieces) = sync_channel(PIECES);
    let last_words = Arc::new(Mutex::new(VecDeque::new()));
    let lifeline = child.stdin.take();
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let words = Arc::clone(&last_words);
    let thread = |name: &str| thread::Builder::new().name(name.into());
    let copy = move || {
        output
            .into_iter()
            .for_each(|output| forward(output, &sender))
    };
    let listen = move || {
        errors
            .into_iter()
            .for_each(|errors| remember(errors, &words))
    };
    thread("pipe").spawn(copy)?;
    Ok(Running {
        lifeline,
        child,
        pieces,
        last_words,
        listener: thread("pipe-errors").spawn(listen)?,
        patience,
    })
}

/// Sends on what comes, until nobody wants it.
fn forward(mut output: impl Read, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let piece = match output.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => {
                piece.truncate(read);
                Ok(piece)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = piece.is_err();
        if pieces.send(piece).is_err() || is_last {
            return;
        }
    }
}

fn remember(mut errors: impl Read, words: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = errors.read(&mut buffer) {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend(&buffer[..read]);
        let excess = words.len().saturating_sub(LAST_WORDS);
        words.drain(..excess);
    }
}

impl Running {
    /// Its output, until `watch` says that nothing is wanted any more.
    pub(super) fn into_reader(self, watch: Watch) -> Output {
        Output {
            running: self,
            watch,
            piece: Vec::new(),
            at: 0,
            has_ended: false,
        }
    }

    /// What the end of its output means: an error, if the command failed.
    fn verdict(&mut self) -> io::Result<()> {
        match self.ended_within(FAREWELL) {
            None => Err(self.error("closed its output and does not end")),
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                // Those who say why may be a little behind.
                within(LAST_WORDS_TAKE, || {
                    self.listener.is_finished().then_some(())
                });
                Err(self.error(&match status.code() {
                    // What a shell says of a command that a signal ended.
                    Some(code @ 129..=192) => format!("was ended by signal {}", code - 128),
                    Some(code) => format!("failed with exit status {code}"),
                    None => format!("was ended ({status})"),
                }))
            }
        }
    }

    fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        within(time, || self.child.try_wait().ok().flatten())
    }

    fn error(&self, what: &str) -> io::Error {
        let words = self
            .last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let words: Vec<u8> = words.iter().copied().collect();
        let words = mask(&String::from_utf8_lossy(&words));
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = match words.as_str() {
            "" => "; it said nothing".to_owned(),
            words => format!(": {words}"),
        };
        io::Error::other(format!("the command {what}{said}"))
    }
}

/// Asks until there is an answer or the time is over.
fn within<T>(time: Duration, mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        match answer() {
            None if start.elapsed() < time => thread::sleep(Duration::from_millis(2)),
            answer => return answer,
        }
    }
}

/// Closes the lifeline, and does not leave a dead process behind.
impl Drop for Running {
    fn drop(&mut self) {
        self.lifeline = None;
        if self.ended_within(FAREWELL).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The bytes that a command writes.
pub struct Output {
    running: Running,
    watch: Watch,
    piece: Vec<u8>,
    at: usize,
    has_ended: bool,
}

impl BufRead for Output {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let start = Instant::now();
        while self.at == self.piece.len() && !self.has_ended {
            match self.running.pieces.recv_timeout(TICK) {
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
                Err(RecvTimeoutError::Disconnected) => {
                    self.has_ended = true;
                    self.running.verdict()?;
                }
                Err(RecvTimeoutError::Timeout) if self.watch.is_closed() => return Err(closed()),
                Err(RecvTimeoutError::Timeout) => {
                    let timeout = self.running.patience.timeout;
                    if start.elapsed() >= timeout {
                        self.has_ended = true;
                        let silence = format!("wrote nothing for {timeout:?}");
                        return Err(self.running.error(&silence));
                    }
                }
            }
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buffer)
    }
}
