//! Captions per second of CLIP's tokenizer on one thread, as one line of JSON. The peer is
//! `benches/peer_loader.py --captions FILE`.
//!
//!     cargo run --release -p openclip-data --example bench_tokenizer -- captions.txt
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use openclip_data::tokenizer::{ClipTokenizer, Tokenizer};

fn main() {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "captions.txt".into());
    let text = std::fs::read_to_string(path).unwrap();
    let start = Instant::now();
    let tokenizer = ClipTokenizer::new(77);
    let first = tokenizer.tokenize("a photo of a cat.").unwrap().len();
    let start_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    tokenizer.tokenize("un cafÃ© “noir”").unwrap();
    let first_repair_ms = start.elapsed().as_secs_f64() * 1e3;
    // As the peer does, from a cold word cache: one pass over the file. Then a warm one.
    let mut rates = [0.0; 2];
    let mut ids = first;
    for rate in &mut rates {
        let start = Instant::now();
        for line in text.lines() {
            ids += tokenizer.tokenize(line).unwrap().len();
        }
        *rate = text.lines().count() as f64 / start.elapsed().as_secs_f64();
    }
    println!(
        r#"{{"captions": {}, "captions_per_s": {:.0}, "warm_captions_per_s": {:.0}, "start_ms": {start_ms:.2}, "first_repair_ms": {first_repair_ms:.2}, "ids": {ids}}}"#,
        text.lines().count(),
        rates[0],
        rates[1],
    );
}
