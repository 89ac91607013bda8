#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::super::Order;
use super::super::testing::{Collect, gzip};
use super::*;

fn open(text: &[u8], format: &CsvFormat) -> Result<Vec<(String, Option<String>)>, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.csv");
    std::fs::write(&path, text).unwrap();
    let all = Collect::pass(&Csv::open(&path, format)?, &Order::sequential(), 0)?;
    Ok(all
        .samples()
        .map(|sample| (sample.name.clone(), sample.caption.clone()))
        .collect())
}

fn pair(path: &str, caption: &str) -> (String, Option<String>) {
    (path.into(), (!caption.is_empty()).then(|| caption.into()))
}

#[test]
fn defaults_are_tab_filepath_title() {
    let text = b"\xef\xbb\xbffilepath\tid\ttitle\r\na.jpg\t1\ta \"\"quote\r\n\"b\tc.jpg\"\t2\t\"two\nlines\"\r\n";
    let rows = open(text, &CsvFormat::default()).unwrap();
    assert_eq!(
        rows,
        [pair("a.jpg", "a \"\"quote"), pair("b\tc.jpg", "two\nlines")]
    );
}

#[test]
fn own_columns_and_missing_captions() {
    let format = CsvFormat {
        separator: ",".into(),
        ..CsvFormat::default()
    };
    let rows = open(
        "text,image\nnone,a.png\n,b.png\n\"\",c.png\nü,d.png\n".as_bytes(),
        &format,
    )
    .unwrap();
    assert_eq!(
        rows,
        [
            pair("a.png", "none"),
            pair("b.png", ""),
            pair("c.png", ""),
            pair("d.png", "ü")
        ]
    );
    // A row that ends before the caption column.
    let format = CsvFormat {
        separator: r"\t".into(),
        ..CsvFormat::default()
    };
    assert_eq!(
        open(b"filepath\ttitle\na.png\nb.png\tx\n", &format).unwrap(),
        [pair("a.png", ""), pair("b.png", "x")]
    );
}

