//! Rate of sources over the same pictures in several forms, taking turns in one run: a JSON line for each form, the first of them being
//! the measure. `benches/sources.py` writes the forms with Python's tools and runs this.
//!
//! ```text
//! cargo run --release -p openclip-data --example bench_sources -- pictures.tar pictures.parquet … [--rounds 5] [--size 224] [--workers 2] [--memory]
//! ```
//!
//! `source_per_s` is the source alone in the order of training: its samples are dropped as they come. `loader_per_s` is the whole way to
//! batches. Figures are medians of the rounds. With `--memory` the first form, of some 10,000 samples at least, is read once in place of all
//! that, and the line tells by how many times the bytes of a full shuffle buffer the process grew.
#![allow(clippy::print_stdout, reason = "the result goes to stdout")]

use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

use openclip_data::image::{Augmentation, Decoding, Limits, train_transform};
use openclip_data::loader::{Loader, LoaderOptions};
use openclip_data::source::open::{OpenOptions, open};
use openclip_data::source::{Item, Order, Sink};

/// Counts samples and their bytes.
#[derive(Default)]
struct Count {
    samples: u64,
    bytes: u64,
}

impl Sink for Count {
    fn jump(&mut self, _: usize) -> usize {
        0
    }
    fn push(&mut self, item: Item) -> ControlFlow<()> {
        if let Item::Sample(sample) = item {
            self.samples += 1;
            self.bytes += sample.bytes() as u64;
        }
        ControlFlow::Continue(())
    }
}

/// Samples and bytes of a second.
fn source(spec: &str) -> Result<(f64, f64), Box<dyn Error>> {
    let source = open(spec, &OpenOptions::default())?.source;
    let start = Instant::now();
    let mut count = Count::default();
    let _ = source.pass(&Order::training(0, 0), 0, &mut count)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((count.samples as f64 / seconds, count.bytes as f64 / seconds))
}

/// Samples in a full shuffle buffer.
const HELD: f64 = 5000.0;

/// How much the process has had at most, in bytes.
fn peak() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(1024.0 * kilobytes.ok_or("no VmHWM")?.parse::<f64>()?)
}

/// Samples of a second.
fn loader(spec: &str, size: usize, workers: usize) -> Result<f64, Box<dyn Error>> {
    let opened = open(spec, &OpenOptions::default())?;
    let size = [size; 2];
    let rgb_first = opened.rgb_first;
    let decoding = Decoding {
        rgb_first,
        fast: false,
        limits: Limits::default(),
    };
    let transform = train_transform(size, Augmentation::default(), decoding)?;
    let options = LoaderOptions {
        workers,
        ..LoaderOptions::new(64, size, Order::training(0, 0))
    };
    let start = Instant::now();
    let mut loader = Loader::start(opened.source, transform, None, &options)?;
    let mut count = 0;
    for batch in loader.by_ref() {
        count += batch?.size;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut specs, mut rounds, mut size, mut workers) = (Vec::new(), 5, 224, 2);
    let mut memory = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("{word}: expected a value"))
        };
        match word.as_str() {
            "--rounds" => rounds = value()?.parse()?,
            "--size" => size = value()?.parse()?,
            "--workers" => workers = value()?.parse()?,
            "--memory" => memory = true,
            _ => specs.push(word),
        }
    }
    if memory {
        let spec = specs.first().ok_or("nothing to read")?;
        let source = open(spec, &OpenOptions::default())?.source;
        let (before, mut count) = (peak()?, Count::default());
        let _ = source.pass(&Order::training(0, 0), 0, &mut count)?;
        let grown = peak()? - before;
        let held = count.bytes as f64 * HELD / count.samples as f64;
        let result = serde_json::json!({
            "source": spec,
            "samples": count.samples,
            "held_mb": held / 1e6,
            "grown_mb": grown / 1e6,
            "times": grown / held,
        });
        println!("{result}");
        return Ok(());
    }
    // Each form: samples and bytes of the source, samples of the loader, by round.
    let mut found = vec![[const { Vec::<f64>::new() }; 3]; specs.len()];
    for spec in &specs {
        source(spec)?;
    }
    for _ in 0..rounds.max(1) {
        for (spec, found) in specs.iter().zip(&mut found) {
            let (samples, bytes) = source(spec)?;
            found[0].push(samples);
            found[1].push(bytes);
            found[2].push(loader(spec, size, workers)?);
        }
    }
    let mut measure = None;
    for (spec, found) in specs.iter().zip(found) {
        let [samples, bytes, loader] = found.map(median);
        let (first, first_loader) = *measure.get_or_insert((samples, loader));
        let result = serde_json::json!({
            "source": spec,
            "source_per_s": samples.round(),
            "source_mb_per_s": (bytes / 1e6).round(),
            "loader_per_s": loader.round(),
            "source_to_first": samples / first,
            "loader_to_first": loader / first_loader,
        });
        println!("{result}");
    }
    Ok(())
}
