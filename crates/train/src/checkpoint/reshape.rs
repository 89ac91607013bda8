//! How a run goes on whose epochs look otherwise than before.

use super::progress::Progress;
use super::shape::EpochShape;

impl Progress {
    /// Where the run stands in its schedule, in steps of epochs that have `steps` of them.
    pub fn position(&self, steps: u64) -> u64 {
        steps * self.epoch + self.step_in_epoch
    }

    /// The same in epochs of another shape, and what to tell of it: epoch and share of the epoch stay what they are.
    ///
    /// `steps_of` says how many steps the last so many samples of an epoch make. Where the data themselves are others, the
    /// epoch that was under way begins again.
    pub fn reshaped(
        self,
        now: EpochShape,
        steps_of: impl Fn(u64) -> u64,
    ) -> (Self, Option<String>) {
        let before = self.shape.unwrap_or_else(|| self.guessed_shape(now));
        let used = match self.shape {
            Some(_) => self.samples_in_epoch,
            None => self.step_in_epoch * before.step_samples,
        };
        let mut progress = Self {
            shape: Some(now),
            samples_in_epoch: used,
            ..self
        };
        if before == now {
            return (progress, None);
        }
        let is_under_way = progress.step_in_epoch > 0;
        let has_other_data = (before.samples, before.data) != (now.samples, now.data);
        let mut change = match has_other_data && before.to_string() == now.to_string() {
            true => format!("the training data are others than before, {now} an epoch as well"),
            false => format!("an epoch was {before} and is {now}"),
        };
        if is_under_way && (has_other_data || used >= now.samples) {
            let epoch = progress.epoch + 1;
            change += &format!("; epoch {epoch} begins again, since its data are others");
            progress = Self {
                step_in_epoch: 0,
                samples_in_epoch: 0,
                cursor: 0,
                cursors: Vec::new(),
                ..progress
            };
        } else if is_under_way
            && (before.steps, before.step_samples) != (now.steps, now.step_samples)
        {
            // The end of an epoch is always reached by a step, which is evaluated and saved.
            let left = steps_of(now.samples - used).clamp(1, now.steps);
            progress.step_in_epoch = now.steps - left;
        }
        (progress, Some(change))
    }

    /// What a checkpoint that does not say it was saved with, as far as its counters tell.
    fn guessed_shape(&self, now: EpochShape) -> EpochShape {
        let step_samples = match self.step {
            0 => now.step_samples,
            steps => self.samples_seen / steps,
        };
        let whole = self.step.saturating_sub(self.step_in_epoch);
        let steps = match whole.checked_div(self.epoch) {
            Some(steps) => steps,
            None if step_samples == now.step_samples => now.steps.max(self.step_in_epoch + 1),
            None => now.samples.checked_div(step_samples).unwrap_or(now.steps),
        };
        let same_data = steps == now.steps || step_samples != now.step_samples;
        EpochShape {
            samples: match same_data {
                true => now.samples,
                false => steps * step_samples,
            },
            steps,
            step_samples,
            ranks: match self.cursors.len() {
                0 => now.ranks,
                ranks => ranks as u64,
            },
            data: now.data,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Full steps of `samples`, as numbered samples make them.
    fn shape(samples: u64, step_samples: u64) -> EpochShape {
        EpochShape {
            samples,
            steps: samples / step_samples,
            step_samples,
            ranks: 1,
            data: 7,
        }
    }

    /// A run with epochs of this shape after so many steps.
    fn after(steps: u64, shape: EpochShape) -> Progress {
        let step_in_epoch = steps % shape.steps;
        Progress {
            epoch: steps / shape.steps,
            step: steps,
            step_in_epoch,
            cursor: step_in_epoch * shape.step_samples,
            samples_seen: steps * shape.step_samples,
            samples_in_epoch: step_in_epoch * shape.step_samples,
            cursors: vec![step_in_epoch * shape.step_samples],
            shape: Some(shape),
            ..Progress::default()
        }
    }

    fn reshape(progress: Progress, now: EpochShape) -> (Progress, Option<String>) {
        progress.reshaped(now, |samples| samples / now.step_samples)
    }

    #[test]
    fn the_same_shape_changes_nothing() {
        for steps in 0..20 {
            let progress = after(steps, shape(17, 4));
            let (same, change) = reshape(progress.clone(), shape(17, 4));
            assert_eq!((same, change), (progress, None));
        }
    }

    /// As many samples are left as were left before, to within a step.
    #[test]
    fn epoch_and_share_of_the_epoch_stay() {
        for samples in [16, 17, 100, 1000] {
            for before in 1..=8 {
                for now in 1..=8 {
                    let (old, new) = (shape(samples, before), shape(samples, now));
                    for steps in 0..3 * old.steps {
                        let progress = after(steps, old);
                        let (there, _) = reshape(progress.clone(), new);
                        assert_eq!(there.epoch, progress.epoch);
                        assert_eq!(there.cursor, progress.cursor);
                        assert_eq!(there.step, progress.step);
                        let unused = samples - progress.samples_in_epoch;
                        let left = (new.steps - there.step_in_epoch) * now;
                        assert!(left <= unused.max(now), "{left} of {unused}");
                        assert!(left + now > unused, "{left} of {unused}");
                        assert!(there.position(new.steps) < new.steps * (there.epoch + 1));
                    }
                }
            }
        }
    }

    #[test]
    fn a_change_is_one_line() {
        let (there, change) = reshape(after(18, shape(16, 4)), shape(16, 8));
        assert_eq!((there.step_in_epoch, there.position(2)), (1, 9));
        assert_eq!(
            change.unwrap(),
            "an epoch was 4 steps of 4 (16 samples) and is 2 steps of 8 (16 samples)"
        );
    }

    #[test]
    fn other_data_begin_the_epoch_again() {
        let old = shape(16, 4);
        for now in [shape(8, 4), shape(24, 4), EpochShape { data: 8, ..old }] {
            let (there, change) = reshape(after(18, old), now);
            let place = (
                there.epoch,
                there.step_in_epoch,
                there.cursor,
                there.samples_in_epoch,
            );
            assert_eq!(place, (4, 0, 0, 0));
            assert!(there.cursors.is_empty());
            assert!(change.unwrap().contains("epoch 5 begins again"));
            // Between epochs there is nothing to begin again.
            let (there, change) = reshape(after(16, old), now);
            assert_eq!((there.epoch, there.step_in_epoch), (4, 0));
            assert!(!change.unwrap().contains("again"));
        }
    }

    /// Checkpoints without a shape are told by their counters.
    #[test]
    fn a_shape_that_is_not_said_is_guessed() {
        let old = |steps, shape| Progress {
            shape: None,
            samples_in_epoch: 0,
            ..after(steps, shape)
        };
        for steps in 0..20 {
            let (same, change) = reshape(old(steps, shape(17, 4)), shape(17, 4));
            assert_eq!(
                (same, change),
                (after(steps, shape(17, 4)), None),
                "{steps}"
            );
        }
        let (there, change) = reshape(old(18, shape(16, 4)), shape(16, 8));
        assert_eq!((there.epoch, there.step_in_epoch), (4, 1));
        assert!(change.unwrap().contains("was 4 steps of 4 "));
        // In the first epoch, too.
        let (there, _) = reshape(old(2, shape(16, 4)), shape(16, 2));
        assert_eq!((there.epoch, there.step_in_epoch), (0, 4));
        for steps in [3, 19] {
            let (there, change) = reshape(old(steps, shape(16, 4)), shape(8, 4));
            assert_eq!(there.step_in_epoch, 0);
            assert!(change.unwrap().contains("begins again"));
        }
    }
}
