//! Winograd's minimal filtering (<https://arxiv.org/abs/1509.09308>), F(4×4, 3×3): a tile of 4×4 places of the output takes 36
//! products where the convolution has 144. Channels are last and lie in the lanes.
//!
//! The points of interpolation are 0, ±√½, ±√2 and ∞, whose transforms lose a quarter of what those at ±1 and ±2 do.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::finish::Finish;
use super::product::{Matrix, Onto, Packed, Right, filled, product};
use super::vectorized;

/// Side of a tile of the output.
const TILE: usize = 4;
/// Side of what a tile reads.
const REACH: usize = 6;
/// Numbers of the transformed tiles that one core has in its cache.
const CACHE: usize = 1 << 19;

/// Channels side by side; the numbers of both sides are multiples of it.
pub(super) const LANES: usize = 16;

type Lanes = super::Lanes<LANES>;

/// Along one axis, from pixels to points.
#[inline(always)]
fn points([a, b, c, d, e, f]: [Lanes; REACH]) -> [Lanes; REACH] {
    let (near, far) = (e - c * 2.0, e - c * 0.5);
    let odd_near = d * FRAC_1_SQRT_2 - b * SQRT_2;
    let odd_far = d * SQRT_2 - b * FRAC_1_SQRT_2;
    [
        a - c * 2.5 + e,
        near + odd_near,
        near - odd_near,
        far + odd_far,
        far - odd_far,
        b - d * 2.5 + f,
    ]
}

/// Along one axis, from points to places.
#[inline(always)]
fn places([a, b, c, d, e, f]: [Lanes; REACH]) -> [Lanes; TILE] {
    let (near, far) = (b + c, d + e);
    let (odd_near, odd_far) = (b - c, d - e);
    [
        a + near + far,
        odd_near * FRAC_1_SQRT_2 + odd_far * SQRT_2,
        near * 0.5 + far * 2.0,
        odd_near * (0.5 * FRAC_1_SQRT_2) + odd_far * (2.0 * SQRT_2) + f,
    ]
}

/// Along one axis, what each point makes of the three taps.
const TAPS: [[f32; 3]; REACH] = {
    const fn at(point: f32, by: f32) -> [f32; 3] {
        [1.0 / by, point / by, point * point / by]
    }
    [
        [1.0, 0.0, 0.0],
        at(FRAC_1_SQRT_2, -1.5),
        at(-FRAC_1_SQRT_2, -1.5),
        at(SQRT_2, 6.0),
        at(-SQRT_2, 6.0),
        [0.0, 0.0, 1.0],
    ]
};

/// Tiles that cover a batch of maps.
pub(super) fn tiles([batch, height, width]: [usize; 3]) -> usize {
    batch * height.div_ceil(TILE) * width.div_ceil(TILE)
}

/// A kernel `[outputs, inputs, 3, 3]` at each pair of points, `[inputs, outputs]`. `None` for one without numbers.
pub(super) fn transform(weight: &[f32], inputs: usize, outputs: usize) -> Option<Vec<Packed>> {
    // `[inputs, points, outputs]`.
    let mut points = vec![0.0; REACH * REACH * inputs * outputs];
    let each = points.par_chunks_mut(REACH * REACH * outputs);
    each.enumerate().for_each(|(input, points)| {
        vectorized(
            #[inline(always)]
            || at_points(weight, [input, inputs], points, outputs),
        );
    });
    let at = |point: usize| {
        let matrix = Matrix::strided(
            &points[point * outputs..],
            [inputs, outputs],
            REACH * REACH * outputs,
        );
        Packed::new(matrix)
    };
    (0..REACH * REACH).into_par_iter().map(at).collect()
}

/// The kernels of one of the inputs at every pair of points, `[points, outputs]`.
#[inline(always)]
fn at_points(weight: &[f32], [input, inputs]: [usize; 2], points: &mut [f32], outputs: usize) {
    for first in (0..outputs).step_by(LANES) {
        let count = LANES.min(outputs - first);
        let mut taps = [[0.0; LANES]; 9];
        for lane in 0..count {
            let kernel = &weight[((first + lane) * inputs + input) * 9..][..9];
            for (taps, tap) in taps.iter_mut().zip(kernel) {
                taps[lane] = *tap;
            }
        }
        let taps = taps.map(super::Lanes);
        // Of each line of the kernel, then of the lines.
        let along = |[a, b, c]: [Lanes; 3]| TAPS.map(|[x, y, z]| a * x + b * y + c * z);
        let lines = [0, 3, 6].map(|tap| along([taps[tap], taps[tap + 1], taps[tap + 2]]));
        for column in 0..REACH {
            let down = along(lines.map(|line| line[column]));
            for (line, values) in down.into_iter().enumerate() {
                let to = (line * REACH + column) * outputs + first;
                points[to..to + count].copy_from_slice(&values.0[..count]);
            }
        }
    }
}

