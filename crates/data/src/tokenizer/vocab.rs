//! CLIP's byte-pair vocabulary: 256 bytes, the same 256 at the end of a word, 48,894 merges, two special tokens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;

use rustc_hash::FxHashMap;

/// The two ids that each merge joins, little-endian u16, in order of rank.
const MERGES: &[u8] = include_bytes!("../../assets/clip_bpe_merges.bin");

/// Added to a byte's id when it ends a word.
const WORD_END: u16 = 256;
/// Bytes that can be printed.
const PRINTABLE: usize = 188;
/// Id of the first merge.
const FIRST_MERGE: u16 = 512;
/// `<start_of_text>`.
pub(super) const START: u16 = 49406;
/// `<end_of_text>`.
pub(super) const END: u16 = 49407;
/// Number of ids.
pub(super) const SIZE: usize = 49408;

/// Words up to this many bytes are merged by plain scans, longer ones with a heap.
const SCAN_LIMIT: usize = 48;

/// Merge tables.
pub(super) struct Vocab {
    /// Both ids of a merge, to the id that it makes; smaller ids are merged first.
    merges: FxHashMap<u32, u16>,
    /// Id of each byte within a word.
    byte_ids: [u16; 256],
}

fn key(left: u16, right: u16) -> u32 {
    u32::from(left) << 16 | u32::from(right)
}

/// The bytes in the order of their ids: the printable ones of Latin-1, then the others.
fn bytes_by_id() -> impl Iterator<Item = u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    (0..=255)
        .filter(printable)
        .chain((0..=255).filter(move |byte| !printable(byte)))
}

impl Vocab {
    /// The one vocabulary of the process.
    pub(super) fn get() -> &'static Self {
        static VOCAB: OnceLock<Vocab> = OnceLock::new();
        VOCAB.get_or_init(Self::build)
    }

    fn build() -> Self {
        let mut byte_ids = [0; 256];
        for (id, byte) in (0..).zip(bytes_by_id()) {
            byte_ids[usize::from(byte)] = id;
        }
        let pairs = pairs().map(|[left, right]| key(left, right));
        Self {
            merges: pairs.zip(FIRST_MERGE..).collect(),
            byte_ids,
        }
    }

    fn merge(&self, left: u16, right: u16) -> Option<u16> {
        self.merges.get(&key(left, right)).copied()
    }

    /// Appends the ids of one word.
    pub(super) fn encode_word(&self, word: &[u8], ids: &mut Vec<u16>) {
        let start = ids.len();
        ids.extend(word.iter().map(|&byte| self.byte_ids[usize::from(byte)]));
        if let Some(last) = ids[start..].last_mut() {
            *last += WORD_END;
        }
        if word.len() <= SCAN_LIMIT {
            let len = self.merge_by_scans(&mut ids[start..]);
            ids.truncate(start + len);
        } else {
            let merged = self.merge_with_heap(&ids[start..]);
            ids.truncate(start);
            ids.extend(merged);
        }
    }

    /// Joins the pair of lowest rank, leftmost first, until none is left; gives the number of ids that remain.
    ///
    /// A merge is ranked after the merges that made its parts, so this order is the same as joining all occurrences of
    /// a pair before looking for the next pair.
    fn merge_by_scans(&self, ids: &mut [u16]) -> usize {
        let mut len = ids.len();
        loop {
            let best = ids[..len].windows(2).enumerate();
            let best = best
                .filter_map(|(at, pair)| Some((self.merge(pair[0], pair[1])?, at)))
                .min();
            let Some((id, at)) = best else { return len };
            ids[at] = id;
            ids.copy_within(at + 2..len, at + 1);
            len -= 1;
        }
    }

    /// What [`Self::merge_by_scans`] gives, in O(n log n).
    fn merge_with_heap(&self, ids: &[u16]) -> Vec<u16> {
        const GONE: u16 = u16::MAX;
        let mut ids = ids.to_vec();
        let mut next: Vec<usize> = (1..=ids.len()).collect();
        let mut previous: Vec<usize> = (0..ids.len()).map(|at| at.wrapping_sub(1)).collect();
        let mut queue = BinaryHeap::new();
        let push = |queue: &mut BinaryHeap<_>, ids: &[u16], at: usize, right: usize| {
            if let Some(id) = self.merge(ids[at], ids[right]) {
                queue.push(Reverse((id, at)));
            }
        };
        for at in 1..ids.len() {
            push(&mut queue, &ids, at - 1, at);
        }
        while let Some(Reverse((id, at))) = queue.pop() {
            let right = next[at];
            if ids[at] == GONE || right >= ids.len() || self.merge(ids[at], ids[right]) != Some(id)
            {
                continue;
            }
            ids[at] = id;
            ids[right] = GONE;
            next[at] = next[right];
            if next[at] < ids.len() {
                previous[next[at]] = at;
                push(&mut queue, &ids, at, next[at]);
            }
            if previous[at] < ids.len() {
                push(&mut queue, &ids, previous[at], at);
            }
        }
        ids.retain(|&id| id != GONE);
        ids
    }
}

