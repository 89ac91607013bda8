#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::Write;
use std::path::PathBuf;

use super::*;

/// The files of `tests/parity/export_packed.py`.
fn fixture(name: &str) -> Vec<u8> {
    let dir = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/parity/data/packed"
    );
    std::fs::read(PathBuf::from(dir).join(name)).unwrap()
}

fn unpacked(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    unpack(Cursor::new(bytes))?.0.read_to_end(&mut out)?;
    Ok(out)
}

/// How many bytes come before the end or an error, and the error.
fn drained(mut input: Stream) -> (u64, Option<String>) {
    let mut buffer = vec![0; BUFFER];
    let mut count = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return (count, None),
            Ok(read) => count += read as u64,
            Err(error) => return (count, Some(error.to_string())),
        }
    }
}

const WHOLE: [&str; 11] = [
    "one.zst",
    "strong.zst",
    "frames.zst",
    "foreign.zst",
    "parallel.zst",
    "one.bz2",
    "streams.bz2",
    "empty_first.bz2",
    "one.xz",
    "streams.xz",
    "sha256.xz",
];

#[test]
fn every_format_gives_the_same_text() {
    let text = fixture("plain.txt");
    assert_eq!(unpacked(text.clone()).unwrap(), text);
    for name in WHOLE {
        assert_eq!(unpacked(fixture(name)).unwrap(), text, "{name}");
    }
    // What only begins like a compressed file is plain.
    for plain in [&b"BZh9.jpg"[..], b"\x28\xb5", b"Z", b""] {
        assert_eq!(unpacked(plain.to_vec()).unwrap(), plain);
    }
}

#[test]
fn damage_is_an_error_that_names_the_format() {
    let name_of = |file: &str| match file.rsplit_once('.').unwrap().1 {
        "zst" => "zstd",
        "bz2" => "bzip2",
        other => other.to_owned().leak(),
    };
    let text = fixture("plain.txt");
    for file in WHOLE {
        let whole = fixture(file);
        let mut cuts = 0;
        for cut in (START..whole.len()).step_by(23) {
            // Between two streams a cut is an end.
            if let Err(error) = unpacked(whole[..cut].to_vec()) {
                let error = error.to_string();
                assert!(error.starts_with(name_of(file)), "{file}: {error}");
                cuts += 1;
            }
        }
        assert!(cuts > 0, "{file}");
        let (mut wrong, mut silent) = (0, 0);
        for at in (START..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x15;
            match unpacked(damaged) {
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.starts_with(name_of(file)), "{file}: {error}");
                    wrong += 1;
                }
                Ok(found) => silent += u64::from(found != text),
            }
        }
        assert!(wrong > 0, "{file}");
        if !["strong.zst", "frames.zst"].contains(&file) {
            assert_eq!(silent, 0, "{file} has checksums");
        }
    }
    let error = unpacked(b"PK\x03\x04........".to_vec())
        .unwrap_err()
        .to_string();
    assert!(error.contains("a zip file"), "{error}");
}

/// 300 MiB of zeros in blocks of one byte that is repeated.
fn zstd_bomb() -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    for _ in 0..2400 {
        let block: u32 = (128 << 10) << 3 | 1 << 1;
        bytes.extend_from_slice(&block.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

#[test]
fn a_bomb_ends_soon_and_costs_no_memory() {
    let mut zeros = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    zeros.write_all(&vec![0; 32 << 20]).unwrap();
    let bz2 = zeros.finish().unwrap().repeat(10);
    let xz = fixture("bomb.xz").repeat(10);
    for (format, bomb) in [("zstd", zstd_bomb()), ("bzip2", bz2), ("xz", xz)] {
        let (count, error) = drained(unpack(Cursor::new(bomb)).unwrap().0);
        let error = error.unwrap_or_default();
        let expected = format!("{format} data: ");
        assert!(
            error.starts_with(&expected) && error.contains("unpack to more than"),
            "{format}: {error}"
        );
        assert!(
            (MAX_MEMBER_BYTES..MAX_MEMBER_BYTES + (4 << 20)).contains(&count),
            "{format}: {count}"
        );
    }
    for (format, file) in [("xz", "dictionary.xz"), ("zstd", "window.zst")] {
        let (count, error) = drained(unpack(Cursor::new(fixture(file))).unwrap().0);
        let error = error.unwrap_or_default();
        assert!(
            count == 0 && error.starts_with(format) && error.contains("134217728"),
            "{file}: {error}"
        );
    }
}
