#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use openclip_model::config::PreprocessConfig;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::*;
use crate::EvalError;

fn create(dir: &Path, width: usize, contents: Contents) -> EmbeddingWriter {
    let partition = Partition::new(dir, 0, 1);
    EmbeddingWriter::new(partition, width, Numbers::Float32, contents)
}

fn metadata(dir: &Path) -> Vec<(Option<String>, Option<String>)> {
    let file = std::fs::File::open(dir.join("metadata/metadata_0.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let text = |field: &Field| match field {
        Field::Str(text) => Some(text.clone()),
        Field::Null => None,
        other => panic!("{other:?}"),
    };
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let fields: Vec<_> = row.unwrap().into_columns();
        assert_eq!(
            (fields[0].0.as_str(), fields[1].0.as_str()),
            ("image_path", "caption")
        );
        (text(&fields[0].1), text(&fields[1].1))
    });
    rows.collect()
}

fn rows(written: [Array; 2]) -> [u64; 2] {
    written.map(|array| array.rows)
}

#[test]
fn images_and_texts_of_different_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 2, Contents::Both);
    writer.append_images(&[1.0, 2.0], &["a.png"]).unwrap();
    writer
        .append_images(&[3.0, 4.0, 5.0, 6.0], &["b.png", "c.png"])
        .unwrap();
    writer
        .append_texts(&[7.0, 8.0, 9.0, 10.0], &[Some("ein Hund"), Some("")])
        .unwrap();
    assert!(!dir.path().join("img_emb/img_emb_0.npy").exists());
    assert_eq!(rows(writer.finish().unwrap()), [3, 2]);

    let bytes = std::fs::read(dir.path().join("img_emb/img_emb_0.npy")).unwrap();
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    assert!(String::from_utf8_lossy(&bytes[10..128]).contains("'shape': (3, 2)"));
    assert_eq!(bytes[127], b'\n');
    let values: Vec<f32> = bytes[128..]
        .chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    let row = |path: Option<&str>, caption: Option<&str>| {
        (path.map(str::to_owned), caption.map(str::to_owned))
    };
    let expected = [
        row(Some("a.png"), Some("ein Hund")),
        row(Some("b.png"), Some("")),
        row(Some("c.png"), None),
    ];
    assert_eq!(metadata(dir.path()), expected);
    assert_eq!(
        std::fs::read_dir(dir.path().join("img_emb"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn half_of_the_room() {
    let dir = tempfile::tempdir().unwrap();
    let partition = Partition::new(dir.path(), 7, 11);
    let mut writer = EmbeddingWriter::new(partition, 2, Numbers::Float16, Contents::Images);
    writer
        .append_images(&[1.0, 1e-8, -0.333_3, 2049.0], &["a", "b"])
        .unwrap();
    let [images, _] = writer.finish().unwrap();
    let bytes = std::fs::read(dir.path().join("img_emb/img_emb_07.npy")).unwrap();
    assert!(String::from_utf8_lossy(&bytes[10..128]).contains("'<f2'"));
    let values = bytes[128..]
        .chunks(2)
        .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32());
    assert_eq!(
        values.collect::<Vec<_>>(),
        [1.0, 0.0, -0.333_251_95, 2048.0]
    );
    assert_eq!(images.crc32, crc32fast::hash(&bytes[128..]));
}

#[test]
fn many_row_groups_and_texts_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 1, Contents::Texts);
    let captions: Vec<String> = (0..150_000).map(|i| format!("caption {i}")).collect();
    for batch in captions.chunks(1000) {
        let batch: Vec<_> = batch.iter().map(Some).collect();
        writer
            .append_texts(&vec![0.5; batch.len()], &batch)
            .unwrap();
    }
    assert_eq!(rows(writer.finish().unwrap()), [0, 150_000]);
    assert!(!dir.path().join("img_emb").exists());
    let rows = metadata(dir.path());
    assert_eq!(rows.len(), captions.len());
    assert!(
        rows.iter()
            .zip(&captions)
            .all(|(row, caption)| *row == (None, Some(caption.clone())))
    );
}

