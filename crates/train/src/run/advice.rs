//! Settings that go together and still teach a model nothing, which a run should say before it has taken its time.

use std::collections::HashSet;

use burn::module::ParamId;
use openclip_data::source::Source;
use openclip_data::source::keys::IMAGE_KEY;
use openclip_data::source::kind::DatasetKind::{self, Arrow, Csv, Parquet, Webdataset};
use openclip_model::Clip;
use openclip_model::params;

use crate::TrainConfig;
use crate::loss::Objective;
use crate::schedule::Schedule;

/// Flags of the form of data: whether one is given, and the kinds of data that it is for.
type FormFlag = (
    &'static str,
    fn(&TrainConfig) -> bool,
    &'static [DatasetKind],
);

const FORM: [FormFlag; 7] = [
    (
        "--csv-separator",
        |c| !["\t", "\\t"].contains(&c.csv_separator.as_str()),
        &[Csv],
    ),
    (
        "--csv-img-key",
        |c| c.csv_img_key.is_some(),
        &[Csv, Parquet, Arrow],
    ),
    (
        "--csv-caption-key",
        |c| c.csv_caption_key.is_some(),
        &[Csv, Parquet, Arrow],
    ),
    ("--image-key", |c| c.image_key != IMAGE_KEY, &[Webdataset]),
    ("--text-key", |c| c.text_key.is_some(), &[Webdataset]),
    (
        "--json-text-key",
        |c| c.json_text_key.is_some(),
        &[Webdataset],
    ),
    (
        "--json-text-key-probs",
        |c| !c.json_text_key_probs.is_empty(),
        &[Webdataset],
    ),
];

/// One line for each. `batch` is the number of pairs of a step, on all ranks together.
pub(super) fn idle_settings(
    config: &TrainConfig,
    source: &dyn Source,
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
    if !towers_learn && config.finetune.is_none() {
        lines.push("both towers are locked: nothing but the logit scale learns".into());
    }
    lines.extend(of_data(config, source));
    lines
}

/// What is said about data that is of another kind.
fn of_data(config: &TrainConfig, source: &dyn Source) -> Vec<String> {
    let mut lines = Vec::new();
    // Tables answer with what they hold, whatever is asked for.
    let takes = |samples| {
        source
            .num_samples(Some(samples))
            .is_ok_and(|found| found == samples)
    };
    if config
        .train_num_samples
        .is_some_and(|samples| !takes(samples))
    {
        lines.push("--train-num-samples changes nothing: an epoch is all there is".into());
    }
    if config.dataset_resampled && !takes(u64::MAX) {
        lines.push("--dataset-resampled changes nothing: this data has no shards to draw".into());
    }
    let sets = [config.train_data.as_deref(), config.val_data.as_deref()];
    let kinds = sets
        .into_iter()
        .map(|data| DatasetKind::of_list(&config.dataset_type, data.unwrap_or_default()));
    let kinds: Vec<DatasetKind> = kinds.flatten().flatten().collect();
    for (flag, is_given, of_kinds) in FORM {
        if is_given(config) && !kinds.iter().any(|kind| of_kinds.contains(kind)) {
            let names: Vec<&str> = of_kinds.iter().map(|kind| kind.name()).collect();
            lines.push(format!(
                "{flag} changes nothing: it is for data of the kind {}",
                names.join(", ")
            ));
        }
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
    #![allow(clippy::unwrap_used)]
    use openclip_data::source::csv::CsvFormat;
    use openclip_data::source::open::{OpenOptions, open};

    use super::*;
    use crate::loss::{CaptionObjective, SigLipLoss};
    use crate::schedule::Decay;

    #[test]
    fn flags_for_other_data_have_a_line_each() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, "filepath,title\na.jpg,x\nb.jpg,y\n").unwrap();
        let one = path.to_str().unwrap().to_owned();
        let lines = |data: &str, config: TrainConfig| {
            let options = OpenOptions {
                csv: CsvFormat {
                    separator: ",".into(),
                    ..CsvFormat::default()
                },
                resampled: config.dataset_resampled,
                upsampling_factors: config.train_data_upsampling_factors.clone(),
                ..OpenOptions::default()
            };
            let source = open(data, &options).unwrap().source;
            let config = TrainConfig {
                train_data: Some(data.to_owned()),
                csv_separator: ",".into(),
                ..config
            };
            of_data(&config, source.as_ref()).join("\n")
        };
        let config = TrainConfig {
            train_num_samples: Some(5),
            dataset_resampled: true,
            ..TrainConfig::default()
        };
        let found = lines(&one, config.clone());
        assert!(
            found.starts_with("--train-num-samples changes nothing"),
            "{found}"
        );
        assert!(
            found.contains("\n--dataset-resampled changes nothing"),
            "{found}"
        );
        assert_eq!(found.lines().count(), 2, "{found}");
        // Several sources that are drawn from take both.
        let config = TrainConfig {
            train_data_upsampling_factors: Some("1::2".into()),
            ..config
        };
        assert_eq!(lines(&format!("{one}::{one}"), config), "");
        let config = TrainConfig {
            text_key: Some("caption".into()),
            csv_img_key: Some("filepath".into()),
            ..TrainConfig::default()
        };
        let found = lines(&one, config.clone());
        assert_eq!(
            found,
            "--text-key changes nothing: it is for data of the kind webdataset"
        );
        // The validation data may be of another kind.
        let config = TrainConfig {
            val_data: Some("val.tar".into()),
            ..config
        };
        assert_eq!(lines(&one, config), "");
    }

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
