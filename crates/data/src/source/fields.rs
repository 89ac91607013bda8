//! What a source says about a sample beside its picture and caption: the other columns of a table, the `.json` of a shard.

use std::sync::Arc;

use serde_json::Value;

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text; of lists and objects their JSON.
    Text(String),
}

/// The values of a sample, each with the name of its column; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(Vec<(Arc<str>, Option<Field>)>);

impl Fields {
    /// One more, unless there is one of that name.
    pub fn push(&mut self, name: Arc<str>, value: Option<Field>) {
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.0.push((name, value));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of an object: one within it has its names behind its own and a dot.
    pub(crate) fn of_object(value: Value) -> Self {
        let mut fields = Self::default();
        fields.add("", value);
        fields
    }

    fn add(&mut self, name: &str, value: Value) {
        let field = match value {
            Value::Object(object) => {
                for (inner, value) in object {
                    let name = match name.is_empty() {
                        true => inner,
                        false => format!("{name}.{inner}"),
                    };
                    self.add(&name, value);
                }
                return;
            }
            // A document that is no object says nothing of columns.
            _ if name.is_empty() => return,
            Value::Null => None,
            Value::Bool(value) => Some(Field::Bool(value)),
            Value::String(text) => Some(Field::Text(text)),
            Value::Number(number) => Some(match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Field::Int(whole),
                (None, Some(number)) => Field::Float(number),
                (None, None) => Field::Text(number.to_string()),
            }),
            list @ Value::Array(_) => Some(Field::Text(list.to_string())),
        };
        self.push(name.into(), field);
    }
}

impl IntoIterator for Fields {
    type Item = (Arc<str>, Option<Field>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// In the order in which they came.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(Arc<str>, Option<Field>)> for Fields {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Option<Field>)>>(fields: I) -> Self {
        let mut all = Self::default();
        for (name, value) in fields {
            all.push(name, value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_flat() {
        let value = serde_json::json!({
            "key": "0001", "width": 640, "ratio": 0.5, "ok": true, "exif": {"Model": "X", "n": null}, "tags": ["a"]
        });
        let found: Vec<_> = Fields::of_object(value).into_iter().collect();
        let text = |text: &str| Some(Field::Text(text.into()));
        let mut wanted: Vec<(Arc<str>, Option<Field>)> = vec![
            ("key".into(), text("0001")),
            ("width".into(), Some(Field::Int(640))),
            ("ratio".into(), Some(Field::Float(0.5))),
            ("ok".into(), Some(Field::Bool(true))),
            ("exif.Model".into(), text("X")),
            ("exif.n".into(), None),
            ("tags".into(), text("[\"a\"]")),
        ];
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        let mut found = found;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, wanted);
        assert!(Fields::of_object(serde_json::json!([1])).is_empty());
    }
}
