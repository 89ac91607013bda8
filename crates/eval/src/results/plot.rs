//! Many results as an SVG picture: a row for each set and task, in it a dot for each model, with its interval.

use std::fmt::Write;

use super::record::Record;

/// Metrics by which a set is shown, the first there is.
const MAIN: [&str; 9] = [
    "main_metric",
    "acc1",
    "mean_average_precision",
    "lp_acc1",
    "acc",
    "avg_jaccard_score",
    "image_retrieval_recall@1",
    "image_retrieval_recall@5",
    "CIDEr",
];
const PALETTE: [&str; 8] = [
    "#2563af", "#d96c16", "#228b5a", "#b23050", "#7854aa", "#148ca0", "#966e32", "#5a606e",
];
const FONT: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
/// Pixels from the left to the axis, of the axis, of a row, and around all.
const LABELS: f64 = 380.0;
const AXIS: f64 = 520.0;
const ROW: f64 = 26.0;
const MARGIN: f64 = 24.0;
/// Parts of the axis.
const TICKS: u32 = 5;

/// One row of the picture.
struct Row<'a> {
    name: String,
    dots: Vec<(usize, f64, Option<[f64; 2]>)>,
    key: (&'a str, &'a str, &'a str),
}

/// The picture. Results without a number among the usual metrics are left out.
pub fn svg(records: &[Record]) -> String {
    let mut models: Vec<String> = Vec::new();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for record in records {
        let value = |name: &'static str| Some((name, record.metrics.get(name)?.as_f64()?));
        let Some((metric, value)) = MAIN.iter().find_map(|name| value(name)) else {
            continue;
        };
        let model = format!("{} {}", record.model, record.pretrained);
        let model = model.trim_end().to_owned();
        let place = models.iter().position(|known| *known == model);
        let place = place.unwrap_or_else(|| {
            models.push(model);
            models.len() - 1
        });
        let key = (record.dataset.as_str(), record.task.as_str(), metric);
        let dot = (place, value, record.intervals.get(metric).copied());
        match rows.iter_mut().find(|row| row.key == key) {
            Some(row) => row.dots.push(dot),
            None => rows.push(Row {
                name: format!("{} · {metric}", record.dataset),
                dots: vec![dot],
                key,
            }),
        }
    }
    draw(&models, &rows)
}

fn draw(models: &[String], rows: &[Row<'_>]) -> String {
    let values = rows
        .iter()
        .flat_map(|row| &row.dots)
        .map(|(_, value, interval)| interval.map_or(*value, |[_, high]| high.max(*value)));
    // Shares end at one, CIDEr goes on.
    let most = values.fold(1.0, f64::max);
    let at = |value: f64| LABELS + AXIS * (value / most).clamp(0.0, 1.0);
    let top = MARGIN + ROW * models.len() as f64;
    let bottom = top + ROW * rows.len() as f64;
    let (width, height) = (LABELS + AXIS + 2.0 * MARGIN, bottom + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"{FONT}\" font-size=\"12\" fill=\"#2d3440\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    // Text is written to memory, which takes everything.
    let mut line = |text: String| {
        let _ = writeln!(svg, "{text}");
    };
    for (place, model) in models.iter().enumerate() {
        let y = MARGIN + ROW * place as f64;
        line(dot(MARGIN, y, place));
        line(text(MARGIN + 12.0, y + 4.0, "start", model));
    }
    for tick in 0..=TICKS {
        let value = most * f64::from(tick) / f64::from(TICKS);
        let x = at(value);
        line(format!(
            "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"#e8eaee\"/>"
        ));
        line(text(x, bottom + 18.0, "middle", &format!("{value:.1}")));
    }
    for (place, row) in rows.iter().enumerate() {
        let y = top + ROW * (place as f64 + 0.5);
        line(text(LABELS - 12.0, y + 4.0, "end", &row.name));
        for (model, value, interval) in &row.dots {
            if let Some([low, high]) = interval {
                let (from, to, colour) = (at(*low), at(*high), colour(*model));
                line(format!(
                    "<path d=\"M{from:.1} {y:.1}H{to:.1}\" stroke=\"{colour}\" stroke-width=\"2\" opacity=\"0.5\"/>"
                ));
            }
            line(dot(at(*value), y, *model));
        }
    }
    svg + "</svg>\n"
}

fn colour(model: usize) -> &'static str {
    PALETTE[model % PALETTE.len()]
}

fn dot(x: f64, y: f64, model: usize) -> String {
    let colour = colour(model);
    format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>")
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn a_dot_for_each_model_in_the_row_of_its_set() {
        let record = |dataset: &str, pretrained: &str, metric: &str, value: f64| Record {
            dataset: dataset.into(),
            model: "A".into(),
            pretrained: pretrained.into(),
            task: "t".into(),
            metrics: Map::from_iter([(metric.to_owned(), json!(value))]),
            language: "en".into(),
            intervals: BTreeMap::from([("acc1".to_owned(), [0.25, 0.75])]),
        };
        let svg = svg(&[
            record("cars & co", "x", "acc1", 0.5),
            record("cars & co", "y", "acc1", 0.75),
            record("coco", "y", "CIDEr", 2.0),
            record("odd", "y", "weight_decay", 9.0),
        ]);
        // Two models in the legend, three values; whiskers of the first two.
        assert_eq!(svg.matches("<circle").count(), 5, "{svg}");
        assert_eq!(svg.matches("opacity").count(), 2, "{svg}");
        assert_eq!(svg.matches("cars &amp; co · acc1").count(), 1, "{svg}");
        assert!(
            svg.contains("coco · CIDEr") && !svg.contains("odd"),
            "{svg}"
        );
        // Two is the end of the axis, a half of it at a quarter.
        assert!(
            svg.contains("cx=\"900.0\"") && svg.contains("cx=\"510.0\""),
            "{svg}"
        );
    }
}
