//! A baseline JPEG: as a picture, or as far as one view of it needs, for [`fast`](crate::image::fast).
//!
//! Markers are libjpeg-turbo-rs's, and so is whatever is not what a usual coder writes: it is left to that crate. What it does not
//! offer is done here: several symbols are read in one step and two blocks transformed at once; blocks outside the wanted
//! rectangle are read over without a transform, nothing behind its last row is read, and the planes of brightness and colours
//! can stay as they are stored.

mod bits;
mod inverse;
mod pixels;
mod reduced;
mod scan;
mod steps;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use libjpeg_turbo_rs::decode::marker::{JpegMetadata, MarkerReader};

use self::bits::{Bits, Coefficients};
#[cfg(target_arch = "x86_64")]
use self::inverse::Wide;
use self::inverse::{Inverse, Portable};
use self::scan::Scan;
use self::steps::Tables;
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

/// What one picture leaves to the next.
#[derive(Default)]
pub(in crate::image) struct Room {
    scan: Scan,
    tables: Tables,
    pub planes: [Plane; 3],
}

/// Samples of a plane beyond which its memory is given back after use.
const KEPT: usize = 1 << 24;

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Calls `work` with this thread's room.
pub(in crate::image) fn with_room<T>(work: impl FnOnce(&mut Room) -> T) -> T {
    ROOM.with_borrow_mut(|room| {
        let done = work(room);
        let planes = room.planes.iter_mut();
        planes
            .filter(|plane| plane.samples.len() > KEPT)
            .for_each(|plane| plane.samples = Vec::new());
        done
    })
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
        let components = components.filter(|_| frame.width() > 0 && frame.height() > 0);
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

    /// Decodes what shows `wanted`, in pixels of the picture, into the room's planes. Brightness gets one sample for `divisor` ×
    /// `divisor` pixels, where `divisor` is 1, 2, 4 or 8, and the colours as many as that, or as are stored if these are fewer.
    /// `None` where the data is damaged, or nothing that a coder writes.
    pub(super) fn decode(&self, wanted: Rect, divisor: usize, room: &mut Room) -> Option<()> {
        let metadata = &self.metadata;
        let data = self.bytes.get(metadata.entropy_data_offset..)?;
        room.scan.read(data, metadata.restart_interval > 0);
        for part in &self.components {
            let [dc, ac] = part.tables;
            room.tables
                .prepare_dc(dc, metadata.dc_huffman_tables[dc].as_deref()?);
            room.tables
                .prepare_ac(ac, metadata.ac_huffman_tables[ac].as_deref()?);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = pulp::x86::V3::try_new() {
            let inverse = Wide {
                kernel,
                rest: Portable::new(),
            };
            return pulp::Simd::vectorize(
                kernel,
                Decode {
                    jpeg: self,
                    wanted,
                    divisor,
                    room,
                    inverse,
                },
            );
        }
        self.decode_by(Portable::new(), wanted, divisor, room)
    }

    #[inline(always)]
    fn decode_by(
        &self,
        inverse: impl Inverse,
        wanted: Rect,
        divisor: usize,
        room: &mut Room,
    ) -> Option<()> {
        let Room {
            scan,
            tables,
            planes,
        } = room;
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
        let mut pending = [const { Pending::new() }; 3];
        let mut coded = Vec::with_capacity(self.components.len());
        for part in &self.components {
            let [dc, ac] = part.tables;
            let table = metadata.dc_huffman_tables[dc].as_deref()?;
            let of_others = metadata.ac_huffman_tables[ac].as_deref()?;
            coded.push((tables.dc[dc].of(table), tables.ac[ac].of(of_others)));
        }
        let parts = self.components.iter().zip(coded.iter().copied());
        let (data, ends) = scan.parts();
        let mut ends = ends.iter().copied();
        let mut end = ends.next()?;
        let mut bits = Bits::new(data, 0);
        let mut predicted = [0_i16; 3];
        for row in 0..down.end.min(rows) {
            for unit in 0..units {
                let count = row * units + unit;
                if interval > 0 && count > 0 && count.is_multiple_of(interval) {
                    bits.left_before(end)?;
                    bits = Bits::new(data, end);
                    end = ends.next()?;
                    predicted = [0; 3];
                }
                let is_shown = down.contains(&row) && across.contains(&unit);
                for (i, (part, (dc, ac))) in parts.clone().enumerate() {
                    let (plane, pending) = (&mut planes[i], &mut pending[i]);
                    for y in 0..part.down {
                        for x in 0..part.across {
                            let block = &mut pending.blocks[pending.count];
                            if !is_shown {
                                bits.block::<false>(dc, ac, &mut predicted[i], block)?;
                                continue;
                            }
                            bits.block::<true>(dc, ac, &mut predicted[i], block)?;
                            let x = (unit * part.across + x) * sides[i];
                            let y = (row * part.down + y) * sides[i];
                            pending.places[pending.count] = y * plane.stride + x;
                            pending.count += 1;
                            if pending.count == pending.blocks.len() {
                                pending.show(inverse, sides[i], &part.quantizers, plane)?;
                            }
                        }
                    }
                }
            }
            bits.left_before(end)?;
            for (i, part) in self.components.iter().enumerate() {
                pending[i].show(inverse, sides[i], &part.quantizers, &mut planes[i])?;
            }
        }
        Some(())
    }
}

/// Blocks of coefficients of one component, which are transformed together.
struct Pending {
    blocks: [Coefficients; 2],
    /// Their first samples in the plane.
    places: [usize; 2],
    count: usize,
}

impl Pending {
    const fn new() -> Self {
        Self {
            blocks: [[0; _]; 2],
            places: [0; 2],
            count: 0,
        }
    }

    /// Transforms the blocks to `side` × `side` samples in the plane.
    #[inline(always)]
    fn show(
        &mut self,
        inverse: impl Inverse,
        side: usize,
        quantizers: &[u16; 64],
        plane: &mut Plane,
    ) -> Option<()> {
        let [first, second] = self.blocks.each_ref().map(|block| block.first_chunk());
        let (of, by) = ([first?, second?], [quantizers; 2]);
        let places = self.places.iter().take(self.count);
        match side {
            _ if self.count == 0 => {}
            BLOCK => {
                for (&place, block) in places.zip(&inverse.pair(of, by)) {
                    plane.store(place, block)?;
                }
            }
            4 => {
                for (&place, block) in places.zip(&inverse.halves(of, by)) {
                    plane.store(place, block.as_chunks::<4>().0)?;
                }
            }
            2 => {
                for (&place, block) in places.zip(&inverse.halves(of, by)) {
                    plane.store(place, reduced::quarter(block).as_chunks::<2>().0)?;
                }
            }
            _ => {
                for (&place, block) in places.zip(of) {
                    plane.store(place, &[reduced::eighth(block, quantizers)])?;
                }
            }
        }
        self.count = 0;
        Some(())
    }
}

impl Plane {
    #[inline(always)]
    fn store<const SIDE: usize>(&mut self, at: usize, rows: &[[u8; SIDE]]) -> Option<()> {
        let out = self.samples.get_mut(at..)?;
        for (y, row) in rows.iter().enumerate() {
            *out.get_mut(y * self.stride..)?.first_chunk_mut::<SIDE>()? = *row;
        }
        Some(())
    }
}

/// A closure would do, but is not inlined into the function that has the wide vectors switched on.
#[cfg(target_arch = "x86_64")]
struct Decode<'d, 'a> {
    jpeg: &'d Baseline<'a>,
    wanted: Rect,
    divisor: usize,
    room: &'d mut Room,
    inverse: Wide,
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for Decode<'_, '_> {
    type Output = Option<()>;

    #[inline(always)]
    fn call(self) -> Self::Output {
        self.jpeg
            .decode_by(self.inverse, self.wanted, self.divisor, self.room)
    }
}

/// Refuses a file without the marker that ends it, which JPEG and JPEG 2000 share.
pub(super) fn check_end_marker(bytes: &[u8]) -> Result<(), Failure> {
    match bytes.windows(2).rev().any(|pair| pair == [0xff, 0xd9]) {
        true => Ok(()),
        false => Err(Failure::of("the file ends before its end marker")),
    }
}
