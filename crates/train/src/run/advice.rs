//! Settings that go together and still teach a model nothing, which a run should say before it has taken its time.

use std::collections::HashSet;

use burn::module::ParamId;
use openclip_data::source::kind::DatasetKind;
use openclip_model::Clip;
use openclip_model::params;

use crate::TrainConfig;
use crate::loss::Objective;
use crate::schedule::Schedule;

/// One line for each. `batch` is the number of pairs of a step, on all ranks together.
pub(super) fn idle_settings(
    config: &TrainConfig,
    model: &Clip,
    frozen: &HashSet<ParamId>,
    objective: &Objective,
    schedule: &Schedule,
    batch: usize,
) -> Vec<String> {
    let towers_learn = {
        let mut all = params::describe(model).into_iter();
        all.any(|param| {
            param.is_parameter() && !frozen.contains(&param.id) && !param.key.starts_with("logit_")
        })
    };
    let mut lines = of_numbers(config, objective, schedule, batch);
    if !towers_learn {
        lines.push("both towers are locked: nothing but the logit scale learns".into());
    }
    lines
}

fn of_numbers(
    config: &TrainConfig,
    objective: &Objective,
    schedule: &Schedule,
    batch: usize,
) -> Vec<String> {
    let Schedule {
        lr, warmup, total, ..
    } = *schedule;
    let mut lines = Vec::new();
    if lr == 0.0 {
        lines.push("--lr 0: no step changes a weight".into());
    } else if !config.skip_scheduler && warmup >= total {
        let reached = schedule.lr(total.saturating_sub(1));
        lines.push(format!(
            "--warmup {warmup}: the run has {total} steps, all of them warm-up: the learning rate ends at {reached:.3e} \
             where --lr is {lr}"
        ));
    }
    let data = config.train_data.as_deref().unwrap_or_default();
    let is_numbered = data.split("::").all(|part| {
        let kind = DatasetKind::parse(&config.dataset_type, part);
        kind.is_ok_and(DatasetKind::is_numbered)
    });
    if config.train_num_samples.is_some() && is_numbered {
        lines.push("--train-num-samples changes nothing: an epoch is all there is".into());
    }
    let name = objective.contrastive.name();
    if objective.describe().is_empty() {
        lines.push("every part of the loss has weight 0: nothing is learned".into());
    } else if batch == 1 && objective.contrastive_weight != 0.0 {
        let effect = match objective.contrastive.needs_other_pairs() {
            true => "is the same whatever the model says, and teaches nothing",
            false => "teaches to match everything with everything",
        };
        lines.push(format!(
            "--batch-size 1: a step has one pair and none to tell it from: {name} {effect}"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{CaptionObjective, SigLipLoss};
    use crate::schedule::Decay;

    #[test]
    fn settings_that_teach_nothing_have_a_line_each() {
        let clip = Objective::default();
        let caption = CaptionObjective {
            weight: 2.0,
            pad: 0,
        };
        let coca = |contrastive_weight| Objective {
            contrastive_weight,
            caption: Some(caption),
            ..clip
        };
        let lines = |lr, warmup, batch, objective: &Objective| {
            let schedule = Schedule {
                lr,
                warmup,
                total: 20,
                decay: Decay::Cosine,
            };
            of_numbers(&TrainConfig::default(), objective, &schedule, batch).join("\n")
        };
        assert_eq!(lines(1e-3, 19, 2, &clip), "");
        let line = lines(1e-3, 20, 2, &clip);
        assert!(
            line.starts_with("--warmup 20: the run has 20 steps"),
            "{line}"
        );
        let line = lines(1e-3, 10_000, 2, &clip);
        assert!(line.contains("ends at 2.000e-6"), "{line}");
        assert!(lines(0.0, 0, 2, &clip).starts_with("--lr 0"));
        assert!(lines(1e-3, 0, 1, &clip).contains("teaches nothing"));
        let line = lines(1e-3, 0, 1, &Objective::of(&SigLipLoss));
        assert!(line.contains("everything with everything"), "{line}");
        assert!(lines(1e-3, 0, 1, &coca(1.0)).starts_with("--batch-size 1"));
        assert_eq!(lines(1e-3, 0, 1, &coca(0.0)), "");
        let nothing = Objective {
            contrastive_weight: 0.0,
            ..clip
        };
        assert!(lines(1e-3, 0, 8, &nothing).starts_with("every part of the loss"));
        assert_eq!(lines(0.0, 20, 1, &clip).lines().count(), 2);
    }
}
