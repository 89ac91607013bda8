//! Odd archives, against the samples that OpenCLIP's webdataset pipeline makes of them (`tests/parity/export_grouping.py`).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use openclip_data::source::keys::KeyOptions;
use openclip_data::source::open::{OpenOptions, open};
use openclip_data::source::{ImageData, Item, Order, ProblemKind};
use serde::Deserialize;

use super::collect::Collect;

/// Key, bytes and CRC-32 of the image, caption.
type Row = (String, usize, u32, String);

#[derive(Deserialize)]
struct Expected {
    image_key: String,
    text_key: String,
    samples: Vec<Row>,
    #[serde(default)]
    here: Option<Here>,
    #[serde(default)]
    why: String,
}

/// Where the engine differs on purpose.
#[derive(Deserialize)]
#[serde(untagged)]
enum Here {
    Samples(Vec<Row>),
    Error(String),
}

fn read(path: &Path, expected: &Expected) -> Result<(Vec<Row>, Vec<ProblemKind>), String> {
    let options = OpenOptions {
        dataset_type: "webdataset".into(),
        keys: KeyOptions {
            image_key: Some(expected.image_key.clone()),
            text_key: Some(expected.text_key.clone()),
            needs_caption: true,
            ..KeyOptions::default()
        },
        ..OpenOptions::default()
    };
    let opened = open(path.to_str().unwrap(), &options).unwrap();
    let mut all = Collect::default();
    let order = Order::sequential();
    let walked = opened.source.pass(&order, 0, &mut all);
    let walked = walked.map_err(|error| error.to_string())?;
    assert!(walked.is_continue());
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for item in all.0 {
        match item {
            Item::Problem(problem) => problems.push(problem.kind),
            Item::Sample(sample) => {
                let ImageData::Encoded(image) = sample.image else {
                    panic!("an image that is not in the archive");
                };
                let mut crc = flate2::Crc::new();
                crc.update(&image);
                rows.push((sample.name, image.len(), crc.sum(), sample.caption.unwrap()));
            }
        }
    }
    Ok((rows, problems))
}

#[test]
fn samples_are_grouped_as_in_openclip() {
    let folder = openclip_tests::fixture("grouping");
    let expected = std::fs::read(folder.join("samples.json")).unwrap();
    let expected: BTreeMap<String, Expected> = serde_json::from_slice(&expected).unwrap();
    let packed = std::fs::File::open(folder.join("archives.tar.gz")).unwrap();
    let mut archives = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let room = tempfile::tempdir().unwrap();
    let mut count = 0;
    for entry in archives.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let path = room.path().join(&name);
        std::fs::write(&path, bytes).unwrap();
        let expected = &expected[&name];
        let found = read(&path, expected);
        let rows = || found.as_ref().map(|(rows, _)| rows);
        match &expected.here {
            None => assert_eq!(rows(), Ok(&expected.samples), "{name}"),
            Some(Here::Samples(here)) => assert_eq!(rows(), Ok(here), "{name}: {}", expected.why),
            Some(Here::Error(reason)) => {
                assert!(
                    rows().unwrap_err().contains(reason),
                    "{name}: {rows:?}",
                    rows = rows()
                );
            }
        }
        let problems = found.map(|(_, problems)| problems).unwrap_or_default();
        let kinds: &[ProblemKind] = match name.as_str() {
            "repeated" | "repeated_image" | "suffixes_equal_but_for_case" => {
                &[ProblemKind::DuplicateKey]
            }
            "links" | "devices" => &[ProblemKind::MissingImage],
            "no_suffix" | "hidden" | "mac_folder" => &[ProblemKind::ForeignMembers],
            "blank_caption" => &[ProblemKind::MissingCaption],
            "empty_file" | "empty_archive" => &[ProblemKind::EmptyShard],
            "no_archive" => &[ProblemKind::UnreadableShard],
            "damaged_header" => &[ProblemKind::TruncatedShard],
            cut if cut.starts_with("cut_") => &[ProblemKind::TruncatedShard],
            _ => &[],
        };
        for kind in kinds {
            assert!(problems.contains(kind), "{name}: {problems:?}");
        }
        count += 1;
    }
    assert_eq!(count, expected.len());
    assert!(count > 60);
}

/// What a name says is never a place on the disk: the archive with `..` in its names and the one with absolute ones leave nothing
/// beside them.
#[test]
fn names_of_members_lead_nowhere() {
    let folder = openclip_tests::fixture("grouping");
    let packed = std::fs::File::open(folder.join("archives.tar.gz")).unwrap();
    let mut archives = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let expected = std::fs::read(folder.join("samples.json")).unwrap();
    let expected: BTreeMap<String, Expected> = serde_json::from_slice(&expected).unwrap();
    let room = tempfile::tempdir().unwrap();
    let deep = room.path().join("one/two/three");
    std::fs::create_dir_all(&deep).unwrap();
    for entry in archives.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        if !["traversal", "absolute"].contains(&name.as_str()) {
            continue;
        }
        let path = deep.join("x.tar");
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::copy(&mut entry, &mut file).unwrap();
        let (rows, _) = read(&path, &expected[&name]).unwrap();
        assert!(rows.len() >= 2);
        std::fs::remove_file(&path).unwrap();
    }
    let files = walk(room.path());
    assert_eq!(files, 0);
}

fn walk(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let count = |path: std::path::PathBuf| if path.is_dir() { walk(&path) } else { 1 };
    paths.map(count).sum()
}
