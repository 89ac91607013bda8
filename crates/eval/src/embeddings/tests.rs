#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::*;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

fn create(dir: &Path, width: usize, contents: Contents) -> Result<EmbeddingWriter, EvalError> {
    EmbeddingWriter::create(Destination::open(dir, false)?, width, contents)
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

#[test]
fn images_and_texts_of_different_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 2, Contents::Both).unwrap();
    writer.append_images(&[1.0, 2.0], &["a.png"]).unwrap();
    writer
        .append_images(&[3.0, 4.0, 5.0, 6.0], &["b.png", "c.png"])
        .unwrap();
    writer
        .append_texts(&[7.0, 8.0, 9.0, 10.0], &[Some("ein Hund"), Some("")])
        .unwrap();
    assert!(!dir.path().join("img_emb/img_emb_0.npy").exists());
    assert_eq!(
        writer.finish().unwrap(),
        Written {
            images: 3,
            texts: 2
        }
    );

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
fn many_row_groups_and_texts_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 1, Contents::Texts).unwrap();
    let captions: Vec<String> = (0..150_000).map(|i| format!("caption {i}")).collect();
    for batch in captions.chunks(1000) {
        let batch: Vec<_> = batch.iter().map(Some).collect();
        writer
            .append_texts(&vec![0.5; batch.len()], &batch)
            .unwrap();
    }
    assert_eq!(
        writer.finish().unwrap(),
        Written {
            images: 0,
            texts: 150_000
        }
    );
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
    let mut writer = create(dir.path(), 2, Contents::Images).unwrap();
    writer.append_images(&[1.0, 2.0], &["a.png"]).unwrap();
    drop(writer);
    assert_eq!(
        std::fs::read_dir(dir.path().join("img_emb"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("metadata"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn misuse_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 2, Contents::Images).unwrap();
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
    assert!(matches!(
        create(&file, 2, Contents::Images),
        Err(EvalError::Io { .. })
    ));
}

#[test]
fn a_picture_without_a_caption_has_no_text_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 1, Contents::Paired).unwrap();
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
    let written = writer.finish().unwrap();
    assert_eq!((written.images, written.texts), (4, 2));
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
    let mut writer = create(bare.path(), 1, Contents::Paired).unwrap();
    writer.append_images(&[1.0], &["a"]).unwrap();
    writer.append_texts(&[], &[None::<&str>]).unwrap();
    assert_eq!(writer.finish().unwrap().texts, 0);
    assert!(!bare.path().join("text_emb").exists());
    assert_eq!(metadata(bare.path()), [row("a", None)]);
}

#[test]
fn two_runs_never_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path(), 1, Contents::Both).unwrap();
    writer.append_images(&[1.0], &["a"]).unwrap();
    writer.append_texts(&[1.0], &[Some("x")]).unwrap();
    // Another run starts into the same folder, and ends first.
    let mut late = create(dir.path(), 1, Contents::Images).unwrap();
    late.append_images(&[9.0], &["late"]).unwrap();
    writer.finish().unwrap();
    assert!(matches!(late.finish(), Err(EvalError::Taken { .. })));

    let refused = create(dir.path(), 1, Contents::Images).err().unwrap();
    let text = refused.to_string();
    assert!(
        text.contains("metadata_0.parquet") && text.contains("--overwrite"),
        "{text}"
    );
    assert_eq!(metadata(dir.path()).len(), 1);

    let replace = Destination::open(dir.path(), true).unwrap();
    std::fs::write(dir.path().join("img_emb/img_emb_1.npy"), "of a larger run").unwrap();
    std::fs::write(dir.path().join("img_emb/notes.txt"), "kept").unwrap();
    let mut writer = EmbeddingWriter::create(replace, 1, Contents::Images).unwrap();
    writer.append_images(&[2.0, 3.0], &["b", "c"]).unwrap();
    assert!(dir.path().join("text_emb/text_emb_0.npy").exists());
    writer.finish().unwrap();
    assert_eq!(metadata(dir.path()).len(), 2);
    for gone in ["text_emb/text_emb_0.npy", "img_emb/img_emb_1.npy"] {
        assert!(!dir.path().join(gone).exists(), "{gone}");
    }
    assert!(dir.path().join("img_emb/notes.txt").exists());
}
