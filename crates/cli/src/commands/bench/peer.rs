//! The other side: a process of Python's that answers one line for each that it is sent.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::ours::{CAPTION, LEAST_SECONDS, Room, SHORT, WIDTH, picture};
use super::rows::{Row, Work};
use crate::args::bench::BenchArgs;
use crate::error::{CliError, Result};

const SCRIPT: &str = include_str!("peer.py");

/// Ends with the last one who uses it.
pub struct Peer {
    python: String,
    settings: Value,
    room: Room,
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// As it tells them.
    pub versions: String,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Peer {
    /// Starts `python`, which must have `open_clip_torch`.
    pub fn start(python: &Path, args: &BenchArgs, threads: usize, room: &Room) -> Result<Self> {
        let python = python.to_string_lossy().into_owned();
        let kind = args.model.device.split(':').next().unwrap_or("cpu");
        let settings = json!({
            "threads": threads,
            "device": if kind == "cuda" { kind } else { "cpu" },
            "precision": args.peer_precision(),
            "least_seconds": LEAST_SECONDS,
            "short": SHORT,
            "caption": CAPTION,
            "width": WIDTH,
        });
        let mut process = command(&python, &settings)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| CliError::Usage(format!("--peer {python}: {error}")))?;
        let (Some(to), Some(from)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(CliError::Usage(format!("--peer {python}: no pipes")));
        };
        let mut peer = Self {
            python,
            settings,
            room: room.clone(),
            process,
            to,
            from: BufReader::new(from),
            versions: String::new(),
        };
        let hello = peer.answer()?;
        peer.versions = hello["versions"].as_str().unwrap_or_default().to_owned();
        Ok(peer)
    }

    /// Seconds of one repetition, or bytes; `None` for what it cannot do, with a warning from it.
    pub fn measure(&mut self, row: &Row) -> Result<Option<f64>> {
        if row.work.is_process() {
            return self.process(row);
        }
        let ask = json!({
            "work": row.work, "model": row.model, "size": row.size,
            "pictures": self.room.pictures, "captions": self.room.captions,
        });
        let sent = writeln!(self.to, "{ask}").and_then(|()| self.to.flush());
        sent.map_err(|error| self.failed(&error.to_string()))?;
        Ok(self.answer()?["figure"].as_f64())
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.from.read_line(&mut line);
        read.map_err(|error| self.failed(&error.to_string()))?;
        if line.is_empty() {
            return Err(
                self.failed("it ended; it needs open_clip_torch (pip install open_clip_torch)")
            );
        }
        let answer: Value =
            serde_json::from_str(&line).map_err(|error| self.failed(&error.to_string()))?;
        match answer["error"].as_str() {
            Some(error) => Err(self.failed(error)),
            None => Ok(answer),
        }
    }

    /// What takes a process of its own.
    fn process(&self, row: &Row) -> Result<Option<f64>> {
        let what = match row.work {
            Work::Start => "classify",
            Work::EncodeMemory => "encode",
            _ => "train",
        };
        let mut command = command(&self.python, &self.settings);
        command.args([what, &row.model, &row.size.to_string()]);
        if row.work == Work::Start {
            command.arg(&self.room.weights);
            command.arg(picture(&self.room.pictures)?);
        }
        let start = Instant::now();
        let done = command.stdin(Stdio::null()).output();
        let done = done.map_err(|error| self.failed(&error.to_string()))?;
        let seconds = start.elapsed().as_secs_f64();
        if !done.status.success() {
            let text = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(self.failed(text.trim().lines().last().unwrap_or("it failed")));
        }
        if row.work == Work::Start {
            return Ok(Some(seconds));
        }
        let said: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        Ok(said["figure"].as_f64())
    }

    fn failed(&self, reason: &str) -> CliError {
        CliError::Usage(format!("--peer {}: {reason}", self.python))
    }
}

fn command(python: &str, settings: &Value) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-c", SCRIPT])
        .env("OMP_NUM_THREADS", settings["threads"].to_string())
        .env("OPENCLIP_PEER", settings.to_string());
    command
}
