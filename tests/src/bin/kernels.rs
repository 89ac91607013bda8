//! `kernels loss [PAIRS [WIDTH]]`, `kernels adamw [MODEL]`: seconds of the contrastive loss with its gradients, and of an optimizer's
//! step. `benches/peer_loss.py` and `peer_adamw.py` time the same in PyTorch; `OPENCLIP_CPU_KERNELS=burn` the ways of Burn.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use openclip_model::clip::l2_normalize;
use openclip_model::factory::{self, CreateOptions};
use openclip_train::loss::ClipLoss;
use openclip_train::loss::tiles::{TILE, Temperature, share};
use openclip_train::optim::AdamW;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default| match arguments.get(index) {
        Some(text) => text.parse(),
        None => Ok(default),
    };
    let done = match arguments.first().map(String::as_str) {
        Some("loss") => match (number(1, 32768), number(2, 512)) {
            (Ok(pairs), Ok(width)) => loss(pairs, width),
            _ => Err("kernels loss [PAIRS [WIDTH]]".into()),
        },
        Some("adamw") => adamw(arguments.get(1).map_or("ViT-B-32", String::as_str)),
        _ => Err("kernels loss|adamw".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernels: {error}");
            ExitCode::FAILURE
        }
    }
}

fn loss(pairs: usize, width: usize) -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    device.seed(0);
    let random = || Tensor::random([pairs, width], Distribution::Normal(0.0, 1.0), &device);
    let features = [0, 1].map(|_| l2_normalize(random()));
    let temperature = Temperature {
        scale: Tensor::from_floats([100.0], &device),
        bias: None,
    };
    let start = Instant::now();
    let share = share(
        &[(&ClipLoss, 1.0)],
        &features,
        0..pairs,
        &temperature,
        None,
        TILE,
    );
    let loss = share.losses[0].clone().try_into_vec_as::<f32>()?;
    println!(
        "{:.2} s, loss {:.6}",
        start.elapsed().as_secs_f64(),
        loss[0]
    );
    Ok(())
}

/// A gradient for every parameter.
struct Gradients(GradientsParams);

impl ModuleVisitor for Gradients {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        self.0.register(param.id, value.mul_scalar(0.01) + 1e-3);
    }
}

fn adamw(model: &str) -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let loaded = factory::create(model, None, &device, &CreateOptions::default())?;
    let mut optimizer = AdamW::for_model(model).optimizer(&loaded.model);
    let mut model = loaded.model.train();
    let mut seconds = Vec::new();
    for step in 0..9 {
        let mut gradients = Gradients(GradientsParams::new());
        model.visit(&mut gradients);
        let start = Instant::now();
        model = optimizer.step(5e-4, model, gradients.0);
        if step > 1 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    println!("{:.3} s", seconds[seconds.len() / 2]);
    Ok(())
}
