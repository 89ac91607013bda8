//! `embed`: vectors of many pictures and captions, in files.

use std::path::Path;
use std::sync::Arc;

use openclip_data::error::DataError;
use openclip_data::image::eval_transform;
use openclip_data::loader::{Loader, LoaderOptions};
use openclip_data::source::Order;
use openclip_data::source::csv::Csv;
use openclip_data::source::files::Files;
use openclip_data::source::kind::DatasetKind;
use openclip_data::source::open::{OpenOptions, Opened, open};
use openclip_data::source::shards::Shards;
use openclip_data::source::table::Table;
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::embeddings::{Contents, EmbeddingWriter};
use openclip_eval::progress::Progress;
use openclip_eval::run::host;

use super::session::Session;
use crate::args::embed::EmbedArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, warn};

/// Captions between two steps of the progress display.
const CAPTIONS: usize = 1024;

/// Pictures, and whether they bring captions.
struct Pictures {
    opened: Opened,
    count: Option<u64>,
    captioned: bool,
}

/// Writes the embedding files.
pub fn run(args: &EmbedArgs) -> Result {
    let pictures = args
        .images
        .as_deref()
        .map(|images| pictures(images, args))
        .transpose()?;
    let texts = args.texts.as_deref().map(captions).transpose()?;
    let session = Session::open(&args.model, &args.preprocess, 0)?;
    let (encoder, tokenizer) = (session.encoder(), session.tokenizer()?);
    let paired = pictures.as_ref().is_some_and(|p| p.captioned) && texts.is_none();
    let contents = match (&pictures, paired || texts.is_some()) {
        (Some(_), true) => Contents::Both,
        (Some(_), false) => Contents::Images,
        (None, _) => Contents::Texts,
    };
    let width = session.loaded.config.embed_dim;
    let mut writer = EmbeddingWriter::create(&args.output, width, contents)?;
    if let Some(pictures) = pictures {
        let captions = paired.then_some(tokenizer.as_ref());
        embed_pictures(&encoder, pictures, captions, args, &mut writer)?;
    }
    if let Some(texts) = texts {
        let progress = Progress::new("embed", Some(texts.len() as u64), "captions");
        for slice in texts.chunks(CAPTIONS) {
            writer.append_texts(&host(encoder.texts(tokenizer.as_ref(), slice)?)?, slice)?;
            progress.inc(slice.len() as u64);
        }
        progress.finish();
    }
    let written = writer.finish()?;
    let mut out = Output::stdout();
    for (rows, kind) in [(written.images, "pictures"), (written.texts, "captions")] {
        if rows > 0 {
            out.line(format_args!("{rows} {kind} in {}", args.output.display()))?;
        }
    }
    out.finish()?;
    Ok(Outcome::Done)
}

fn embed_pictures(
    encoder: &Encoder,
    pictures: Pictures,
    tokenizer: Option<&dyn Tokenizer>,
    args: &EmbedArgs,
    writer: &mut EmbeddingWriter,
) -> Result<()> {
    let Opened { source, rgb_first } = pictures.opened;
    let transform = eval_transform(encoder.image_size, &encoder.preprocess, rgb_first)?;
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
        let batch = batch?;
        writer.append_images(
            &host(encoder.images(batch.images, batch.size))?,
            &batch.names,
        )?;
        if let Some(tokenizer) = tokenizer {
            let features = encoder.texts(tokenizer, &batch.captions)?;
            writer.append_texts(&host(features)?, &batch.captions)?;
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

/// A folder of pictures, a CSV file with or without captions, or shards.
fn pictures(images: &str, args: &EmbedArgs) -> Result<Pictures> {
    let path = Path::new(images);
    if path.is_dir() {
        let files = Files::directory(path)?;
        return Ok(Pictures {
            count: Some(files.len() as u64),
            opened: Opened {
                source: Arc::new(files),
                rgb_first: false,
            },
            captioned: false,
        });
    }
    let options = args.format.options(None);
    match DatasetKind::parse(&options.dataset_type, images) {
        Ok(DatasetKind::Csv) => table(path, options, args.format.csv_caption_key.is_some()),
        Ok(DatasetKind::Webdataset) => Ok(Pictures {
            opened: open(images, &options)?,
            count: Shards::expand(images, None)?.num_samples()?,
            captioned: true,
        }),
        Err(DataError::UnknownDataset { .. }) if !path.exists() => {
            Err(CliError::file(path)(std::io::ErrorKind::NotFound.into()))
        }
        Ok(DatasetKind::Synthetic) | Err(DataError::UnknownDataset { .. }) => Err(CliError::Usage(
            format!("--images {images}: expected a folder, a .csv or .tsv file, or .tar shards"),
        )),
        Err(error) => Err(error.into()),
    }
}

/// The rows of a CSV file; it may have no captions unless a column of them was asked for.
fn table(path: &Path, mut options: OpenOptions, needs_captions: bool) -> Result<Pictures> {
    let table = match Csv::open(path, &options.csv) {
        Err(DataError::MissingColumn { column, .. })
            if !needs_captions && options.csv.caption_column.as_ref() == Some(&column) =>
        {
            options.csv.caption_column = None;
            Csv::open(path, &options.csv)?
        }
        table => table?,
    };
    Ok(Pictures {
        count: Some(table.len() as u64),
        opened: Opened {
            source: Arc::new(table),
            rgb_first: false,
        },
        captioned: options.csv.caption_column.is_some(),
    })
}

/// One caption per line; an empty line is an empty caption.
fn captions(path: &Path) -> Result<Vec<String>> {
    let content = |reason: String| CliError::Content {
        path: path.to_owned(),
        reason,
    };
    let bytes = std::fs::read(path).map_err(CliError::file(path))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to());
        content(format!(
            "line {} is not UTF-8",
            1 + valid.filter(|byte| **byte == b'\n').count()
        ))
    })?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(content(
            "no caption in it; expected one per line".to_owned(),
        ));
    }
    Ok(lines)
}
