//! The result for people.

use std::fmt::Write;

use super::rows::Unit;
use super::turns::{Benched, Measured, Spread};

/// What stands above either table.
fn head(found: &Benched) -> String {
    let Benched {
        machine,
        threads,
        device,
        precision,
        peer,
        ..
    } = found;
    let peer = peer.as_ref().map_or(String::new(), |peer| {
        format!(", against {peer} in turns in one run")
    });
    format!(
        "openclip {} on {machine}; --device {device}, {precision}, {threads} threads{peer}. Medians, with how far the turns are \
         apart.",
        env!("CARGO_PKG_VERSION")
    )
}

/// A figure in its unit, with the distance between the turns in per cent of it.
fn figure(measured: &Measured, spread: &Spread) -> String {
    let apart = 100.0 * (spread.most - spread.least) / spread.median.max(f64::MIN_POSITIVE);
    let figure = match measured.row.work.unit() {
        Unit::PerSecond(unit) => {
            let count = match measured.row.work.is_counted() {
                true => measured.row.size as f64,
                false => 1.0,
            };
            format!("{} {unit}", short(count / spread.median))
        }
        Unit::Seconds if spread.median < 1.0 => format!("{} ms", short(1e3 * spread.median)),
        Unit::Seconds => format!("{} s", short(spread.median)),
        Unit::Bytes => format!("{} MiB", short(spread.median / f64::from(1 << 20))),
    };
    match spread.turns {
        1 => format!("{figure} (one turn)"),
        _ => format!("{figure} ±{:.0} %", apart / 2.0),
    }
}

/// Three digits.
fn short(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-9).log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 4) as usize)
}

fn cells(measured: &Measured) -> [String; 4] {
    let peer = measured.peer.as_ref();
    [
        measured.name.clone(),
        figure(measured, &measured.openclip),
        peer.map_or_else(String::new, |peer| figure(measured, peer)),
        measured
            .ratio
            .map_or_else(String::new, |ratio| format!("{ratio:.2}")),
    ]
}

/// For a terminal.
pub fn text(found: &Benched) -> String {
    let mut out = head(found) + "\n";
    for row in &found.rows {
        let [name, here, there, ratio] = cells(row);
        let _ = write!(out, "\n{name:<58} {here:>24} {there:>24} {ratio:>6}");
    }
    out
}

/// For a document.
pub fn markdown(found: &Benched) -> String {
    let mut out = head(found) + "\n\n";
    let (title, rule) = match found.peer {
        Some(_) => ("| work | openclip | PyTorch | ratio |", "|---|---|---|---|"),
        None => ("| work | openclip |", "|---|---|"),
    };
    let _ = writeln!(out, "{title}\n{rule}");
    for row in &found.rows {
        let [name, here, there, ratio] = cells(row);
        let _ = match found.peer {
            Some(_) => writeln!(out, "| {name} | {here} | {there} | {ratio} |"),
            None => writeln!(out, "| {name} | {here} |"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn three_digits() {
        let pairs = [
            (0.0123, "0.0123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (1234.5, "1234"),
        ];
        for (value, wanted) in pairs {
            assert_eq!(short(value), wanted);
        }
    }
}
