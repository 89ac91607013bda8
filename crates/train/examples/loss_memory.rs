//! Memory and time that a contrastive loss and its gradients take beyond the features.
//!
//! `cargo run --release -p openclip-train --example loss_memory -- PAIRS WIDTH [RANKS]` prints one line: the share of the first of
//! RANKS ranks in CLIP's loss of PAIRS pairs with features of WIDTH. Memory is the process's peak after less the peak before.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use openclip_model::clip::l2_normalize;
use openclip_train::loss::ClipLoss;
use openclip_train::loss::tiles::{self, Temperature};
use openclip_train::memory::MemoryUse;

/// Largest resident size so far, in MiB.
fn peak(device: &Device) -> f64 {
    let bytes = MemoryUse::now(device).host_peak;
    bytes.map_or(f64::NAN, |bytes| bytes as f64 / (1 << 20) as f64)
}

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let (pairs, width, ranks) = match numbers.as_slice() {
        [pairs, width] => (*pairs, *width, 1),
        [pairs, width, ranks] if *ranks > 0 => (*pairs, *width, *ranks),
        _ => {
            eprintln!("usage: loss_memory PAIRS WIDTH [RANKS]");
            return ExitCode::from(2);
        }
    };
    let device = openclip_model::device::parse("cpu").unwrap_or_else(|_| Device::default());
    device.seed(1);
    let random = |_| {
        l2_normalize(Tensor::random(
            [pairs, width],
            Distribution::Default,
            &device,
        ))
    };
    let features = [0, 1].map(random);
    let temperature = Temperature {
        scale: Tensor::from_data(TensorData::from([14.0_f32]), &device),
        bias: None,
    };
    let (before, started) = (peak(&device), Instant::now());
    let share = tiles::share(
        &[(&ClipLoss, 1.0)],
        &features,
        0..pairs / ranks,
        &temperature,
        None,
        tiles::TILE,
    );
    let loss = share.losses[0].clone().try_into_vec_as::<f32>();
    println!(
        "{pairs} pairs of width {width}, {} rows of one of {ranks} ranks: features {:.0} MiB, {:.0} MiB beyond them, {:.1} s, loss {:.4}",
        pairs / ranks,
        (pairs * width * 8) as f64 / (1 << 20) as f64,
        peak(&device) - before,
        started.elapsed().as_secs_f64(),
        loss.ok()
            .and_then(|loss| loss.first().copied())
            .unwrap_or(f32::NAN),
    );
    ExitCode::SUCCESS
}
