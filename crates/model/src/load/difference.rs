//! To which family of towers a set of keys belongs, for the error that says that weights are another family's.

use crate::family::keys::Marks;
use crate::files::weights::{OtherFamily, Part};
use crate::{text, vision};

/// What marks the only family of caption decoders.
const CAPTIONS: Marks = ("CoCa's", &[]);

const PARTS: [Part; 3] = [Part::Image, Part::Text, Part::Captions];

/// The family of a part in a state dict with these keys.
fn family(part: Part, keys: &[&str]) -> &'static str {
    let keys: Vec<_> = keys.iter().filter(|key| part.owns(key)).collect();
    if keys.is_empty() {
        return "missing";
    }
    let fits = |(_, marks): &&Marks| {
        let mut marks = marks.iter();
        marks.all(|mark| keys.iter().any(|key| key.contains(mark)))
    };
    let found = match part {
        Part::Image => vision::marks().find(fits),
        Part::Text => text::marks().find(fits),
        Part::Captions => Some(&CAPTIONS),
    };
    found.map_or("of no known family", |(name, _)| name)
}

/// The parts that are of another family in a file with the keys `found` than in a model with the keys `expected`.
pub(super) fn other_families<'a>(
    found: impl IntoIterator<Item = &'a String>,
    expected: impl IntoIterator<Item = &'a String>,
) -> Vec<OtherFamily> {
    let found: Vec<_> = found.into_iter().map(String::as_str).collect();
    let expected: Vec<_> = expected.into_iter().map(String::as_str).collect();
    let compared = PARTS.map(|part| OtherFamily {
        part,
        found: family(part, &found),
        expected: family(part, &expected),
    });
    let differ = compared
        .into_iter()
        .filter(|part| part.found != part.expected);
    differ.collect()
}
