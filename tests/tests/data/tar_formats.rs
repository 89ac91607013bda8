//! Tar archives of every format, against Python's `tarfile` (`tests/parity/export_tar.py`).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use openclip_data::source::shards::Shards;
use openclip_data::source::shuffle::ShuffleSize;
use openclip_data::source::tar;
use openclip_data::source::{ImageData, Item, Order, ProblemKind, Source};

use super::collect::Collect;

/// Key, bytes and CRC-32 of the image, caption.
type Row = (String, usize, u32, String);

fn read(path: &Path) -> (Vec<Row>, Vec<(ProblemKind, String)>) {
    let shards = Shards::list(vec![path.to_owned()]);
    let source = tar::source(shards, false, ShuffleSize::default()).unwrap();
    let mut all = Collect::default();
    assert!(
        source
            .pass(&Order::sequential(), 0, &mut all)
            .unwrap()
            .is_continue()
    );
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for item in all.0 {
        match item {
            Item::Problem(problem) => problems.push((problem.kind, problem.reason)),
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
    (rows, problems)
}

#[test]
fn samples_are_those_of_tarfile_in_every_format() {
    let folder = openclip_tests::fixture("tar");
    let expected = std::fs::read(folder.join("samples.json")).unwrap();
    let expected: BTreeMap<String, Vec<Row>> = serde_json::from_slice(&expected).unwrap();
    assert!(expected.len() > 20);
    let room = tempfile::tempdir().unwrap();
    for (name, expected) in expected {
        let packed = folder.join(format!("{name}.tar.gz"));
        let (rows, problems) = read(&packed);
        assert_eq!(rows, expected, "{name}");
        match name.as_str() {
            "mac" => {
                let [(ProblemKind::ForeignMembers, found)] = &problems[..] else {
                    panic!("{problems:?}");
                };
                assert!(
                    found.contains("7 hidden") && found.contains(".DS_Store"),
                    "{found}"
                );
            }
            "links" => {
                let is_link = |(kind, reason): &(ProblemKind, String)| {
                    *kind == ProblemKind::MissingImage && reason.contains("links")
                };
                assert!(
                    problems.len() == 2 && problems.iter().all(is_link),
                    "{problems:?}"
                );
            }
            _ => assert_eq!(problems, [], "{name}"),
        }
        // The same without gzip.
        let mut plain = Vec::new();
        let file = std::fs::File::open(&packed).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_end(&mut plain)
            .unwrap();
        let path = room.path().join(format!("{name}.tar"));
        std::fs::write(&path, &plain).unwrap();
        assert_eq!(read(&path), (rows, problems), "{name}");
    }
}
