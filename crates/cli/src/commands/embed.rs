//! `embed`: vectors of many pictures and captions, in files.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use openclip_data::error::DataError;
use openclip_data::image::eval_transform;
use openclip_data::loader::{Loader, LoaderOptions};
use openclip_data::source::Order;
use openclip_data::source::files::Files;
use openclip_data::source::kind::DatasetKind;
use openclip_data::source::open::{Opened, open};
use openclip_data::source::table::Table;
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::embeddings::{Contents, Destination, EmbeddingWriter, Written};
use openclip_eval::lines::read_text;
use openclip_eval::progress::Progress;
use openclip_eval::run::host;

use super::pictures::tell_left_out;
use super::session::Session;
use crate::args::embed::EmbedArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, note, warn};

/// Captions between two steps of the progress display.
const CAPTIONS: usize = 1024;

/// Pictures, and whether they may bring captions.
struct Pictures {
    opened: Opened,
    count: Option<u64>,
    captioned: bool,
}

/// What of a run is not as it should be.
#[derive(Default)]
struct Flaws {
    /// Rows with a value that is NaN or infinite.
    not_finite: u64,
    /// Captions that the tokenizer has no ids for.
    without_ids: u64,
}

impl Flaws {
    /// Brings features to the host and looks at them.
    fn rows(&mut self, features: Tensor<2>) -> Result<Vec<f32>> {
        let [_, width] = features.dims();
        let rows = host(features)?;
        let is_bad = |row: &&[f32]| !row.iter().all(|value| value.is_finite());
        self.not_finite += rows.chunks_exact(width.max(1)).filter(is_bad).count() as u64;
        Ok(rows)
    }

    /// Appends a row for each caption that the tokenizer has ids for; one that it has none for is taken away.
    fn append(
        &mut self,
        encoder: &Encoder,
        tokenizer: &dyn Tokenizer,
        captions: &mut [Option<String>],
        writer: &mut EmbeddingWriter,
    ) -> Result<()> {
        let mut ids = Vec::new();
        for caption in captions.iter_mut() {
            let Some(text) = caption else { continue };
            match tokenizer.tokenize(text) {
                Ok(row) => ids.push(row),
                Err(_) => {
                    *caption = None;
                    self.without_ids += 1;
                }
            }
        }
        let rows = match ids.is_empty() {
            true => Vec::new(),
            false => self.rows(encoder.rows(&ids)?)?,
        };
        Ok(writer.append_texts(&rows, captions)?)
    }
}

/// Writes the embedding files.
pub fn run(args: &EmbedArgs) -> Result {
    let destination = Destination::open(&args.output, args.overwrite)?;
    let pictures = args
        .images
        .as_deref()
        .map(|images| pictures(images, args))
        .transpose()?;
    let texts = args.texts.as_deref().map(captions).transpose()?;
    let session = Session::open(&args.model, &args.preprocess, 0)?;
    let encoder = session.encoder();
    let contents = match (&pictures, &texts) {
        (Some(_), Some(_)) => Contents::Both,
        (Some(pictures), None) if pictures.captioned => Contents::Paired,
        (Some(_), None) => Contents::Images,
        (None, _) => Contents::Texts,
    };
    let width = session.loaded.config.embed_dim;
    let mut writer = EmbeddingWriter::create(destination, width, contents)?;
    let mut flaws = Flaws::default();
    if let Some(pictures) = pictures {
        let texts = (contents == Contents::Paired).then_some(&session);
        embed_pictures(&encoder, pictures, texts, args, &mut writer, &mut flaws)?;
    }
    if let Some(texts) = texts {
        let tokenizer = session.tokenizer()?;
        let progress = Progress::new("embed", Some(texts.len() as u64), "captions");
        for slice in texts.chunks(CAPTIONS) {
            let mut captions: Vec<_> = slice.iter().cloned().map(Some).collect();
            flaws.append(&encoder, tokenizer.as_ref(), &mut captions, &mut writer)?;
            progress.inc(slice.len() as u64);
        }
        progress.finish();
    }
    let written = writer.finish()?;
    if contents == Contents::Paired {
        tell_missing_captions(args, written, flaws.without_ids);
    }
    if flaws.not_finite > 0 {
        warn(format!(
            "{} rows are not finite: they hold NaN or infinity",
            flaws.not_finite
        ));
    }
    if flaws.without_ids > 0 {
        warn(format!(
            "{} captions have no row: the tokenizer has no ids for them",
            flaws.without_ids
        ));
    }
    let mut out = Output::stdout();
    for (rows, kind) in [(written.images, "pictures"), (written.texts, "captions")] {
        if rows > 0 {
            out.line(format_args!("{rows} {kind} in {}", args.output.display()))?;
        }
    }
    out.finish()?;
    Ok(Outcome::of(session.is_finite && flaws.not_finite == 0))
}

