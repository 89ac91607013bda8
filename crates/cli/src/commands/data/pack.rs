//! `data pack`: a data set as tar shards.

use openclip_data::survey::pack::{PackOptions, Packed, pack, shard_name};

use super::figures::{self, problems};
use super::set::Set;
use crate::args::dataset::PackArgs;
use crate::error::{Outcome, Result};
use crate::output::{Output, note};

/// Packs, or goes on packing, and says what came of it.
pub fn run(args: &PackArgs) -> Result {
    let set = Set::open(&args.set, None, false)?;
    let options = PackOptions {
        survey: set.options,
        samples_per_shard: args.samples_per_shard,
        resize: args.resize,
        quality: args.quality,
        dedup: args.dedup,
    };
    let progress = set.progress("pack");
    let packed = pack(set.source.as_ref(), &args.output, &options, |count| {
        progress.inc(count);
    })?;
    progress.finish();
    match packed.found {
        0 => {}
        found if found == packed.shards.len() => note("all of it was packed before"),
        found => note(format!("went on behind {found} shards that were there")),
    }
    show(args, &packed)?;
    Ok(Outcome::Done)
}

fn show(args: &PackArgs, packed: &Packed) -> Result<()> {
    let mut out = Output::stdout();
    let last = packed.shards.len().saturating_sub(1);
    let name = match last {
        0 => shard_name(0),
        _ => format!("{{{:06}..{last:06}}}.tar", 0),
    };
    let (least, most) = (packed.shards.iter().min(), packed.shards.iter().max());
    let each = match (least, most) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most} samples each"),
        (_, most) => format!("{} samples each", most.unwrap_or(&0)),
    };
    out.line(format_args!(
        "shards     {}, {each}",
        args.output.join(name).display()
    ))?;
    out.line(format_args!(
        "samples    {}, {} of pictures",
        packed.samples,
        figures::bytes(packed.bytes as f64)
    ))?;
    for (label, count) in [
        ("resized", packed.resized),
        ("no caption", packed.without_caption),
        ("repeated", packed.repeated),
    ] {
        if count > 0 {
            let lost = if label == "repeated" {
                ", left out"
            } else {
                ""
            };
            out.line(format_args!("{label:<10} {count}{lost}"))?;
        }
    }
    if !packed.problems.is_empty() {
        out.line("left out")?;
        problems(&mut out, &packed.problems)?;
    }
    out.finish()
}
