//! Both sides in turns.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use openclip_eval::progress::Progress;
use serde::Serialize;

use super::ours::Ours;
use super::peer::Peer;
use super::rows::{self, Row, Work};
use crate::args::bench::{ALL, BenchArgs};
use crate::error::Result;
use crate::output::warn;

/// Turns that are not counted, unless they were long enough for all: weights are packed when they are asked for the second time.
const WARMUP: usize = 2;

/// A row takes no further turn after this, once it has a figure.
const LONG: Duration = Duration::from_secs(90);

/// The table's content.
#[derive(Debug, Serialize)]
pub struct Benched {
    /// Processor and number of its threads.
    pub machine: String,
    /// Threads of each side.
    pub threads: usize,
    /// As `--device`.
    pub device: String,
    /// As `--precision`.
    pub precision: String,
    /// Versions of the other side, where there is one.
    pub peer: Option<String>,
    /// In the table's order.
    pub rows: Vec<Measured>,
    /// Rows that could not be measured here.
    pub failed: usize,
}

/// A row's figures: seconds of one repetition, or bytes.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// What was measured.
    #[serde(flatten)]
    pub row: Row,
    /// As people read it.
    pub name: String,
    /// Here.
    pub openclip: Spread,
    /// There.
    pub peer: Option<Spread>,
    /// How many times the peer's figure is ours: above one, openclip is ahead.
    pub ratio: Option<f64>,
}

/// What came out of several turns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many there were.
    pub turns: usize,
}

impl Spread {
    /// Of at least one figure.
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        Some(Self {
            median: *figures.get(figures.len() / 2)?,
            least: *figures.first()?,
            most: *figures.last()?,
            turns: figures.len(),
        })
    }
}

/// Measures every row that was asked for.
pub fn measure(args: &BenchArgs, device: &Device) -> Result<Benched> {
    let rows = chosen(args);
    let threads = args.threads.unwrap_or_else(rayon::current_num_threads);
    let mut ours = Ours::new(args, device, threads)?;
    let mut peer = match &args.peer {
        Some(python) => Some(Peer::start(python, args, threads, ours.room())?),
        None => None,
    };
    let mut found = Benched {
        machine: machine(),
        threads,
        device: args.model.device.clone(),
        precision: args.model.precision().name().to_owned(),
        peer: peer.as_ref().map(|peer| peer.versions.clone()),
        rows: Vec::new(),
        failed: 0,
    };
    let progress = Progress::new("bench", Some(rows.len() as u64), "rows");
    for row in rows {
        progress.set_message(&row.name());
        match turns(&row, args.steps, &mut ours, peer.as_mut()) {
            Ok(measured) => found.rows.extend(measured),
            Err(error) => {
                warn(format_args!("{}: {error}", row.name()));
                found.failed += 1;
            }
        }
        progress.inc(1);
    }
    Ok(found)
}

/// The rows that the flags leave.
fn chosen(args: &BenchArgs) -> Vec<Row> {
    let rows = match args.model.model.as_str() {
        ALL => rows::all(),
        model => rows::of_model(model, args.batch),
    };
    let on_cpu = args.model.device == "cpu";
    let rows = rows.into_iter();
    let rows = rows.filter(|row| row.work != Work::ImagesInt8 || on_cpu);
    let wanted =
        |row: &Row| args.only.is_empty() || args.only.iter().any(|o| row.name().contains(o));
    rows.filter(wanted).collect()
}

/// `None` where the figure does not exist on this system.
fn turns(
    row: &Row,
    steps: usize,
    ours: &mut Ours<'_>,
    mut peer: Option<&mut Peer>,
) -> Result<Option<Measured>> {
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for turn in 0..WARMUP + steps {
        let figures = (
            ours.measure(row)?,
            peer.as_mut().map(|peer| peer.measure(row)).transpose()?,
        );
        if turn >= WARMUP || start.elapsed() > LONG {
            here.extend(figures.0);
            there.extend(figures.1.flatten());
        }
        if !here.is_empty() && start.elapsed() > LONG {
            break;
        }
    }
    let Some(openclip) = Spread::of(here) else {
        return Ok(None);
    };
    let peer = Spread::of(there);
    Ok(Some(Measured {
        name: row.name(),
        row: row.clone(),
        openclip,
        peer,
        ratio: peer.map(|peer| peer.median / openclip.median),
    }))
}

/// The processor's name, where the system tells.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{name}, {threads} threads")
}
