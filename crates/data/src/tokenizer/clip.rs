//! OpenCLIP's `SimpleTokenizer`.

use std::cell::RefCell;

use rustc_hash::FxHashMap;

use super::Tokenizer;
use super::clean::Clean;
use super::vocab::{END, SIZE, START, Vocab, spellings};
use super::words::words;
use crate::error::DataError;

/// CLIP's byte-pair tokenizer: `<start_of_text>`, the caption, `<end_of_text>`, then zeros.
///
/// Token for token what OpenCLIP's `SimpleTokenizer` gives. The vocabulary is shared by all tokenizers of the process and
/// each thread remembers the words it has seen, so that making and cloning tokenizers costs nothing.
#[derive(Clone, Debug)]
pub struct ClipTokenizer {
    context_length: usize,
    clean: Clean,
}

impl ClipTokenizer {
    /// With ids of `context_length`, special tokens included; captions are put in lower case.
    pub fn new(context_length: usize) -> Self {
        Self::with_clean(context_length, Clean::Lower)
    }

    /// With another way to clean captions.
    pub fn with_clean(context_length: usize, clean: Clean) -> Self {
        Vocab::get();
        Self {
            context_length,
            clean,
        }
    }
}

impl Tokenizer for ClipTokenizer {
    fn context_length(&self) -> usize {
        self.context_length
    }

    fn tokenize(&self, text: &str) -> Result<Vec<i32>, DataError> {
        let mut ids = Vec::with_capacity(self.context_length);
        if self.context_length > 1 {
            ids.push(i32::from(START));
        }
        let room = self.context_length.saturating_sub(1);
        let text = self.clean.for_words(text);
        CACHE.with_borrow_mut(|cache| {
            for word in words(&text) {
                if ids.len() >= room {
                    break;
                }
                cache.encode(word, &mut ids);
            }
        });
        ids.truncate(room);
        if self.context_length > 0 {
            ids.push(i32::from(END));
        }
        ids.resize(self.context_length, 0);
        Ok(ids)
    }

    /// Special tokens and padding are spelled out too; ids outside the vocabulary are left out.
    fn decode(&self, ids: &[i32]) -> String {
        let spellings = spellings();
        let known = ids
            .iter()
            .filter_map(|&id| spellings.get(usize::try_from(id).ok()?));
        let bytes: Vec<u8> = known
            .flat_map(|spelling| spelling.iter().copied())
            .collect();
        String::from_utf8_lossy(&bytes).replace("</w>", " ")
    }

    fn vocab_size(&self) -> usize {
        SIZE
    }
}

/// Longest word that is remembered, in bytes.
const LONGEST_CACHED: usize = 32;
/// Most words that are remembered: about 4 MB.
const CACHED_WORDS: usize = 1 << 16;

thread_local! {
    static CACHE: RefCell<WordCache> = RefCell::default();
}

/// Ids of the words seen before.
#[derive(Default)]
struct WordCache {
    /// Where a word's ids lie in `ids`.
    places: FxHashMap<Box<str>, (u32, u32)>,
    ids: Vec<u16>,
    scratch: Vec<u16>,
}

impl WordCache {
    /// Appends the ids of a word.
    fn encode(&mut self, word: &str, out: &mut Vec<i32>) {
        if let Some(&(start, end)) = self.places.get(word) {
            out.extend(
                self.ids[start as usize..end as usize]
                    .iter()
                    .map(|&id| i32::from(id)),
            );
            return;
        }
        self.scratch.clear();
        match word {
            "<start_of_text>" => self.scratch.push(START),
            "<end_of_text>" => self.scratch.push(END),
            _ => Vocab::get().encode_word(word.as_bytes(), &mut self.scratch),
        }
        out.extend(self.scratch.iter().map(|&id| i32::from(id)));
        if word.len() <= LONGEST_CACHED {
            if self.places.len() >= CACHED_WORDS {
                self.places.clear();
                self.ids.clear();
            }
            let start = self.ids.len() as u32;
            self.ids.extend_from_slice(&self.scratch);
            self.places
                .insert(word.into(), (start, self.ids.len() as u32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(text: &str) -> Vec<i32> {
        let ids = ClipTokenizer::new(77).tokenize(text).unwrap();
        assert_eq!((ids.len(), ids[0]), (77, 49406));
        let end = ids.iter().rposition(|&id| id != 0).unwrap();
        assert_eq!(ids[end], 49407);
        ids[1..end].to_vec()
    }

    #[test]
    fn captions_have_openclips_ids() {
        assert_eq!(caption("a diagram"), [320, 22697]);
        assert_eq!(caption("a dog"), [320, 1929]);
        assert_eq!(
            caption("a photo of a cat."),
            [320, 1125, 539, 320, 2368, 269]
        );
        assert_eq!(caption("!"), [256]);
        assert_eq!(caption("!!"), [748]);
        assert_eq!(
            caption(
                "Hello,  World!!  it's 2024 — “quoted” ﬁne café &amp;amp; <end_of_text> 你好 😀"
            ),
            [
                3306, 267, 1002, 748, 585, 568, 273, 271, 273, 275, 2005, 257, 27706, 257, 3797,
                15304, 261, 49407, 47466, 254, 29290, 377, 7334
            ]
        );
    }

    #[test]
    fn captions_fill_the_context() {
        let ids = |length| ClipTokenizer::new(length).tokenize("a dog").unwrap();
        assert_eq!(ids(6), [49406, 320, 1929, 49407, 0, 0]);
        assert_eq!(ids(4), [49406, 320, 1929, 49407]);
        assert_eq!(ids(3), [49406, 320, 49407]);
        assert_eq!(ids(2), [49406, 49407]);
        assert_eq!(ids(1), [49407]);
        assert_eq!(ids(0), [0; 0]);
    }

    #[test]
    fn ids_are_spelled_out() {
        let tokenizer = ClipTokenizer::new(5);
        assert_eq!(
            tokenizer.decode(&[49406, 320, 1929, 49407, 0]),
            "<start_of_text>a dog <end_of_text>!"
        );
        assert_eq!(tokenizer.decode(&[-1, 49408, 320]), "a ");
    }
}
