//! `tokens`: texts to ids and back, with a model's tokenizer.

use std::collections::BTreeMap;
use std::sync::Arc;

use openclip_data::tokenizer::{self, Tokenizer};
use openclip_model::config::ModelConfig;
use openclip_model::hub::CacheDirs;
use openclip_model::registry;
use serde::Serialize;

use crate::args::tokens::TokensArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, warn};

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    context_length: usize,
    vocab_size: usize,
    special_tokens: BTreeMap<String, i32>,
    texts: Vec<Text>,
}

#[derive(Serialize)]
struct Text {
    text: String,
    ids: Vec<i32>,
    /// Whether the text has more tokens than fit.
    cut_off: bool,
}

/// Prints ids, a text, or what there is to know about the tokenizer.
pub fn run(args: &TokensArgs) -> Result {
    let mut config = registry::resolve(&args.model, args.cache_dir.as_deref())?.config;
    if let Some(length) = args.force_context_length {
        config.text_cfg.context_length = length;
    }
    let tokenizer = open(args, &config)?;
    let texts: Vec<Text> = match (args.decode.as_slice(), args.text.as_slice()) {
        ([], []) => Vec::new(),
        ([], texts) => {
            config.text_cfg.context_length += 1;
            let longer = open(args, &config)?;
            let texts = texts.iter();
            texts
                .map(|text| encode(tokenizer.as_ref(), longer.as_ref(), text))
                .collect::<Result<_>>()?
        }
        (ids, _) => vec![decode(tokenizer.as_ref(), ids)?],
    };
    for text in texts.iter().filter(|text| text.cut_off) {
        let length = tokenizer.context_length();
        warn(format!("{:?} is cut off at {length} tokens", text.text));
    }
    let answer = Answer {
        model: &args.model,
        context_length: tokenizer.context_length(),
        vocab_size: tokenizer.vocab_size(),
        special_tokens: tokenizer.special_tokens().into_iter().collect(),
        texts,
    };
    let mut out = Output::stdout();
    if args.json.json {
        out.json(&answer)?;
        return Ok(Outcome::Done);
    }
    for text in &answer.texts {
        match args.decode.is_empty() {
            true => out.line(line(&text.ids))?,
            false => out.line(&text.text)?,
        }
    }
    if answer.texts.is_empty() {
        out.line(format_args!("context length  {}", answer.context_length))?;
        out.line(format_args!("ids             {}", answer.vocab_size))?;
        for (name, id) in tokenizer.special_tokens() {
            out.line(format_args!("{id:<15} {name}"))?;
        }
    }
    out.finish()?;
    Ok(Outcome::Done)
}

fn open(args: &TokensArgs, config: &ModelConfig) -> Result<Arc<dyn Tokenizer>> {
    let dir = registry::local_dir(&args.model);
    let caches = CacheDirs::new(args.cache_dir.as_deref());
    Ok(tokenizer::for_model_in(config, dir, &caches)?)
}

fn encode(tokenizer: &dyn Tokenizer, longer: &dyn Tokenizer, text: &str) -> Result<Text> {
    Ok(Text {
        text: text.to_owned(),
        ids: tokenizer.tokenize(text)?,
        cut_off: tokenizer::is_cut_off(tokenizer, longer, text)?,
    })
}

fn decode(tokenizer: &dyn Tokenizer, ids: &[i32]) -> Result<Text> {
    let most = tokenizer.vocab_size();
    let known = |id: &&i32| usize::try_from(**id).is_ok_and(|id| most == 0 || id < most);
    if let Some(id) = ids.iter().find(|id| !known(id)) {
        return Err(CliError::Usage(format!(
            "--decode {id}: the tokenizer has the ids 0 to {}",
            most.saturating_sub(1)
        )));
    }
    Ok(Text {
        text: tokenizer.decode(ids),
        ids: ids.to_vec(),
        cut_off: false,
    })
}

fn line(ids: &[i32]) -> String {
    let ids: Vec<String> = ids.iter().map(i32::to_string).collect();
    ids.join(" ")
}
