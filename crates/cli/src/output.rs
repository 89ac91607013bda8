//! The two streams: results on stdout, everything else on stderr.

use std::fmt::Display;
use std::io::{BufWriter, IsTerminal, StderrLock, StdoutLock, Write};

use serde::Serialize;

use crate::error::{CliError, Result};

/// Results, buffered; write to it with [`Output::line`] and end with [`Output::finish`].
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    /// Standard output.
    pub fn stdout() -> Self {
        Self {
            out: BufWriter::new(std::io::stdout().lock()),
        }
    }

    /// Writes one line.
    pub fn line(&mut self, line: impl Display) -> Result<()> {
        writeln!(self.out, "{line}").map_err(CliError::Output)
    }

    /// Writes one line and hands it to the reader at once.
    pub fn line_now(&mut self, line: impl Display) -> Result<()> {
        self.line(line)?;
        self.flush()
    }

    fn text(&mut self, text: &str) -> Result<()> {
        write!(self.out, "{text}").map_err(CliError::Output)
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(CliError::Output)
    }

    /// Hands everything to the reader.
    pub fn finish(mut self) -> Result<()> {
        self.flush()
    }

    /// Writes one document of JSON, indented for a terminal and on one line for a program.
    pub fn json(mut self, value: &impl Serialize) -> Result<()> {
        self.value(value)?;
        self.line("")?;
        self.finish()
    }

    fn value(&mut self, value: &impl Serialize) -> Result<()> {
        let written = match std::io::stdout().is_terminal() {
            true => serde_json::to_writer_pretty(&mut self.out, value),
            false => serde_json::to_writer(&mut self.out, value),
        };
        written.map_err(|error| CliError::Output(error.into()))
    }
}

/// Results that are written one by one as they come: lines for people, or one list of JSON.
pub struct Records {
    out: Output,
    json: bool,
    count: usize,
}

impl Records {
    /// On standard output, as JSON where that is asked for.
    pub fn stdout(json: bool) -> Self {
        Self {
            out: Output::stdout(),
            json,
            count: 0,
        }
    }

    /// Writes one; `lines` says how for people.
    pub fn write<T: Serialize>(
        &mut self,
        record: &T,
        lines: impl FnOnce(&T, &mut Output) -> Result<()>,
    ) -> Result<()> {
        if self.json {
            self.out.text(if self.count == 0 { "[" } else { "," })?;
            self.out.value(record)?;
        } else {
            lines(record, &mut self.out)?;
            self.out.flush()?;
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the list.
    pub fn finish(mut self) -> Result<()> {
        if self.json {
            self.out.line(if self.count == 0 { "[]" } else { "]" })?;
        }
        self.out.finish()
    }
}

/// Something the user should not miss.
pub fn warn(message: impl Display) {
    say("warning", "\x1b[1;33m", message);
}

/// Something worth knowing.
pub fn note(message: impl Display) {
    say("note", "\x1b[1m", message);
}

/// Why the command failed.
pub fn error(message: impl Display) {
    say("error", "\x1b[1;31m", message);
}

fn say(label: &str, colour: &str, message: impl Display) {
    let mut stderr = std::io::stderr().lock();
    // A closed stderr is no reason to stop.
    let _ = write_labelled(&mut stderr, label, colour, &message);
}

fn write_labelled(
    stderr: &mut StderrLock<'_>,
    label: &str,
    colour: &str,
    message: &dyn Display,
) -> std::io::Result<()> {
    if !stderr.is_terminal() {
        return writeln!(stderr, "{label}: {message}");
    }
    // A progress bar may stand on this line; it draws itself again below.
    write!(stderr, "\r\x1b[2K")?;
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        writeln!(stderr, "{label}: {message}")
    } else {
        writeln!(stderr, "{colour}{label}\x1b[0m: {message}")
    }
}

/// Sends the libraries' log records to stderr.
struct Logger;

static LOGGER: Logger = Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Other crates' remarks below a warning are of no use to the user.
        metadata.level() <= log::Level::Warn || metadata.target().starts_with("openclip")
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match record.level() {
            log::Level::Error => error(record.args()),
            log::Level::Warn => warn(record.args()),
            log::Level::Info => note(record.args()),
            level => say(level.as_str(), "", record.args()),
        }
    }

    fn flush(&self) {}
}

/// Installs the logger. `OPENCLIP_LOG` may be `off`, `error`, `warn`, `info` (the default), `debug` or `trace`.
pub fn init_log() {
    let level = std::env::var("OPENCLIP_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    // An embedding program may have set its own logger.
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level.unwrap_or(log::LevelFilter::Info));
    }
}