/// Says how many pictures came without a caption; those `without_ids` had one.
fn tell_missing_captions(args: &EmbedArgs, written: Written, without_ids: u64) {
    let missing = written.images - written.texts - without_ids;
    let images = args.images.as_deref().unwrap_or_default();
    match (missing, written.texts) {
        (0, _) => {}
        (_, 0) => note(format!("{images}: no captions, so pictures alone")),
        _ => warn(format!(
            "{missing} of {} pictures have no caption and no row in text_emb; row k there belongs to the k-th row of the metadata \
             that has a caption",
            written.images
        )),
    }
}

fn embed_pictures(
    encoder: &Encoder,
    pictures: Pictures,
    captioned: Option<&Session>,
    args: &EmbedArgs,
    writer: &mut EmbeddingWriter,
    flaws: &mut Flaws,
) -> Result<()> {
    let Opened {
        source, rgb_first, ..
    } = pictures.opened;
    let transform = eval_transform(
        encoder.image_size,
        &encoder.preprocess,
        rgb_first,
        args.pictures.limits(),
    )?;
    let options = LoaderOptions {
        workers: args.loader.workers,
        // Whoever embeds a folder wants what is there, however little.
        max_bad_share: 1.0,
        ..LoaderOptions::new(
            args.loader.batch_size,
            encoder.image_size,
            Order::sequential(),
        )
    };
    // Without a tokenizer the loader asks for no caption, so a picture whose caption is missing keeps its row.
    let mut loader = Loader::start(source, transform, None, &options)?;
    let progress = Progress::new("embed", pictures.count, "pictures");
    for batch in loader.by_ref() {
        let mut batch = batch?;
        let rows = flaws.rows(encoder.images(batch.images, batch.size))?;
        writer.append_images(&rows, &batch.names)?;
        if let Some(session) = captioned {
            // Pictures alone need no tokenizer, and whether captions come shows as they come.
            match batch.captions.iter().any(Option::is_some) {
                true => {
                    let tokenizer = session.tokenizer()?;
                    flaws.append(encoder, tokenizer.as_ref(), &mut batch.captions, writer)?;
                }
                false => writer.append_texts(&[], &batch.captions)?,
            }
        }
        progress.inc(batch.size as u64);
    }
    progress.finish();
    let stats = loader.stats();
    if stats.dropped() > 0 {
        let problems = stats
            .problems
            .iter()
            .filter(|(kind, _)| kind.drops_sample());
        let problems: Vec<_> = problems
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        warn(format!(
            "{} samples have no row: {}",
            stats.dropped(),
            problems.join(", ")
        ));
    }
    Ok(())
}

/// A folder of pictures, or anything that has pictures with or without captions.
fn pictures(images: &str, args: &EmbedArgs) -> Result<Pictures> {
    let path = Path::new(images);
    let mut options = args.format.options(None);
    options.csv.columns.needs_captions = false;
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
