//! Queries as rows of numbers.

use openclip_eval::Encoder;
use openclip_eval::embeddings::{EmbeddingModel, Settings, fingerprint};
use openclip_eval::lines::read_labels;
use openclip_eval::run::host;
use openclip_eval::search::{Collection, Matrix};
use serde::Serialize;

use crate::args::model::{ModelArgs, ModelSettings, PreprocessArgs, parse_precision};
use crate::args::search::SearchArgs;
use crate::commands::pictures::planes;
use crate::commands::session::Session;
use crate::error::{CliError, Result};

/// What is looked for.
#[derive(Debug, Clone, Serialize)]
pub struct Query {
    /// In the user's words: a text, or where a picture or vector is from.
    #[serde(flatten)]
    pub asked: Asked,
    /// Of length 1.
    #[serde(skip)]
    pub row: Vec<f32>,
}

/// Where a query is from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    Text(String),
    Image(String),
    Vector(String),
}

impl Asked {
    pub fn words(&self) -> &str {
        match self {
            Self::Text(words) | Self::Image(words) | Self::Vector(words) => words,
        }
    }
}

/// All queries of the command line. A model is loaded where one is needed.
pub fn find(
    args: &SearchArgs,
    settings: Option<&Settings>,
    vectors: &Collection,
) -> Result<Vec<Query>> {
    let mut texts = args.text.clone();
    if let Some(path) = &args.texts {
        texts.extend(read_labels(path)?);
    }
    let mut queries = Vec::new();
    if !texts.is_empty() || !args.image.is_empty() {
        let session = session(args, settings)?;
        let encoder = session.encoder();
        if !texts.is_empty() {
            let rows = host(encoder.texts(session.tokenizer()?.as_ref(), &texts)?)?;
            let width = session.loaded.config.embed_dim;
            let rows = rows.chunks_exact(width).map(<[f32]>::to_vec);
            for (text, row) in texts.into_iter().zip(rows) {
                let asked = Asked::Text(text);
                queries.push(Query { asked, row });
            }
        }
        for path in &args.image {
            let row = picture(&encoder, path, args)?;
            let asked = Asked::Image(path.display().to_string());
            queries.push(Query { asked, row });
        }
    }
    if let Some(path) = &args.vector {
        let matrix = Matrix::open(path)?;
        let name = path.display();
        for at in 0..matrix.rows() {
            let asked = Asked::Vector(match matrix.rows() {
                1 => name.to_string(),
                _ => format!("{name}: row {at}"),
            });
            let row = matrix.row(at);
            queries.push(Query { asked, row });
        }
    }
    for query in &mut queries {
        fit(query, vectors)?;
    }
    Ok(queries)
}

fn picture(encoder: &Encoder, path: &std::path::Path, args: &SearchArgs) -> Result<Vec<f32>> {
    let planes = planes(path, encoder, args.pictures.limits())?;
    Ok(host(encoder.images(planes, 1))?)
}

/// Makes a query of length 1, or says why it is none for these vectors.
fn fit(query: &mut Query, vectors: &Collection) -> Result<()> {
    let fault = |reason: String| CliError::Usage(format!("{}: {reason}", query.asked.words()));
    let (found, expected) = (query.row.len(), vectors.width());
    if found != expected {
        return Err(fault(format!(
            "a vector of {found} numbers, and those of the folder have {expected}"
        )));
    }
    let length = query
        .row
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(fault("a vector that is zero, NaN or infinite".into()));
    }
    for value in &mut query.row {
        *value = (f64::from(*value) / length) as f32;
    }
    Ok(())
}

/// The model that the folder is of.
fn session(args: &SearchArgs, settings: Option<&Settings>) -> Result<Session> {
    let Some(settings) = settings else {
        let Some(model) = &args.model else {
            return Err(CliError::Usage(format!(
                "--model: {} does not say which model its vectors are of; name it, and its weights with --pretrained",
                args.dir.display()
            )));
        };
        return Session::open(&bare(args, model)?, &PreprocessArgs::default(), 0);
    };
    let own = &settings.model;
    let mut session = Session::open(&remembered(args, own)?, &PreprocessArgs::default(), 0)?;
    session.loaded.preprocess = (&own.preprocess).into();
    if fingerprint(&session.loaded.model)? != own.weights {
        let weights = own.pretrained.as_deref().unwrap_or("random weights");
        return Err(CliError::Content {
            path: args.dir.clone(),
            reason: format!(
                "its vectors are of {} with {weights}, and the weights of {} are others; name those with --pretrained",
                own.model, session.loaded.name
            ),
        });
    }
    Ok(session)
}

fn bare(args: &SearchArgs, model: &str) -> Result<ModelArgs> {
    Ok(ModelArgs {
        model: model.to_owned(),
        pretrained: args.pretrained.clone(),
        settings: ModelSettings {
            cache_dir: args.cache_dir.clone(),
            device: args.device.clone(),
            precision: None,
            force_image_size: None,
            force_context_length: None,
            force_quick_gelu: false,
            no_force_quick_gelu: false,
            int8_linear: false,
            force_custom_text: false,
        },
    })
}

/// The flags that the vectors were made with, but for those that are given anew.
fn remembered(args: &SearchArgs, own: &EmbeddingModel) -> Result<ModelArgs> {
    let precision = parse_precision(&own.precision).map_err(|reason| CliError::Content {
        path: args.dir.clone(),
        reason: format!("precision {:?} in embed.json: {reason}", own.precision),
    })?;
    // Whoever names another model names its weights as well.
    let pretrained = match (&args.model, &args.pretrained) {
        (None, None) => own.pretrained.clone(),
        (_, given) => given.clone(),
    };
    let bare = bare(args, args.model.as_ref().unwrap_or(&own.model))?;
    Ok(ModelArgs {
        pretrained,
        settings: ModelSettings {
            precision: Some(precision),
            force_image_size: own.force_image_size.clone(),
            force_context_length: own.force_context_length,
            force_quick_gelu: own.quick_gelu == Some(true),
            no_force_quick_gelu: own.quick_gelu == Some(false),
            int8_linear: own.int8_linear,
            force_custom_text: own.custom_text,
            ..bare.settings
        },
        ..bare
    })
}