#[test]
fn nothing_stays_behind_an_unfinished_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 2, Contents::Images);
    writer.append_images(&[1.0, 2.0], &["a.png"]).unwrap();
    drop(writer);
    assert_eq!(
        std::fs::read_dir(dir.path().join("img_emb"))
            .unwrap()
            .count(),
        0
    );
    assert!(!dir.path().join("metadata").exists());
}

#[test]
fn misuse_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 2, Contents::Images);
    assert!(matches!(
        writer.append_images(&[1.0; 3], &["a", "b"]),
        Err(EvalError::Rows {
            values: 3,
            rows: 2,
            width: 2
        })
    ));
    assert!(matches!(
        writer.append_texts(&[1.0; 2], &[Some("a")]),
        Err(EvalError::UnexpectedRows { kind: "texts" })
    ));
    let file = dir.path().join("taken");
    std::fs::write(&file, "").unwrap();
    let mut writer = create(&file, 2, Contents::Images);
    assert!(matches!(
        writer.append_images(&[1.0; 2], &["a"]),
        Err(EvalError::Io { .. })
    ));
}

#[test]
fn a_picture_without_a_caption_has_no_text_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 1, Contents::Paired);
    for (name, caption) in [
        ("a", None),
        ("b", Some("cat")),
        ("c", None),
        ("d", Some("")),
    ] {
        writer.append_images(&[1.0], &[name]).unwrap();
        let row: &[f32] = if caption.is_some() { &[2.0] } else { &[] };
        writer.append_texts(row, &[caption]).unwrap();
    }
    assert_eq!(rows(writer.finish().unwrap()), [4, 2]);
    let row = |name: &str, caption: Option<&str>| (Some(name.into()), caption.map(str::to_owned));
    assert_eq!(
        metadata(dir.path()),
        [
            row("a", None),
            row("b", Some("cat")),
            row("c", None),
            row("d", Some(""))
        ]
    );

    let bare = tempfile::tempdir().unwrap();
    let mut writer = create(bare.path(), 1, Contents::Paired);
    writer.append_images(&[1.0], &["a"]).unwrap();
    writer.append_texts(&[], &[None::<&str>]).unwrap();
    assert_eq!(rows(writer.finish().unwrap()), [1, 0]);
    assert!(!bare.path().join("text_emb").exists());
    assert_eq!(metadata(bare.path()), [row("a", None)]);
}

fn settings(partitions: usize) -> Settings {
    Settings {
        model: EmbeddingModel {
            model: "tiny.json".into(),
            pretrained: None,
            precision: "fp32".into(),
            force_image_size: None,
            force_context_length: None,
            quick_gelu: None,
            int8_linear: false,
            custom_text: false,
            preprocess: (&PreprocessConfig::default()).into(),
            weights: "00".into(),
        },
        images: Some("set".into()),
        format: serde_json::Value::Null,
        image_fingerprint: Some(1),
        texts: None,
        text_fingerprint: None,
        width: 1,
        dtype: Numbers::Float32,
        partition_size: 1,
        partitions,
        batch_size: 1,
        hashes: false,
        max_image_pixels: 0,
    }
}

/// Writes the partition that is claimed next, and says which.
fn work(folder: &Folder) -> Option<usize> {
    let claim = folder.claim(|_| ()).unwrap()?;
    let number = claim.number;
    let partition = claim.partition.clone();
    let mut writer = EmbeddingWriter::new(partition, 1, Numbers::Float32, Contents::Images);
    writer.append_images(&[number as f32], &["a"]).unwrap();
    let mut record = Record::default();
    [record.images, record.texts] = writer.finish().unwrap();
    claim.finish(&record).unwrap();
    Some(number)
}

