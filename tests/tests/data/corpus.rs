//! Inputs of the fuzz targets, read as those do: a few of the inputs that they start from (`fuzz/seeds.py --small`), and what
//! they found.

use std::path::Path;

use openclip_tests::fixture;

#[path = "../../../fuzz/src/read/mod.rs"]
mod read;

/// Reads every input of a target.
fn replay(target: &str, read: fn(&[u8])) {
    let folder = fixture("corpus").join(target);
    let inputs = std::fs::read_dir(&folder).unwrap();
    let paths: Vec<_> = inputs.map(|input| input.unwrap().path()).collect();
    assert!(!paths.is_empty(), "{}", folder.display());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| read(&bytes));
        assert!(outcome.is_ok(), "{target}/{}", name(&path));
    }
}

#[test]
fn archives() {
    replay("tar", read::tar);
}

#[test]
fn lists_of_shards() {
    replay("shards", read::shards);
}

#[test]
fn csv_files() {
    replay("csv", read::csv);
}

#[test]
fn captions() {
    replay("captions", read::captions);
}

#[test]
fn columnar_files() {
    replay("tables", read::tables);
}

#[test]
fn pictures() {
    replay("picture", read::picture);
}
