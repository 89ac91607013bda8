//! `caption`: what a picture shows, in the words of a CoCa model.

use std::path::Path;

use openclip_data::image::{EvalTransform, Limits, Picture, decode};
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::EvalError;
use openclip_model::generate::{
    BeamScore, BeamSearch, Filter, GenerateOptions, Sampling, SpecialTokens, Strategy,
};
use openclip_model::pixels;
use serde::Serialize;

use super::session::Session;
use crate::args::caption::{CaptionArgs, Generation};
use crate::error::{CliError, Outcome, Result};
use crate::output::Output;

#[derive(Serialize)]
struct Answer {
    image: String,
    caption: String,
    tokens: Vec<i32>,
}

/// Prints a caption for every picture.
pub fn run(args: &CaptionArgs) -> Result {
    // A picture that is not there should not cost the time of loading a model.
    let pictures: Vec<_> = args
        .image
        .iter()
        .map(|path| read(path))
        .collect::<Result<_>>()?;
    let session = Session::open(&args.model, &args.preprocess, args.seed)?;
    if !session.loaded.model.writes_captions() {
        return Err(CliError::Usage(format!(
            "--model {}: the model has no caption decoder; coca_ViT-B-32, coca_ViT-L-14, coca_base and coca_roberta-ViT-B-32 have",
            session.loaded.name
        )));
    }
    let encoder = session.encoder();
    let tokenizer = session.tokenizer()?;
    let special = SpecialTokens::of(&session.loaded.config)?;
    let options = options(args, tokenizer.as_ref(), special)?;
    let [height, width] = encoder.image_size;
    let transform =
        EvalTransform::new(height, width, &encoder.preprocess).map_err(EvalError::from)?;
    let mut answers = Vec::new();
    for (path, picture) in args.image.iter().zip(&pictures) {
        let mut planes = vec![0; 3 * height * width];
        transform
            .apply(picture, &mut planes)
            .map_err(EvalError::from)?;
        let shape = [1, 3, height, width];
        let (device, dtype) = (&encoder.device, encoder.dtype);
        let image = pixels::normalise(planes, shape, &encoder.preprocess, device, dtype);
        let tokens = encoder
            .model()
            .generate(image, &options)?
            .pop()
            .unwrap_or_default();
        answers.push(Answer {
            image: path.to_string_lossy().into_owned(),
            caption: words(&tokens, tokenizer.as_ref(), &options.special),
            tokens,
        });
    }
    let mut out = Output::stdout();
    if args.json.json {
        out.json(&answers)?;
        return Ok(Outcome::Done);
    }
    for answer in answers {
        out.line(format_args!("{}: {}", answer.image, answer.caption))?;
    }
    out.finish()?;
    Ok(Outcome::Done)
}

fn options(
    args: &CaptionArgs,
    tokenizer: &dyn Tokenizer,
    special: SpecialTokens,
) -> Result<GenerateOptions> {
    let sample = |filter| {
        Strategy::Sample(Sampling {
            filter,
            temperature: args.temperature,
            seed: args.seed,
        })
    };
    let strategy = match args.generation {
        Generation::BeamSearch => Strategy::Beam(BeamSearch {
            beams: args.beams,
            groups: args.beam_groups,
            score: match args.log_softmax {
                true => BeamScore::LogSoftmax,
                false => BeamScore::Logits,
            },
        }),
        Generation::TopK => sample(Filter::TopK(args.top_k)),
        Generation::TopP => sample(Filter::TopP(args.top_p)),
    };
    let prompt = args
        .prompt
        .as_ref()
        .map(|text| tokenizer.tokenize(text))
        .transpose()
        .map_err(EvalError::from)?
        .unwrap_or_default();
    Ok(GenerateOptions {
        seq_len: args.seq_len,
        min_seq_len: args.min_seq_len,
        repetition_penalty: args.repetition_penalty,
        // The tokenizer ends and pads a text, which is to go on here.
        prompt: prompt
            .into_iter()
            .take_while(|&id| id != special.end)
            .collect(),
        special,
        strategy,
        ..GenerateOptions::default()
    })
}

/// The text between the special tokens.
fn words(tokens: &[i32], tokenizer: &dyn Tokenizer, special: &SpecialTokens) -> String {
    let inner = tokens.iter().copied().skip_while(|&id| id == special.start);
    let inner: Vec<i32> = inner.take_while(|&id| id != special.end).collect();
    tokenizer.decode(&inner).trim().to_string()
}

fn read(path: &Path) -> Result<Picture> {
    let bytes = std::fs::read(path).map_err(CliError::file(path))?;
    decode(&bytes, Limits::default()).map_err(|source| CliError::Picture {
        path: path.to_owned(),
        source,
    })
}
