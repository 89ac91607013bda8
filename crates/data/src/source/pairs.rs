//! Names of pictures and their captions, in little memory.

/// Pairs of text, end to end: two strings for each would cost twice the memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    text: String,
    /// Where each name and each caption ends in `text`.
    ends: Vec<(usize, usize)>,
}

impl Pairs {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn push(&mut self, name: &str, caption: &str) {
        self.text.push_str(name);
        let end_of_name = self.text.len();
        self.text.push_str(caption);
        self.ends.push((end_of_name, self.text.len()));
    }

    /// Name and caption of the pair at `index < len()`.
    pub fn get(&self, index: usize) -> (&str, &str) {
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1].1,
        };
        let (end_of_name, end) = self.ends[index];
        (&self.text[start..end_of_name], &self.text[end_of_name..end])
    }

    /// The names, from some pair on.
    pub fn names(&self, from: usize) -> impl Iterator<Item = &str> {
        (from..self.len()).map(|index| self.get(index).0)
    }
}