/// The ids that each merge joins, in order of rank.
fn pairs() -> impl Iterator<Item = [u16; 2]> {
    MERGES.as_chunks::<4>().0.iter().map(|b| {
        [
            u16::from_le_bytes([b[0], b[1]]),
            u16::from_le_bytes([b[2], b[3]]),
        ]
    })
}

/// The bytes that each id stands for, with `</w>` where a word ends.
pub(super) fn spellings() -> &'static [Box<[u8]>] {
    static SPELLINGS: OnceLock<Vec<Box<[u8]>>> = OnceLock::new();
    SPELLINGS.get_or_init(|| {
        let mut spellings: Vec<Box<[u8]>> = bytes_by_id().map(|byte| [byte].into()).collect();
        spellings.extend(bytes_by_id().map(|byte| [&[byte], &b"</w>"[..]].concat().into()));
        for [left, right] in pairs() {
            let joined = [
                &*spellings[usize::from(left)],
                &*spellings[usize::from(right)],
            ]
            .concat();
            spellings.push(joined.into());
        }
        spellings.push((*b"<start_of_text>").into());
        spellings.push((*b"<end_of_text>").into());
        spellings
    })
}

/// Tokens in the order of their ids and the two that each merge joins, as Hugging Face's files spell them: a character for each byte,
/// which is the byte's own where that can be printed; `special` tokens come last.
pub(super) fn published(special: [&str; 2]) -> (Vec<String>, Vec<[String; 2]>) {
    let mut others = (256..).filter_map(char::from_u32);
    let printed = bytes_by_id()
        .enumerate()
        .map(|(id, byte)| match id < PRINTABLE {
            true => char::from(byte),
            false => others.next().unwrap_or_default(),
        });
    let mut tokens: Vec<String> = printed.map(String::from).collect();
    tokens.extend_from_within(..);
    for token in &mut tokens[usize::from(WORD_END)..] {
        token.push_str("</w>");
    }
    let mut merges = Vec::new();
    for pair in pairs() {
        let pair = pair.map(|id| tokens[usize::from(id)].clone());
        tokens.push(pair.concat());
        merges.push(pair);
    }
    tokens.extend(special.map(String::from));
    (tokens, merges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_complete_and_distinct() {
        let distinct: std::collections::HashSet<_> = spellings().iter().collect();
        assert_eq!(distinct.len(), SIZE);
        assert_eq!(&*spellings()[320], b"a</w>");
    }

    #[test]
    fn published_tokens_are_complete_and_distinct() {
        let (tokens, merges) = published(["<|startoftext|>", "<|endoftext|>"]);
        let distinct: std::collections::HashSet<_> = tokens.iter().collect();
        assert_eq!((distinct.len(), merges.len()), (SIZE, SIZE - 514));
        assert_eq!(tokens[320], "a</w>");
        assert_eq!(tokens[220], "Ġ");
        assert_eq!(tokens[usize::from(END)], "<|endoftext|>");
    }

    #[test]
    fn heap_and_scans_agree() {
        let vocab = Vocab::get();
        let mut state = 7_u32;
        for round in 0..4000 {
            let word: Vec<u8> = (0..1 + round % 60)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b"aaaabehilnorst!"[(state >> 24) as usize % 15]
                })
                .collect();
            let mut ids: Vec<u16> = word
                .iter()
                .map(|&byte| vocab.byte_ids[usize::from(byte)])
                .collect();
            *ids.last_mut().unwrap() += WORD_END;
            let by_heap = vocab.merge_with_heap(&ids);
            let len = vocab.merge_by_scans(&mut ids);
            assert_eq!(by_heap, ids[..len], "{}", String::from_utf8_lossy(&word));
        }
    }
}
