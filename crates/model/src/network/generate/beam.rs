//! Beam search as OpenCLIP 2.29 runs it: `_generate_beamsearch` with the bookkeeping of transformers' `BeamSearchScorer`.
//!
//! The beams of a picture form groups. Each group starts from one caption, searches alone, and keeps as many finished captions as
//! it has beams. A group is done when no open caption could beat its worst finished one. The best caption over all groups wins,
//! by score divided by length.

use super::options::{BeamScore, BeamSearch, GenerateOptions};
use super::stepper::Stepper;
use crate::files::ModelError;

/// Score of the beams that a group does not start from.
const CLOSED: f32 = -1e9;

/// A finished caption.
#[derive(Debug)]
struct Finished {
    /// Sum of scores over the length.
    score: f64,
    caption: Vec<i32>,
}

/// The finished captions of a group.
#[derive(Debug, Default)]
struct Group {
    finished: Vec<Finished>,
    done: bool,
}

impl Group {
    /// The lowest score among the finished.
    fn worst(&self) -> f64 {
        self.finished
            .iter()
            .map(|finished| finished.score)
            .fold(f64::INFINITY, f64::min)
    }

    /// Keeps a caption if it is among the `size` best; of equal ones the earliest goes.
    fn add(&mut self, size: usize, caption: &[i32], sum: f32, length: usize) {
        let score = f64::from(sum) / length as f64;
        if self.finished.len() >= size && score <= self.worst() {
            return;
        }
        let caption = caption.to_vec();
        self.finished.push(Finished { score, caption });
        if self.finished.len() > size {
            let worst = self.worst();
            if let Some(at) = self
                .finished
                .iter()
                .position(|finished| finished.score == worst)
            {
                self.finished.remove(at);
            }
        }
    }
}

/// A continuation of one of a group's captions.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    score: f32,
    beam: usize,
    token: i32,
}

/// Token ids of one length for each picture.
pub(super) fn run(
    stepper: &mut Stepper<'_>,
    pictures: usize,
    prompt: &[i32],
    search: &BeamSearch,
    options: &GenerateOptions,
) -> Result<Vec<Vec<i32>>, ModelError> {
    let size = search.beams / search.groups;
    let special = options.special;
    let mut groups: Vec<Group> = Vec::new();
    groups.resize_with(pictures * search.groups, Group::default);
    // Group `g` has the rows from `g · size`.
    let rows = groups.len() * size;
    let mut captions = vec![prompt.to_vec(); rows];
    let mut scores: Vec<f32> = (0..rows)
        .map(|row| if row % size == 0 { 0.0 } else { CLOSED })
        .collect();
    let mut length = prompt.len();
    while length < options.seq_len && !groups.iter().all(|group| group.done) {
        let mut logits = stepper.logits(&captions)?;
        length += 1;
        let mut origin: Vec<usize> = (0..rows).collect();
        let mut tokens = vec![special.pad; rows];
        for (g, group) in groups.iter_mut().enumerate() {
            let own = g * size..(g + 1) * size;
            if group.done {
                scores[own].fill(0.0);
                continue;
            }
            for (row, logits) in own.clone().zip(&mut logits[own.clone()]) {
                if search.score == BeamScore::LogSoftmax {
                    log_softmax(logits);
                }
                options.process(&captions[row], logits);
                logits.iter_mut().for_each(|logit| *logit += scores[row]);
            }
            let candidates = best(&logits[own.clone()], 2 * size);
            let mut next = own.clone();
            for (rank, candidate) in candidates.iter().enumerate() {
                let from = own.start + candidate.beam;
                if candidate.token == special.end {
                    if rank < size {
                        group.add(size, &captions[from], candidate.score, length);
                    }
                } else if let Some(row) = next.next() {
                    origin[row] = from;
                    tokens[row] = candidate.token;
                    scores[row] = candidate.score;
                }
                if next.is_empty() {
                    break;
                }
            }
            if let Some(first) = candidates.first() {
                let attainable = f64::from(first.score) / length as f64;
                group.done = group.finished.len() >= size && group.worst() >= attainable;
            }
        }
        captions = origin.iter().map(|&row| captions[row].clone()).collect();
        captions
            .iter_mut()
            .zip(tokens)
            .for_each(|(caption, token)| caption.push(token));
        stepper.select(&origin);
    }
    for (g, group) in groups
        .iter_mut()
        .enumerate()
        .filter(|(_, group)| !group.done)
    {
        for row in g * size..(g + 1) * size {
            group.add(size, &captions[row], scores[row], captions[row].len());
        }
    }
    let winners = groups.chunks(search.groups).map(|groups| {
        let finished = groups.iter().flat_map(|group| &group.finished);
        // The last of equal scores.
        let winner = finished.max_by(|a, b| a.score.total_cmp(&b.score));
        winner.map_or_else(Vec::new, |winner| winner.caption.clone())
    });
    let mut winners: Vec<Vec<i32>> = winners.collect();
    let longest = winners.iter().map(Vec::len).max().unwrap_or(0);
    let width = options.seq_len.min(longest + 1);
    for caption in &mut winners {
        if caption.len() < width {
            caption.push(special.end);
        }
        caption.resize(width, special.pad);
    }
    Ok(winners)
}

/// The `count` largest of all rows, the largest first; of equal ones the earliest.
fn best(rows: &[Vec<f32>], count: usize) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = Vec::with_capacity(count + 1);
    for (beam, row) in rows.iter().enumerate() {
        for (token, &score) in (0..).zip(row) {
            if best.len() == count && best.last().is_some_and(|last| score <= last.score) {
                continue;
            }
            let at = best.partition_point(|other| other.score >= score);
            best.insert(at, Candidate { score, beam, token });
            best.truncate(count);
        }
    }
    best
}

fn log_softmax(logits: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - max).exp())
        .sum();
    let norm = max + sum.ln() as f32;
    logits.iter_mut().for_each(|logit| *logit -= norm);
}
