//! Scenes to pixels.

use std::f32::consts::TAU;

use rand::Rng;
use rand::rngs::StdRng;
use tiny_skia::{
    Color, FillRule, GradientStop, LinearGradient, Paint, Path, PathBuilder, Pixmap, Point, Rect,
    Shader, SpreadMode, Transform,
};

use super::scene::{Corner, Scene, Shape, Size};
use crate::sheet::paint::canvas;

/// Height and width of a picture in pixels.
pub(super) const SIDE: u32 = 128;

/// Samples of a picture, `[SIDE, SIDE, 3]`.
///
/// What the caption says is fixed by `scene`; exact position and size, tilt, shade, background and noise come from `rng`.
pub(super) fn picture(scene: &Scene, rng: &mut StdRng) -> Vec<u8> {
    let side = SIDE as f32;
    let mut pixmap = canvas(SIDE, SIDE);
    background(&mut pixmap, rng);

    let radius = side
        * match scene.size {
            Size::Small => rng.random_range(0.19..0.21),
            Size::Large => rng.random_range(0.275..0.295),
        };
    let (x, y) = match scene.corner {
        Corner::TopLeft => (0.3, 0.3),
        Corner::TopRight => (0.7, 0.3),
        Corner::BottomLeft => (0.3, 0.7),
        Corner::BottomRight => (0.7, 0.7),
    };
    let mut jitter = || side * rng.random_range(-0.025..0.025);
    let transform = Transform::from_translate(side * x + jitter(), side * y + jitter())
        .pre_rotate(rng.random_range(-12.0..12.0))
        .pre_scale(radius, radius);
    let rgb = scene.what.colour.rgb().map(|sample| {
        let sample = f32::from(sample) + rng.random_range(-12.0_f32..12.0);
        sample.round().clamp(0.0, 255.0) as u8
    });
    let mut paint = Paint::default();
    paint.set_color_rgba8(rgb[0], rgb[1], rgb[2], 255);
    if let Some(path) = outline(scene.what.shape) {
        pixmap.fill_path(&path, &paint, FillRule::EvenOdd, transform, None);
    }
    with_noise(&pixmap, rng)
}

/// A soft gradient between two light shades of nearly grey.
fn background(pixmap: &mut Pixmap, rng: &mut StdRng) {
    let side = SIDE as f32;
    let level: f32 = rng.random_range(0.8..0.96);
    let tint: [f32; 3] = std::array::from_fn(|_| rng.random_range(-0.03..0.03));
    let slope: f32 = rng.random_range(0.0..0.1);
    let shade = |sign: f32| {
        let [r, g, b] = tint.map(|tint| (level + tint + sign * slope / 2.0).clamp(0.0, 1.0));
        Color::from_rgba(r, g, b, 1.0).unwrap_or(Color::BLACK)
    };
    let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
    let end = |sign: f32| {
        Point::from_xy(
            side * (0.5 + sign * cos / 2.0),
            side * (0.5 + sign * sin / 2.0),
        )
    };
    let stops = vec![
        GradientStop::new(0.0, shade(-1.0)),
        GradientStop::new(1.0, shade(1.0)),
    ];
    let shader = LinearGradient::new(
        end(-1.0),
        end(1.0),
        stops,
        SpreadMode::Pad,
        Transform::identity(),
    );
    let paint = Paint {
        shader: shader.unwrap_or(Shader::SolidColor(shade(0.0))),
        ..Paint::default()
    };
    if let Some(all) = Rect::from_xywh(0.0, 0.0, side, side) {
        pixmap.fill_rect(all, &paint, Transform::identity(), None);
    }
}

/// The picture's samples, each moved a little, as by a camera in poor light.
fn with_noise(pixmap: &Pixmap, rng: &mut StdRng) -> Vec<u8> {
    let strength: f32 = rng.random_range(0.0..10.0);
    let mut samples = Vec::with_capacity(3 * pixmap.pixels().len());
    for pixel in pixmap.pixels() {
        for sample in [pixel.red(), pixel.green(), pixel.blue()] {
            // The sum of two uniform numbers is near enough to a normal one.
            let bits: u32 = rng.random();
            let noise = ((bits & 0xffff) + (bits >> 16)) as f32 / 65535.0 - 1.0;
            samples.push(
                (f32::from(sample) + strength * noise)
                    .round()
                    .clamp(0.0, 255.0) as u8,
            );
        }
    }
    samples
}

