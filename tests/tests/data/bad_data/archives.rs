//! Shards that are cut, packed, or made to harm.

use std::io::Write;

use openclip_data::source::ProblemKind;

use super::{header, load, member, octal, one_problem, picture, samples, shards, tar};

#[test]
fn a_truncated_tar_gives_its_whole_samples() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("jpeg_420"));
    let whole = samples(&["a", "b", "c"], &image);
    let good = samples(&["d"], &image);
    let sample = whole.len() / 3;
    for (cut, expected) in [
        (300, &["d"][..]),
        (512 + image.len() / 2, &["d"]),
        (sample - 510, &["d"]),
        (sample - 300, &["a", "d"]),
        (sample + 100, &["a", "d"]),
        (sample + 1000, &["a", "d"]),
        (3 * sample - 510, &["a", "b", "d"]),
    ] {
        let source = shards(dir.path(), &[&whole[..cut], &good]);
        let kind = if cut < 512 {
            ProblemKind::UnreadableShard
        } else {
            ProblemKind::TruncatedShard
        };
        assert_eq!(
            one_problem(source, dir.path(), kind),
            expected,
            "cut at {cut}"
        );
    }
}

#[test]
fn hostile_headers_neither_hang_nor_escape() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("png_small"));
    let good = samples(&["good"], &image);
    let minus_one = [0xff; 12];
    let enormous = *b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    let mut long_name = header(b"././@LongLink", &octal(1 << 32), b'L').to_vec();
    long_name.resize(4096, b'x');
    let mut pax = Vec::new();
    member(&mut pax, b"pax", b'x', b"25 size=9999999999999999\n");
    member(&mut pax, b"a.jpg", b'0', &image);
    for (name, bytes) in [
        ("octal", header(b"a.jpg", b"77777777777\0", b'0').to_vec()),
        ("enormous", header(b"a.jpg", &enormous, b'0').to_vec()),
        ("minus one", header(b"a.jpg", &minus_one, b'0').to_vec()),
        (
            "minus sign",
            header(b"a.jpg", b"-0000000001\0", b'0').to_vec(),
        ),
        (
            "no number",
            header(b"a.jpg", b"size?size?!\0", b'0').to_vec(),
        ),
        ("long name", long_name),
        ("size in an extended header", pax),
    ] {
        let (names, stats) = load(shards(dir.path(), &[&bytes, &good]), None);
        assert_eq!(names.unwrap(), ["good"], "{name}");
        assert_eq!(stats.problems.len(), 1, "{name}: {:?}", stats.problems);
        assert!(
            stats.problems[0].0.is_of_shard(),
            "{name}: {:?}",
            stats.problems
        );
    }
    // Names are keys and no paths; devices and pipes are passed over.
    let mut odd = Vec::new();
    for kind in [b'3', b'4', b'6', b'?'] {
        member(&mut odd, b"device.jpg", kind, b"");
    }
    odd.extend(samples(
        &["../../up", "/absolute", "a/./b", "sp ace\n"],
        &image,
    ));
    member(&mut odd, b"\xff\xfe.jpg", b'0', &image);
    member(&mut odd, b"\xff\xfe.txt", b'0', b"x");
    let (names, stats) = load(shards(dir.path(), &[&odd]), None);
    assert_eq!(names.unwrap().len(), 5);
    assert_eq!(stats.problems, [(ProblemKind::ForeignMembers, 1)]);
    // One sample with very many members.
    let many: Vec<u8> = (0..50_000)
        .flat_map(|n| tar(&[(&format!("a.{n}"), b"")]))
        .collect();
    let (names, stats) = load(shards(dir.path(), &[&many, &good]), None);
    assert_eq!(
        (names.unwrap().len(), stats.problems),
        (1, vec![(ProblemKind::MissingImage, 1)])
    );
}

#[test]
fn packed_shards_are_read_and_bombs_in_them_are_bounded() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("png_small"));
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let plain = samples(&["a", "b"], &image);
    let packed = gzip(&[&plain[..], &[0; 1024]].concat());
    let (names, stats) = load(shards(dir.path(), &[&packed]), None);
    assert_eq!((names.unwrap().len(), stats.problems.len()), (2, 0));
    let source = shards(dir.path(), &[&packed[..packed.len() / 2], &plain]);
    assert!(
        one_problem(source, dir.path(), ProblemKind::TruncatedShard)
            .ends_with(&["a".into(), "b".into()])
    );
    // A member of 300 MB in 300 kB: larger than any picture may be, so it is not unpacked into memory.
    let mut bomb = Vec::new();
    member(&mut bomb, b"bomb.jpg", b'0', &vec![0; 300_000_000]);
    member(&mut bomb, b"bomb.txt", b'0', b"x");
    bomb.extend([0; 1024]);
    let bomb = gzip(&bomb);
    assert!(bomb.len() < 2_000_000);
    let names = one_problem(
        shards(dir.path(), &[&bomb, &plain]),
        dir.path(),
        ProblemKind::UnreadableImage,
    );
    assert_eq!(names, ["a", "b"]);
}
