//! What crates that search many vectors find, how fast, and what they take.
//!
//! ```text
//! benches/vectors.py DIR && cargo run --release -- DIR [hnsw_rs|usearch|turbovec]
//! ```
//!
//! Every candidate gives some rows, which are ranked anew by their exact scores; recall is the share of the ten best of all rows
//! among the first ten. A line for each way of asking: recall@10, queries a second on one thread and on all, time and memory of
//! the index, size of its file.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use half::f16;
use rayon::prelude::*;

const TOP: usize = 10;

struct Set {
    width: usize,
    rows: Vec<f32>,
}

impl Set {
    /// An `.npy` file of float16 numbers, version 1.
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("a file of vectors.py");
        let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let text = String::from_utf8_lossy(&bytes[10..10 + header]).into_owned();
        assert!(text.contains("<f2"), "float16");
        let width = text.split(',').nth(3).unwrap().trim().trim_end_matches(')').parse().unwrap();
        let halves = bytes[10 + header..].chunks_exact(2);
        let rows = halves.map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32()).collect();
        Self { width, rows }
    }

    fn len(&self) -> usize {
        self.rows.len() / self.width
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.rows[at * self.width..(at + 1) * self.width]
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let mut sums = [0.0; 16];
    for (a, b) in a.zip(b) {
        for at in 0..16 {
            sums[at] += a[at] * b[at];
        }
    }
    sums.iter().sum()
}

/// The best ten of some rows.
fn best(set: &Set, query: &[f32], rows: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut scored: Vec<(f32, usize)> = rows.map(|row| (dot(query, set.row(row)), row)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.into_iter().take(TOP).map(|(_, row)| row).collect()
}

/// Megabytes of the process.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn measure(
    name: &str,
    (set, queries, truth): (&Set, &Set, &[Vec<usize>]),
    ask: impl Fn(&[f32]) -> Vec<usize> + Sync,
) {
    let ask = |query: usize| best(set, queries.row(query), ask(queries.row(query)).into_iter());
    let start = Instant::now();
    let found: Vec<Vec<usize>> = (0..queries.len()).map(ask).collect();
    let one = queries.len() as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let again: Vec<Vec<usize>> = (0..queries.len()).into_par_iter().map(ask).collect();
    let all = queries.len() as f64 / start.elapsed().as_secs_f64();
    assert_eq!(again.len(), found.len());
    let hits: usize = found
        .iter()
        .zip(truth)
        .map(|(found, truth)| {
            let truth: HashSet<_> = truth.iter().collect();
            found.iter().filter(|row| truth.contains(row)).count()
        })
        .sum();
    let recall = hits as f64 / (TOP * queries.len()) as f64;
    println!("{name:<34} recall@10 {recall:.4}  {one:8.0} queries/s on one thread  {all:8.0} on all");
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = Path::new(&args[1]);
    let asked = |name: &str| args.get(2).is_none_or(|only| only == name);
    let (set, queries) = (Set::read(&dir.join("img_emb/img_emb_0.npy")), Set::read(&dir.join("queries.npy")));
    let start = Instant::now();
    let truth: Vec<Vec<usize>> = (0..queries.len())
        .into_par_iter()
        .map(|query| best(&set, queries.row(query), 0..set.len()))
        .collect();
    println!("{} rows, {} queries, truth in {:.1?}", set.len(), queries.len(), start.elapsed());
    let all = (&set, &queries, truth.as_slice());
    if asked("turbovec") {
        for bits in [2, 3, 4] {
            turbovec(all, bits);
        }
    }
    if asked("usearch") {
        usearch(all, ::usearch::ScalarKind::F16, "f16", dir);
        usearch(all, ::usearch::ScalarKind::I8, "i8", dir);
    }
    if asked("hnsw_rs") {
        for (links, construction) in [(16, 100), (16, 200), (24, 200)] {
            hnsw(all, links, construction, dir);
        }
    }
}

