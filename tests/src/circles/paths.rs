//! What a module names: its imports, and the paths in its code.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Meta, TraitItem, UseTree, Visibility};

/// One name of a `use`.
pub struct Import {
    /// Where it comes from.
    pub path: Vec<String>,
    /// What it is called here; `None` for `*`.
    pub name: Option<String>,
    /// Seen from outside of the module: a re-export.
    pub public: bool,
    /// Of the file, from one.
    pub line: usize,
}

/// A path in the code, as it is written there.
pub struct Mention {
    /// Its segments, without their arguments.
    pub path: Vec<String>,
    /// Of the file, from one.
    pub line: usize,
}

/// What the code of a module names, tests aside.
#[derive(Default)]
pub struct Paths {
    /// From `use`, at the top and in blocks.
    pub imports: Vec<Import>,
    /// From everything else, attributes and the tokens of macros among it.
    pub mentions: Vec<Mention>,
    variables: BTreeSet<String>,
}

impl Paths {
    /// Paths in `items`, but not in the modules among them.
    pub fn of(items: &[Item]) -> Self {
        let mut paths = Self::default();
        items.iter().for_each(|item| paths.visit_item(item));
        let Self {
            mentions,
            variables,
            ..
        } = &mut paths;
        mentions.retain(|mention| mention.path.len() > 1 || !variables.contains(&mention.path[0]));
        paths
    }

    fn import(&mut self, tree: &UseTree, mut path: Vec<String>, public: bool) {
        let line = tree.span().start().line;
        let name = match tree {
            UseTree::Path(inner) => {
                path.push(word(&inner.ident));
                return self.import(&inner.tree, path, public);
            }
            UseTree::Group(group) => {
                let trees = group.items.iter();
                return trees.for_each(|tree| self.import(tree, path.clone(), public));
            }
            UseTree::Glob(_) => None,
            UseTree::Name(leaf) => {
                path.push(word(&leaf.ident));
                path.pop_if(|last| last == "self");
                path.last().cloned()
            }
            UseTree::Rename(leaf) => {
                path.push(word(&leaf.ident));
                path.pop_if(|last| last == "self");
                Some(word(&leaf.rename))
            }
        };
        self.imports.push(Import {
            path,
            name,
            public,
            line,
        });
    }

