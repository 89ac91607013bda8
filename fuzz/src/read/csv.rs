//! A table of pictures and captions: with several separators and columns, plain and packed.

use super::files::{gzip, with_file};
use openclip_data::source::Item;
use openclip_data::source::columns::Columns;
use openclip_data::source::csv::{Csv, CsvFormat};
use openclip_data::source::table::Table;

/// Separators, of which the first byte of an input chooses, and columns by name: none is named, one is not there, both are.
const SEPARATORS: [&str; 6] = ["\t", ",", ";", "\\t", "\"", "\n"];
const COLUMNS: [(Option<&str>, Option<&str>); 4] = [
    (None, None),
    (Some("filepath"), None),
    (Some("a"), Some("b")),
    (Some(""), Some("")),
];

/// The rows of a table, or why there are none.
fn rows(bytes: &[u8], format: &CsvFormat) -> Result<Vec<(String, Option<String>)>, ()> {
    let mut rows = Err(());
    with_file(bytes, |path| {
        let Ok(csv) = Csv::open(path, format) else {
            return;
        };
        let items = (0..csv.len()).map(|index| csv.item(index));
        rows = Ok(items
            .map(|item| match item {
                Item::Sample(sample) => (sample.name, sample.caption),
                Item::Problem(problem) => (problem.to_string(), None),
            })
            .collect());
    });
    rows
}

pub fn csv(data: &[u8]) {
    let Some((&choice, table)) = data.split_first() else {
        return;
    };
    let choice = usize::from(choice);
    let (image, caption) = COLUMNS[choice / SEPARATORS.len() % COLUMNS.len()];
    let format = CsvFormat {
        separator: SEPARATORS[choice % SEPARATORS.len()].into(),
        columns: Columns {
            image: image.map(str::to_owned),
            caption: caption.map(str::to_owned),
            needs_captions: choice & 0x80 == 0,
            carried: false,
        },
    };
    let plain = rows(table, &format);
    // What is packed already stays so.
    if choice & 0x40 != 0 && !table.starts_with(b"\x1f\x8b") {
        assert_eq!(plain, rows(&gzip(table), &format));
    }
}