/// The convolution of `[batch, height, width, inputs]`, stride 1, of the same size.
pub(super) fn convolve(
    x: &[f32],
    size: [usize; 3],
    kernels: &[Packed],
    finish: &Finish<'_>,
) -> Option<Vec<f32>> {
    let [batch, height, width] = size;
    let (inputs, outputs) = (kernels.first()?.inner(), kernels.first()?.columns());
    let (down, right) = (height.div_ceil(TILE), width.div_ceil(TILE));
    let each = REACH * REACH * right * (inputs + outputs);
    let all = batch * down;
    let share = all.div_ceil(rayon::current_num_threads());
    let at_once = (CACHE / each).clamp(1, share.max(1));
    let grid = Grid {
        height,
        width,
        inputs,
        outputs,
        down,
        right,
    };
    filled(batch * height * width * outputs, |out| {
        let mut parts: Vec<Vec<_>> = Vec::new();
        let mut rest = out;
        for row in 0..all {
            if row % at_once == 0 {
                parts.push(Vec::with_capacity(at_once));
            }
            let (lines, behind) = rest.split_at_mut(grid.lines(row) * width * outputs);
            rest = behind;
            if let Some(part) = parts.last_mut() {
                part.push((row, lines));
            }
        }
        let buffers = || (Vec::new(), Vec::new());
        let work = parts.into_par_iter().map_init(buffers, |(from, to), part| {
            let tiles = part.len() * right;
            from.resize(REACH * REACH * tiles * inputs, 0.0);
            to.resize(REACH * REACH * tiles * outputs, 0.0);
            let numbers: Vec<usize> = part.iter().map(|(row, _)| *row).collect();
            vectorized(
                #[inline(always)]
                || grid.load(x, &numbers, from),
            );
            let points = from.chunks_exact(tiles * inputs);
            for ((to, from), kernel) in to
                .chunks_exact_mut(tiles * outputs)
                .zip(points)
                .zip(kernels)
            {
                let from = Matrix::rows(from, inputs);
                product(from, Right::Packed(kernel), 1.0, None, to, Onto::Nothing);
            }
            vectorized(
                #[inline(always)]
                || {
                    for (index, (row, lines)) in part.into_iter().enumerate() {
                        grid.store(to, [index * right, tiles], row, lines, finish);
                    }
                },
            );
        });
        work.collect::<()>();
        Some(())
    })
}

/// Sizes of the maps, and of the grid of tiles over one.
#[derive(Clone, Copy)]
struct Grid {
    height: usize,
    width: usize,
    inputs: usize,
    outputs: usize,
    down: usize,
    right: usize,
}

impl Grid {
    /// Lines of the output in a row of tiles.
    fn lines(self, row: usize) -> usize {
        (self.height - row % self.down * TILE).min(TILE)
    }

    /// The tiles of some rows at every point, `[points, tiles, inputs]`.
    #[inline(always)]
    fn load(self, x: &[f32], rows: &[usize], out: &mut [f32]) {
        let tiles = rows.len() * self.right;
        for (index, row) in rows.iter().enumerate() {
            let map = self.height * self.width * self.inputs;
            let map = &x[row / self.down * map..][..map];
            let top = row % self.down * TILE;
            for tile in 0..self.right {
                let left = tile * TILE;
                for channel in (0..self.inputs).step_by(LANES) {
                    let mut pixels = [[Lanes::ZERO; REACH]; REACH];
                    // One pixel of padding lies before the first line and column.
                    for (y, line) in (top..self.height + 1).zip(&mut pixels) {
                        let Some(y) = y.checked_sub(1) else { continue };
                        for (x, pixel) in (left..self.width + 1).zip(line) {
                            let Some(x) = x.checked_sub(1) else { continue };
                            let from = (y * self.width + x) * self.inputs + channel;
                            *pixel = Lanes::of(&map[from..]);
                        }
                    }
                    let lines = pixels.map(points);
                    for column in 0..REACH {
                        let of = |line: &[Lanes; REACH]| line[column];
                        let points = points(lines.each_ref().map(of));
                        for (line, point) in points.into_iter().enumerate() {
                            let matrix = (line * REACH + column) * tiles;
                            let to = (matrix + index * self.right + tile) * self.inputs + channel;
                            out[to..to + LANES].copy_from_slice(&point.0);
                        }
                    }
                }
            }
        }
    }

    /// The lines of a row of tiles out of `[points, tiles, outputs]`.
    #[inline(always)]
    fn store(
        self,
        products: &[f32],
        [first, tiles]: [usize; 2],
        row: usize,
        out: &mut [MaybeUninit<f32>],
        finish: &Finish<'_>,
    ) {
        let lines = self.lines(row);
        let start = row / self.down * self.height + row % self.down * TILE;
        let start = start * self.width * self.outputs;
        for tile in 0..self.right {
            let columns = (self.width - tile * TILE).min(TILE);
            for channel in (0..self.outputs).step_by(LANES) {
                let load = |line: usize, column: usize| {
                    let from = (line * REACH + column) * tiles + first + tile;
                    Lanes::of(&products[from * self.outputs + channel..])
                };
                let mut halves = [[Lanes::ZERO; REACH]; TILE];
                for column in 0..REACH {
                    let places = places(std::array::from_fn(|line| load(line, column)));
                    for (half, place) in halves.iter_mut().zip(places) {
                        half[column] = place;
                    }
                }
                for (line, half) in halves.into_iter().enumerate().take(lines) {
                    for (column, place) in places(half).into_iter().enumerate().take(columns) {
                        let pixel = line * self.width + tile * TILE + column;
                        let to = pixel * self.outputs + channel;
                        let place = finish.lanes(place.0, start + to, channel);
                        for (out, value) in out[to..].iter_mut().zip(place) {
                            out.write(value);
                        }
                    }
                }
            }
        }
    }
}
