//! What was found, as pictures on a sheet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use openclip_data::image::Picture;
use openclip_data::loader::default_workers;
use openclip_data::survey::SurveyOptions;
use openclip_data::survey::fetch::fetch;
use openclip_eval::embeddings::Settings;
use openclip_eval::search::{Collection, Hit};
use serde_json::Value;
use tiny_skia::Pixmap;

use super::queries::Query;
use crate::args::data::DataFormatArgs;
use crate::args::search::SearchArgs;
use crate::commands::embed::pictures;
use crate::error::{CliError, Result};
use crate::sheet::frame::framed;
use crate::sheet::paint::{GREY, INK, ground};
use crate::sheet::text::{Fonts, Style};
use crate::sheet::{Sheet, sheet};

const PADDING: f32 = 14.0;
/// Width and height of the box that a picture fits into.
const PICTURE: f32 = 240.0;
/// Lines of a caption.
const LINES: usize = 3;
const LINE: f32 = 20.0;
const CARD: [f32; 2] = [
    PICTURE + 2.0 * PADDING,
    PICTURE + 2.0 * PADDING + 36.0 + LINE * (LINES + 1) as f32,
];

struct Card {
    score: f32,
    name: String,
    caption: Option<String>,
    picture: Option<Picture>,
}

/// A card for each hit, those of one query after those of another.
pub fn render(
    args: &SearchArgs,
    settings: Option<&Settings>,
    vectors: &Collection,
    queries: &[Query],
    found: &[Vec<Hit>],
) -> Result<Sheet> {
    let hits: Vec<Hit> = found.iter().flatten().copied().collect();
    let rows: Vec<usize> = hits.iter().map(|hit| hit.row).collect();
    let metadata = vectors.metadata(&rows)?;
    let text = |at: usize, column: &str| {
        let cell = metadata[at].get(column).and_then(Value::as_str);
        cell.map(str::to_owned)
    };
    let mut wanted: BTreeMap<Option<usize>, HashSet<String>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        if let Some(name) = text(at, "image_path") {
            wanted
                .entry(vectors.partition(*row))
                .or_default()
                .insert(name);
        }
    }
    let shown = fetched(args, settings, wanted)?;
    let card = |(at, hit): (usize, &Hit)| {
        let name = text(at, "image_path").unwrap_or_default();
        let key = (vectors.partition(hit.row), name.clone());
        Card {
            score: hit.score,
            caption: text(at, "caption"),
            picture: shown.get(&key).cloned(),
            name,
        }
    };
    let cards: Vec<Card> = hits.iter().enumerate().map(card).collect();
    let title = match queries {
        [query] => query.asked.words().to_owned(),
        queries => format!("{} queries", queries.len()),
    };
    let below = format!(
        "{} of {} in {}",
        cards.len(),
        vectors.rows(),
        args.dir.display()
    );
    Ok(sheet(
        &title,
        [&below, ""],
        CARD,
        cards.len(),
        |canvas, at, k, fonts| {
            draw(canvas, at, &cards[k], fonts);
        },
    ))
}

/// The pictures of some names in each partition.
fn fetched(
    args: &SearchArgs,
    settings: Option<&Settings>,
    wanted: BTreeMap<Option<usize>, HashSet<String>>,
) -> Result<HashMap<(Option<usize>, String), Picture>> {
    let known = settings.and_then(|settings| settings.images.clone());
    let Some(images) = args.images.clone().or(known) else {
        return Err(CliError::Usage(format!(
            "--sheet: {} does not say where its pictures are; name them with --images",
            args.dir.display()
        )));
    };
    let format: DataFormatArgs = match settings {
        Some(settings) => serde_json::from_value(settings.format.clone()).map_err(|error| {
            let reason = format!("`format`: {error}");
            let path = Settings::path(&args.dir);
            CliError::Content { path, reason }
        })?,
        None => DataFormatArgs::unasked().map_err(|error| CliError::Usage(error.to_string()))?,
    };
    let source = pictures(&images, &format)?.opened.source;
    let parts = match settings {
        Some(settings) => Arc::clone(&source).partitions(settings.partition_size)?,
        None => Vec::new(),
    };
    let options = SurveyOptions {
        threads: default_workers(),
        limits: args.pictures.limits(),
        most: None,
    };
    let mut found = HashMap::new();
    for (number, names) in wanted {
        let part = number.and_then(|number| parts.get(number));
        let part = part.unwrap_or(&source);
        let some = fetch(part.as_ref(), &names, &options)?;
        found.extend(
            some.into_iter()
                .map(|(name, picture)| ((number, name), picture)),
        );
    }
    Ok(found)
}

fn draw(sheet: &mut Pixmap, [x, y]: [f32; 2], card: &Card, fonts: &Fonts) {
    ground(sheet, [x, y], CARD);
    let [left, top] = [x + PADDING, y + PADDING];
    framed(sheet, [left, top, PICTURE], card.picture.as_ref());
    let style = |size, bold, colour| Style { size, bold, colour };
    let mut baseline = top + PICTURE + 24.0;
    let score = format!("{:.4}", card.score);
    fonts.write(sheet, [left, baseline], &score, style(18.0, true, INK));
    baseline += 24.0;
    let words = style(15.0, false, INK);
    let caption = card.caption.as_deref().unwrap_or_default();
    for line in fonts.wrapped(caption, words, PICTURE, LINES) {
        fonts.write(sheet, [left, baseline], &line, words);
        baseline += LINE;
    }
    let small = style(12.5, false, GREY);
    let name = match card.picture {
        Some(_) => card.name.clone(),
        None => format!("not found: {}", card.name),
    };
    let name = fonts.shortened_before(&name, small, PICTURE);
    fonts.write(sheet, [left, y + CARD[1] - PADDING], &name, small);
}
