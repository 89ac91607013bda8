//! `train --dry-run`: what a run would need.

use openclip_train::TrainConfig;
use openclip_train::plan::Plan;

use crate::error::{CliError, Outcome, Result};
use crate::output::Output;

const GIB: f64 = (1_u64 << 30) as f64;

/// Prints what a run on `world_size` ranks needs, and the largest batch for devices of `memory` GiB.
pub fn show(config: &TrainConfig, world_size: u64, memory: Option<f64>) -> Result {
    if memory.is_some_and(|gib| !(gib > 0.0 && gib < 1e6)) {
        return Err(CliError::Usage(
            "--device-memory: expected a number of GiB above 0".into(),
        ));
    }
    let plan = Plan::of(config, world_size)?;
    let mut out = Output::stdout();
    for (label, text) in lines(&plan, memory) {
        out.line(format_args!("{label:<15} {text}"))?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}

fn lines(plan: &Plan, memory: Option<f64>) -> Vec<(&'static str, String)> {
    let millions = |count: u64| format!("{:.2} M", count as f64 / 1e6);
    let Plan {
        fixed,
        communication,
        batch,
        accum_freq,
        world_size,
        ..
    } = plan;
    let unknown = || "not estimated for this family".to_owned();
    let mut lines = vec![
        ("model", plan.model.clone()),
        ("precision", plan.precision.name().to_owned()),
        (
            "parameters",
            format!(
                "{}, trainable {}",
                millions(plan.parameters),
                millions(plan.trainable)
            ),
        ),
        (
            "step",
            format!(
                "{} samples: {batch} on each of {world_size} rank(s), {accum_freq} time(s)",
                batch * accum_freq * world_size
            ),
        ),
        ("weights", size(fixed.weights)),
        ("gradients", size(fixed.gradients)),
        ("optimizer", size(fixed.optimizer)),
        (
            "activations",
            plan.activations.map_or_else(unknown, |sample| {
                format!("{}, {} a sample", size(sample * batch), size(sample))
            }),
        ),
        ("features", size(plan.features * batch * accum_freq)),
        (
            "memory",
            plan.memory(*batch)
                .map_or_else(unknown, |all| format!("{} on each rank", size(all))),
        ),
        (
            "exchange a step",
            format!(
                "{} received by each rank: features {}, their gradients {}, parameters' gradients {}",
                size(
                    communication.features
                        + communication.feature_gradients
                        + communication.parameter_gradients
                ),
                size(communication.features),
                size(communication.feature_gradients),
                size(communication.parameter_gradients)
            ),
        ),
    ];
    if fixed.average > 0 {
        lines.insert(6, ("average", size(fixed.average)));
    }
    if let Some(gib) = memory {
        let largest = plan.largest_batch((gib * GIB) as u64);
        let text = largest.map_or_else(unknown, |batch| match batch {
            0 => format!("none: {gib} GiB do not hold model and optimizer"),
            batch => format!("--batch-size {batch} in {gib} GiB"),
        });
        lines.push(("largest batch", text));
    }
    lines
}

fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= GIB => format!("{:.2} GiB", bytes / GIB),
        bytes => format!("{:.1} MiB", bytes / (GIB / 1024.0)),
    }
}
