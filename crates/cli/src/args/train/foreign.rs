//! Flags of OpenCLIP's trainer that have no effect here, and flags of features that are not built yet.
//!
//! All of them are known by name, so that an old command line gets an answer about each and none is ignored in silence.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::error::{CliError, Result};

/// How many values follow a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    None,
    One,
    Many,
}

/// A flag that is known and not acted on.
struct Foreign {
    name: &'static str,
    values: Values,
    /// OpenCLIP's default, which is what happens anyway; it may be written out.
    default: Option<&'static str>,
    answer: Answer,
}

/// What the user is told.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Why it changes nothing.
    Note(&'static str),
    /// Why none of these values changes anything; a refusal for any other.
    AnyOf(&'static [&'static str], &'static str),
    /// A refusal.
    Later,
}

impl Foreign {
    /// Whether the default was written out.
    fn is_default(&self, value: Option<&str>) -> bool {
        match (value, self.default) {
            (Some(value), Some(known)) => same(value, known),
            _ => false,
        }
    }

    const fn new(name: &'static str, values: Values, answer: Answer) -> Self {
        Self {
            name,
            values,
            default: None,
            answer,
        }
    }

    const fn default(self, value: &'static str) -> Self {
        Self {
            default: Some(value),
            ..self
        }
    }
}

const fn note(name: &'static str, values: Values, why: &'static str) -> Foreign {
    Foreign::new(name, values, Answer::Note(why))
}

