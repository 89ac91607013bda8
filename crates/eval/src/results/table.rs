//! Many results as one table.

use std::collections::BTreeSet;

use serde_json::Value;

use super::record::Record;

/// Columns before the metrics, as CLIP_benchmark's `build` has them.
const COLUMNS: [&str; 6] = [
    "dataset",
    "model",
    "pretrained",
    "task",
    "language",
    "model_fullname",
];
/// Columns before the metrics in Markdown.
const SHOWN: [&str; 4] = ["dataset", "model", "pretrained", "task"];

/// Comma-separated values: a row for each result, a column for each metric that one of them has, empty in the others.
pub fn csv(records: &[Record]) -> String {
    let metrics = metrics(records);
    let header = COLUMNS.iter().map(|name| (*name).to_owned());
    let header = header.chain(metrics.iter().map(|name| quoted(name)));
    let mut lines = vec![header.collect::<Vec<_>>().join(",")];
    for record in records {
        let cells = COLUMNS.iter().map(|column| quoted(&cell(record, column)));
        let values = metrics.iter().map(|name| match record.metrics.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => quoted(text),
            Some(value) => value.to_string(),
        });
        lines.push(cells.chain(values).collect::<Vec<_>>().join(","));
    }
    lines.join("\n") + "\n"
}

/// A table in Markdown, with numbers to four places.
pub fn markdown(records: &[Record]) -> String {
    let metrics = metrics(records);
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let header = SHOWN.iter().map(|name| (*name).to_owned());
    let mut text = row(header.chain(metrics.iter().cloned()).collect());
    let rule = SHOWN.iter().map(|_| "---".to_owned());
    text += &row(rule
        .chain(metrics.iter().map(|_| "---:".to_owned()))
        .collect());
    for record in records {
        let cells = SHOWN
            .iter()
            .map(|column| cell(record, column).replace('|', "\\|"));
        let values = metrics.iter().map(|name| match record.metrics.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::Number(number)) if number.is_f64() => {
                format!("{:.4}", number.as_f64().unwrap_or(f64::NAN))
            }
            Some(value) => value.to_string(),
        });
        text += &row(cells.chain(values).collect());
    }
    text
}

/// The names of all metrics, in order.
fn metrics(records: &[Record]) -> Vec<String> {
    let names = records.iter().flat_map(|record| record.metrics.keys());
    names
        .collect::<BTreeSet<_>>()
        .into_iter()
        .cloned()
        .collect()
}

fn cell(record: &Record, column: &str) -> String {
    match column {
        "dataset" => record.dataset.clone(),
        "model" => record.model.clone(),
        "pretrained" => record.pretrained.clone(),
        "task" => record.task.clone(),
        "language" => record.language.clone(),
        _ => format!("{} {}", record.model, record.pretrained),
    }
}

/// In quotes where it has to be.
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_for_each_result_and_a_column_for_each_metric() {
        let record = |dataset: &str, metrics: Value| Record {
            dataset: dataset.into(),
            model: "A".into(),
            pretrained: "b".into(),
            task: "t".into(),
            metrics: metrics.as_object().cloned().unwrap_or_default(),
            language: "en".into(),
            intervals: BTreeMap::new(),
        };
        let records = [
            record("x,y", json!({"acc1": 0.25, "acc5": null})),
            record("z", json!({"lp_acc1": 0.123_456, "normalized": true})),
        ];
        assert_eq!(
            csv(&records),
            "dataset,model,pretrained,task,language,model_fullname,acc1,acc5,lp_acc1,normalized\n\
             \"x,y\",A,b,t,en,A b,0.25,,,\n\
             z,A,b,t,en,A b,,,0.123456,true\n"
        );
        assert_eq!(
            markdown(&records),
            "| dataset | model | pretrained | task | acc1 | acc5 | lp_acc1 | normalized |\n\
             | --- | --- | --- | --- | ---: | ---: | ---: | ---: |\n\
             | x,y | A | b | t | 0.2500 |  |  |  |\n\
             | z | A | b | t |  |  | 0.1235 | true |\n"
        );
    }
}
