//! Where a picture's time goes, as one line of JSON: decoding alone, the exact training transform with it, and that of
//! `--fast-decode`; on one thread, files in memory. Also how far the last is from the exact one.
//!
//! ```text
//! cargo run --release -p openclip-data --example bench_picture -- FOLDER [SIZE [REPEAT [SCALE]]]
//! ```
//!
//! SCALE is the least share of the picture's area that a cut keeps (0.9). `ms` are milliseconds per picture, the median of
//! REPEAT rounds that take turns. `mean` and `max` are differences in 1/255: of all pixels together, and the worst picture's.
#![allow(clippy::print_stdout, reason = "the result goes to stdout")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use openclip_data::image::{Augmentation, Decoding, Limits, decode, train_transform};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Processor time of this thread where `/proc` tells it, so that what else the machine does counts less; else by the clock. The
/// system counts it at its ticks, 4 ms apart, and when a thread gives way.
fn seconds() -> f64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split(' ')
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.elapsed().as_secs_f64(), |time| time / 1e9)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let folder = words.next().ok_or("a folder of pictures is needed")?;
    let mut number = |own: f64| words.next().map_or(Ok(own), |word| word.parse::<f64>());
    let (size, repeat, least) = (number(224.0)? as usize, number(9.0)? as usize, number(0.9)?);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(std::fs::read(entry?.path())?);
    }
    let augmentation = Augmentation {
        scale: (least, 1.0),
        ..Augmentation::default()
    };
    let transform = |fast| {
        let decoding = Decoding {
            rgb_first: true,
            fast,
            limits: Limits::default(),
        };
        train_transform([size; 2], augmentation, decoding)
    };
    let (exact, fast) = (transform(false)?, transform(true)?);
    let mut out = vec![0; 3 * size * size];
    let mut rounds = [const { Vec::new() }; 3];
    for round in 0..repeat.max(1) {
        for (way, times) in rounds.iter_mut().enumerate() {
            let start = seconds();
            for (i, file) in files.iter().enumerate() {
                let mut rng = StdRng::seed_from_u64((round * files.len() + i) as u64);
                match way {
                    0 => drop(black_box(decode(file, Limits::default())?)),
                    1 => drop(exact(file, &mut rng, &mut out)?),
                    _ => drop(fast(file, &mut rng, &mut out)?),
                }
                black_box(&out);
            }
            times.push(1e3 * (seconds() - start) / files.len() as f64);
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let [decoding, exactly, fast_ms] = rounds.each_mut().map(median);
    let mut other = out.clone();
    let (mut sum, mut worst_mean, mut max) = (0, 0.0_f64, 0);
    for (i, file) in files.iter().enumerate() {
        exact(file, &mut StdRng::seed_from_u64(i as u64), &mut out)?;
        fast(file, &mut StdRng::seed_from_u64(i as u64), &mut other)?;
        let apart = out
            .iter()
            .zip(&other)
            .map(|(a, b)| u64::from(a.abs_diff(*b)));
        let own: u64 = apart.clone().sum();
        sum += own;
        worst_mean = worst_mean.max(own as f64 / out.len() as f64);
        max = max.max(apart.max().unwrap_or(0));
    }
    let result = serde_json::json!({
        "pictures": files.len(),
        "bytes": files.iter().map(Vec::len).sum::<usize>() / files.len().max(1),
        "decode_ms": decoding,
        "exact_ms": exactly,
        "fast_ms": fast_ms,
        // The same beside decoding alone: `benches/compare.py picture` holds it against PyTurboJPEG's.
        "turbojpeg_ms": exactly,
        "mean": sum as f64 / (files.len() * out.len()) as f64,
        "mean_of_worst": worst_mean,
        "max": max,
    });
    println!("{result}");
    Ok(())
}
