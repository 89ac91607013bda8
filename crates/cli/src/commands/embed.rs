//! `embed`: vectors of many pictures and captions, in files.

use std::path::Path;
use std::sync::Arc;

use openclip_data::error::DataError;
use openclip_data::image::{Transform, eval_transform};
use openclip_data::loader::LoaderOptions;
use openclip_data::source::Order;
use openclip_data::source::files::Files;
use openclip_data::source::kind::DatasetKind;
use openclip_data::source::open::{Opened, open};
use openclip_data::source::table::Table;
use openclip_data::storage::mask;
use openclip_eval::EvalError;
use openclip_eval::embeddings::{Contents, Embedder, Folder, Plan, Settings, Totals};
use openclip_eval::lines::read_text;
use openclip_eval::progress::Progress;
use openclip_model::device;
use serde_json::json;

use super::pictures::tell_left_out;
use super::session::{Session, rooted};
use crate::args::data::DataFormatArgs;
use crate::args::embed::EmbedArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, note, warn};

/// Pictures, and whether they may bring captions.
pub(super) struct Pictures {
    pub opened: Opened,
    count: Option<u64>,
    captioned: bool,
}

/// Writes the embedding files, or goes on with them.
pub fn run(args: &EmbedArgs) -> Result {
    let pictures = args
        .images
        .as_deref()
        .map(|images| pictures(images, &args.format))
        .transpose()?;
    let texts = args.texts.as_deref().map(captions).transpose()?;
    let contents = match (&pictures, &texts) {
        (Some(_), Some(_)) => Contents::Both,
        (Some(pictures), None) if pictures.captioned => Contents::Paired,
        (Some(_), None) => Contents::Images,
        (None, _) => Contents::Texts,
    };
    let sessions = sessions(args)?;
    let Some(first) = sessions.first() else {
        return Err(CliError::Usage("--device: expected a device".into()));
    };
    let (width, is_finite) = (first.loaded.config.embed_dim, first.is_finite);
    let total = total(pictures.as_ref(), texts.as_deref());
    let source = pictures.as_ref().map(|pictures| &pictures.opened.source);
    let (text_sum, fingerprint) = (
        texts.as_deref().map(sum),
        source.map(|source| source.fingerprint()),
    );
    let plan = Plan {
        images: match source {
            Some(source) => Arc::clone(source).partitions(args.partition_size)?,
            None => Vec::new(),
        },
        texts: Arc::new(texts.unwrap_or_default()),
        size: usize::try_from(args.partition_size).unwrap_or(usize::MAX),
    };
    let settings = Settings {
        model: first.described(&args.model)?,
        images: args.images.as_deref().map(|images| mask(&rooted(images))),
        format: json!(args.format),
        image_fingerprint: fingerprint,
        texts: args.texts.as_ref().map(|path| path.display().to_string()),
        text_fingerprint: text_sum,
        width,
        dtype: args.dtype.into(),
        partition_size: args.partition_size,
        partitions: plan.count(),
        batch_size: args.loader.batch_size,
        hashes: args.hash,
        max_image_pixels: args.pictures.max_image_pixels,
    };
    let folder = Folder::open(&args.output, &settings, args.overwrite)?;
    let before = folder.totals()?;
    match before.whole {
        0 => {}
        whole if whole == before.count => note("all of it was embedded before"),
        whole => note(format!(
            "{whole} of {} partitions are there already",
            before.count
        )),
    }
    let progress = Progress::new("embed", total, contents.unit());
    let rgb_first = pictures
        .as_ref()
        .is_some_and(|pictures| pictures.opened.rgb_first);
    let embed = |session: Session| -> Result<()> {
        let encoder = session.encoder();
        let transform = |()| -> Result<Arc<Transform>> {
            let (size, limits) = (encoder.image_size, args.pictures.limits());
            Ok(eval_transform(
                size,
                &encoder.preprocess,
                rgb_first,
                limits,
            )?)
        };
        let embedder = Embedder {
            transform: pictures.as_ref().map(|_| transform(())).transpose()?,
            tokenizer: &|| session.read_tokenizer(),
            options: LoaderOptions {
                workers: args.loader.workers,
                // Whoever embeds a folder wants what is there, however little.
                max_bad_share: 1.0,
                hashes: args.hash,
                ..LoaderOptions::new(
                    args.loader.batch_size,
                    encoder.image_size,
                    Order::sequential(),
                )
            },
            encoder,
            width,
            contents,
            numbers: args.dtype.into(),
            progress: &progress,
        };
        Ok(embedder.run(&folder, &plan)?)
    };
    on_each(sessions, embed)?;
    progress.finish();
    let totals = folder.totals()?;
    if totals.is_complete() {
        let is_empty = totals.sum.images.rows == 0 && !plan.images.is_empty();
        if is_empty {
            folder.discard()?;
            return Err(without_row(source.map(|source| source.describe()), &totals).into());
        }
        folder.finish()?;
    }
    tell(args, contents, &totals);
    show(args, &totals)?;
    Ok(Outcome::of(is_finite && totals.sum.not_finite == 0))
}

/// The model on each device that was asked for.
fn sessions(args: &EmbedArgs) -> Result<Vec<Session>> {
    let devices = device::list(&args.model.device);
    let open = |device: String| {
        let mut model = args.model.clone();
        model.settings.device = device;
        Session::open(&model, &args.preprocess, 0)
    };
    devices.into_iter().map(open).collect()
}

