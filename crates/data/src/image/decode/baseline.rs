//! A baseline JPEG, decoded as far as one view of it needs: for [`fast`](crate::image::fast).
//!
//! Markers, tables and the 8×8 transform are libjpeg-turbo-rs's. What it does not offer is done here: blocks outside the
//! wanted rectangle are read over without a transform, nothing behind its last row is read, and the planes of brightness and
//! colours stay as they are stored.

mod bits;
mod reduced;

use libjpeg_turbo_rs::decode::marker::{JpegMetadata, MarkerReader};
use libjpeg_turbo_rs::simd;

use self::bits::Bits;
use super::jpeg::check_end_marker;
use super::limits::{Failure, Limits};
use crate::image::resample::Rect;

/// Width and height of a block of coefficients.
const BLOCK: usize = 8;

/// A JPEG whose header is read.
pub(in crate::image) struct Baseline<'a> {
    bytes: &'a [u8],
    metadata: JpegMetadata,
    components: Vec<Component>,
}

struct Component {
    /// Blocks side by side, and on top of each other, in one unit of coded data.
    across: usize,
    down: usize,
    quantizers: [u16; 64],
    tables: [usize; 2],
}

/// The samples of one component. Only those of the wanted rectangle are written.
#[derive(Default)]
pub(in crate::image) struct Plane {
    pub samples: Vec<u8>,
    /// Samples from one row to the next.
    pub stride: usize,
    /// Samples of the picture in a row and in a column.
    pub size: (usize, usize),
    /// Pixels of the picture that a sample stands for, across and down.
    pub pitch: (f64, f64),
}

