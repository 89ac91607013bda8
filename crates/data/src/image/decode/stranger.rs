//! What a file is that no decoder reads: something else in a picture's place, or a known format without a reader here.

use super::READ;
use crate::error::DataError;

/// Bytes from the beginning that are looked at for text.
const HEAD: usize = 1024;

/// Formats of pictures, documents and films that are not read, each with what to do.
const CONVERT: &str = "convert it to JPEG or PNG";
const FILM: &str = "take a frame out of it first";
const DRAWING: &str = "render it to PNG first";
const DEVELOP: &str = "develop it to JPEG or TIFF first";
const UNPACK: &str = "unpack it first";
const STUB: &str = "it holds measurements, which no reader of pictures shows";

/// Where a mark stands, the mark, what the file is, and what to do.
const MARKS: [(usize, &[u8], &str, &str); 50] = [
    (0, b"\xff\x0a", "a JPEG XL picture", CONVERT),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture", CONVERT),
    (0, b"8BPS", "a Photoshop file (PSD)", CONVERT),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture", CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR picture", CONVERT),
    (0, b"#?RGBE", "a Radiance HDR picture", CONVERT),
    (0, b"icns", "an icon of macOS (ICNS)", CONVERT),
    (0, b"/* XPM */", "an XPM picture", CONVERT),
    (0, b"\x59\xa6\x6a\x95", "a Sun raster picture", CONVERT),
    (0, b"BLP", "a BLP texture", CONVERT),
    (0, b"FTEX", "an FTEX texture", CONVERT),
    (0, b"DanM", "an MSP picture", CONVERT),
    (0, b"LinS", "an MSP picture", CONVERT),
    (0, b"\xb1\x68\xde\x3a", "a DCX picture", CONVERT),
    (0, b"\x80\xe8", "a PIXAR picture", CONVERT),
    (0, b"P7 332", "a thumbnail of XV", CONVERT),
    (2048, b"PCD_", "a Photo CD picture", CONVERT),
    (0, b"SIMPLE  =", "a FITS file", CONVERT),
    (0, b"Image type:", "an IM picture", CONVERT),
    (0, b"MM\0\xbc", "a JPEG XR picture", CONVERT),
    (0, b"II\xbc", "a JPEG XR picture", CONVERT),
    (0, b"farbfeld", "a farbfeld picture", CONVERT),
    (128, b"DICM", "a DICOM file", CONVERT),
    (0, b"%PDF", "a PDF document", DRAWING),
    (0, b"%!PS", "a PostScript document", DRAWING),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document", DRAWING),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)", DRAWING),
    (40, b" EMF", "a Windows metafile (EMF)", DRAWING),
    (0, b"FUJIFILMCCD-RAW", "a raw file of a camera", DEVELOP),
    (0, b"IIRO", "a raw file of a camera", DEVELOP),
    (0, b"IIRS", "a raw file of a camera", DEVELOP),
    (0, b"IIU\0", "a raw file of a camera", DEVELOP),
    (0, b"FOVb", "a raw file of a camera", DEVELOP),
    (8, b"AVI ", "a film (AVI)", FILM),
    (0, b"\x1a\x45\xdf\xa3", "a film (Matroska or WebM)", FILM),
    (0, b"\0\0\x01\xba", "a film (MPEG)", FILM),
    (0, b"\0\0\x01\xb3", "a film (MPEG)", FILM),
    (4, b"\x11\xaf", "a film (FLI)", FILM),
    (4, b"\x12\xaf", "a film (FLC)", FILM),
    (0, b"\x1f\x8b", "a gzip file", UNPACK),
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"BZh", "a bzip2 file", UNPACK),
    (0, b"\xfd7zXZ", "an xz file", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\x89HDF\r\n", "an HDF5 file", STUB),
    (0, b"GRIB", "a GRIB file", STUB),
    (0, b"BUFR", "a BUFR file", STUB),
    (
        0,
        b"\0\x05\x16\x07",
        "a resource file of macOS",
        "the picture lies beside it, without the leading ._",
    ),
];

