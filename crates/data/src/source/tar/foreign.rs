//! Members that belong to no sample.

/// Why a member belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// A system left it there.
    Litter,
    /// It is neither a file nor a link.
    Kind,
    /// It is not named `key.suffix`.
    Name,
}

/// How many there were, and the first of each.
#[derive(Debug, Default)]
pub(super) struct Foreign([(u64, String); 3]);

impl Foreign {
    pub fn add(&mut self, reason: Reason, name: &str) {
        // `__name__` is what webdataset sets apart for notes about a shard.
        if name.starts_with("__") && reason == Reason::Name {
            return;
        }
        let (count, first) = &mut self.0[reason as usize];
        if *count == 0 {
            name.clone_into(first);
        }
        *count += 1;
    }

    /// All of it in words; `None` if there was nothing.
    pub fn found(&self) -> Option<String> {
        let words = ["hidden or of the system", "no file", "not named key.suffix"];
        let found: Vec<String> = self
            .0
            .iter()
            .zip(words)
            .filter(|((count, _), _)| *count > 0)
            .map(|((count, first), words)| format!("{count} {words}, such as {first}"))
            .collect();
        (!found.is_empty()).then(|| format!("passed over: {}", found.join("; ")))
    }
}
