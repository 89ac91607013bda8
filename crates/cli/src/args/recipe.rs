//! `train --config FILE.toml`: flags from a file, under their names.
//!
//! A key is a flag's name, with `-` or `_`. `true` gives a switch, a list several values, and a table the `key=value` settings of
//! `aug-cfg` and `opt-kwargs`. What stands on the command line comes later and so wins; `--switch=false` takes a switch back.

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

/// The flags of the file `path`, as words of a command line of `train`.
///
/// # Errors
/// One line that names the file, and the key where there is one at fault.
pub fn flags(path: &Path, train: &Command) -> Result<Vec<OsString>, String> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
    words(&text, train).map_err(|error| format!("{place}: {error}"))
}

fn words(text: &str, train: &Command) -> Result<Vec<OsString>, String> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
    let mut words = Vec::new();
    for (key, value) in &table {
        let name = key.replace('_', "-");
        let known = train.get_arguments();
        let arg = known.into_iter().find(|arg| arg.get_long() == Some(&name));
        let arg = arg
            .filter(|arg| arg.get_id() != "config")
            .ok_or_else(|| unknown(key, &name, train))?;
        let fault = |expected: &str| format!("{key}: expected {expected}, found {value}");
        words.extend(flag(arg, &name, value).map_err(fault)?);
    }
    Ok(words.into_iter().map(OsString::from).collect())
}

/// A key that is no flag, with the flag that was probably meant.
fn unknown(key: &str, name: &str, train: &Command) -> String {
    let flags = train.get_arguments().filter_map(Arg::get_long);
    let nearest = flags
        .map(|flag| (strsim::damerau_levenshtein(flag, name), flag))
        .min()
        .filter(|(distance, flag)| 3 * distance <= flag.len());
    match nearest {
        Some((_, flag)) => format!("{key} is no flag of train; did you mean {flag}?"),
        None => format!("{key} is no flag of train; see `openclip train --help`"),
    }
}

fn flag(arg: &Arg, name: &str, value: &Value) -> Result<Vec<String>, &'static str> {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    match value {
        Value::Boolean(true) if is_switch => Ok(vec![format!("--{name}")]),
        Value::Boolean(false) if is_switch => Ok(Vec::new()),
        _ if is_switch => Err("true or false"),
        Value::Array(values) => {
            let values = values
                .iter()
                .map(|value| word(value).ok_or("numbers or texts"));
            let mut words = vec![format!("--{name}")];
            words.extend(values.collect::<Result<Vec<_>, _>>()?);
            Ok(words)
        }
        Value::Table(settings) => {
            let settings = settings.iter().map(|(key, value)| {
                let value = literal(value).ok_or("settings with numbers, texts or lists")?;
                Ok(format!("{key}={value}"))
            });
            let mut words = vec![format!("--{name}")];
            words.extend(settings.collect::<Result<Vec<_>, &str>>()?);
            Ok(words)
        }
        value => Ok(vec![format!("--{name}={}", word(value).ok_or("a value")?)]),
    }
}

/// The command line with each switch at most once: `--switch`, where the last of `--switch`, `--switch=true` and `--switch=false`
/// is none of the latter.
pub fn settle_switches(args: &[OsString], train: &Command) -> Vec<OsString> {
    let switch = |word: &OsString| {
        let (name, value) = word.to_str()?.strip_prefix("--")?.split_once('=')?;
        let mut known = train.get_arguments();
        let arg = known.find(|arg| arg.get_long() == Some(name))?;
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        Some((format!("--{name}"), value.parse::<bool>().ok()?)).filter(|_| is_switch)
    };
    let mut settled: Vec<OsString> = Vec::new();
    for word in args {
        match switch(word) {
            Some((name, on)) => {
                settled.retain(|word| *word != *name);
                settled.extend(on.then(|| name.into()));
            }
            None => settled.push(word.clone()),
        }
    }
    settled
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// As Python writes it.
fn literal(value: &Value) -> Option<String> {
    match value {
        Value::Boolean(true) => Some("True".into()),
        Value::Boolean(false) => Some("False".into()),
        Value::Array(values) => {
            let values: Option<Vec<_>> = values.iter().map(word).collect();
            Some(format!("({})", values?.join(",")))
        }
        value => word(value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use crate::args::{self, Command};
    use crate::commands::train::config;
    use openclip_train::TrainConfig;

    /// The configuration of `train --config FILE FLAGS`, or what is wrong.
    fn parse(text: &str, flags: &str) -> Result<TrainConfig, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let line = format!("openclip train --config {} {flags}", file.path().display());
        let cli = args::parse(line.split_whitespace().map(Into::into));
        let Command::Train(args) = cli.map_err(|error| error.to_string())?.command else {
            panic!("another command")
        };
        assert_eq!(args.run.config.as_deref(), Some(file.path()));
        config(&args).map_err(|error| error.message())
    }

    #[test]
    fn keys_are_flags_and_the_command_line_wins() {
        let text = "
            model = 'ViT-S-32'
            train_data = 'shards/{00..11}.tar'
            batch-size = 96
            lr = 1e-3
            lock-image = true
            lock_text = false
            image_mean = [0.5, 0.25, 0.125]
            aug_cfg = { scale = [0.4, 1.0], gray_scale_prob = 0.2 }
        ";
        let found = parse(text, "--lr 0.25 --batch-size=8").unwrap();
        assert_eq!(found.model, "ViT-S-32");
        assert_eq!(found.train_data.as_deref(), Some("shards/{00..11}.tar"));
        assert_eq!((found.batch_size, found.lr), (8, 0.25));
        assert!(found.lock_image && !found.lock_text);
        assert_eq!(found.image_mean, Some([0.5, 0.25, 0.125]));
        assert_eq!(
            (found.aug_scale, found.aug_gray_scale_prob),
            ([0.4, 1.0], Some(0.2))
        );
        assert_eq!(parse(text, "").unwrap().lr, 1e-3);
        for (flags, on) in [
            ("", true),
            ("--lock-image=false", false),
            ("--lock-image=false --lock-image", true),
            ("--lock-image=true --lock-image=false", false),
        ] {
            assert_eq!(parse(text, flags).unwrap().lock_image, on, "{flags}");
        }
        assert!(parse(text, "--lock-image=no").is_err());
        assert!(parse(text, "--batch-size=false").is_err());
    }

    #[test]
    fn faults_name_file_and_key() {
        for (text, words) in [
            ("batch_sise = 8", ["batch_sise", "did you mean batch-size?"]),
            ("learning = 1", ["learning is no flag", "--help"]),
            ("lock-image = 3", ["lock-image", "true or false"]),
            ("lr = [[1]]", ["lr", "numbers or texts"]),
            ("config = 'other.toml'", ["config is no flag", "of train"]),
            ("lr = ", ["TOML", "lr ="]),
        ] {
            let error = parse(text, "").unwrap_err();
            assert!(error.contains("/tmp") || error.contains(".tmp"), "{error}");
            for word in words {
                assert!(error.contains(word), "{text}: {error}");
            }
        }
    }
}