const fn any_of(name: &'static str, values: &'static [&'static str], why: &'static str) -> Foreign {
    Foreign::new(name, Values::One, Answer::AnyOf(values, why))
}

const fn later(name: &'static str, values: Values) -> Foreign {
    Foreign::new(name, values, Answer::Later)
}

const RELAY: &str = "the gradient of the whole batch's loss is always exact";
const PYTORCH: &str = "it concerns PyTorch alone";
const LAUNCHER: &str = "mpirun or srun connects the processes";
const STORE: &str = "the address says which store it is";
const WIDE: &str = "features are compared in 32 bits whatever --precision says";
const CODE: &str = "params.json names the version that ran";
const LOGS: &str = "metrics are written every --log-every-n-steps";

#[rustfmt::skip]
const FOREIGN: &[Foreign] = &[
    note("local-loss", Values::None, RELAY),
    note("gather-with-grad", Values::None, RELAY),
    note("ddp-static-graph", Values::None, PYTORCH),
    note("torchcompile", Values::None, PYTORCH),
    any_of("torchcompile-strategy", &["model", "task", "step"], PYTORCH).default("task"),
    note("torchcompile-backend", Values::One, PYTORCH),
    note("torchcompile-mode", Values::One, PYTORCH),
    note("torchscript", Values::None, PYTORCH),
    note("trace", Values::None, PYTORCH),
    note("dist-url", Values::One, LAUNCHER),
    note("dist-backend", Values::One, LAUNCHER),
    note("no-set-device-rank", Values::None, "--device cuda:0 names the device; without a number each process of a node takes its own"),
    note("log-local", Values::None, "the first rank logs for all"),
    note("copy-codebase", Values::None, CODE),
    note("log-metric-every-n-steps", Values::One, LOGS).default("10"),
    note("train-loss-ema-samples", Values::One, "the loss is shown as it is").default("50000"),
    note("val-retrieval-chunk-size", Values::One, "retrieval always works in chunks").default("4096"),
    any_of("loss-dist-impl", &["bidir", "shift", "reduce", "gather"], RELAY),
    any_of("val-retrieval-precision", &["fp32", "model"], WIDE).default("fp32"),
    later("fsdp-checkpoint", Values::One).default("full"),
    any_of("remote-sync-protocol", &["s3", "fsspec"], STORE).default("s3"),
    later("horovod", Values::None),
    later("opt-fallback-list", Values::Many),
    later("audio-layer-decay", Values::One),
    later("text-pooler-own-group", Values::None),
    later("fsdp", Values::None),
    later("fsdp-no-reshard-after-forward", Values::None),
    later("fsdp-offload-cpu", Values::None),
    later("length-bucketing", Values::None),
    later("bucket-pool", Values::One).default("2048"),
    later("bucket-chunk", Values::One).default("128"),
    later("bucket-prefetch-pools", Values::One).default("0"),
    later("text-pad-multiple", Values::One),
    later("use-naflex", Values::None),
    later("force-naflex-vision", Values::None),
    later("naflex-num-train-image-tokens", Values::One),
    later("naflex-patch-sizes", Values::Many),
    later("naflex-patch-size-probs", Values::Many),
    later("naflex-seq-lens", Values::Many),
    later("naflex-seq-len-probs", Values::Many),
    later("naflex-max-tokens-per-batch", Values::One).default("16384"),
    later("naflex-max-text-tokens", Values::One),
    later("naflex-batch-divisor", Values::One).default("8"),
    later("naflex-loss-scale", Values::One).default("none"),
    later("naflex-pad-multiple", Values::One),
    later("audio-ext", Values::One).default("flac"),
    later("pretrained-audio", Values::One),
    later("audio-fill", Values::One).default("repeatpad"),
    later("audio-trunc", Values::One).default("rand_trunc"),
    later("audio-fusion", Values::None),
    later("audio-int16-normalize", Values::None),
    later("audio-zeroshot-dataset", Values::One),
    later("audio-zeroshot-split", Values::One).default("train"),
    later("audio-zeroshot-audio-key", Values::One).default("audio"),
    later("audio-zeroshot-target-key", Values::One).default("target"),
    later("audio-zeroshot-class-key", Values::One).default("category"),
    later("audio-zeroshot-template", Values::Many),
    later("audio-zeroshot-workers", Values::One).default("0"),
    later("audio-zeroshot-multiprocessing-context", Values::One).default("forkserver"),
    later("audio-multiprocessing-context", Values::One).default("forkserver"),
];

/// Which flags without a place of their own were given.
#[derive(Debug, Default)]
pub struct ForeignFlags {
    /// Names with their values.
    given: Vec<(usize, Vec<String>)>,
    /// `--debug`.
    pub debug: bool,
}

impl ForeignFlags {
    /// What to tell about flags that change nothing, in the order of the table.
    ///
    /// # Errors
    /// One line that names every flag of a feature that is not built yet.
    pub fn check(&self) -> Result<Vec<String>> {
        let (mut refused, mut notes) = (Vec::new(), Vec::new());
        for (index, values) in &self.given {
            let foreign = &FOREIGN[*index];
            let name = foreign.name;
            let value = values.last().map(String::as_str);
            let shown = match foreign.values {
                Values::One => format!("--{name} {}", value.unwrap_or_default()),
                _ => format!("--{name}"),
            };
            match foreign.answer {
                _ if foreign.is_default(value) => {}
                Answer::Note(why) => notes.push(format!("--{name} changes nothing: {why}")),
                Answer::AnyOf(known, why) if value.is_some_and(|value| known.contains(&value)) => {
                    notes.push(format!("{shown} changes nothing: {why}"));
                }
                Answer::AnyOf(..) | Answer::Later => refused.push(shown),
            }
        }
        match refused.as_slice() {
            [] => Ok(notes),
            [one] => Err(CliError::Usage(format!("{one} is not built yet"))),
            many => Err(CliError::Usage(format!(
                "{} are not built yet",
                many.join(", ")
            ))),
        }
    }
}

/// Equal as text or as a number.
pub(super) fn same(value: &str, known: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    value == known || number(value).is_some_and(|value| Some(value) == number(known))
}

impl Args for ForeignFlags {
    fn augment_args(command: Command) -> Command {
        let command = command.next_help_heading("PyTorch").arg(
            Arg::new("debug")
                .long("debug")
                .action(ArgAction::SetTrue)
                .help("Log in more detail, as OPENCLIP_LOG=debug does"),
        );
        FOREIGN.iter().fold(command, |command, foreign| {
            let arg = Arg::new(foreign.name).long(foreign.name).hide(true);
            command.arg(match foreign.values {
                Values::None => arg.action(ArgAction::SetTrue),
                Values::One => arg.num_args(1).allow_hyphen_values(true),
                Values::Many => arg.num_args(0..),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ForeignFlags {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        use clap::parser::ValueSource::CommandLine;
        let given = FOREIGN
            .iter()
            .enumerate()
            .filter(|(_, foreign)| matches.value_source(foreign.name) == Some(CommandLine));
        self.given = given
            .map(|(index, foreign)| {
                let values = match foreign.values {
                    Values::None => Vec::new(),
                    _ => matches
                        .get_many::<String>(foreign.name)
                        .map(|values| values.cloned().collect())
                        .unwrap_or_default(),
                };
                (index, values)
            })
            .collect();
        self.debug = matches.get_flag("debug");
        Ok(())
    }
}

/// OpenCLIP's default of a flag of the table.
#[cfg(test)]
pub(super) fn default(name: &str) -> Option<&'static str> {
    let foreign = FOREIGN.iter().find(|foreign| foreign.name == name);
    foreign.and_then(|foreign| foreign.default)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(args: &[&str]) -> ForeignFlags {
        let command = ForeignFlags::augment_args(Command::new("train"));
        let matches = command
            .try_get_matches_from([&["train"], args].concat())
            .unwrap();
        ForeignFlags::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn harmless_flags_are_noted() {
        let flags = parse(&["--gather-with-grad", "--dist-url", "tcp://x:1"]);
        let notes = flags.check().unwrap();
        assert_eq!(notes.len(), 2);
        assert!(notes[0].starts_with("--gather-with-grad changes nothing: "));
        assert!(parse(&[]).check().unwrap().is_empty());
    }

    #[test]
    fn a_default_written_out_is_fine() {
        let written = parse(&[
            "--fsdp-checkpoint",
            "full",
            "--audio-ext",
            "flac",
            "--val-retrieval-precision",
            "fp32",
            "--bucket-pool",
            "2048",
        ]);
        assert!(written.check().unwrap().is_empty());
        let other = parse(&["--audio-ext", "wav"])
            .check()
            .unwrap_err()
            .message();
        assert_eq!(other, "--audio-ext wav is not built yet");
    }

    #[test]
    fn retrieval_in_the_model_s_precision_is_a_value() {
        let notes = parse(&["--val-retrieval-precision", "model"]);
        let notes = notes.check().unwrap();
        assert!(notes[0].starts_with("--val-retrieval-precision model changes nothing: "));
        let other = parse(&["--val-retrieval-precision", "fp16"]).check();
        let other = other.unwrap_err().message();
        assert_eq!(other, "--val-retrieval-precision fp16 is not built yet");
    }

    #[test]
    fn every_way_to_exchange_siglip_gives_one_answer() {
        for value in ["bidir", "shift", "reduce", "gather"] {
            let notes = parse(&["--loss-dist-impl", value]).check().unwrap();
            assert_eq!(notes.len(), 1);
        }
        let other = parse(&["--loss-dist-impl", "ring"]).check().unwrap_err();
        assert_eq!(other.message(), "--loss-dist-impl ring is not built yet");
    }

    #[test]
    fn features_to_come_are_refused_by_name() {
        let one = parse(&["--horovod"]).check().unwrap_err();
        assert_eq!(one.message(), "--horovod is not built yet");
        let two = parse(&["--fsdp", "--audio-ext", "wav"])
            .check()
            .unwrap_err();
        assert_eq!(two.message(), "--fsdp, --audio-ext wav are not built yet");
    }
}
