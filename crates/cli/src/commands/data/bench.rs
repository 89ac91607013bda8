//! `data bench`: how fast a data set is read and made into batches.

use std::sync::Arc;

use openclip_data::image::{Augmentation, Decoding, train_transform};
use openclip_data::survey::bench::{BenchOptions, Benched, Limit, Rate, bench};
use openclip_data::tokenizer::ClipTokenizer;
use openclip_eval::progress::Progress;

use super::figures::{bytes, short};
use super::set::Set;
use crate::args::dataset::BenchArgs;
use crate::error::{Outcome, Result};
use crate::output::Output;

/// Tokens of a caption, as most models read them.
const CONTEXT: usize = 77;

/// Measures every stage and says which one limits.
pub fn run(args: &BenchArgs) -> Result {
    let set = Set::open(&args.set, Some(args.samples), false)?;
    let size = [args.image_size; 2];
    let augmentation = Augmentation::default();
    let decoding = Decoding {
        rgb_first: set.rgb_first,
        fast: false,
        limits: set.options.limits,
    };
    let options = BenchOptions {
        survey: set.options,
        image_size: size,
        batch_size: args.batch_size,
        transform: train_transform(size, augmentation, decoding)?,
        tokenizer: Arc::new(ClipTokenizer::new(CONTEXT)),
    };
    let progress = Progress::new("bench", Some(5), "stages");
    let found = bench(set.source, &options, |stage| {
        progress.set_message(stage);
        progress.inc(1);
    })?;
    drop(progress);
    let mut out = Output::stdout();
    if args.json.json {
        out.json(&found)?;
    } else {
        show(&mut out, &found)?;
        out.finish()?;
    }
    Ok(Outcome::Done)
}

fn show(out: &mut Output, found: &Benched) -> Result<()> {
    let threads = match found.threads {
        1 => "1 thread".to_owned(),
        count => format!("{count} threads"),
    };
    out.line(&found.source)?;
    out.line(format_args!(
        "{} samples, {} a picture on average, {threads}",
        found.samples,
        bytes(found.mean_bytes)
    ))?;
    out.line("")?;
    out.line(format_args!(
        "{:<22} {:>10} {:>10}",
        "images/s", "all threads", "a core"
    ))?;
    for (stage, rate) in [
        ("source", found.read),
        ("decode", found.decode),
        ("  + transform", found.transform),
        ("  + tokenizer", found.tokenize),
        ("whole loader", found.loader),
    ] {
        let Rate {
            images_per_s,
            images_per_core_s,
        } = rate;
        let core = images_per_core_s.map_or_else(|| "-".to_owned(), short);
        out.line(format_args!(
            "{stage:<22} {:>12} {core:>10}",
            short(images_per_s)
        ))?;
    }
    out.line("")?;
    out.line(format_args!("limit: {}", limit(found)))
}

fn limit(found: &Benched) -> String {
    let Benched { read, tokenize, .. } = found;
    let work = match found.limit {
        Limit::Source => {
            return format!(
                "the source, which gives {} images/s where the workers could take {}; more of them change nothing",
                short(read.images_per_s),
                short(tokenize.images_per_s)
            );
        }
        Limit::Decode => "decoding",
        Limit::Transform => "the transform",
        Limit::Tokenizer => "the tokenizer",
    };
    format!(
        "{work}; the source could feed {:.1} times as many workers. More --workers help as long as there are cores, smaller \
         pictures (openclip data pack --resize) always",
        read.images_per_s / tokenize.images_per_s.max(1e-9)
    )
}
