//! Files of a crate that import each other in a circle, and files that are too long.
//!
//! An import is a path of `use` or of the code – in expressions, types, patterns, attributes and the tokens of macros – that
//! leads, through re-exports, to a name which another file defines. Not counted are
//!
//! * `mod` lines, and the `pub use` lines of a file that gathers modules (`lib.rs`, `mod.rs`); code of such a file that
//!   uses a name it re-exports does import it,
//! * a `use` of a module: what is named through it counts,
//! * what is compiled for tests alone, and doc comments,
//! * methods, and traits that come in by a `*`: neither is named.

mod paths;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tree::Tree;

/// Lines that a file may have.
pub const MOST_LINES: usize = 500;

/// What is wrong with a crate.
#[derive(Debug, Default)]
pub struct Findings {
    /// Groups of files each of which imports all others, by way of some.
    pub circles: Vec<Circle>,
    /// Files of more than [`MOST_LINES`], with their lines.
    pub long: Vec<(PathBuf, usize)>,
}

/// Files that import each other.
#[derive(Debug)]
pub struct Circle {
    /// In the order of their names.
    pub files: Vec<PathBuf>,
    /// Imports among them.
    pub imports: Vec<Import>,
}

/// A path by which one file imports another.
#[derive(Debug)]
pub struct Import {
    /// The file it is written in.
    pub from: PathBuf,
    /// The first line it is written in.
    pub line: usize,
    /// The file that defines what it names.
    pub to: PathBuf,
    /// The path, beginning at a module that the file need not import.
    pub path: String,
}

/// Goes through the crate whose sources lie in `src`: its library, its program, and those in `bin`.
pub fn find(src: &Path) -> io::Result<Findings> {
    let roots = roots(src)?;
    if roots.is_empty() {
        let reason = format!("{}: neither lib.rs nor main.rs", src.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, reason));
    }
    let mut files = BTreeSet::new();
    let mut imports = BTreeMap::new();
    for root in roots {
        let tree = Tree::read(&root)?;
        files.extend(tree.modules.iter().map(|module| module.file.clone()));
        collect(&tree, &mut imports);
    }
    let mut long = Vec::new();
    for file in &files {
        let lines = std::fs::read_to_string(file)?.lines().count();
        if lines > MOST_LINES {
            long.push((file.clone(), lines));
        }
    }
    let circles = circles(&files, imports);
    Ok(Findings { circles, long })
}

fn roots(src: &Path) -> io::Result<Vec<PathBuf>> {
    let mut roots = vec![src.join("lib.rs"), src.join("main.rs")];
    if let Ok(programs) = src.join("bin").read_dir() {
        for program in programs {
            let path = program?.path();
            let is_source = path.extension().is_some_and(|extension| extension == "rs");
            roots.push(if is_source {
                path
            } else {
                path.join("main.rs")
            });
        }
    }
    roots.retain(|root| root.is_file());
    Ok(roots)
}

/// From which file to which, by which path, at which line.
type Imports = BTreeMap<(PathBuf, PathBuf), BTreeMap<String, usize>>;

fn collect(tree: &Tree, imports: &mut Imports) {
    for (id, module) in tree.modules.iter().enumerate() {
        for mention in &module.mentions {
            let path = tree.in_full(id, &mention.path);
            let found = tree.definitions(id, &path);
            // What lies within the definition is of no interest.
            let mut starts = (1..=path.len()).map(|length| &path[..length]);
            let path = starts.find(|start| tree.definitions(id, start) == found);
            let path = path.unwrap_or_default().join("::");
            for file in found.into_iter().filter(|file| *file != module.file) {
                let ends = (module.file.clone(), file.to_path_buf());
                let lines = imports.entry(ends).or_default();
                let line = lines.entry(path.clone()).or_insert(mention.line);
                *line = mention.line.min(*line);
            }
        }
    }
}

fn circles(files: &BTreeSet<PathBuf>, imports: Imports) -> Vec<Circle> {
    let reached: BTreeMap<_, _> = files
        .iter()
        .map(|file| (file, reach(file, &imports)))
        .collect();
    let mut circles: Vec<Circle> = Vec::new();
    for file in files {
        let known = circles.iter().any(|circle| circle.files.contains(file));
        let back =
            |other: &&PathBuf| reached[file].contains(*other) && reached[*other].contains(file);
        if !known && reached[file].contains(file) {
            circles.push(Circle {
                files: files.iter().filter(back).cloned().collect(),
                imports: Vec::new(),
            });
        }
    }
    for ((from, to), paths) in imports {
        let within =
            |circle: &&mut Circle| circle.files.contains(&from) && circle.files.contains(&to);
        if let Some(circle) = circles.iter_mut().find(within) {
            circle
                .imports
                .extend(paths.into_iter().map(|(path, line)| Import {
                    from: from.clone(),
                    line,
                    to: to.clone(),
                    path,
                }));
        }
    }
    circles
}

/// The files that a file imports, and those that these import, and so on.
fn reach<'a>(file: &'a PathBuf, imports: &'a Imports) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(file) = open.pop() {
        let next = imports
            .keys()
            .filter(|(from, _)| from == file)
            .map(|(_, to)| to);
        open.extend(next.filter(|to| reached.insert(*to)));
    }
    reached
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.circles.is_empty() && self.long.is_empty()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for circle in &self.circles {
            writeln!(
                f,
                "{} files import each other in a circle:",
                circle.files.len()
            )?;
            for file in &circle.files {
                writeln!(f, "  {}", file.display())?;
            }
            for Import {
                from,
                line,
                to,
                path,
            } in &circle.imports
            {
                writeln!(
                    f,
                    "    {}:{line} → {}  {path}",
                    from.display(),
                    to.display()
                )?;
            }
        }
        for (file, lines) in &self.long {
            writeln!(
                f,
                "{}: {lines} lines, at most {MOST_LINES} are meant",
                file.display()
            )?;
        }
        Ok(())
    }
}