/// Works with each session on a thread of its own. One that fails leaves its partition to the others.
fn on_each(sessions: Vec<Session>, work: impl Fn(Session) -> Result<()> + Sync) -> Result<()> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .into_iter()
            .map(|session| scope.spawn(move || work(session)))
            .collect();
        let ended = threads.into_iter().map(|thread| {
            let panicked = |_| Err(EvalError::Device("its thread panicked".into()).into());
            thread.join().unwrap_or_else(panicked)
        });
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// How many samples there are, where that is known.
fn total(pictures: Option<&Pictures>, texts: Option<&[String]>) -> Option<u64> {
    let of_texts = texts.map_or(0, |texts| texts.len() as u64);
    match pictures {
        Some(pictures) => pictures.count.map(|count| count + of_texts),
        None => Some(of_texts),
    }
}

fn sum(texts: &[String]) -> u32 {
    texts.iter().fold(0, |sum, text| {
        let mut hasher = crc32fast::Hasher::new_with_initial(sum);
        hasher.update(text.as_bytes());
        hasher.update(b"\n");
        hasher.finalize()
    })
}

/// The error of a set of which no picture can be used.
fn without_row(source: Option<String>, totals: &Totals) -> DataError {
    let found = totals.sum.problems.iter();
    let found: Vec<_> = found
        .map(|(kind, count)| format!("{count} × {kind}"))
        .collect();
    DataError::NoSamples {
        source_name: source.unwrap_or_default(),
        found: match found.is_empty() {
            true => "nothing at all".to_owned(),
            false => found.join("; "),
        },
    }
}

/// Says what of the folder is not as one might expect.
fn tell(args: &EmbedArgs, contents: Contents, totals: &Totals) {
    let sum = &totals.sum;
    let (dropped, reasons) = sum.dropped();
    if dropped > 0 {
        warn(format!("{dropped} samples have no row: {reasons}"));
    }
    if contents == Contents::Paired {
        let missing = sum.images.rows - sum.texts.rows - sum.without_ids;
        let images = args.images.as_deref().unwrap_or_default();
        match (missing, sum.texts.rows) {
            (0, _) => {}
            (_, 0) => note(format!("{images}: no captions, so pictures alone")),
            _ => warn(format!(
                "{missing} of {} pictures have no caption and no row in text_emb; row k there belongs to the k-th row of the \
                 metadata that has a caption",
                sum.images.rows
            )),
        }
    }
    if sum.not_finite > 0 {
        warn(format!(
            "{} rows are not finite: they hold NaN or infinity",
            sum.not_finite
        ));
    }
    if sum.without_ids > 0 {
        warn(format!(
            "{} captions have no row: the tokenizer has no ids for them",
            sum.without_ids
        ));
    }
    let left = totals.count - totals.whole;
    if left > 0 {
        note(format!(
            "{left} of {} partitions are still with other processes",
            totals.count
        ));
    }
}

fn show(args: &EmbedArgs, totals: &Totals) -> Result<()> {
    let mut out = Output::stdout();
    let so_far = if totals.is_complete() { "" } else { " so far" };
    let sum = &totals.sum;
    for (rows, kind) in [(sum.images.rows, "pictures"), (sum.texts.rows, "captions")] {
        if rows > 0 {
            out.line(format_args!(
                "{rows} {kind} in {}{so_far}",
                args.output.display()
            ))?;
        }
    }
    out.finish()
}

/// A folder of pictures, or anything that has pictures with or without captions.
pub(super) fn pictures(images: &str, format: &DataFormatArgs) -> Result<Pictures> {
    let path = Path::new(images);
    let mut options = format.options(None);
    options.csv.columns.needs_captions = false;
    options.csv.columns.carried = true;
    options.keys.carried = true;
    let kind = DatasetKind::parse(&options.dataset_type, images);
    if path.is_dir() && options.dataset_type == "auto" {
        // Whoever names a folder wants the pictures in it; only where there is none, what else may hold some.
        match Files::directory(path) {
            Err(DataError::NoPictures { .. }) if !matches!(kind, Ok(DatasetKind::Folder)) => {}
            files => {
                let files = files?;
                tell_left_out(path, &files);
                return Ok(folder(files));
            }
        }
    }
    match kind {
        Ok(DatasetKind::Synthetic) => Err(unknown(images)),
        Err(DataError::UnknownDataset { .. }) if path.exists() => Err(unknown(images)),
        Err(DataError::UnknownDataset { .. }) => {
            Err(CliError::file(path)(std::io::ErrorKind::NotFound.into()))
        }
        Ok(_) => {
            let opened = open(images, &options)?;
            if !opened.is_captioned {
                note(format!(
                    "{images}: no column of captions, so pictures alone; --csv-caption-key names one"
                ));
            }
            let count = match opened.source.num_samples(None) {
                Err(DataError::UnknownLength { .. }) => None,
                count => Some(count?),
            };
            Ok(Pictures {
                count,
                captioned: opened.is_captioned,
                opened,
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn unknown(images: &str) -> CliError {
    CliError::Usage(format!(
        "--images {images}: expected a folder, a .csv, .tsv, .parquet or .arrow file, or .tar shards"
    ))
}

fn folder(files: Files) -> Pictures {
    Pictures {
        count: Some(files.len() as u64),
        opened: Opened {
            source: Arc::new(files),
            rgb_first: false,
            named_by_picture: false,
            is_captioned: false,
        },
        captioned: false,
    }
}

/// One caption per line; an empty line is an empty caption.
fn captions(path: &Path) -> Result<Vec<String>> {
    let lines: Vec<String> = read_text(path)?.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(CliError::Content {
            path: path.to_owned(),
            reason: "no caption in it; expected one per line".to_owned(),
        });
    }
    Ok(lines)
}
