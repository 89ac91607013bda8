//! Figures and problems in few characters.

use openclip_data::survey::ProblemCount;

use crate::error::Result;
use crate::output::Output;

/// Bytes as files are counted: `812 B`, `52.3 kB`, `1.24 GB`.
pub fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let (mut bytes, mut unit) = (bytes, "B");
    for larger in UNITS {
        if bytes < 999.5 {
            break;
        }
        (bytes, unit) = (bytes / 1000.0, larger);
    }
    match unit {
        "B" => format!("{bytes:.0} B"),
        _ => format!("{} {unit}", short(bytes)),
    }
}

/// Three significant digits: `0.67`, `8.13`, `97.2`, `812`; whole numbers without a point.
pub fn short(value: f64) -> String {
    match value {
        value if value >= 99.95 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// The share of `part` in `whole`: `12.3 %`.
pub fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// A line for each kind of problem, with the first of them below it.
pub fn problems(out: &mut Output, problems: &[ProblemCount]) -> Result<()> {
    for problem in problems {
        let lost = if problem.harmless { "  (harmless)" } else { "" };
        out.line(format_args!(
            "{:>12}  {}{lost}",
            problem.count, problem.kind
        ))?;
        out.line(format_args!("{:>12}  first: {}", "", problem.example))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let found = [0.0, 812.0, 999.6, 52_345.0, 1.24e9].map(bytes);
        assert_eq!(found, ["0 B", "812 B", "1.00 kB", "52.3 kB", "1.24 GB"]);
        let found = [2.0, 0.6666, 9.999, 97.23, 812.4].map(short);
        assert_eq!(found, ["2", "0.67", "10.0", "97.2", "812"]);
        assert_eq!([percent(1, 3), percent(0, 0)], ["33.3 %", "0.0 %"]);
    }
}
