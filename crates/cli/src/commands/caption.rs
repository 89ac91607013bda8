//! `caption`: what a picture shows, in the words of a CoCa model.

use openclip_data::tokenizer::Tokenizer;
use openclip_model::generate::{
    BeamScore, BeamSearch, Filter, GenerateOptions, Sampling, SpecialTokens, Strategy,
};
use serde::Serialize;

use super::pictures::Pictures;
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
    let pictures = Pictures::find(&args.image, args.pictures.limits());
    if pictures.is_empty() {
        return pictures.none(args.json.json);
    }
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
    let longest = encoder.model().longest_caption()?;
    let options = options(args, tokenizer.as_ref(), special, longest)?;
    let answer = |image, planes| {
        let picture = encoder.pixels(planes, 1);
        let mut captions = encoder.model().generate(picture, &options)?;
        let tokens = captions.pop().unwrap_or_default();
        Ok(Answer {
            image,
            caption: words(&tokens, tokenizer.as_ref(), &options.special),
            tokens,
        })
    };
    let line = |answer: &Answer, out: &mut Output| {
        out.line(format_args!("{}: {}", answer.image, answer.caption))
    };
    let complete = pictures.each(&encoder, args.json.json, answer, line)?;
    Ok(Outcome::of(complete && session.is_finite))
}

/// Tokens of a caption where the flag is absent.
const SEQ_LEN: usize = 30;

fn options(
    args: &CaptionArgs,
    tokenizer: &dyn Tokenizer,
    special: SpecialTokens,
    longest: usize,
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
        .transpose()?
        .unwrap_or_default();
    Ok(GenerateOptions {
        seq_len: args.seq_len.unwrap_or(SEQ_LEN.min(longest)),
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
