//! A whole picture in another size.

use openclip_model::config::Interpolation;

use super::picture::{Mode, Picture};
use super::place::{Placement, place};
use super::resample::{Rect, Scaling};
use crate::error::DataError;

/// `picture` as RGB of `width` × `height` pixels, by Pillow's bicubic filter.
///
/// # Errors
/// If a side is zero.
pub fn resized(picture: &Picture, width: usize, height: usize) -> Result<Picture, DataError> {
    if width == 0 || height == 0 {
        return Err(DataError::Setting {
            name: "image size",
            found: format!("{width}x{height}"),
            expected: "at least 1x1",
        });
    }
    let whole = |width, height| Rect {
        left: 0,
        top: 0,
        width,
        height,
    };
    let region = whole(picture.width, picture.height);
    let placement = Placement {
        scaling: Scaling {
            region,
            part: region.whole(),
            resized: (width, height),
            window: whole(width, height),
        },
        offset: (0, 0),
        output: (width, height),
    };
    let plane = width * height;
    let mut planes = vec![0; 3 * plane];
    place(picture, &placement, Interpolation::Bicubic, &mut planes)?;
    let pixels = (0..plane).flat_map(|at| [planes[at], planes[plane + at], planes[2 * plane + at]]);
    Ok(Picture::new(width, height, Mode::Rgb, pixels.collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_picture_keeps_its_colours_in_their_places() {
        // Left half red, right half blue.
        let row = [[200, 0, 0]; 8].into_iter().chain([[0, 0, 200]; 8]);
        let samples: Vec<u8> = (0..8).flat_map(|_| row.clone()).flatten().collect();
        let picture = Picture::from_rgb(16, 8, samples).unwrap();
        let small = resized(&picture, 4, 2).unwrap();
        assert_eq!(
            (small.width(), small.height(), small.mode()),
            (4, 2, Mode::Rgb)
        );
        // The filter overshoots a little beside an edge.
        let near = |at: usize, colour: [u8; 3]| {
            let pixel = small.samples()[at..at + 3].iter().zip(colour);
            pixel.for_each(|(found, wanted)| assert!(found.abs_diff(wanted) < 8, "{small:?}"));
        };
        near(0, [200, 0, 0]);
        near(9, [0, 0, 200]);
        assert_eq!(resized(&picture, 16, 8).unwrap(), picture);
        assert!(resized(&picture, 0, 8).is_err());
    }
}
