//! Conditions on the metadata: `column=value`, `column~pattern`, `column<number` and their like.

use regex::Regex;
use serde_json::Value;

use super::collection::Collection;
use crate::error::EvalError;

/// A condition that rows fulfil or not; one without a value in the column does not.
#[derive(Clone, Debug)]
pub struct Filter {
    text: String,
    column: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Equal(String),
    Unequal(String),
    Fits(Regex),
    /// The number, and which orders fulfil it.
    Number(f64, &'static [std::cmp::Ordering]),
}

use std::cmp::Ordering::{Equal, Greater, Less};

/// The longer ones first.
const OPERATORS: [&str; 7] = ["!=", "<=", ">=", "=", "~", "<", ">"];

impl std::str::FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = OPERATORS
            .iter()
            .filter_map(|operator| Some((text.find(operator)?, *operator)));
        let first = found.min_by_key(|(at, operator)| (*at, usize::MAX - operator.len()));
        let Some((at, operator)) = first.filter(|(at, _)| *at > 0) else {
            return Err(
                "expected column=value, column!=value, column~pattern, or column<number, <=, >, >="
                    .into(),
            );
        };
        let (column, value) = (text[..at].trim(), text[at + operator.len()..].trim());
        let number = |orders| match value.parse() {
            Ok(number) => Ok(Test::Number(number, orders)),
            Err(_) => Err(format!("{value:?} behind {operator} is no number")),
        };
        let test = match operator {
            "=" => Test::Equal(value.to_owned()),
            "!=" => Test::Unequal(value.to_owned()),
            "~" => Test::Fits(Regex::new(value).map_err(|error| {
                let error = error.to_string();
                format!(
                    "{value:?} is no pattern: {}",
                    error.lines().last().unwrap_or_default()
                )
            })?),
            "<" => number(&[Less])?,
            "<=" => number(&[Less, Equal])?,
            ">" => number(&[Greater])?,
            _ => number(&[Greater, Equal])?,
        };
        Ok(Self {
            text: text.to_owned(),
            column: column.to_owned(),
            test,
        })
    }
}

impl Filter {
    fn fits(&self, cell: &Value) -> bool {
        let text = match cell {
            Value::Null => return false,
            Value::String(text) => text.clone(),
            Value::Array(list) => return list.iter().any(|cell| self.fits(cell)),
            other => other.to_string(),
        };
        let is_same = |value: &str| match (cell.as_f64(), value.parse::<f64>()) {
            (Some(cell), Ok(value)) => cell == value,
            _ => text == value,
        };
        match &self.test {
            Test::Equal(value) => is_same(value),
            Test::Unequal(value) => !is_same(value),
            Test::Fits(pattern) => pattern.is_match(&text),
            Test::Number(number, orders) => {
                let cell = cell.as_f64().or_else(|| text.trim().parse().ok());
                let order = cell.and_then(|cell| cell.partial_cmp(number));
                order.is_some_and(|order| orders.contains(&order))
            }
        }
    }

    /// Which rows of a collection fulfil all of `filters`.
    ///
    /// # Errors
    /// When metadata cannot be read, or have no such column.
    pub fn rows(filters: &[Self], vectors: &Collection) -> Result<Vec<bool>, EvalError> {
        let mut fulfil = vec![true; vectors.rows()];
        vectors.tables(|table, rows, places| {
            let fulfil = &mut fulfil[rows];
            for filter in filters {
                let Some(cells) = table.column(&filter.column)? else {
                    return Err(EvalError::Filter {
                        filter: filter.text.clone(),
                        columns: table.columns().join(", "),
                    });
                };
                for (row, fulfils) in fulfil.iter_mut().enumerate() {
                    let line = places.as_ref().map_or(row, |places| places[row]);
                    *fulfils &= cells.get(line).is_some_and(|cell| filter.fits(cell));
                }
            }
            Ok(())
        })?;
        Ok(fulfil)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn conditions() {
        let fits = |filter: &str, cell: Value| filter.parse::<Filter>().unwrap().fits(&cell);
        assert!(fits("caption=a cat", json!("a cat")) && !fits("caption=a", json!("a cat")));
        assert!(fits("width=512", json!(512)) && fits("width = 512", json!(512.0)));
        assert!(fits("x!=1", json!(2)) && !fits("x!=1", json!(1)) && !fits("x!=1", json!(null)));
        assert!(fits("caption~^a.*t$", json!("a cat")) && !fits("caption~dog", json!("a cat")));
        assert!(
            fits("w>=512", json!(512)) && !fits("w>512", json!(512)) && fits("w<6e2", json!("512"))
        );
        assert!(!fits("w<600", json!("wide")) && !fits("w<600", json!(f64::NAN)));
        assert!(fits("tags=b", json!(["a", "b"])) && !fits("ok=true", json!(false)));
        assert!(fits("url=https://a/?x=1", json!("https://a/?x=1")));
        for bad in ["caption", "=x", "w<wide", "c~("] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
