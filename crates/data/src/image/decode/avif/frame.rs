//! The planes of one AV1 picture.

use re_rav1d::{Decoder, PixelLayout, PlanarImageComponent, Settings, pixel};
use zenavif_parse::AV1Metadata;

use crate::image::decode::limits::{Failure, Limits};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Grey,
    Yuv420,
    Yuv422,
    Yuv444,
}

impl Layout {
    /// Size of the planes of chroma.
    pub(super) fn chroma(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Self::Grey => (0, 0),
            Self::Yuv420 => (width.div_ceil(2), height.div_ceil(2)),
            Self::Yuv422 => (width.div_ceil(2), height),
            Self::Yuv444 => (width, height),
        }
    }
}

/// Luma and chroma in 8 bits, to which deeper samples are shifted.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) layout: Layout,
    /// By H.273's table of matrix coefficients.
    pub(super) matrix: u16,
    pub(super) is_full_range: bool,
    pub(super) planes: [Vec<u8>; 3],
}

impl Frame {
    /// Decodes the first picture of a stream.
    pub(super) fn decode(data: &[u8], limits: Limits) -> Result<Self, Failure> {
        let header = AV1Metadata::parse_av1_bitstream(data)?;
        let side = |side: std::num::NonZeroU32| side.get() as usize;
        limits.check(side(header.max_frame_width), side(header.max_frame_height))?;
        let mut settings = Settings::new();
        settings.set_n_threads(1);
        settings.set_max_frame_delay(1);
        settings.set_frame_size_limit(u32::try_from(limits.max_pixels).unwrap_or(0));
        let mut decoder = Decoder::with_settings(&settings)?;
        let mut sent = decoder.send_data(data.to_vec(), None, None, None);
        let picture = loop {
            match decoder.get_picture() {
                Ok(picture) => break picture,
                Err(error) if !error.is_again() => return Err(error.into()),
                Err(error) => match sent {
                    Err(wait) if wait.is_again() => sent = decoder.send_pending_data(),
                    Err(failed) => return Err(failed.into()),
                    Ok(()) => return Err(error.into()),
                },
            }
        };
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        limits.check(width, height)?;
        let layout = match picture.pixel_layout() {
            PixelLayout::I400 => Layout::Grey,
            PixelLayout::I420 => Layout::Yuv420,
            PixelLayout::I422 => Layout::Yuv422,
            PixelLayout::I444 => Layout::Yuv444,
        };
        let plane = |component, (width, height): (usize, usize)| {
            if width == 0 {
                return Vec::new();
            }
            let bytes = picture.plane(component);
            let rows = bytes
                .chunks_exact(picture.stride(component) as usize)
                .take(height);
            match picture.bit_depth() {
                8 => rows.flat_map(|row| &row[..width]).copied().collect(),
                depth => {
                    let shift = depth - 8;
                    let row = |row: &[u8]| -> Vec<u8> {
                        let samples = row[..2 * width].as_chunks().0.iter();
                        samples
                            .map(|&pair| (u16::from_ne_bytes(pair) >> shift) as u8)
                            .collect()
                    };
                    rows.flat_map(row).collect()
                }
            }
        };
        let chroma = layout.chroma(width, height);
        Ok(Self {
            width,
            height,
            layout,
            matrix: picture.matrix_coefficients() as u16,
            is_full_range: picture.color_range() == pixel::YUVRange::Full,
            planes: [
                plane(PlanarImageComponent::Y, (width, height)),
                plane(PlanarImageComponent::U, chroma),
                plane(PlanarImageComponent::V, chroma),
            ],
        })
    }

    /// Puts tiles side by side, row by row; what reaches beyond the size is cut.
    pub(super) fn of_tiles(
        tiles: &[Self],
        columns: usize,
        (width, height): (usize, usize),
    ) -> Result<Self, Failure> {
        let first = tiles
            .first()
            .ok_or_else(|| Failure::of("a grid without tiles"))?;
        let shape = |tile: &Self| (tile.width, tile.height, tile.layout);
        let rows = tiles.len().div_ceil(columns.max(1));
        let is_whole = tiles.iter().all(|tile| shape(tile) == shape(first))
            && tiles.len() == rows * columns
            && columns * first.width >= width
            && rows * first.height >= height;
        if !is_whole {
            return Err(Failure::of("the tiles of its grid do not fit"));
        }
        let joined = |index: usize| {
            let size = |width, height| match index {
                0 => (width, height),
                _ => first.layout.chroma(width, height),
            };
            let (width, height) = size(width, height);
            let (tile_width, tile_height) = size(first.width, first.height);
            let mut plane = Vec::with_capacity(width * height);
            for y in 0..height {
                let row = &tiles[y / tile_height * columns..][..columns];
                for (column, tile) in row.iter().enumerate() {
                    let wanted = width.saturating_sub(column * tile_width).min(tile_width);
                    let start = y % tile_height * tile_width;
                    plane.extend_from_slice(&tile.planes[index][start..start + wanted]);
                }
            }
            plane
        };
        Ok(Self {
            width,
            height,
            planes: [joined(0), joined(1), joined(2)],
            ..*first
        })
    }
}