fn turbovec(all: (&Set, &Set, &[Vec<usize>]), bits: usize) {
    let (set, ..) = all;
    let (before, start) = (resident(), Instant::now());
    let mut index = turbovec::TurboQuantIndex::new(set.width, bits).expect("bits");
    index.add(&set.rows);
    index.prepare();
    println!(
        "turbovec {bits} bits: {:.1?}, {:.0} MB more, file {:.0} MB",
        start.elapsed(),
        resident() - before,
        index.serialized_len() as f64 / 1e6
    );
    for wanted in [20, 50, 200] {
        measure(&format!("turbovec {bits} bits, {wanted} ranked anew"), all, |query| {
            let found = index.search(query, wanted);
            found.indices_for_query(0).iter().map(|row| *row as usize).collect()
        });
        let (_, queries, _) = all;
        let start = Instant::now();
        let found = index.search(&queries.rows, wanted);
        let ranked: Vec<Vec<usize>> = (0..queries.len())
            .into_par_iter()
            .map(|query| {
                let rows = found.indices_for_query(query).iter().map(|row| *row as usize);
                best(set, queries.row(query), rows)
            })
            .collect();
        let rate = ranked.len() as f64 / start.elapsed().as_secs_f64();
        println!("{:<34} {rate:8.0} queries/s, all in one call", "");
    }
}

fn usearch(all: (&Set, &Set, &[Vec<usize>]), kind: usearch::ScalarKind, name: &str, dir: &Path) {
    let (set, ..) = all;
    let (before, start) = (resident(), Instant::now());
    let options = usearch::IndexOptions {
        dimensions: set.width,
        metric: usearch::MetricKind::IP,
        quantization: kind,
        connectivity: 16,
        expansion_add: 128,
        expansion_search: 64,
        multi: false,
    };
    let index = usearch::Index::new(&options).expect("options");
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    index.reserve_capacity_and_threads(set.len(), threads).expect("memory");
    (0..set.len()).into_par_iter().for_each(|row| index.add(row as u64, set.row(row)).expect("a row"));
    let took = start.elapsed();
    let path = dir.join("index.usearch");
    index.save(path.to_str().unwrap()).expect("a file");
    println!(
        "usearch {name}: {took:.1?}, {:.0} MB more, file {:.0} MB",
        resident() - before,
        fs::metadata(&path).unwrap().len() as f64 / 1e6
    );
    for expansion in [32, 64, 128, 256] {
        index.change_expansion_search(expansion);
        measure(&format!("usearch {name}, expansion {expansion}"), all, |query| {
            let found = index.search(query, 30).expect("a query");
            found.keys.iter().map(|row| *row as usize).collect()
        });
    }
}

fn hnsw(all: (&Set, &Set, &[Vec<usize>]), links: usize, construction: usize, dir: &Path) {
    use hnsw_rs::prelude::*;
    let (set, ..) = all;
    let (before, start) = (resident(), Instant::now());
    let rows: Vec<Vec<f32>> = (0..set.len()).map(|row| set.row(row).to_vec()).collect();
    let pairs: Vec<(&Vec<f32>, usize)> = rows.iter().zip(0..).collect();
    let index = Hnsw::<f32, DistDot>::new(links, set.len(), 16, construction, DistDot {});
    index.parallel_insert(&pairs);
    drop(pairs);
    drop(rows);
    let took = start.elapsed();
    let name = index.file_dump(dir, "index").expect("a file");
    let size = |kind: &str| fs::metadata(dir.join(format!("{name}.hnsw.{kind}"))).map_or(0, |file| file.len());
    println!(
        "hnsw_rs {links} links, {construction}: {took:.1?}, {:.0} MB more, files {:.0} MB and {:.0} MB",
        resident() - before,
        size("graph") as f64 / 1e6,
        size("data") as f64 / 1e6
    );
    for ef in [32, 64, 128, 256] {
        measure(&format!("hnsw_rs {links}/{construction}, ef {ef}"), all, |query| {
            let found = index.search(query, 30.min(ef), ef);
            found.iter().map(|row| row.d_id).collect()
        });
    }
}
