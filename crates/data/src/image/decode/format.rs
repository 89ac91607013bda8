//! The formats that are read: how each is told by its first bytes, what it is called, and its decoder.

use super::limits::{Failure, Limits};
use super::{bmp, dds, general, gif, icon, jpeg, jpeg2000, pcx, png, tga, tiff};
use crate::image::picture::Picture;

/// Endings of the names of files that [`decode`](super::decode) reads, in lower case and without the dot. Wider than
/// torchvision's list for class folders, [`IMAGE_EXTENSIONS`](crate::source::IMAGE_EXTENSIONS).
pub const PICTURE_EXTENSIONS: [&str; 41] = [
    "jpg", "jpeg", "jpe", "jfif", "jif", "mpo", "png", "apng", "webp", "gif", "avif", "avifs",
    "bmp", "dib", "tif", "tiff", "pbm", "pgm", "ppm", "pnm", "pfm", "jp2", "j2k", "j2c", "jpc",
    "jpf", "jpx", "ico", "cur", "tga", "icb", "vda", "vst", "pcx", "qoi", "sgi", "rgb", "rgba",
    "bw", "dds", "xbm",
];

/// The formats by name, for an error.
pub(super) const READ: &str =
    "JPEG, PNG, WebP, GIF, AVIF, BMP, TIFF, PPM, JPEG 2000, ICO, TGA, PCX, QOI, SGI, DDS or XBM";

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
    #[cfg(feature = "avif")]
    Avif,
    Bmp,
    Dib,
    Tiff,
    Pnm,
    Jpeg2000,
    Icon,
    Pcx,
    Qoi,
    Sgi,
    Dds,
    Xbm,
    Tga,
}

impl Format {
    /// Tells a format by its first bytes, as Pillow does. TGA has no mark of its own: it is what no other format claims and
    /// whose header is consistent in every field.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Self::Png,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Self::Gif,
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Self::WebP,
            #[cfg(feature = "avif")]
            [_, _, _, _, b'f', b't', b'y', b'p', ..] if super::avif::is_avif(bytes) => Self::Avif,
            [b'B', b'M', ..] => Self::Bmp,
            [12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0, ..] if bmp::is_bare(bytes) => Self::Dib,
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Self::Tiff,
            // `P7` is PAM, and the thumbnails of XV.
            [b'P', b'1'..=b'7' | b'F' | b'f', ..]
                if bytes.get(2).is_some_and(u8::is_ascii_whitespace) =>
            {
                Self::Pnm
            }
            [0xff, 0x4f, 0xff, 0x51, ..] | [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => {
                Self::Jpeg2000
            }
            // With as many pictures as the next number says; TGA has zeros there.
            [0, 0, 1 | 2, 0, low, high, ..] if (*low, *high) != (0, 0) => Self::Icon,
            [10, 0 | 2 | 3 | 4 | 5, 0 | 1, 1 | 2 | 4 | 8, ..] => Self::Pcx,
            [b'q', b'o', b'i', b'f', ..] => Self::Qoi,
            [0x01, 0xda, 0 | 1, 1 | 2, ..] => Self::Sgi,
            [b'D', b'D', b'S', b' ', ..] => Self::Dds,
            [b'#', b'd', b'e', b'f', b'i', b'n', b'e', ..] => Self::Xbm,
            _ if tga::is_tga(bytes) => Self::Tga,
            _ => return None,
        })
    }

    /// Whether the first bytes alone tell the format. Others are told from what may be any file's beginning.
    pub(super) fn is_marked(self) -> bool {
        !matches!(
            self,
            Self::Dib | Self::Icon | Self::Pcx | Self::Xbm | Self::Tga
        )
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            #[cfg(feature = "avif")]
            Self::Avif => "AVIF",
            Self::Bmp | Self::Dib => "BMP",
            Self::Tiff => "TIFF",
            Self::Pnm => "PPM",
            Self::Jpeg2000 => "JPEG 2000",
            Self::Icon => "ICO",
            Self::Pcx => "PCX",
            Self::Qoi => "QOI",
            Self::Sgi => "SGI",
            Self::Dds => "DDS",
            Self::Xbm => "XBM",
            Self::Tga => "TGA",
        }
    }

    pub(super) fn decode(self, bytes: &[u8], limits: Limits) -> Result<Picture, Failure> {
        match self {
            Self::Jpeg => jpeg::decode(bytes, limits),
            Self::Png => png::decode(bytes, limits),
            Self::Gif => gif::decode(bytes, limits),
            #[cfg(feature = "avif")]
            Self::Avif => super::avif::decode(bytes, limits),
            Self::Tiff => tiff::decode(bytes, limits),
            Self::Jpeg2000 => jpeg2000::decode(bytes, limits),
            Self::Icon => icon::decode(bytes, limits),
            Self::Dib => bmp::decode_bare(bytes, bmp::Holder::None, limits),
            Self::Pcx => pcx::decode(bytes, limits),
            Self::Tga => tga::decode(bytes, limits),
            Self::WebP => general::webp(bytes, limits),
            Self::Bmp => bmp::decode(bytes, limits),
            Self::Pnm => general::pnm(bytes, limits),
            Self::Qoi => general::qoi(bytes, limits),
            Self::Sgi => general::sgi(bytes, limits),
            Self::Dds => dds::decode(bytes, limits),
            Self::Xbm => general::xbm(bytes, limits),
        }
    }
}
