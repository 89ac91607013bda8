//! The weighted sum that a step minimises.

use super::clip::ClipLoss;
use super::distill::DistillLoss;
use super::pair::PairLoss;

/// How much the next token counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptionObjective {
    /// Of [`caption_loss`](openclip_model::loss::caption_loss).
    pub weight: f64,
    /// Id of padding, which does not count.
    pub pad: i64,
}

/// What a step minimises: the weighted sum of its parts.
#[derive(Debug, Clone, Copy)]
pub struct Objective {
    /// Loss of the gathered features.
    pub contrastive: &'static dyn PairLoss,
    /// Its weight; zero leaves it out.
    pub contrastive_weight: f64,
    /// Weight of [`DistillLoss`](super::DistillLoss), where the model learns from a teacher.
    pub distill: Option<f64>,
    /// The captions that the model writes, where it learns that (CoCa).
    pub caption: Option<CaptionObjective>,
}

impl Objective {
    /// One contrastive loss and nothing else.
    pub fn of(contrastive: &'static dyn PairLoss) -> Self {
        Self {
            contrastive,
            contrastive_weight: 1.0,
            distill: None,
            caption: None,
        }
    }

    /// What a step minimises, in words: `CLIP's contrastive loss + 2 × CoCa's caption loss`.
    pub fn describe(&self) -> String {
        let caption = self.caption.map(|caption| caption.weight);
        let parts = [
            (self.contrastive.name(), Some(self.contrastive_weight)),
            (DistillLoss.name(), self.distill),
            ("CoCa's caption loss", caption),
        ];
        let parts = parts.into_iter().filter_map(|(name, weight)| match weight {
            None | Some(0.0) => None,
            Some(1.0) => Some(name.to_owned()),
            Some(weight) => Some(format!("{weight} × {name}")),
        });
        parts.collect::<Vec<_>>().join(" + ")
    }
}

impl Default for Objective {
    fn default() -> Self {
        Self::of(&ClipLoss)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SigLipLoss;
    use super::*;

    #[test]
    fn a_loss_is_called_what_it_is() {
        let clip = Objective::default();
        assert_eq!(clip.describe(), "CLIP's contrastive loss");
        assert_eq!(
            Objective::of(&SigLipLoss).describe(),
            "SigLIP's sigmoid loss"
        );
        let taught = Objective {
            distill: Some(1.0),
            ..clip
        };
        let wanted = "CLIP's contrastive loss + distillation loss";
        assert_eq!(taught.describe(), wanted);
        let writes = Objective {
            contrastive_weight: 0.0,
            caption: Some(CaptionObjective {
                weight: 2.0,
                pad: 0,
            }),
            ..clip
        };
        assert_eq!(writes.describe(), "2 × CoCa's caption loss");
    }
}