#[test]
fn a_missing_column_is_named_beside_those_that_exist() {
    let error = open(
        b"picture,words\na,b\n",
        &CsvFormat {
            separator: ",".into(),
            ..CsvFormat::default()
        },
    );
    let error = error.unwrap_err().to_string();
    for part in ["pairs.csv", "filepath", "picture", "words"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn malformed_files_are_errors_that_name_the_line() {
    let error = open(b"filepath\ttitle\na\tb\nc\td\te\n", &CsvFormat::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 3"), "{error}");
    let error = open(b"filepath\ttitle\na\t\xff\n", &CsvFormat::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("pairs.csv") && error.contains("UTF-8"),
        "{error}"
    );
    assert!(
        open(
            b"filepath\ttitle\n",
            &CsvFormat {
                separator: "ab".into(),
                ..CsvFormat::default()
            }
        )
        .is_err()
    );
    let error = Csv::open(Path::new("/absent/pairs.csv"), &CsvFormat::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/absent/pairs.csv"), "{error}");
}

#[test]
fn packed_and_wide_text_is_read_by_its_first_bytes() {
    let table = "\"filepath\"\ttitle\na.jpg\tü 😀\nb.jpg\tz\n";
    let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(table.encode_utf16());
        units.flat_map(order).collect()
    };
    let (start, end) = table.split_at(30);
    let expected = [pair("a.jpg", "ü 😀"), pair("b.jpg", "z")];
    for (name, text) in [
        ("plain", table.as_bytes().to_vec()),
        ("marked", [b"\xef\xbb\xbf", table.as_bytes()].concat()),
        ("gzip", gzip(table.as_bytes())),
        (
            "two members",
            [gzip(start.as_bytes()), gzip(end.as_bytes())].concat(),
        ),
        ("little end", wide(u16::to_le_bytes)),
        ("big end", wide(u16::to_be_bytes)),
        ("wide gzip", gzip(&wide(u16::to_le_bytes))),
        ("old lines", table.replace('\n', "\r").into_bytes()),
    ] {
        assert_eq!(
            open(&text, &CsvFormat::default()).unwrap(),
            expected,
            "{name}"
        );
    }
    let table = format!("filepath\ttitle\na.jpg\t{}\n", "x😀".repeat(40_000));
    let units = std::iter::once(0xfeff).chain(table.encode_utf16());
    let text: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    let rows = open(&text, &CsvFormat::default()).unwrap();
    assert_eq!(rows[0].1.as_ref().unwrap().len(), 200_000);
}

#[test]
fn other_encodings_are_named() {
    let packed = gzip(b"filepath\ttitle\na\tb\n");
    let utf32: Vec<u8> = "\u{feff}file"
        .chars()
        .flat_map(|c| u32::from(c).to_le_bytes())
        .collect();
    for (text, words) in [
        (&packed[..packed.len() - 6], "gzip"),
        (b"BZh91AY&SY", "bzip2 data"),
        (b"\xfd7zXZ\0\0", "xz data"),
        (b"\x28\xb5\x2f\xfd\0", "zstd data"),
        (b"PK\x03\x04", "zip"),
        (&utf32, "UTF-32"),
        (b"f\0i\0l\0e\0", "byte order mark"),
        (b"\xff\xfef\0i", "UTF-16"),
        (b"\xff\xfe\0\xd8x\0", "UTF-16"),
        (
            b"filepath\ttitle\na\tb\nc\td\xe9\n",
            "line 3: field 2 is not UTF-8",
        ),
    ] {
        let error = open(text, &CsvFormat::default()).unwrap_err().to_string();
        assert!(
            error.contains("pairs.csv") && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn an_open_quote_is_named_by_its_line() {
    for (text, line) in [
        ("filepath\ttitle\n\na\t\"b\nc\td\n", 3),
        ("filepath\ttitle\ra\tb\rc\t\"d\r", 3),
        ("filepath\ttitle\n\"a\n\n\"\t\"b\nc\td\n", 4),
        ("\"filepath\ttitle\na\tb\n", 1),
        ("filepath\ttitle\na\t\"", 2),
    ] {
        let error = open(text.as_bytes(), &CsvFormat::default())
            .unwrap_err()
            .to_string();
        let expected = format!("line {line}: the quote that opens here is never closed");
        assert!(error.contains(&expected), "{text:?}: {error}");
    }
    // An endless row costs no memory.
    let mut text = b"filepath\ttitle\na\t\"".to_vec();
    text.resize(20 << 20, b'x');
    let error = open(&text, &CsvFormat::default()).unwrap_err().to_string();
    assert!(error.contains("line 2: the quote"), "{error}");
}

#[test]
fn a_quote_that_takes_in_rows_is_told_from_a_caption_of_many_lines() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("b.jpg");
    std::fs::write(&picture, b"x").unwrap();
    let row = format!("{}\tb", picture.display());
    let text = |inner: &str| format!("filepath\ttitle\na\t\"one\n{inner}\ntwo\"\nc\td\n");
    let error = open(text(&row).as_bytes(), &CsvFormat::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("line 2: the quote") && error.contains("1 of them"),
        "{error}"
    );
    for inner in ["b.jpg\tb", "", "\t\t", &picture.to_string_lossy()] {
        let rows = open(text(inner).as_bytes(), &CsvFormat::default()).unwrap();
        assert_eq!(rows[0], pair("a", &format!("one\n{inner}\ntwo")));
    }
}

#[test]
fn a_list_of_tables_is_one_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("a.csv"), "filepath\ttitle\na\t1\n").unwrap();
    std::fs::write(path("b.csv"), "title\tx\tfilepath\n2\t\tb\n").unwrap();
    let list = format!("{}::{}", path("a.csv").display(), path("b.csv").display());
    let table = Csv::open(Path::new(&list), &CsvFormat::default()).unwrap();
    let all = Collect::pass(&table, &Order::sequential(), 0).unwrap();
    assert_eq!(all.names(), ["a", "b"]);
    // Braces, patterns and files of names are lists as well.
    std::fs::write(path("names"), list.replace("::", "\n")).unwrap();
    let root = dir.path().display();
    for list in [
        format!("{root}/{{a,b}}.csv"),
        format!("{root}/*.csv"),
        format!("@{root}/names"),
    ] {
        let table = Csv::open(Path::new(&list), &CsvFormat::default()).unwrap();
        let all = Collect::pass(&table, &Order::sequential(), 0).unwrap();
        assert_eq!(all.names(), ["a", "b"], "{list}");
    }
    let list = format!(
        "{}::{}",
        path("a.csv").display(),
        path("none.csv").display()
    );
    let error = Csv::open(Path::new(&list), &CsvFormat::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&*path("none.csv").to_string_lossy()),
        "{error}"
    );
}

#[test]
fn a_description_has_no_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pairs.csv");
    std::fs::write(&path, "filepath\ttitle\na.jpg\tx\n").unwrap();
    let command = format!("pipe:HF_TOKEN=abc cat {}", path.display());
    let csv = Csv::open(Path::new(&command), &CsvFormat::default()).unwrap();
    let told = csv.describe();
    assert!(
        told.starts_with("1 rows of pipe:HF_TOKEN=*** cat"),
        "{told}"
    );
}

/// Four million separators are four kilobytes of gzip.
#[test]
fn a_row_of_separators_alone_is_refused() {
    let text = ["filepath\ttitle\n", &"\t".repeat(1 << 22), "\n"].concat();
    let error = open(&gzip(text.as_bytes()), &CsvFormat::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("line 2: a row of more than a million fields"),
        "{text}"
    );
}
