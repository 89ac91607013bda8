//! Curves of a run as an SVG picture: panels one above the other over a common axis of steps.

use std::ops::Range;
use std::path::Path;

use openclip_model::files::atomic;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::scale;
use super::series::Series;
use crate::TrainError;

/// Size on the screen, in CSS pixels.
const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 340;
const TITLE_HEIGHT: u32 = 52;
const LEGEND_WIDTH: u32 = 190;
/// `plotters` rounds to whole units; eight units per pixel keep curves smooth.
const UNIT: u32 = 8;

/// The axis of a training run.
const STEP: &str = "step";

const FONT: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
const INK: RGBColor = RGBColor(45, 52, 64);
const FAINT_INK: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(232, 234, 238);
const PALETTE: [RGBColor; 8] = [
    RGBColor(37, 99, 175),
    RGBColor(217, 108, 22),
    RGBColor(34, 139, 90),
    RGBColor(178, 48, 80),
    RGBColor(120, 84, 170),
    RGBColor(20, 140, 160),
    RGBColor(150, 110, 50),
    RGBColor(90, 96, 110),
];

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// A strong line.
    Line,
    /// A thin pale line for noisy values; the next curve, its smoothed form, takes the same colour.
    Faint,
    /// A line with a dot at every value, for values that are far apart.
    Dotted,
}

/// A series of values.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// How it is drawn.
    pub stroke: Stroke,
    /// `(step, value)` in the order of the steps. A value that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// Curves over one value axis.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What the values are.
    pub title: String,
    /// Whether the value axis is logarithmic; values ≤ 0 then leave a gap.
    pub is_logarithmic: bool,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// A picture of one or more panels. Panels without a finite value are left out.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Heading, such as the name of the run.
    pub title: String,
    /// What the common axis counts.
    pub axis: &'static str,
    /// Panels from top to bottom.
    pub panels: Vec<Panel>,
}

impl Plot {
    /// The plot of a training run: the loss, called `what`, with its running mean and the validation loss above the other validation
    /// metrics, one `(name, points)` each.
    pub fn of_training(
        title: &str,
        what: &str,
        loss: &Series,
        metrics: Vec<(String, Vec<(f64, f64)>)>,
    ) -> Self {
        let means = loss.means();
        let mean = running_mean(&means, means.len() as f64 / 100.0);
        let loss = loss.points();
        let curve = |name: &str, stroke, points| Curve {
            name: name.to_owned(),
            stroke,
            points,
        };
        let dotted = |(name, points): (String, _)| curve(&name, Stroke::Dotted, points);
        let (losses, metrics): (Vec<_>, Vec<_>) = metrics
            .into_iter()
            .partition(|(name, _)| name.ends_with("loss"));
        let mut curves = vec![
            curve("each step", Stroke::Faint, loss),
            curve("running mean", Stroke::Line, mean),
        ];
        curves.extend(losses.into_iter().map(dotted));
        let training = Panel {
            title: what.to_owned(),
            is_logarithmic: false,
            curves,
        };
        let validation = Panel {
            title: "validation".to_owned(),
            is_logarithmic: false,
            curves: metrics.into_iter().map(dotted).collect(),
        };
        Self {
            title: title.to_owned(),
            axis: STEP,
            panels: vec![training, validation],
        }
    }

    /// Draws the picture and puts it at `path` in one step, so that a viewer never reads half of it.
    ///
    /// # Errors
    /// When the file cannot be written or the picture cannot be drawn.
    pub fn write_svg(&self, path: &Path) -> Result<(), TrainError> {
        let write = |source| TrainError::Write {
            path: path.to_owned(),
            source,
        };
        let svg = self
            .svg()
            .map_err(|problem| write(std::io::Error::other(problem)))?;
        atomic::write(path, svg).map_err(write)
    }

    /// The picture as SVG text.
    fn svg(&self) -> Result<String, String> {
        let panels: Vec<&Panel> = self
            .panels
            .iter()
            .filter(|panel| panel.values().next().is_some())
            .collect();
        let height = TITLE_HEIGHT + PANEL_HEIGHT * panels.len().max(1) as u32;
        let steps = scale::steps(
            panels
                .iter()
                .flat_map(|panel| panel.values())
                .map(|(step, _)| step),
        );
        let mut svg = String::new();
        let root =
            SVGBackend::with_string(&mut svg, (WIDTH * UNIT, height * UNIT)).into_drawing_area();
        self.draw(&root, &panels, steps)
            .map_err(|error| error.to_string())?;
        drop(root);
        // The backend states the size in its own units; the viewBox stays, the size becomes that of the screen.
        let stated = format!("width=\"{}\" height=\"{}\"", WIDTH * UNIT, height * UNIT);
        Ok(svg.replacen(
            &stated,
            &format!("width=\"{WIDTH}\" height=\"{height}\""),
            1,
        ))
    }

