//! Formats of pictures, their damages and their sizes.

use jpeg_encoder::{ColorType, Encoder};
use openclip_tests::formats;
use safetensors::SafeTensors;

use crate::support::{Ran, Room};

const WEIGHTS: [&str; 6] = [
    "--model",
    "tiny.json",
    "--pretrained",
    "tiny.safetensors",
    "--device",
    "cpu",
];

fn classify(room: &Room, image: &str, more: &[&str]) -> Ran {
    let texts = ["--image", image, "--text", "a", "b"];
    room.run(&[&["classify"], &WEIGHTS[..], &texts, more].concat())
}

#[test]
fn pictures_of_every_format_are_classified() {
    let bytes = formats();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let room = Room::new();
    for (name, kind) in [
        ("picture.avif", "avif_rgb_420_full"),
        ("picture.jp2", "jp2_rgb"),
        ("picture.j2k", "jp2_rgb_bare"),
        ("picture.ico", "ico_sizes"),
        ("picture.tga", "tga_rgb_None_-1"),
        ("picture.pcx", "pcx_rgb"),
        ("ycbcr.tif", "tiff_ycbcr_None"),
        ("lab.tif", "tiff_lab_None"),
        ("zstd.tif", "tiff_rgb_zstd"),
        ("fax.tif", "tiff_1_group3"),
        ("checksum.png", "png_checksum_IDAT"),
        ("picture.qoi", "qoi_rgb"),
        ("picture.sgi", "sgi_rgb"),
        ("picture.dds", "dds_rgb"),
        ("picture.xbm", "xbm"),
    ] {
        room.write(
            name,
            tensors.tensor(&format!("file/{kind}")).unwrap().data(),
        );
        let ran = classify(&room, name, &[]).ok();
        assert!(ran.stdout.starts_with(name), "{}", ran.stdout);
    }
}

#[test]
fn what_stands_in_a_pictures_place_is_named() {
    let room = Room::new();
    for (name, bytes, what) in [
        (
            "page.jpg",
            &b"<!DOCTYPE html><html><body>403 Forbidden</body></html>"[..],
            "an HTML page",
        ),
        (
            "pointer.jpg",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            "a Git LFS pointer",
        ),
        ("empty.png", b"", "an empty file"),
        (
            "error.png",
            b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
            "an XML document",
        ),
        ("packed.jpg", b"\x1f\x8b\x08\0\0\0\0\0", "a gzip file"),
        (
            "photo.heic",
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "a HEIC picture",
        ),
        ("photo.jxl", b"\xff\x0a\xfa\x1f\x01", "a JPEG XL picture"),
    ] {
        room.write(name, bytes);
        let error = classify(&room, name, &[]).error(1);
        assert!(error.contains(name) && error.contains(what), "{error}");
        assert!(
            error.contains("no picture") || error.contains("not read"),
            "{error}"
        );
    }
}

#[test]
fn a_picture_of_108_megapixels_is_classified() {
    let room = Room::new();
    let (width, height) = (12_000_u16, 9_000_u16);
    let grey = vec![90; usize::from(width) * usize::from(height)];
    let encoder = Encoder::new_file(room.path("large.jpg"), 30).unwrap();
    encoder
        .encode(&grey, width, height, ColorType::Luma)
        .unwrap();
    drop(grey);
    classify(&room, "large.jpg", &[]).ok();
    let error = classify(&room, "large.jpg", &["--max-image-pixels", "25000000"]).error(1);
    assert!(
        error.contains("12000x9000") && error.contains("--max-image-pixels"),
        "{error}"
    );
}

/// Pictures of 24 × 20 pixels against limits about that number.
#[test]
fn max_image_pixels_holds_in_every_command_that_reads_pictures() {
    let room = Room::new();
    for folder in ["set/reds", "set/blues"] {
        room.picture(&format!("{folder}/one.png"), [200, 30, 40]);
        room.picture(&format!("{folder}/two.png"), [20, 30, 240]);
    }
    room.write(
        "pairs.csv",
        "filepath\ttitle\nred.png\ta red\nblue.png\ta blue\n",
    );
    let commands: [&[&str]; 4] = [
        &["classify", "--image", "red.png", "--text", "a"],
        &["embed", "--images", "set/reds", "--output", "out"],
        &["eval", "--zeroshot", "set"],
        &[
            "train",
            "--logs",
            "none",
            "--train-data",
            "pairs.csv",
            "--batch-size",
            "2",
            "--epochs",
            "1",
            "--warmup",
            "0",
        ],
    ];
    for command in commands {
        for limit in ["480", "0"] {
            let _ = std::fs::remove_dir_all(room.path("out"));
            room.run(&[command, &WEIGHTS, &["--max-image-pixels", limit]].concat())
                .ok();
        }
        let _ = std::fs::remove_dir_all(room.path("out"));
        let ran = room.run(&[command, &WEIGHTS, &["--max-image-pixels", "479"]].concat());
        assert!(
            ran.stderr.contains("24x20 pixels exceed the limit of 479"),
            "{command:?}: {}",
            ran.stderr
        );
    }
}
