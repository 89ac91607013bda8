//! Captions a second with and without the cache of keys and values, as one line of JSON. The weights are random, so every caption
//! has all its tokens.
//!
//! ```text
//! cargo run --release -p openclip-model --example bench_caption -- [MODEL] [PICTURES] [TOKENS]
//! ```
#![allow(clippy::print_stdout, reason = "the result goes to stdout")]

use std::error::Error;
use std::time::Instant;

use burn::tensor::Tensor;
use openclip_model::device;
use openclip_model::factory::{self, CreateOptions};
use openclip_model::generate::{BeamSearch, Filter, GenerateOptions, Sampling, Strategy};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let model = words.next().unwrap_or_else(|| "coca_ViT-B-32".into());
    let pictures: usize = words.next().unwrap_or_else(|| "4".into()).parse()?;
    let tokens: usize = words.next().unwrap_or_else(|| "30".into()).parse()?;
    let device = device::parse("auto")?;
    let loaded = factory::create(&model, None, &device, &CreateOptions::default())?;
    let (height, width) = loaded.config.vision_cfg.image_size.dims();
    let image = Tensor::<4>::ones([pictures, 3, height, width], &device);
    let kinds = [
        ("beam_search", Strategy::Beam(BeamSearch::default())),
        (
            "top_k",
            Strategy::Sample(Sampling {
                filter: Filter::TopK(1),
                temperature: 1.0,
                seed: 0,
            }),
        ),
    ];
    for (kind, strategy) in kinds {
        // Seconds with and without; the better of two rounds.
        let mut seconds = [f64::INFINITY; 2];
        for _ in 0..2 {
            for (cache, best) in [true, false].into_iter().zip(&mut seconds) {
                let options = GenerateOptions {
                    seq_len: tokens,
                    min_seq_len: tokens - 1,
                    strategy,
                    cache,
                    ..GenerateOptions::default()
                };
                let start = Instant::now();
                loaded.model.generate(image.clone(), &options)?;
                *best = start.elapsed().as_secs_f64().min(*best);
            }
        }
        let [with, without] = seconds.map(|seconds| pictures as f64 / seconds);
        println!(
            "{{\"model\":\"{model}\",\"kind\":\"{kind}\",\"tokens\":{tokens},\"pictures\":{pictures},\
             \"captions_per_s\":{with:.3},\"captions_per_s_without_cache\":{without:.3},\"ratio\":{:.2}}}",
            with / without
        );
    }
    Ok(())
}