    fn draw(&self, root: &Area<'_>, panels: &[&Panel], steps: Range<f64>) -> Result<(), Failure> {
        root.fill(&WHITE)?;
        let (heading, body) = root.split_vertically(TITLE_HEIGHT * UNIT);
        heading.draw_text(&self.title, &bold(20), at(24, 20))?;
        if panels.is_empty() {
            body.draw_text("no values yet", &text(15, FAINT_INK), at(24, 20))?;
        }
        for (place, panel) in body
            .split_evenly((panels.len().max(1), 1))
            .iter()
            .zip(panels)
        {
            panel.draw(place, self.axis, steps.clone())?;
        }
        root.present()?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failure = DrawingAreaErrorKind<std::io::Error>;

impl Panel {
    /// Where a value lies on the axis; `None` when it cannot be shown.
    fn place(&self, (step, value): (f64, f64)) -> Option<(f64, f64)> {
        let value = if self.is_logarithmic {
            value.log10()
        } else {
            value
        };
        (step.is_finite() && value.is_finite()).then_some((step, value))
    }

    fn values(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.curves
            .iter()
            .flat_map(|curve| &curve.points)
            .filter_map(|&point| self.place(point))
    }

    fn draw(&self, place: &Area<'_>, axis: &str, steps: Range<f64>) -> Result<(), Failure> {
        place.draw_text(&self.title, &bold(14), at(24, 2))?;
        let values = scale::values(self.values().map(|(_, value)| value));
        let spacing = (values.end - values.start) / 8.0;
        let share = (steps.end - steps.start) / 8.0;
        let mut chart = ChartBuilder::on(place)
            .margin_top(32 * UNIT)
            .margin_right(LEGEND_WIDTH * UNIT)
            .margin_bottom(10 * UNIT)
            .x_label_area_size(40 * UNIT)
            .y_label_area_size(72 * UNIT)
            .build_cartesian_2d(steps, values)?;
        let label = text(12, FAINT_INK);
        let power = |&value: &f64| match self.is_logarithmic {
            true => scale::power_label(value),
            false => scale::label(value, spacing),
        };
        chart
            .configure_mesh()
            .axis_style(GRID.stroke_width(UNIT))
            .bold_line_style(GRID.stroke_width(UNIT))
            .light_line_style(TRANSPARENT)
            .x_labels(9)
            .y_labels(7)
            .x_label_style(label.clone())
            .y_label_style(label.clone())
            .x_label_formatter(&|step| match axis {
                STEP => scale::step_label(*step),
                _ => scale::label(*step, share),
            })
            .y_label_formatter(&power)
            .x_desc(axis)
            .axis_desc_style(label)
            .set_all_tick_mark_size(4 * UNIT)
            .draw()?;
        for (curve, stroke, paint) in self.painted() {
            for run in self.runs(curve) {
                chart.draw_series(LineSeries::new(scale::thin(&run), stroke))?;
                if (curve.stroke == Stroke::Dotted || run.len() == 1) && run.len() <= 200 {
                    let dots = run
                        .iter()
                        .map(|&point| Circle::new(point, (3 * UNIT) as i32, paint.filled()));
                    chart.draw_series(dots)?;
                }
            }
        }
        self.draw_legend(place)
    }

    /// Beside the curves, where it hides none of them.
    fn draw_legend(&self, place: &Area<'_>) -> Result<(), Failure> {
        let left = WIDTH - LEGEND_WIDTH + 16;
        for (row, (curve, stroke, _)) in (0..).zip(self.painted()) {
            let top = 38 + 20 * row;
            place.draw(&PathElement::new(
                vec![at(left, top), at(left + 22, top)],
                stroke,
            ))?;
            place.draw_text(&curve.name, &text(12, INK), at(left + 30, top - 5))?;
        }
        Ok(())
    }

    /// The curves with their strokes and colours.
    fn painted(&self) -> impl Iterator<Item = (&Curve, ShapeStyle, RGBColor)> + '_ {
        let mut colour = 0;
        self.curves.iter().map(move |curve| {
            let paint = PALETTE[colour % PALETTE.len()];
            let stroke = match curve.stroke {
                Stroke::Faint => paint.mix(0.3).stroke_width(UNIT),
                Stroke::Line | Stroke::Dotted => paint.stroke_width(2 * UNIT),
            };
            colour += usize::from(curve.stroke != Stroke::Faint);
            (curve, stroke, paint)
        })
    }

    /// The curve cut at every value that cannot be shown.
    fn runs(&self, curve: &Curve) -> Vec<Vec<(f64, f64)>> {
        let placed: Vec<_> = curve
            .points
            .iter()
            .map(|&point| self.place(point))
            .collect();
        let runs = placed.split(Option::is_none).filter(|run| !run.is_empty());
        runs.map(|run| run.iter().flatten().copied().collect())
            .collect()
    }
}

fn text(size: u32, colour: RGBColor) -> TextStyle<'static> {
    font(size).color(&colour)
}

