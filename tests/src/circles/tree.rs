//! The modules of a crate, and which file a path leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use syn::Item;

use super::paths::{Mention, Paths, item_attributes, test_only, word};

/// The modules that a crate has outside of its tests.
#[derive(Default)]
pub struct Tree {
    /// In the order they were found in; the first is the root.
    pub modules: Vec<Module>,
}

/// A module: a file, or a part of one.
pub struct Module {
    /// Where it is written.
    pub file: PathBuf,
    /// Imports, and paths in the code.
    pub mentions: Vec<Mention>,
    parent: Option<usize>,
    names: BTreeMap<String, Vec<Name>>,
    globs: Vec<Vec<String>>,
    macros: BTreeMap<String, PathBuf>,
}

/// What a name stands for in a module.
enum Name {
    Defined,
    Module(usize),
    Imported(Vec<String>),
}

/// What a path leads to.
enum Target<'a> {
    Module(usize),
    Definition(&'a Path),
}

impl Tree {
    /// Reads the crate whose root is `file`, module by module.
    pub fn read(file: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_file(file, file.parent().unwrap_or(Path::new("")), None)?;
        Ok(tree)
    }

    /// A module with a file of its own, whose children lie in `folder`.
    fn read_file(
        &mut self,
        file: &Path,
        folder: &Path,
        parent: Option<usize>,
    ) -> io::Result<usize> {
        let fault = |reason: String| io::Error::other(format!("{}: {reason}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
        let parsed = syn::parse_file(&text)
            .map_err(|error| fault(format!("line {}: {error}", error.span().start().line)))?;
        let has_files = |item: &Item| matches!(item, Item::Mod(module) if module.content.is_none());
        let gathers = parent.is_none()
            || file.file_name().is_some_and(|name| name == "mod.rs")
            || parsed.items.iter().any(has_files);
        self.read_module(&parsed.items, file, folder, parent, gathers)
    }

    /// A module with these items. In a file that `gathers` modules, re-exports are no imports.
    fn read_module(
        &mut self,
        items: &[Item],
        file: &Path,
        folder: &Path,
        parent: Option<usize>,
        gathers: bool,
    ) -> io::Result<usize> {
        let id = self.modules.len();
        let Paths {
            imports, mentions, ..
        } = Paths::of(items);
        self.modules.push(Module {
            file: file.to_path_buf(),
            mentions,
            parent,
            names: BTreeMap::new(),
            globs: Vec::new(),
            macros: BTreeMap::new(),
        });
        for import in imports {
            let module = &mut self.modules[id];
            match import.name {
                Some(name) => module.bind(name, Name::Imported(import.path.clone())),
                None => module.globs.push(import.path.clone()),
            }
            if !(import.public && gathers) {
                module.mentions.push(Mention {
                    path: import.path,
                    line: import.line,
                });
            }
        }
        for item in items {
            if !test_only(item_attributes(item)) {
                self.read_item(item, id, folder, gathers)?;
            }
        }
        Ok(id)
    }

    /// Binds what an item defines, and reads the module that it is.
    fn read_item(
        &mut self,
        item: &Item,
        id: usize,
        folder: &Path,
        gathers: bool,
    ) -> io::Result<()> {
        let has = |name| {
            let mut attributes = item_attributes(item).iter();
            attributes.any(|attribute| attribute.path().is_ident(name))
        };
        let file = self.modules[id].file.clone();
        let mut define = |name| self.modules[id].bind(word(name), Name::Defined);
        match item {
            Item::Const(item) => define(&item.ident),
            Item::Enum(item) => define(&item.ident),
            Item::Fn(item) => define(&item.sig.ident),
            Item::Static(item) => define(&item.ident),
            Item::Struct(item) => define(&item.ident),
            Item::Trait(item) => define(&item.ident),
            Item::Type(item) => define(&item.ident),
            Item::Union(item) => define(&item.ident),
            Item::Macro(item) => {
                if let Some(name) = &item.ident {
                    define(name);
                    self.modules[id].macros.insert(word(name), file.clone());
                    if has("macro_export") && id > 0 {
                        self.modules[0].macros.insert(word(name), file);
                    }
                }
            }
            Item::Mod(item) => {
                let name = word(&item.ident);
                let inner = folder.join(&name);
                let child = match &item.content {
                    Some((_, items)) => {
                        self.read_module(items, &file, &inner, Some(id), gathers)?
                    }
                    None => {
                        let beside = folder.join(format!("{name}.rs"));
                        let within = inner.join("mod.rs");
                        let file = if beside.is_file() { beside } else { within };
                        self.read_file(&file, &inner, Some(id))?
                    }
                };
                self.modules[id].bind(name, Name::Module(child));
                if has("macro_use") {
                    let macros = self.modules[child].macros.clone();
                    self.modules[id].macros.extend(macros);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A path of a module, with the import it begins with written out.
    pub fn in_full(&self, module: usize, path: &[String]) -> Vec<String> {
        let names = path
            .first()
            .and_then(|first| self.modules[module].names.get(first));
        match names.map(Vec::as_slice) {
            Some([Name::Imported(import)]) => [import, &path[1..]].concat(),
            _ => path.to_vec(),
        }
    }

    /// The files that define what a path of a module leads to. There are several where a name is a function as well as a
    /// type, and none where it is a module or of another crate.
    pub fn definitions(&self, module: usize, path: &[String]) -> BTreeSet<&Path> {
        let mut files: BTreeSet<_> = self
            .resolve(module, path, &mut BTreeSet::new())
            .into_iter()
            .filter_map(|target| match target {
                Target::Definition(file) => Some(file),
                Target::Module(_) => None,
            })
            .collect();
        if let ([name], true) = (path, files.is_empty()) {
            files.extend(self.macro_in_scope(module, name));
        }
        files
    }

    fn resolve<'a>(
        &'a self,
        module: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Vec<Target<'a>> {
        let mut targets = vec![Target::Module(module)];
        for (place, name) in path.iter().enumerate() {
            // A module and a function may share a name, and only one of them has something within.
            if targets
                .iter()
                .any(|target| matches!(target, Target::Module(_)))
            {
                targets.retain(|target| matches!(target, Target::Module(_)));
            }
            let further = targets.into_iter().flat_map(|target| match target {
                Target::Module(module) => match name.as_str() {
                    "crate" if place == 0 => vec![Target::Module(0)],
                    "self" => vec![Target::Module(module)],
                    "super" => {
                        let parent = self.modules[module].parent;
                        parent.into_iter().map(Target::Module).collect()
                    }
                    name => self.look_up(module, name, seen),
                },
                definition => vec![definition],
            });
            targets = further.collect();
        }
        targets
    }

    fn look_up<'a>(
        &'a self,
        id: usize,
        name: &str,
        seen: &mut BTreeSet<(usize, String)>,
    ) -> Vec<Target<'a>> {
        if !seen.insert((id, name.to_string())) {
            return Vec::new();
        }
        let module = &self.modules[id];
        let mut targets = Vec::new();
        for name in module.names.get(name).into_iter().flatten() {
            match name {
                Name::Defined => targets.push(Target::Definition(&module.file)),
                Name::Module(child) => targets.push(Target::Module(*child)),
                Name::Imported(path) => targets.extend(self.resolve(id, path, seen)),
            }
        }
        if let (0, Some(file)) = (id, module.macros.get(name)) {
            targets.push(Target::Definition(file));
        }
        if targets.is_empty() {
            for glob in &module.globs {
                for target in self.resolve(id, glob, seen) {
                    if let Target::Module(from) = target {
                        targets.extend(self.look_up(from, name, seen));
                    }
                }
            }
        }
        targets
    }

    /// The file of the macro that the text above a module has defined.
    fn macro_in_scope(&self, module: usize, name: &str) -> Option<&Path> {
        let mut above = std::iter::successors(Some(module), |id| self.modules[*id].parent);
        above.find_map(|id| self.modules[id].macros.get(name).map(PathBuf::as_path))
    }
}

impl Module {
    fn bind(&mut self, name: String, meaning: Name) {
        self.names.entry(name).or_default().push(meaning);
    }
}
