//! Rate of the loader over a folder of pictures, as one line of JSON. Its counterpart in Python is
//! `benches/peer_loader.py`; `benches/compare.py loader` runs both.
//!
//! ```text
//! cargo run --release -p openclip-data --example bench_loader -- --images FOLDER
//!     [--size 224] [--train [--fast]] [--workers 1] [--batch 64] [--repeat 1] [--float]
//! ```
//!
//! `images_per_s` is by the clock, `images_per_core_s` by the processor time of all threads together. `--float` adds
//! what OpenCLIP does on the CPU and this project on the device: scaling and normalising to `f32`.
#![allow(clippy::print_stdout, reason = "the result goes to stdout")]

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use openclip_data::image::{Augmentation, Decoding, Limits, eval_transform, train_transform};
use openclip_data::loader::{Loader, LoaderOptions};
use openclip_data::source::Order;
use openclip_data::source::files::Files;
use openclip_model::config::PreprocessConfig;

struct Args {
    images: PathBuf,
    size: usize,
    train: bool,
    fast: bool,
    workers: usize,
    batch: usize,
    repeat: usize,
    float: bool,
}

fn parse() -> Result<Args, Box<dyn Error>> {
    let mut args = Args {
        images: PathBuf::new(),
        size: 224,
        train: false,
        fast: false,
        workers: 1,
        batch: 64,
        repeat: 1,
        float: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("{flag}: expected a value"))
        };
        match flag.as_str() {
            "--images" => args.images = value()?.into(),
            "--size" => args.size = value()?.parse()?,
            "--workers" => args.workers = value()?.parse()?,
            "--batch" => args.batch = value()?.parse()?,
            "--repeat" => args.repeat = value()?.parse()?,
            "--train" => args.train = true,
            "--fast" => args.fast = true,
            "--float" => args.float = true,
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    if args.images.as_os_str().is_empty() {
        return Err("--images FOLDER is needed".into());
    }
    Ok(args)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = parse()?;
    let config = PreprocessConfig::default();
    let size = [args.size; 2];
    let transform = match args.train {
        true => {
            let decoding = Decoding {
                rgb_first: false,
                fast: args.fast,
                limits: Limits::default(),
            };
            train_transform(size, Augmentation::default(), decoding)?
        }
        false => eval_transform(size, &config, false, Limits::default())?,
    };
    let once: Vec<_> = Files::directory(&args.images)?.paths().collect();
    let files = vec![once; args.repeat.max(1)].concat();
    let options = LoaderOptions {
        workers: args.workers.max(1),
        ..LoaderOptions::new(args.batch, size, Order::sequential())
    };
    let plane = args.size * args.size;
    let (start, processor) = (Instant::now(), processor_seconds());
    let mut loader = Loader::start(Arc::new(Files::list(files)), transform, None, &options)?;
    let mut count = 0;
    for batch in loader.by_ref() {
        let batch = batch?;
        count += batch.size;
        if args.float {
            let channels = batch.images.chunks_exact(plane).enumerate();
            let floats: Vec<f32> = channels
                .flat_map(|(i, values)| {
                    let (mean, std) = (config.mean[i % 3], config.std[i % 3]);
                    values
                        .iter()
                        .map(move |&value| (f32::from(value) / 255.0 - mean) / std)
                })
                .collect();
            black_box(floats);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let processor = processor_seconds()
        .zip(processor)
        .map(|(end, start)| end - start);
    let result = serde_json::json!({
        "openclip": env!("CARGO_PKG_VERSION"),
        "workers": options.workers,
        "transform": if args.train { "train" } else { "eval" },
        "fast": args.fast,
        "float": args.float,
        "images": count,
        "images_per_s": count as f64 / seconds,
        "images_per_core_s": processor.map(|processor| count as f64 / processor),
        "dropped": loader.stats().dropped(),
    });
    println!("{result}");
    Ok(())
}

/// Processor time of all threads so far, where `/proc` tells it (in hundredths of a second).
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = text.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}
