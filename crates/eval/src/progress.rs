//! Progress of a long command on stderr: a bar with rate and remaining time on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two plain lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Counts units of work and shows them. May be shared between threads.
///
/// A terminal gets a bar that redraws itself; `TERM=dumb` and anything that is not a terminal gets a line every few
/// seconds and one at the end. `NO_COLOR` switches colours off.
///
/// ```text
/// embed  ━━━━━━━━━━━━────────────  51200/100000 images  812/s  1m left
/// embed: 51200/100000 images (51%), 812/s, 1m left
/// ```
pub struct Progress {
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
}

impl Progress {
    /// Starts at 0 of `total` `unit`s (`None`: unknown), under the heading `what`.
    pub fn new(what: &str, total: Option<u64>, unit: &str) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if std::io::stderr().is_terminal() && !is_dumb {
            Self {
                display: Display::Bar(bar(what, total, unit)),
            }
        } else {
            Self::lines(what, total, unit, INTERVAL, Box::new(std::io::stderr()))
        }
    }

    /// Shows nothing.
    pub fn hidden() -> Self {
        Self {
            display: Display::Bar(ProgressBar::hidden()),
        }
    }

    fn lines(
        what: &str,
        total: Option<u64>,
        unit: &str,
        interval: Duration,
        out: Box<dyn Write + Send>,
    ) -> Self {
        let now = Instant::now();
        let lines = Lines {
            what: what.to_owned(),
            unit: unit.to_owned(),
            total,
            message: String::new(),
            interval,
            count: 0,
            passed: 0,
            started: now,
            shown: now,
            out,
        };
        Self {
            display: Display::Lines(Mutex::new(lines)),
        }
    }

    /// Counts `units` more.
    pub fn inc(&self, units: u64) {
        match &self.display {
            Display::Bar(bar) => bar.inc(units),
            Display::Lines(lines) => lock(lines).inc(units),
        }
    }

    /// Counts `units` that were done before, or by others: they say nothing about the rate.
    pub fn pass_over(&self, units: u64) {
        match &self.display {
            Display::Bar(bar) => {
                bar.inc(units);
                bar.reset_eta();
            }
            Display::Lines(lines) => {
                let mut lines = lock(lines);
                lines.count += units;
                lines.passed += units;
            }
        }
    }

    /// Sets a remark that is shown behind the figures, such as the current loss.
    pub fn set_message(&self, message: &str) {
        match &self.display {
            Display::Bar(bar) => bar.set_message(format!("  {message}")),
            Display::Lines(lines) => lock(lines).message = message.to_owned(),
        }
    }

    /// Writes a line above the bar.
    pub fn println(&self, line: &str) {
        match &self.display {
            Display::Bar(bar) => bar.println(line),
            Display::Lines(lines) => lock(lines).write(line),
        }
    }

    /// Does what writes to the terminal while no bar is there.
    pub fn suspended<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.display {
            Display::Bar(bar) => bar.suspend(write),
            Display::Lines(_) => write(),
        }
    }

    /// Ends the display: clears the bar, or writes a last line. Dropping the value clears the bar and says nothing.
    pub fn finish(self) {
        if let Display::Lines(lines) = &self.display {
            lock(lines).finish();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &str, total: Option<u64>, unit: &str) -> ProgressBar {
    let is_coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let bar = match (total, is_coloured) {
        (Some(_), true) => "{bar:24.cyan/black.bright}  {pos}/{len}",
        (Some(_), false) => "{bar:24}  {pos}/{len}",
        (None, true) => "{spinner:.cyan}  {pos}",
        (None, false) => "{spinner}  {pos}",
    };
    let left = if total.is_some() {
        "  {eta} left"
    } else {
        "  {elapsed}"
    };
    let template = format!(
        "{}  {bar} {}  {{per_sec}}{left}{{wide_msg}}",
        escaped(what),
        escaped(unit)
    );
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.progress_chars("━╸─").with_key(
        "per_sec",
        |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{}/s", short(state.per_sec()));
        },
    );
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// `text` as it stands inside an indicatif template.
fn escaped(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

struct Lines {
    what: String,
    unit: String,
    total: Option<u64>,
    message: String,
    interval: Duration,
    count: u64,
    /// Those of them that were not done here.
    passed: u64,
    started: Instant,
    shown: Instant,
    out: Box<dyn Write + Send>,
}

impl Lines {
    fn inc(&mut self, units: u64) {
        self.count += units;
        if self.shown.elapsed() >= self.interval {
            self.shown = Instant::now();
            let line = self.line();
            self.write(&line);
        }
    }

    fn finish(&mut self) {
        let elapsed = self.started.elapsed().as_secs_f64();
        let Self {
            what,
            count,
            passed,
            unit,
            message,
            ..
        } = self;
        let count = *count - *passed;
        let tail = if message.is_empty() {
            String::new()
        } else {
            format!(", {message}")
        };
        let rate = short(count as f64 / elapsed.max(1e-9));
        let line = format!(
            "{what}: {count} {unit} in {}, {rate}/s{tail}",
            duration(elapsed)
        );
        self.write(&line);
    }

    fn line(&self) -> String {
        let elapsed = self.started.elapsed().as_secs_f64();
        let rate = (self.count - self.passed) as f64 / elapsed.max(1e-9);
        let mut line = match self.total {
            Some(total) => {
                let percent = 100 * self.count.min(total) / total.max(1);
                let left = duration(total.saturating_sub(self.count) as f64 / rate.max(1e-9));
                format!(
                    "{}: {}/{total} {} ({percent}%), {}/s, {left} left",
                    self.what,
                    self.count,
                    self.unit,
                    short(rate)
                )
            }
            None => format!(
                "{}: {} {}, {}/s, {}",
                self.what,
                self.count,
                self.unit,
                short(rate),
                duration(elapsed)
            ),
        };
        if !self.message.is_empty() {
            line.push_str(", ");
            line.push_str(&self.message);
        }
        line
    }

    /// A closed stderr is no reason to stop the work.
    fn write(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
    }
}

/// A panic in another thread while it counted leaves the counts usable.
fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Three significant figures: `0.25`, `8.13`, `97.2`, `812`, `12400`.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// `12s`, `4m 05s`, `3h 20m`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Buffer {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone())
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect()
        }
    }

    #[test]
    fn lines_come_at_intervals_and_at_the_end() {
        let buffer = Buffer::default();
        let progress = Progress::lines(
            "embed",
            Some(40),
            "images",
            Duration::from_secs(3600),
            Box::new(buffer.clone()),
        );
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| progress.inc(1)));
            }
        });
        progress.println("warning: a.jpg is empty");
        assert_eq!(buffer.lines(), ["warning: a.jpg is empty"]);
        progress.finish();
        let last = buffer.lines().pop().unwrap();
        assert!(
            last.starts_with("embed: 40 images in 0s, ") && last.ends_with("/s"),
            "{last}"
        );
    }

    #[test]
    fn a_line_has_rate_and_remaining_time() {
        let buffer = Buffer::default();
        let progress = Progress::lines(
            "train",
            Some(400),
            "steps",
            Duration::ZERO,
            Box::new(buffer.clone()),
        );
        progress.set_message("loss 1.25");
        std::thread::sleep(Duration::from_millis(20));
        progress.inc(100);
        let line = buffer.lines().pop().unwrap();
        assert!(
            line.starts_with("train: 100/400 steps (25%), ") && line.ends_with("s left, loss 1.25"),
            "{line}"
        );
        let unknown = Progress::lines(
            "read",
            None,
            "rows",
            Duration::ZERO,
            Box::new(buffer.clone()),
        );
        unknown.inc(7);
        assert!(buffer.lines().pop().unwrap().starts_with("read: 7 rows, "));
        let resumed = Progress::lines(
            "embed",
            Some(10),
            "rows",
            Duration::ZERO,
            Box::new(buffer.clone()),
        );
        resumed.pass_over(8);
        resumed.inc(1);
        let line = buffer.lines().pop().unwrap();
        assert!(line.starts_with("embed: 9/10 rows (90%), "), "{line}");
        resumed.finish();
        let line = buffer.lines().pop().unwrap();
        assert!(line.starts_with("embed: 1 rows in "), "{line}");
    }

    #[test]
    fn nothing_done_of_nothing() {
        let buffer = Buffer::default();
        let progress = Progress::lines(
            "x",
            Some(0),
            "rows",
            Duration::ZERO,
            Box::new(buffer.clone()),
        );
        progress.inc(0);
        progress.finish();
        assert_eq!(buffer.lines().len(), 2);
        Progress::hidden().finish();
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0.25, 8.126, 97.23, 812.4].map(short),
            ["0.25", "8.13", "97.2", "812"]
        );
        assert_eq!(
            [12.2, 245.0, 12_000.0].map(duration),
            ["12s", "4m 05s", "3h 20m"]
        );
    }
}