impl<'a> Baseline<'a> {
    /// `None` where the file is not of that kind: progressive or arithmetic coding, several scans, CMYK, RGB, 12 bits.
    pub(super) fn open(bytes: &'a [u8], limits: Limits) -> Result<Option<Self>, Failure> {
        if !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
            return Ok(None);
        }
        check_end_marker(bytes)?;
        let Ok(metadata) = MarkerReader::new(bytes).read_markers() else {
            return Ok(None);
        };
        let frame = &metadata.frame;
        limits.check(frame.width(), frame.height())?;
        let ids: Vec<u8> = frame.components.iter().map(|part| part.id).collect();
        let is_ycbcr = metadata.saw_jfif_marker_at_first_sos
            || match metadata.adobe_transform_at_first_sos {
                Some(transform) => transform == 1,
                None => ids == [1, 2, 3],
            };
        let scan = &metadata.scan.components;
        let in_order = scan
            .iter()
            .map(|part| part.component_id)
            .eq(ids.iter().copied());
        let is_baseline = !frame.is_progressive
            && !frame.is_lossless
            && !metadata.is_arithmetic
            && frame.precision == 8
            && metadata.scans.len() <= 1
            && in_order
            && (ids.len() == 1 || ids.len() == 3 && is_ycbcr);
        if !is_baseline {
            return Ok(None);
        }
        let components = frame.components.iter().zip(scan).map(|(part, coded)| {
            let table = metadata
                .quant_tables
                .get(usize::from(part.quant_table_index))?;
            let dc = metadata
                .dc_huffman_tables
                .get(usize::from(coded.dc_table_index))?;
            let ac = metadata
                .ac_huffman_tables
                .get(usize::from(coded.ac_table_index))?;
            (dc.is_some() && ac.is_some()).then_some(())?;
            // Of a single component every unit is one block, whatever its factors.
            let factor = |factor: u8| {
                if ids.len() == 1 {
                    1
                } else {
                    usize::from(factor).max(1)
                }
            };
            Some(Component {
                across: factor(part.horizontal_sampling),
                down: factor(part.vertical_sampling),
                quantizers: table.as_ref()?.values,
                tables: [
                    usize::from(coded.dc_table_index),
                    usize::from(coded.ac_table_index),
                ],
            })
        });
        let components: Option<Vec<_>> = components.collect();
        Ok(components.map(|components| Self {
            bytes,
            metadata,
            components,
        }))
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.metadata.frame.width(), self.metadata.frame.height())
    }

    /// How many planes there are: one of brightness, and two of colours if any.
    pub fn components(&self) -> usize {
        self.components.len()
    }

    /// Decodes what shows `wanted`, in pixels of the picture, into `planes`. Brightness gets one sample for `divisor` × `divisor`
    /// pixels, where `divisor` is 1, 2, 4 or 8, and the colours as many as that, or as are stored if these are fewer.
    pub(super) fn decode(
        &self,
        wanted: Rect,
        divisor: usize,
        planes: &mut [Plane; 3],
    ) -> Result<(), Failure> {
        let done = {
            #[cfg(target_arch = "x86_64")]
            if let Some(kernel) = pulp::x86::V3::try_new() {
                pulp::Simd::vectorize(
                    kernel,
                    Decode {
                        jpeg: self,
                        wanted,
                        divisor,
                        planes,
                    },
                )
            } else {
                self.decode_inner(wanted, divisor, planes)
            }
            #[cfg(not(target_arch = "x86_64"))]
            self.decode_inner(wanted, divisor, planes)
        };
        done.ok_or_else(|| Failure::of("its coded data is damaged or ends early"))
    }

    #[inline(always)]
    fn decode_inner(&self, wanted: Rect, divisor: usize, planes: &mut [Plane; 3]) -> Option<()> {
        let most = |of: fn(&Component) -> usize| self.components.iter().map(of).max().unwrap_or(1);
        let (most_across, most_down) = (most(|part| part.across), most(|part| part.down));
        let (width, height) = self.size();
        let (unit_width, unit_height) = (most_across * BLOCK, most_down * BLOCK);
        let (units, rows) = (width.div_ceil(unit_width), height.div_ceil(unit_height));
        let across = wanted.left / unit_width..(wanted.left + wanted.width).div_ceil(unit_width);
        let down = wanted.top / unit_height..(wanted.top + wanted.height).div_ceil(unit_height);
        let mut sides = [BLOCK; 3];
        for ((part, plane), side) in self
            .components
            .iter()
            .zip(planes.iter_mut())
            .zip(&mut sides)
        {
            // Colours that are stored at a share of the size need less of the division, or none.
            let stored = (most_across / part.across)
                .min(most_down / part.down)
                .max(1);
            *side = (BLOCK / divisor * (1 << stored.ilog2())).min(BLOCK);
            plane.stride = units * part.across * *side;
            let length = plane.stride * rows * part.down * *side;
            if plane.samples.len() < length {
                plane.samples.resize(length, 0);
            }
            let shrink = BLOCK as f64 / *side as f64;
            plane.pitch = (
                most_across as f64 / part.across as f64 * shrink,
                most_down as f64 / part.down as f64 * shrink,
            );
            plane.size = (
                (width as f64 / plane.pitch.0).ceil() as usize,
                (height as f64 / plane.pitch.1).ceil() as usize,
            );
        }
        let metadata = &self.metadata;
        let interval = usize::from(metadata.restart_interval);
        let transform = simd::detect().idct_islow;
        let mut bits = Bits::new(self.bytes.get(metadata.entropy_data_offset..)?);
        let mut predicted = [0_i16; 3];
        let mut coefficients = [0_i16; 64];
        for row in 0..down.end.min(rows) {
            for unit in 0..units {
                let count = row * units + unit;
                if interval > 0 && count > 0 && count.is_multiple_of(interval) {
                    bits.restart()?;
                    predicted = [0; 3];
                }
                let is_shown = down.contains(&row) && across.contains(&unit);
                for (i, (part, plane)) in self.components.iter().zip(planes.iter_mut()).enumerate()
                {
                    let [dc, ac] = part.tables;
                    let dc = metadata.dc_huffman_tables[dc].as_deref()?;
                    let ac = metadata.ac_huffman_tables[ac].as_deref()?;
                    let side = sides[i];
                    let places = (0..part.down).flat_map(|y| (0..part.across).map(move |x| (x, y)));
                    for (x, y) in places {
                        bits.block(dc, ac, &mut predicted[i], &mut coefficients)?;
                        if !is_shown {
                            continue;
                        }
                        let x = (unit * part.across + x) * side;
                        let y = (row * part.down + y) * side;
                        let out = plane.samples.get_mut(y * plane.stride + x..)?;
                        let (of, by) = (&coefficients, &part.quantizers);
                        match side {
                            4 => store::<4>(&reduced::half(of, by), out, plane.stride)?,
                            2 => store::<2>(&reduced::quarter(of, by), out, plane.stride)?,
                            1 => store::<1>(&reduced::eighth(of, by), out, plane.stride)?,
                            _ => {
                                let mut block = [0; 64];
                                transform(of, by, &mut block);
                                store::<BLOCK>(&block, out, plane.stride)?;
                            }
                        }
                    }
                }
            }
            // Bits that the file does not have are read as zeros until here.
            if bits.is_past_end() {
                return None;
            }
        }
        Some(())
    }
}

#[inline(always)]
fn store<const SIDE: usize>(block: &[u8], out: &mut [u8], stride: usize) -> Option<()> {
    let (rows, _) = block.as_chunks::<SIDE>();
    for (y, row) in rows.iter().enumerate() {
        *out.get_mut(y * stride..)?.first_chunk_mut::<SIDE>()? = *row;
    }
    Some(())
}

/// A closure would do, but is not inlined into the function that has the wide vectors switched on.
#[cfg(target_arch = "x86_64")]
struct Decode<'d, 'a> {
    jpeg: &'d Baseline<'a>,
    wanted: Rect,
    divisor: usize,
    planes: &'d mut [Plane; 3],
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for Decode<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        self.jpeg
            .decode_inner(self.wanted, self.divisor, self.planes)
    }
}
