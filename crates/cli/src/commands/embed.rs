//! `embed`: vectors of many pictures and captions, in files.

use std::path::Path;
use std::sync::Arc;

use openclip_data::error::DataError;
use openclip_data::loader::{Loader, LoaderOptions};
use openclip_data::source::files::Files;
use openclip_data::source::open::{Opened, open};
use openclip_data::source::{Order, Source};
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::embeddings::{Contents, EmbeddingWriter};
use openclip_eval::progress::Progress;
use openclip_eval::run::{eval_transform, host};

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
    let pictures = args.images.as_deref().map(|images| pictures(images, args)).transpose()?;
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
        let captions = paired.then(|| Arc::clone(&tokenizer));
        embed_pictures(&encoder, pictures, captions, args, &mut writer)?;
    }
    if let Some(texts) = texts {
        let progress = Progress::new("embed", Some(texts.len() as u64), "captions");
        for slice in texts.chunks(CAPTIONS) {
            writer.append_texts(&host(encoder.texts(tokenizer.as_ref(), slice))?, slice)?;
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
    tokenizer: Option<Arc<dyn Tokenizer>>,
    args: &EmbedArgs,
    writer: &mut EmbeddingWriter,
) -> Result<()> {
    let Opened { source, rgb_first } = pictures.opened;
    let transform = eval_transform(encoder.image_size, &encoder.preprocess, rgb_first)?;
    let options = LoaderOptions {
        workers: args.loader.workers,
        ..LoaderOptions::new(args.loader.batch_size, encoder.image_size, Order::sequential())
    };
    let paired = tokenizer.is_some();
    let mut loader = Loader::start(source, transform, tokenizer, &options)?;
    let progress = Progress::new("embed", pictures.count, "pictures");
    while let Some(batch) = loader.next() {
        let batch = batch?;
        writer.append_images(&host(encoder.images(batch.images, batch.size))?, &batch.names)?;
        if paired {
            writer.append_texts(&host(encoder.tokens(batch.tokens, batch.size))?, &batch.captions)?;
        }
        progress.inc(batch.size as u64);
    }
    progress.finish();
    let dropped = loader.stats().dropped();
    if dropped > 0 {
        warn(format!("{dropped} pictures could not be used and have no row"));
    }
    Ok(())
}

/// A folder of pictures, or whatever training data may be.
fn pictures(images: &str, args: &EmbedArgs) -> Result<Pictures> {
    let path = Path::new(images);
    if path.is_dir() {
        let files = Files::directory(path)?;
        let count = Some(files.paths().len() as u64);
        let source: Arc<dyn Source> = Arc::new(files);
        let opened = Opened { source, rgb_first: false };
        return Ok(Pictures { opened, count, captioned: false });
    }
    let mut options = args.format.options(None);
    match open(images, &options) {
        Ok(opened) => Ok(Pictures { opened, count: None, captioned: true }),
        // Pictures can be embedded without captions, unless a column of them was asked for.
        Err(DataError::MissingColumn { column, .. })
            if args.format.csv_caption_key.is_none() && column == args.format.caption_column() =>
        {
            options.csv.caption_column = None;
            let opened = open(images, &options)?;
            Ok(Pictures { opened, count: None, captioned: false })
        }
        Err(error) => Err(error.into()),
    }
}

/// One caption per line; an empty line is an empty caption.
fn captions(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        let reason = "no caption in it; expected one per line".to_owned();
        return Err(CliError::Content { path: path.to_owned(), reason });
    }
    Ok(lines)
}
