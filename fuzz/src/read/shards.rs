//! Lists of shards and of other data: braces, `A::B`, `@FILE` and its lines, places, kinds, factors and numbers of samples.
//!
//! Nothing here may start a command: `@pipe:COMMAND` would. Input stands behind an `@` only as the content of the file.

use super::files::with_folder;
use openclip_data::source::braces;
use openclip_data::source::kind::DatasetKind;
use openclip_data::source::shards::Shards;
use openclip_data::storage::Place;

/// Names of one pattern that are looked at: each is allowed to stand for millions.
const LOOKED_AT: usize = 1 << 10;
/// Characters of a pattern that is expanded. Ten million names of a few bytes are allowed, but slow.
const LONGEST_PATTERN: usize = 64;

fn look_at(place: &Place) {
    let name = place.to_string();
    let _ = (place.file_name(), place.as_file());
    if let Some(beside) = place.sibling("sizes.json") {
        assert!(beside.sibling("sizes.json").is_some(), "{name}");
    }
}

/// Whether a pattern stands for few enough names for a fuzzer's patience: few commas and ranges, no number of more than two digits.
fn is_quick(pattern: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).count();
    pattern.len() <= LONGEST_PATTERN
        && pattern
            .split(['.', ',', '{', '}'])
            .all(|part| digits(part) <= 2)
        && pattern.matches("..").count() <= 2
        && pattern.matches(',').count() <= 6
}

fn expand(pattern: &str, factors: Option<&str>) {
    // An error is an answer too.
    let Ok(shards) = Shards::expand(pattern, factors) else {
        return;
    };
    if let Some(weights) = &shards.weights {
        assert_eq!(weights.len(), shards.places.len());
        assert!(
            weights
                .iter()
                .all(|weight| weight.is_finite() && *weight >= 0.0)
        );
    }
    shards.places.iter().take(LOOKED_AT).for_each(look_at);
}

pub fn shards(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(place) = Place::parse(&text) {
        look_at(&place);
    }
    let harmless = text.replace('@', "");
    if is_quick(&harmless) {
        if let Ok(names) = braces::expand(&harmless) {
            assert!(!names.is_empty());
        }
        // Factors are whatever stands behind the last line.
        let (pattern, factors) = match harmless.rsplit_once('\n') {
            Some((pattern, factors)) => (pattern, Some(factors)),
            None => (&*harmless, None),
        };
        expand(pattern, factors);
    }
    for part in harmless.split("::") {
        let _ = DatasetKind::parse("auto", part);
    }
    let _ = DatasetKind::parse(&harmless, "a.csv");

    with_folder(|folder| {
        let write =
            |name: &str| std::fs::write(folder.join(name), data).expect("room for an input");
        write("list.txt");
        let list = format!("@{}", folder.join("list.txt").display());
        expand(&list, None);
        let _ = DatasetKind::parse("auto", &list);
        // Names of shards with counts, or one number.
        let shards = Shards::list(vec![folder.join("a.tar"), folder.join("b.tar")]);
        write("sizes.json");
        let _ = shards.num_samples();
        std::fs::remove_file(folder.join("sizes.json")).expect("it was written");
        write("__len__");
        let _ = shards.num_samples();
    });
}
