//! Pictures that are damaged, or claim more pixels than they may have.

use std::time::{Duration, Instant};

use openclip_data::error::DataError;
use openclip_data::image::{Limits, decode};
use openclip_data::source::ProblemKind;

use super::{csv, in_time, one_problem, picture, warnings};

#[test]
fn damaged_pictures_cost_themselves_alone() {
    let (dir, image) = (tempfile::tempdir().unwrap(), picture("jpeg_420"));
    let length = image.len();
    let mut bad: Vec<Vec<u8>> = [
        0,
        1,
        2,
        20,
        length / 4,
        length / 2,
        length - 100,
        length - 2,
        length - 1,
    ]
    .map(|cut| image[..cut].to_vec())
    .to_vec();
    let mut corrupt = image.clone();
    corrupt[length / 2..length / 2 + 40].fill(0xff);
    let mut no_tables = image.clone();
    no_tables[2..600].fill(0);
    bad.extend([
        corrupt,
        no_tables,
        b"<html>404</html>".to_vec(),
        vec![0xff; 3000],
    ]);
    for name in [
        "png_rgb",
        "gif",
        "webp_lossy",
        "bmp_grey",
        "tiff_rgb",
        "ppm",
    ] {
        let file = picture(name);
        bad.push(file[..file.len() / 2].to_vec());
    }
    std::fs::write(dir.path().join("good.jpg"), &image).unwrap();
    for (at, bytes) in bad.iter().enumerate() {
        std::fs::write(dir.path().join("bad.jpg"), bytes).unwrap();
        let source = csv(dir.path(), &[("bad.jpg", "x"), ("good.jpg", "y")]);
        let names = one_problem(source, dir.path(), ProblemKind::UndecodableImage);
        assert!(
            names.len() == 1 && names[0].ends_with("good.jpg"),
            "{at}: {names:?}"
        );
        let told = warnings(dir.path());
        assert!(told.iter().all(|text| text.contains("bad.jpg")), "{told:?}");
    }
}

/// Small files whose headers claim pixels by the hundred million: refused before anything is allocated.
#[test]
fn picture_bombs_are_refused_by_their_headers() {
    let patched = |name: &str, at: usize, bytes: &[u8]| {
        let mut file = picture(name);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let jpeg = picture("jpeg_420");
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    let side = 20_000_u32;
    let short = (side as u16).to_le_bytes();
    let long = side.to_le_bytes();
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
    png.extend([8, 2, 0, 0, 0]);
    let crc = flate2::Crc::new();
    png.extend(crc_of(crc, &png[12..]));
    png.extend(&picture("png_rgb")[33..]);
    for (name, bomb) in [
        ("PNG", png),
        (
            "JPEG",
            patched("jpeg_420", frame + 5, &[0x4e, 0x20, 0x4e, 0x20]),
        ),
        ("GIF", patched("gif", 6, &[short, short].concat())),
        ("BMP", patched("bmp_rgb", 18, &[long, long].concat())),
        (
            "BMP with a palette",
            patched("bmp_grey", 18, &[long, long].concat()),
        ),
        ("PPM", b"P6 20000 20000 255\n....".to_vec()),
    ] {
        let since = Instant::now();
        let result = in_time(move || decode(&bomb, Limits::default()));
        let is_refused = matches!(
            result,
            Err(DataError::PictureTooLarge {
                width: 20_000,
                height: 20_000,
                ..
            })
        );
        assert!(is_refused, "{name}: {result:?}");
        // Clearing 1.2 GB would take longer than this.
        assert!(
            since.elapsed() < Duration::from_millis(500),
            "{name}: {:?}",
            since.elapsed()
        );
    }
}

fn crc_of(mut crc: flate2::Crc, bytes: &[u8]) -> [u8; 4] {
    crc.update(bytes);
    crc.sum().to_be_bytes()
}