    /// Paths of at least `least` segments among the tokens of a macro.
    fn scan(&mut self, tokens: TokenStream, least: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let start = at;
            at += 1;
            match token {
                TokenTree::Group(group) => self.scan(group.stream(), least),
                TokenTree::Ident(first) => {
                    let mut path = vec![word(first)];
                    while let Some(next) = segment(&tokens[at..]) {
                        path.push(next);
                        at += 3;
                    }
                    let line = first.span().start().line;
                    let field = path.len() == 1 && is(tokens.get(at), ':');
                    if path.len() >= least && !field && begins(&tokens[..start], &path[0]) {
                        self.mentions.push(Mention { path, line });
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Paths in the strings of a `#[serde(…)]`.
    fn scan_strings(&mut self, tokens: TokenStream) {
        for token in tokens {
            if let TokenTree::Literal(literal) = token
                && let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                && let Ok(path) = text.parse::<syn::Path>()
            {
                self.mention(&path, literal.span().start().line);
            }
        }
    }

    fn mention(&mut self, path: &syn::Path, line: usize) {
        if path.leading_colon.is_none() {
            let path = path.segments.iter().map(|segment| word(&segment.ident));
            let path = path.collect();
            self.mentions.push(Mention { path, line });
        }
    }
}

/// The attributes of whichever of its kinds a node is.
macro_rules! attributes {
    ($node:expr, $of:ident: $($kind:ident)*) => {
        match $node {
            $($of::$kind(node) => node.attrs.as_slice(),)*
            _ => &[],
        }
    };
}

/// Passes over a node that is there in tests alone.
macro_rules! unless_test {
    ($($visit:ident: $node:ty;)*) => {
        $(fn $visit(&mut self, node: &'ast $node) {
            if !test_only(&node.attrs) {
                visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if test_only(item_attributes(item)) {
            return;
        }
        match item {
            Item::Mod(_) => {}
            Item::Use(import) if import.leading_colon.is_some() => {}
            Item::Use(import) => {
                let public = !matches!(import.vis, Visibility::Inherited);
                self.import(&import.tree, Vec::new(), public);
            }
            // Paths of one segment are those of the place that uses the macro.
            Item::Macro(rules) if rules.ident.is_some() => self.scan(rules.mac.tokens.clone(), 2),
            item => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !test_only(attributes!(item, ImplItem: Const Fn Type Macro)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !test_only(attributes!(item, TraitItem: Const Fn Type Macro)) {
            visit::visit_trait_item(self, item);
        }
    }

    unless_test! {
        visit_field: syn::Field;
        visit_field_value: syn::FieldValue;
        visit_variant: syn::Variant;
        visit_arm: syn::Arm;
        visit_local: syn::Local;
        visit_expr_block: syn::ExprBlock;
        visit_stmt_macro: syn::StmtMacro;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.mention(path, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.scan(call.tokens.clone(), 1);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let of = |name| attribute.path().is_ident(name);
        match &attribute.meta {
            _ if of("doc") || of("cfg") => {}
            Meta::Path(_) => {}
            Meta::NameValue(pair) => self.visit_expr(&pair.value),
            Meta::List(list) => {
                self.scan(list.tokens.clone(), 1);
                if of("serde") {
                    self.scan_strings(list.tokens.clone());
                }
            }
        }
    }

    fn visit_pat_ident(&mut self, variable: &'ast syn::PatIdent) {
        self.variables.insert(word(&variable.ident));
        visit::visit_pat_ident(self, variable);
    }
}

/// The attributes of an item.
pub fn item_attributes(item: &Item) -> &[Attribute] {
    attributes!(item, Item: Const Enum ExternCrate Fn ForeignMod Impl Macro Mod Static Struct Trait TraitAlias Type Union Use)
}

/// Whether what carries these attributes is compiled for tests alone.
pub fn test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg") && attribute.parse_args().is_ok_and(needs_test)
    })
}

fn needs_test(condition: Meta) -> bool {
    let inner = |list: &syn::MetaList| {
        type Conditions = syn::punctuated::Punctuated<Meta, syn::Token![,]>;
        let conditions = list.parse_args_with(Conditions::parse_terminated);
        conditions.unwrap_or_default().into_iter()
    };
    match &condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => inner(list).any(needs_test),
        Meta::List(list) if list.path.is_ident("any") => {
            let mut conditions = inner(list).peekable();
            conditions.peek().is_some() && conditions.all(needs_test)
        }
        _ => false,
    }
}

/// An identifier as it is called, raw or not.
pub fn word(ident: &proc_macro2::Ident) -> String {
    let word = ident.to_string();
    word.strip_prefix("r#").map_or(word.clone(), str::to_string)
}

fn is(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

/// The segment that `tokens` go on a path with.
fn segment(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [a, b, TokenTree::Ident(next), ..] if is(Some(a), ':') && is(Some(b), ':') => {
            Some(word(next))
        }
        _ => None,
    }
}

/// Whether a path may begin with `first` behind these tokens: it may not as a field, a method, a lifetime, the
/// variable of a macro, or the end of a longer path.
fn begins(before: &[TokenTree], first: &str) -> bool {
    let last = before.last();
    let last_but_one = before.len().checked_sub(2).map(|at| &before[at]);
    match last {
        Some(TokenTree::Punct(punct)) => match punct.as_char() {
            '\'' => false,
            '$' => first == "crate",
            '.' | ':' => is(last_but_one, '.') || punct.as_char() == ':' && !is(last_but_one, ':'),
            _ => true,
        },
        _ => true,
    }
}
