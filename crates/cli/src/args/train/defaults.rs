//! The flags of `train` beside those of OpenCLIP's trainer, which `tests/parity/export_flags.py` has listed.

#![allow(clippy::unwrap_used)]

use clap::{Arg, ArgAction};
use serde_json::Value;

use super::foreign::{self, same};
use crate::args;

/// Flags whose default differs, and why.
const DIFFERENCES: [(&str, &str); 9] = [
    (
        "csv-img-key",
        "the first there is of several names, filepath before others",
    ),
    (
        "csv-caption-key",
        "the first there is of several names, title before others",
    ),
    ("device", "auto takes the first accelerator there is"),
    ("precision", "none given: what suits the device"),
    ("lr", "OpenCLIP fills it in behind the parser"),
    ("csv-separator", "the tab is spelled out"),
    ("max-image-pixels", "Pillow's own limit"),
    ("text-key", "none given: txt, else the caption of a .json"),
    ("workers", "as many as there are cores"),
];

fn tables() -> Vec<(String, serde_json::Map<String, Value>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/parity/data/flags.json"
    );
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let tables = json.as_object().unwrap().clone().into_iter();
    tables
        .map(|(release, table)| (release, table.as_object().unwrap().clone()))
        .collect()
}

/// What a flag has where it is not given; nothing for none and for the empty text.
fn default(arg: &Arg, name: &str) -> Option<String> {
    let own = arg.get_default_values().first();
    let own = own.map(|value| value.to_string_lossy().into_owned());
    let known = own.or_else(|| foreign::default(name).map(str::to_owned));
    known.filter(|text| !text.is_empty())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        other => Some(other.to_string()),
    }
}

#[test]
fn every_flag_of_openclip_is_known_with_its_form_and_default() {
    let mut command = args::command();
    command.build();
    let train = command.find_subcommand("train").unwrap();
    let (mut count, mut different) = (0, Vec::new());
    for (release, table) in tables() {
        for (name, row) in &table {
            let place = format!("--{name} of {release}");
            let is_named = |arg: &&Arg| {
                let aliases = arg.get_all_aliases().unwrap_or_default();
                arg.get_long() == Some(name) || aliases.contains(&name.as_str())
            };
            let arg = train.get_arguments().find(is_named).ok_or(&place).unwrap();
            let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
            let most = arg.get_num_args().map_or(1, |range| range.max_values());
            let form = match (is_switch, most) {
                (true, _) => "none",
                (false, 1) => "one",
                (false, _) => "many",
            };
            assert_eq!(row[0], form, "{place}");
            let equal = match (default(arg, name), text(&row[1])) {
                (Some(ours), Some(theirs)) => same(&ours, &theirs),
                (ours, theirs) => ours == theirs,
            };
            let differs = DIFFERENCES.iter().any(|(known, _)| known == name);
            if !(equal || is_switch || differs) {
                different.push((place, default(arg, name)));
            }
            count += 1;
        }
    }
    assert_eq!(different, []);
    assert_eq!(count, 90 + 143);
}

/// A choice of OpenCLIP's is taken, or refused as not built, and never by the parser.
#[test]
fn every_choice_of_openclip_is_known() {
    for (release, table) in tables() {
        for (name, row) in &table {
            for choice in row.get(2).and_then(Value::as_array).into_iter().flatten() {
                let flag = format!("--{name}={}", choice.as_str().unwrap());
                let words = ["openclip", "train", &flag].map(Into::into);
                let parsed = args::parse(words);
                assert!(parsed.is_ok(), "{flag} of {release}");
            }
        }
    }
}
