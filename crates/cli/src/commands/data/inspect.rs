//! `data inspect`: what a data set holds.

use openclip_data::survey::histogram::{Bin, Histogram};
use openclip_data::survey::inspect::{Inspection, inspect};

use super::figures::{bytes, percent, problems, short};
use super::set::Set;
use super::sheet;
use crate::args::dataset::InspectArgs;
use crate::error::{Outcome, Result};
use crate::output::{Output, note};

/// Characters of the longest bar.
const BAR: f64 = 40.0;

/// Prints what there is; the exit status says whether all of the set could be looked at.
pub fn run(args: &InspectArgs) -> Result {
    let set = Set::open(&args.set, args.samples, false)?;
    let progress = set.progress("inspect");
    let pictures = args.sheet.as_ref().map_or(0, |_| args.pictures);
    let found = inspect(set.source.as_ref(), &set.options, pictures, |count| {
        progress.inc(count);
    })?;
    progress.finish();
    if let Some(path) = &args.sheet {
        sheet::render(&found).write(path)?;
        note(format!(
            "{} pictures are on {}",
            found.pictures.len(),
            path.display()
        ));
    }
    let mut out = Output::stdout();
    if args.json.json {
        out.json(&found)?;
    } else {
        show(&mut out, &found)?;
        out.finish()?;
    }
    Ok(Outcome::of(found.stopped.is_none()))
}

fn show(out: &mut Output, found: &Inspection) -> Result<()> {
    let part = if found.is_whole {
        ""
    } else {
        ", not all of it"
    };
    row(out, "data", &format!("{}{part}", found.source))?;
    row(out, "samples", &format!("{}", found.samples))?;
    if found.samples > 0 {
        figures(out, found)?;
    }
    if !found.problems.is_empty() {
        out.line("")?;
        out.line("problems")?;
        problems(out, &found.problems)?;
    }
    if let Some(reason) = &found.stopped {
        out.line("")?;
        out.line(format_args!("not read to the end: {reason}"))?;
    }
    Ok(())
}

fn figures(out: &mut Output, found: &Inspection) -> Result<()> {
    let formats = found.formats.iter();
    let formats: Vec<String> = formats
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    row(out, "formats", &formats.join(", "))?;
    let captions = found.caption_words.total();
    let without = match found.without_caption {
        0 => String::new(),
        count => format!(", none for {count}"),
    };
    row(out, "captions", &format!("{captions}{without}"))?;
    let repeated = match &found.repeated_example {
        None => "no picture twice".to_owned(),
        Some(first) => format!(
            "{} ({}), {} of them with the same caption; the first: {first}",
            found.repeated_pictures,
            percent(found.repeated_pictures, found.samples),
            found.repeated_pairs
        ),
    };
    row(out, "repeated", &repeated)?;
    row(
        out,
        "bytes",
        &format!("{} of pictures", bytes(found.bytes as f64)),
    )?;
    let pixels = |value: f64| format!("{value:.0}");
    histogram(out, "bytes of a picture", &found.picture_bytes, bytes)?;
    histogram(
        out,
        "pixels of the shorter side",
        &found.shorter_side,
        pixels,
    )?;
    histogram(out, "width by height", &found.aspect, short)?;
    histogram(out, "words of a caption", &found.caption_words, short)
}

fn row(out: &mut Output, label: &str, text: &str) -> Result<()> {
    out.line(format_args!("{label:<10} {text}"))
}

/// A line for each range, with a bar as long as its share.
fn histogram(
    out: &mut Output,
    what: &str,
    histogram: &Histogram,
    shown: impl Fn(f64) -> String,
) -> Result<()> {
    let Some([mean, least, most]) = histogram.range() else {
        return Ok(());
    };
    let [mean, least, most] = [mean, least, most].map(&shown);
    out.line("")?;
    out.line(format_args!("{what}: {mean} on average, {least} to {most}"))?;
    let bins = histogram.bins();
    let highest = bins.iter().map(|bin| bin.count).max().unwrap_or(0);
    for bin in &bins {
        let length = (BAR * bin.count as f64 / highest.max(1) as f64).ceil() as usize;
        let line = format!(
            "{:>20} {:>10} {:>8}  {}",
            range(bin, &shown),
            bin.count,
            percent(bin.count, histogram.total()),
            "█".repeat(length)
        );
        out.line(line.trim_end())?;
    }
    Ok(())
}

fn range(bin: &Bin, shown: &impl Fn(f64) -> String) -> String {
    match (bin.from, bin.below) {
        (None, Some(below)) => format!("below {}", shown(below)),
        (Some(from), None) => format!("from {}", shown(from)),
        (Some(from), Some(below)) => format!("{} – {}", shown(from), shown(below)),
        (None, None) => "any".to_owned(),
    }
}
