//! To which family of towers a set of keys belongs, for the error that says that weights are another family's.

use std::fmt;

/// A part of a model that has families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `visual.`
    Image,
    /// Under `text.`, at the root, or the keys of a text encoder that was published alone.
    Text,
    /// `text_decoder.`
    Captions,
}

/// What marks a family: each of the strings is in a key of the part. The first row that fits counts.
type Families = &'static [(&'static str, &'static [&'static str])];

const IMAGE: Families = &[
    ("a native ViT", &[".transformer.resblocks."]),
    ("a ModifiedResNet", &[".attnpool."]),
    ("a ConvNeXt", &[".conv_dw."]),
    ("a FastViT", &[".token_mixer."]),
    ("a ViTamin", &[".patch_embed.backbone.stages."]),
    ("MobileCLIP's ViT", &[".patch_embed.backbone."]),
    ("a Swin transformer", &[".relative_position_bias_table"]),
    ("a ViT with relative positions", &[".rel_pos."]),
    ("an EVA", &[".attn.q_bias"]),
    ("an EVA", &[".attn.k_proj."]),
    (
        "a Perception Encoder",
        &[".trunk.norm_pre.", ".trunk.attn_pool."],
    ),
    ("timm's ViT", &[".trunk.blocks."]),
];

const TEXT: Families = &[
    ("OpenCLIP's own", &["token_embedding."]),
    ("a RoBERTa or BERT", &["encoder.layer."]),
    ("a T5 encoder", &[".SelfAttention."]),
    ("an M2M100 encoder (NLLB)", &[".self_attn_layer_norm."]),
];

const CAPTIONS: Families = &[("CoCa's", &[])];

impl Part {
    const ALL: [Self; 3] = [Self::Image, Self::Text, Self::Captions];

    fn owns(self, key: &str) -> bool {
        match self {
            Self::Image => key.starts_with("visual."),
            Self::Captions => key.starts_with("text_decoder."),
            Self::Text => {
                let logit = key.starts_with("logit_");
                !logit && !Self::Image.owns(key) && !Self::Captions.owns(key)
            }
        }
    }

    /// The family of this part in a state dict with these keys.
    fn family(self, keys: &[&str]) -> &'static str {
        let keys: Vec<_> = keys.iter().filter(|key| self.owns(key)).collect();
        if keys.is_empty() {
            return "missing";
        }
        let table = match self {
            Self::Image => IMAGE,
            Self::Text => TEXT,
            Self::Captions => CAPTIONS,
        };
        let fits = |marks: &[&str]| {
            let mut marks = marks.iter();
            marks.all(|mark| keys.iter().any(|key| key.contains(mark)))
        };
        let row = table.iter().find(|(_, marks)| fits(marks));
        row.map_or("of no known family", |(name, _)| name)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "image tower",
            Self::Text => "text tower",
            Self::Captions => "caption decoder",
        })
    }
}

/// A part that is of one family in a weights file and of another in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherFamily {
    /// The part.
    pub part: Part,
    /// Its family in the file.
    pub found: &'static str,
    /// Its family in the model.
    pub expected: &'static str,
}

impl fmt::Display for OtherFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            part,
            found,
            expected,
        } = self;
        write!(f, "its {part} is {found}, the model's is {expected}; ")
    }
}

/// The parts that are of another family in a file with the keys `found` than in a model with the keys `expected`.
pub(super) fn other_families<'a>(
    found: impl IntoIterator<Item = &'a String>,
    expected: impl IntoIterator<Item = &'a String>,
) -> Vec<OtherFamily> {
    let found: Vec<_> = found.into_iter().map(String::as_str).collect();
    let expected: Vec<_> = expected.into_iter().map(String::as_str).collect();
    let compared = Part::ALL.map(|part| OtherFamily {
        part,
        found: part.family(&found),
        expected: part.family(&expected),
    });
    let differ = compared
        .into_iter()
        .filter(|part| part.found != part.expected);
    differ.collect()
}
