//! Milliseconds that the towers of a model take on the CPU: `bench_towers [MODEL] [BATCH]`, inference by folded towers and forward
//! and backward passes. `OPENCLIP_CPU_KERNELS=burn` measures Burn's own operations.
#![allow(clippy::print_stdout, reason = "the result goes to stdout")]

use std::error::Error;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use openclip_model::Clip;
use openclip_model::factory::{self, CreateOptions};

fn time(name: &str, count: usize, mut run: impl FnMut()) {
    run();
    let mut times: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let each = |time: f64| 1e3 * count as f64 / time;
    println!(
        "{name:24} {:8.1} ms, fastest {:8.1}; {:7.2}/s, {:7.2}/s",
        times[3],
        times[0],
        each(times[3]),
        each(times[0])
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "ViT-B-32".to_owned());
    let large: usize = args.next().map_or(Ok(16), |batch| batch.parse())?;
    let device = Device::flex();
    let loaded = factory::create(&name, None, &device, &CreateOptions::default())?;
    let (height, width) = loaded.config.vision_cfg.image_size.dims();
    let length = loaded.config.text_cfg.context_length;
    let picture = |batch| {
        let shape = [batch, 3, height, width];
        Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device)
    };
    // Captions whose last token is the largest, and so is seen.
    let caption = |batch, words: usize| {
        let id = |i: usize| match i % length {
            place if place + 1 == words => 49_000,
            place if place < words => 1 + i as i64 * 7919 % 30_000,
            _ => 0,
        };
        let ids: Vec<i64> = (0..batch * length).map(id).collect();
        Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, length]), &device)
    };
    let folded = loaded.model.clone().folded();
    for batch in [large, 1] {
        let image = picture(batch);
        time(&format!("image, batch {batch}"), batch, || {
            drop(folded.encode_image(image.clone(), true).into_data());
        });
    }
    for (batch, words) in [(32, length), (1, length), (32, 10), (1, 10)] {
        let ids = caption(batch, words);
        time(&format!("text of {words}, batch {batch}"), batch, || {
            drop(folded.encode_text(ids.clone(), true).into_data());
        });
    }
    drop(folded);
    let model: Clip = loaded.model.train();
    let image = Tensor::from_inner(picture(large));
    let ids = Tensor::from_inner(caption(large, length));
    time(&format!("image backward, {large}"), large, || {
        drop(
            model
                .encode_image_training(image.clone(), 0)
                .sum()
                .backward(),
        );
    });
    time(&format!("text backward, {large}"), large, || {
        let features = model.encode_text_training(ids.clone(), DType::F32, 0);
        drop(features.sum().backward());
    });
    Ok(())
}