fn bold(size: u32) -> TextStyle<'static> {
    font(size).style(FontStyle::Bold).color(&INK)
}

/// The backend writes the size divided by 1.24.
fn font(size: u32) -> FontDesc<'static> {
    (FONT, f64::from(size * UNIT) * 1.24).into_font()
}

fn at(x: u32, y: u32) -> (i32, i32) {
    ((x * UNIT) as i32, (y * UNIT) as i32)
}

/// The exponential running mean with a time constant of `window` points, without the pull towards the first value. A
/// value that is not finite is kept and does not enter the mean.
pub fn running_mean(points: &[(f64, f64)], window: f64) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / window.max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |&(step, value): &(f64, f64)| {
        if !value.is_finite() {
            return (step, value);
        }
        sum = keep * sum + value;
        weight = keep * weight + 1.0;
        (step, sum / weight)
    };
    points.iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn svg(points: Vec<(f64, f64)>, metrics: Vec<(String, Vec<(f64, f64)>)>) -> String {
        let mut loss = Series::default();
        points.iter().for_each(|point| loss.push(point.0, point.1));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loss.svg");
        Plot::of_training("a <run> & more", "SigLIP's loss", &loss, metrics)
            .write_svg(&path)
            .unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn nothing_one_point_and_no_number() {
        assert!(svg(vec![], vec![]).contains("no values yet"));
        assert!(svg(vec![(1.0, f64::NAN)], vec![]).contains("no values yet"));
        let one = svg(vec![(1.0, 2.0)], vec![]);
        assert!(
            one.contains("<circle")
                && one.contains("SigLIP&apos;s loss")
                && !one.contains("validation")
        );
        assert!(one.contains("&lt;run&gt; &amp; more") && !one.contains("NaN"));
        assert!(one.starts_with("<svg width=\"960\" height=\"392\" viewBox=\"0 0 7680 3136\""));
    }

    #[test]
    fn gaps_and_extremes() {
        let loss = (0..100)
            .map(|i| {
                (
                    i as f64,
                    if i == 50 {
                        f64::INFINITY
                    } else {
                        1e-30 * i as f64
                    },
                )
            })
            .collect();
        let metrics = vec![(
            "val_loss".to_owned(),
            vec![(10.0, f64::NAN), (20.0, 3e30), (30.0, -1.0)],
        )];
        let text = svg(loss, metrics);
        assert!(text.contains("val_loss") && !text.contains("NaN") && !text.contains("inf"));
    }

    #[test]
    fn a_long_run_stays_small() {
        let loss = (0..200_000)
            .map(|i| (i as f64, (i as f64 * 0.7).sin()))
            .collect();
        assert!(svg(loss, vec![]).len() < 300_000);
    }

    #[test]
    fn logarithmic_values() {
        let curve = Curve {
            name: "loss".into(),
            stroke: Stroke::Line,
            points: (0..50)
                .map(|i| (i as f64, 10f64.powf(2.0 - i as f64 / 10.0) - 1e-2))
                .collect(),
        };
        let panel = Panel {
            title: "loss".into(),
            is_logarithmic: true,
            curves: vec![curve],
        };
        let text = Plot {
            title: "log".into(),
            axis: STEP,
            panels: vec![panel],
        }
        .svg()
        .unwrap();
        for label in ["100", "10", "0.1"] {
            assert!(text.lines().any(|line| line.trim() == label), "{label}");
        }
    }

    #[test]
    fn the_mean_has_no_bias_and_skips_gaps() {
        let points = [(0.0, 4.0), (1.0, f64::NAN), (2.0, 2.0), (3.0, 2.0)];
        let mean = running_mean(&points, 2.0);
        assert_eq!(mean[0], (0.0, 4.0));
        assert!(mean[1].1.is_nan());
        assert!((mean[2].1 - (0.5 * 4.0 + 2.0) / 1.5).abs() < 1e-12);
        assert_eq!(running_mean(&points[2..], 1.0), [(2.0, 2.0), (3.0, 2.0)]);
    }
}