pub(super) fn error(bytes: &[u8]) -> DataError {
    let marked = MARKS
        .iter()
        .find(|(at, mark, ..)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(mark)));
    if let Some(&(.., what, advice)) = marked {
        return DataError::UnreadFormat { what, advice };
    }
    if let Some((what, advice)) = media(bytes) {
        return DataError::UnreadFormat { what, advice };
    }
    match text(bytes) {
        Some(what) => DataError::NotAPicture { what },
        None => DataError::UnknownPicture {
            read: READ,
            found: bytes
                .iter()
                .take(8)
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        },
    }
}

/// Files of the ISO base media format, by their brands.
fn media(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if bytes.get(4..8)? != b"ftyp" {
        return None;
    }
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let brands = bytes.get(8..length.clamp(12, 256).min(bytes.len()))?;
    let has = |names: &[&[u8; 4]]| {
        brands
            .chunks_exact(4)
            .any(|brand| names.iter().any(|name| *name == brand))
    };
    Some(
        if has(&[
            b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs",
        ]) {
            ("a HEIC picture", CONVERT)
        } else if has(&[b"avif", b"avis"]) {
            (
                "an AVIF picture, which this build leaves out (feature avif)",
                CONVERT,
            )
        } else if has(&[b"mif1", b"msf1"]) {
            ("a HEIF picture", CONVERT)
        } else if has(&[b"crx "]) {
            ("a raw file of a camera", DEVELOP)
        } else {
            ("a film (MP4 or QuickTime)", FILM)
        },
    )
}

/// Text in a picture's place, and nothing at all.
fn text(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("an empty file");
    }
    if bytes.iter().all(|&byte| byte == 0) {
        return Some("nothing but zeros");
    }
    let head = &bytes[..bytes.len().min(HEAD)];
    let head: String = match head {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(head).into_owned(),
    };
    if head.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let head = head
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    let starts = |words: &[&str]| words.iter().any(|word| head.starts_with(word));
    Some(
        if starts(&["version https://git-lfs", "version https://hawser"]) {
            "a Git LFS pointer, whose file `git lfs pull` fetches"
        } else if head.contains("<svg") {
            "an SVG drawing, which has to be rendered first"
        } else if starts(&[
            "<!doctype html",
            "<html",
            "<head",
            "<body",
            "<script",
            "<title",
            "<meta",
        ]) || head.contains("<html")
        {
            "an HTML page"
        } else if head.starts_with('<') {
            "an XML document"
        } else if starts(&["{", "["]) {
            "JSON text"
        } else if starts(&["http://", "https://"]) {
            "an address of the web"
        } else if head.contains('\u{fffd}') || head.is_empty() {
            return head.is_empty().then_some("blank text");
        } else {
            "text"
        },
    )
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.as_chunks().0.iter().map(|&pair| unit(pair));
    char::decode_utf16(units)
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::error;

    #[test]
    fn what_stands_in_a_pictures_place_is_named() {
        for (bytes, name) in [
            (&b""[..], "an empty file"),
            (&[0; 64], "nothing but zeros"),
            (b"\xef\xbb\xbf\n <!DOCTYPE HTML><p>403", "an HTML page"),
            (
                b"<?xml version=\"1.0\"?><!DOCTYPE html><html>",
                "an HTML page",
            ),
            (b"\xff\xfe<\0h\0t\0m\0l\0>\0", "an HTML page"),
            (
                b"<?xml version=\"1.0\"?><Error><Code>AccessDenied",
                "an XML document",
            ),
            (b"<svg xmlns=", "an SVG drawing"),
            (b"{\"error\": \"not found\"}", "JSON text"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                "a Git LFS pointer",
            ),
            (b"https://example.org/a.jpg\n", "an address of the web"),
            (b"Not Found\n", "text"),
            (b"\x1f\x8b\x08\0\0\0", "a gzip file"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC picture"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "a film"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
            (b"%PDF-1.7", "a PDF document"),
            (b"RIFF\0\0\0\0AVI LIST", "a film (AVI)"),
        ] {
            let message = error(bytes).to_string();
            assert!(message.contains(name), "{name}: {message}");
            assert!(
                message.contains("no picture") || message.contains("not read"),
                "{message}"
            );
        }
        assert!(
            error(b"\x01\x02\x93garbage\0")
                .to_string()
                .contains("0102936761726261")
        );
    }
}