#[test]
fn partitions_are_shared_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Folder::open(dir.path(), &settings(4), false);
    let (one, two) = (open().unwrap(), open().unwrap());
    let held = one.claim(|_| ()).unwrap().unwrap();
    assert_eq!(
        (held.number, work(&two), work(&one), work(&two)),
        (0, Some(1), Some(2), Some(3))
    );
    assert!(work(&two).is_none());
    assert_eq!(two.totals().unwrap().whole, 3);
    // Who held it is gone, in the middle of a file.
    let left = dir.path().join("img_emb/.img_emb_0.npy.abc.partial");
    std::fs::write(&left, "half").unwrap();
    drop(held);
    let mut passed = 0;
    let three = open().unwrap();
    let claim = three
        .claim(|record| passed += record.images.rows)
        .unwrap()
        .unwrap();
    drop(claim);
    assert_eq!(passed, 0);
    assert_eq!(work(&two), Some(0));
    assert!(!left.exists());
    assert!(
        three
            .claim(|record| passed += record.images.rows)
            .unwrap()
            .is_none()
    );
    assert_eq!(passed, 4);
    let totals = three.totals().unwrap();
    assert!(totals.is_complete() && totals.sum.images.rows == 4);
    let names = layout::files(&dir.path().join("partitions"), |_| true).unwrap();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn another_run_is_refused_until_it_may_replace() {
    let dir = tempfile::tempdir().unwrap();
    let open = |settings: &Settings, overwrite| Folder::open(dir.path(), settings, overwrite);
    let first = open(&settings(2), false).unwrap();
    let other = Settings {
        dtype: Numbers::Float16,
        ..settings(1)
    };
    // Others are at work.
    let error = open(&other, false).unwrap_err().to_string();
    assert!(error.contains("dtype \"float32\", partitions 2"), "{error}");
    assert!(work(&first).is_some());
    assert!(matches!(
        open(&settings(2), true),
        Err(EvalError::Busy { .. })
    ));
    assert!(work(&first).is_some());
    drop(first);
    let error = open(&other, false).unwrap_err().to_string();
    assert!(error.contains("--overwrite"), "{error}");

    std::fs::write(dir.path().join("img_emb/notes.txt"), "kept").unwrap();
    let replacing = open(&other, true).unwrap();
    assert!(matches!(open(&other, true), Err(EvalError::Busy { .. })));
    assert_eq!(work(&replacing), Some(0));
    assert!(dir.path().join("img_emb/img_emb_1.npy").exists());
    drop(replacing);
    // Killed before it could replace anything; it goes on.
    let replacing = open(&other, true).unwrap();
    assert!(work(&replacing).is_none());
    replacing.finish().unwrap();
    assert_eq!(Settings::read(dir.path()).unwrap(), Some(other.clone()));
    assert!(!dir.path().join("img_emb/img_emb_1.npy").exists());
    assert!(dir.path().join("img_emb/notes.txt").exists());
    assert!(!dir.path().join(".next").exists());
    assert!(open(&other, false).unwrap().totals().unwrap().is_complete());
}

#[test]
fn files_of_another_hand_are_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("metadata")).unwrap();
    std::fs::write(dir.path().join("metadata/metadata_0.parquet"), "").unwrap();
    let error = Folder::open(dir.path(), &settings(1), false).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("metadata_0.parquet") && text.contains("--overwrite"),
        "{text}"
    );
}

#[test]
fn columns_of_the_source_go_along() {
    use openclip_data::source::Field;
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 1, Contents::Images);
    let row = |fields: &[(&str, Option<Field>)]| {
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()));
        fields.collect::<openclip_data::source::Fields>()
    };
    let text = |text: &str| Some(Field::Text(text.into()));
    writer.append_images(&[1.0, 2.0], &["a", "b"]).unwrap();
    writer.append_fields([
        row(&[
            ("width", Some(Field::Int(3))),
            ("mixed", Some(Field::Int(1))),
            ("caption", text("x")),
        ]),
        row(&[
            ("width", None),
            ("score", Some(Field::Float(0.5))),
            ("mixed", text("two")),
        ]),
    ]);
    writer.append_images(&[3.0], &["c"]).unwrap();
    writer.append_fields([row(&[
        ("score", Some(Field::Int(2))),
        ("ok", Some(Field::Bool(true))),
    ])]);
    writer.finish().unwrap();
    let file = std::fs::File::open(dir.path().join("metadata/metadata_0.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let rows: Vec<String> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().to_string())
        .collect();
    assert_eq!(
        rows,
        [
            "{image_path: \"a\", caption: null, width: 3, mixed: \"1\", score: null, ok: null}",
            "{image_path: \"b\", caption: null, width: null, mixed: \"two\", score: 0.5, ok: null}",
            "{image_path: \"c\", caption: null, width: null, mixed: null, score: 2.0, ok: true}",
        ]
    );
}
