//! Rows of a table, against pandas (`tests/parity/export_csv.py`).

use openclip_data::source::csv::{Csv, CsvFormat};
use openclip_data::source::table::Table;
use openclip_data::source::{Item, Sample};

/// Image path and caption; `None` where the table is an error.
type Rows = Option<Vec<(String, String)>>;

#[test]
fn rows_are_those_of_pandas() {
    let cases = std::fs::read(openclip_tests::fixture("csv.json")).unwrap();
    let cases: Vec<(String, Rows)> = serde_json::from_slice(&cases).unwrap();
    assert!(cases.len() >= 400);
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("pairs.csv");
    let format = CsvFormat {
        separator: ",".into(),
        ..CsvFormat::default()
    };
    for (text, expected) in cases {
        std::fs::write(&path, &text).unwrap();
        let found = Csv::open(&path, &format).ok().map(|table| {
            let row = |index| match table.item(index) {
                Item::Sample(Sample { name, caption, .. }) => (name, caption.unwrap_or_default()),
                Item::Problem(problem) => panic!("{problem}"),
            };
            (0..table.len()).map(row).collect()
        });
        assert_eq!(found, expected, "{text:?}");
    }
}
