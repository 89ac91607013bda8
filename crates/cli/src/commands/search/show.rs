//! What was found, for people and programs.

use openclip_eval::search::{Collection, Groups, Hit};
use serde::Serialize;
use serde_json::{Map, Value};

use super::queries::Query;
use crate::error::Result;
use crate::output::{Output, Records};

#[derive(Serialize)]
struct Answer<'a> {
    query: &'a Query,
    hits: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    row: usize,
    #[serde(flatten)]
    metadata: Map<String, Value>,
}

#[derive(Serialize)]
struct Group {
    /// The least that joined a row to it.
    cosine: f32,
    rows: Vec<Row>,
}

/// Prints what was found for each query.
pub fn hits(vectors: &Collection, queries: &[Query], found: &[Vec<Hit>], json: bool) -> Result<()> {
    let mut records = Records::stdout(json);
    for (query, hits) in queries.iter().zip(found) {
        let rows: Vec<usize> = hits.iter().map(|hit| hit.row).collect();
        let scores = hits.iter().map(|hit| Some(hit.score));
        let answer = Answer {
            query,
            hits: lines(vectors, &rows, scores)?,
        };
        records.write(&answer, |answer, out| {
            if queries.len() > 1 {
                out.line(answer.query.asked.words())?;
            }
            answer.hits.iter().try_for_each(|row| line(row, out))
        })?;
    }
    records.finish()
}

/// Prints groups of rows that are nearly one another.
pub fn groups(vectors: &Collection, groups: &Groups, json: bool) -> Result<()> {
    let mut records = Records::stdout(json);
    for (at, (rows, cosine)) in groups.iter().enumerate() {
        let group = Group {
            cosine: *cosine,
            rows: lines(vectors, rows, rows.iter().map(|_| None))?,
        };
        records.write(&group, |group, out| {
            out.line(format_args!("group {}, cosine {:.4}", at + 1, group.cosine))?;
            group.rows.iter().try_for_each(|row| line(row, out))
        })?;
    }
    records.finish()
}

fn lines(
    vectors: &Collection,
    rows: &[usize],
    scores: impl Iterator<Item = Option<f32>>,
) -> Result<Vec<Row>> {
    let metadata = vectors.metadata(rows)?.into_iter();
    let all = rows.iter().zip(scores).zip(metadata);
    let row = |((row, score), metadata): ((&usize, _), Map<String, Value>)| Row {
        score,
        row: *row,
        metadata: metadata.into_iter().map(apart).collect(),
    };
    Ok(all.map(row).collect())
}

/// A column that is called as what a row is said of here gets another name.
fn apart((column, value): (String, Value)) -> (String, Value) {
    match column.as_str() {
        "score" | "row" => (format!("metadata.{column}"), value),
        _ => (column, value),
    }
}

fn line(row: &Row, out: &mut Output) -> Result<()> {
    let text = |column| row.metadata.get(column).and_then(Value::as_str);
    let score = row
        .score
        .map(|score| format!("{score:.4}  "))
        .unwrap_or_default();
    let name = text("image_path").map_or_else(|| format!("row {}", row.row), str::to_owned);
    let caption = text("caption").map(|caption| format!("  {caption}"));
    out.line(format_args!(
        "  {score}{name}{}",
        caption.unwrap_or_default()
    ))
}