/// The outline of a shape that fits the unit circle; holes by the even-odd rule.
fn outline(shape: Shape) -> Option<Path> {
    let mut path = PathBuilder::new();
    match shape {
        Shape::Circle => path.push_circle(0.0, 0.0, 0.95),
        Shape::Square => path.push_rect(Rect::from_ltrb(-0.8, -0.8, 0.8, 0.8)?),
        Shape::Triangle => polygon(&mut path, (0..3).map(|k| corner(k as f32 / 3.0, 1.08))),
        Shape::Star => {
            let radius = |k: i32| if k % 2 == 0 { 1.08 } else { 0.46 };
            polygon(
                &mut path,
                (0..10).map(|k| corner(k as f32 / 10.0, radius(k))),
            );
        }
        Shape::Heart => {
            path.move_to(0.0, 0.95);
            path.cubic_to(-0.55, 0.5, -1.1, 0.1, -1.0, -0.4);
            path.cubic_to(-0.9, -0.95, -0.2, -0.95, 0.0, -0.42);
            path.cubic_to(0.2, -0.95, 0.9, -0.95, 1.0, -0.4);
            path.cubic_to(1.1, 0.1, 0.55, 0.5, 0.0, 0.95);
            path.close();
        }
        Shape::Cross => {
            let (long, half) = (0.98, 0.3);
            let arm = [(-half, -half), (-half, -long), (half, -long)];
            let turned = |turn: usize| {
                arm.map(|(x, y)| match turn {
                    0 => (x, y),
                    1 => (-y, x),
                    2 => (-x, -y),
                    _ => (y, -x),
                })
            };
            polygon(&mut path, (0..4).flat_map(turned));
        }
        Shape::Ring => {
            path.push_circle(0.0, 0.0, 1.0);
            path.push_circle(0.0, 0.0, 0.58);
        }
        Shape::Moon => {
            // Between two tips, an arc of the unit circle and an arc of a circle to the right of it.
            const STEPS: u16 = 40;
            let (tip, shift) = (0.14 * TAU, 0.38);
            let inner_tip = tip.sin().atan2(tip.cos() - shift);
            let inner = (tip.cos() - shift).hypot(tip.sin());
            let step = |from: f32, to: f32, k: u16| {
                (from + (to - from) * f32::from(k) / f32::from(STEPS)).sin_cos()
            };
            let outer_arc = (0..STEPS)
                .map(|k| step(tip, TAU - tip, k))
                .map(|(sin, cos)| (cos, sin));
            let inner_arc = (0..STEPS)
                .map(|k| step(TAU - inner_tip, inner_tip, k))
                .map(|(sin, cos)| (shift + inner * cos, inner * sin));
            polygon(
                &mut path,
                outer_arc.chain(inner_arc).map(|(x, y)| (x + 0.2, y)),
            );
        }
    }
    path.finish()
}

fn polygon(path: &mut PathBuilder, corners: impl Iterator<Item = (f32, f32)>) {
    for (k, (x, y)) in corners.enumerate() {
        if k == 0 {
            path.move_to(x, y);
        } else {
            path.line_to(x, y);
        }
    }
    path.close();
}

/// A point by its turn from the top and its distance from the middle.
fn corner(turn: f32, radius: f32) -> (f32, f32) {
    let (sin, cos) = (turn * TAU).sin_cos();
    (radius * sin, -radius * cos)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::quickstart::scene::{Combination, Scene};

    /// Mean sample of each channel around the pixel at `(x, y)` in shares of the side.
    fn colour_at(samples: &[u8], x: f32, y: f32) -> [f32; 3] {
        let side = SIDE as usize;
        let (x, y) = ((x * side as f32) as usize, (y * side as f32) as usize);
        let mut sum = [0.0; 3];
        for (dx, dy) in (0..25).map(|k| (k % 5, k / 5)) {
            let at = 3 * ((y + dy - 2) * side + x + dx - 2);
            (0..3).for_each(|c| sum[c] += f32::from(samples[at + c]) / 25.0);
        }
        sum
    }

    #[test]
    fn the_colour_is_where_the_scene_says() {
        for (k, what) in Combination::all().into_iter().enumerate() {
            if !matches!(
                what.shape,
                Shape::Circle | Shape::Square | Shape::Heart | Shape::Cross
            ) {
                continue;
            }
            for scene in Scene::every(what) {
                let samples = picture(&scene, &mut StdRng::seed_from_u64(k as u64));
                let [x, y] = match scene.corner {
                    Corner::TopLeft => [0.3, 0.3],
                    Corner::TopRight => [0.7, 0.3],
                    Corner::BottomLeft => [0.3, 0.7],
                    Corner::BottomRight => [0.7, 0.7],
                };
                let found = colour_at(&samples, x, y);
                let other = colour_at(&samples, 1.0 - x, 1.0 - y);
                let off = |found: [f32; 3]| {
                    let pairs = found.into_iter().zip(what.colour.rgb());
                    pairs
                        .map(|(a, b)| (a - f32::from(b)).abs())
                        .fold(0.0, f32::max)
                };
                assert!(
                    off(found) < 40.0 && off(other) > 40.0,
                    "{scene:?} {found:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn outlines_fit_the_unit_circle() {
        for shape in Shape::ALL {
            let bounds = outline(shape).map(|path| path.bounds());
            assert!(
                bounds.is_some_and(|b| b.left() > -1.12
                    && b.right() < 1.12
                    && b.top() > -1.12
                    && b.bottom() < 1.12),
                "{shape:?} {bounds:?}"
            );
        }
    }

    #[test]
    fn equal_seeds_give_equal_pictures() {
        let what = Combination::all()[11];
        let scene = Scene {
            what,
            size: Size::Large,
            corner: Corner::TopLeft,
        };
        let draw = |seed| picture(&scene, &mut StdRng::seed_from_u64(seed));
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        assert_eq!(draw(5).len(), 3 * 128 * 128);
    }
}
