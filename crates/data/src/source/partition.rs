//! Which neighbours are a part of a source together.

use std::ops::Range;

/// Neighbours that have `size` samples together at most; one that has more stands alone.
pub(super) fn runs(sizes: impl Iterator<Item = u64>, size: u64) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut sum = 0_u64;
    for (at, samples) in sizes.enumerate() {
        sum = sum.saturating_add(samples);
        match runs.last_mut() {
            Some(run) if sum <= size => run.end = at + 1,
            _ => {
                runs.push(at..at + 1);
                sum = samples;
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::super::files::Files;
    use super::super::order::Order;
    use super::super::shards::Shards;
    use super::super::shuffle::ShuffleSize;
    use super::super::testing::{Collect, write_shards};
    use super::super::{Item, Source, mix, tar};
    use super::*;

    fn items(source: &dyn Source) -> Vec<Item> {
        Collect::pass(source, &Order::sequential(), 0).unwrap().0
    }

    /// The sizes of the parts, which together are the whole.
    fn sizes(source: Arc<dyn Source>, size: u64) -> Vec<usize> {
        let whole = items(source.as_ref());
        let parts = source.partitions(size).unwrap();
        let parts: Vec<_> = parts.iter().map(|part| items(part.as_ref())).collect();
        assert_eq!(parts.concat(), whole);
        parts.iter().map(Vec::len).collect()
    }

    #[test]
    fn parts_are_the_whole_in_its_order() {
        let files = |count| Files::list((0..count).map(|at| format!("{at}.png").into()).collect());
        assert_eq!(sizes(Arc::new(files(7)), 3), [3, 3, 1]);
        assert_eq!(sizes(Arc::new(files(7)), u64::MAX), [7]);
        let dir = tempfile::tempdir().unwrap();
        let paths = write_shards(dir.path(), 5, 4);
        let shards = || {
            let list = Shards::list(paths.clone());
            Arc::new(tar::source(list, false, ShuffleSize::default()).unwrap())
        };
        // Nobody says how many samples they have.
        assert_eq!(sizes(shards(), 9_999), [4; 5]);
        assert_eq!(sizes(shards(), 20_000), [8, 8, 4]);
        let names = paths
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap());
        let said: Vec<_> = names.map(|name| format!("\"{name}\": 4")).collect();
        std::fs::write(
            dir.path().join("sizes.json"),
            format!("{{{}}}", said.join(",")),
        )
        .unwrap();
        assert_eq!(sizes(shards(), 8), [8, 8, 4]);
        assert_eq!(sizes(shards(), 3), [4; 5]);
        let part = |source: Arc<dyn Source>| mix::Part {
            source,
            factor: 1.0,
        };
        let both = mix::Mix::new(vec![part(shards()), part(Arc::new(files(3)))], false);
        assert_eq!(sizes(Arc::new(both), 12), [12, 8, 3]);
    }

    #[test]
    fn runs_take_what_fits() {
        assert_eq!(
            runs([3, 3, 3, 9, 1].into_iter(), 6),
            [0..2, 2..3, 3..4, 4..5]
        );
        assert!(runs(std::iter::empty(), 6).is_empty());
    }
}
