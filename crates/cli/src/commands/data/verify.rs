//! `data verify`: whether every sample can be read and decoded.

use openclip_data::survey::verify::{Broken, Verified, verify};
use serde_json::json;

use super::figures::{self, problems};
use super::set::Set;
use crate::args::dataset::VerifyArgs;
use crate::error::{Outcome, Result};
use crate::output::Output;

/// Lists what is broken as it is found; the exit status says whether anything is.
pub fn run(args: &VerifyArgs) -> Result {
    // Without captions every sample would be broken, which one error tells as well.
    let set = Set::open(&args.set, None, true)?;
    let is_json = args.json.json;
    let progress = set.progress("verify");
    let mut out = Output::stdout();
    let mut list = Vec::new();
    let found = verify(
        set.source.as_ref(),
        &set.options,
        |broken| match is_json {
            true => {
                list.push(broken.clone());
                Ok(())
            }
            false => progress.suspended(|| out.line_now(line(broken))),
        },
        |count| progress.inc(count),
    )?;
    progress.finish();
    if is_json {
        let mut value = json!(found);
        value["list"] = json!(list);
        out.json(&value)?;
    } else {
        summary(&mut out, &found)?;
        out.finish()?;
    }
    Ok(Outcome::of(found.is_whole()))
}

fn line(broken: &Broken) -> String {
    let place = [&broken.shard, &broken.key];
    let place: Vec<&str> = place.into_iter().flatten().map(String::as_str).collect();
    format!("{}: {} ({})", place.join(": "), broken.kind, broken.reason)
}

fn summary(out: &mut Output, found: &Verified) -> Result<()> {
    let samples = match found.broken {
        0 => format!("all {} samples are whole", found.whole),
        broken => format!("{} samples are whole, {broken} broken", found.whole),
    };
    out.line(format_args!(
        "{}: {samples}, {} of pictures",
        found.source,
        figures::bytes(found.bytes as f64)
    ))?;
    problems(out, &found.problems)?;
    if let Some(reason) = &found.stopped {
        out.line(format_args!("not read to the end: {reason}"))?;
    }
    Ok(())
}
