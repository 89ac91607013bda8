use super::{MOST_LINES, find};

/// What is found in a crate of these files: the circles, each as its files.
fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let src = planted(files);
    let circles = find(src.path()).unwrap().circles.into_iter();
    let name = |file: std::path::PathBuf| {
        let name = file.strip_prefix(src.path()).unwrap();
        name.to_str().unwrap().replace('\\', "/")
    };
    circles
        .map(|circle| circle.files.into_iter().map(name).collect())
        .collect()
}

fn planted(files: &[(&str, &str)]) -> tempfile::TempDir {
    let src = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = src.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    src
}

/// Two files, of which the second imports the first by `use crate::a::A`; `a` is the first without its definition of `A`.
fn pair(a: &str) -> Vec<Vec<String>> {
    circles(&[
        ("lib.rs", "mod a; mod b; mod macros { pub fn f() {} }"),
        ("a.rs", &format!("pub struct A;\n{a}")),
        (
            "b.rs",
            "use crate::a::A; pub struct B(A); pub enum Kind { One } pub fn f() {}",
        ),
    ])
}

const PAIR: [[&str; 2]; 1] = [["a.rs", "b.rs"]];

#[test]
fn two_files() {
    assert_eq!(pair("use crate::b::B;"), PAIR);
    assert_eq!(pair("use super::b::B as _;"), PAIR);
    assert_eq!(pair("use super::{macros, b::{self, Kind}};"), PAIR);
    assert!(pair("").is_empty());
}

#[test]
fn an_import_is_reported_where_it_is() {
    let src = planted(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "\nuse crate::b;\nfn f() {\n    b::B::new();\n}"),
        ("b.rs", "use crate::a::f;\npub struct B;"),
    ]);
    let report = find(src.path()).unwrap().to_string();
    let root = format!("{}/", src.path().display());
    let expected = "2 files import each other in a circle:\n  a.rs\n  b.rs\n    a.rs:4 → b.rs  crate::b::B\n    \
                    b.rs:1 → a.rs  crate::a::f\n";
    assert_eq!(report.replace(&root, ""), expected);
}

#[test]
fn paths_in_the_code() {
    for code in [
        "fn f(_: crate::b::B) {}",
        "fn f() -> Vec<super::b::B> { Vec::new() }",
        "fn f() { crate::b::f() }",
        "use super::b; fn f() { b::f() }",
        "fn f() { use crate::b as other; other::f(); }",
        "fn f(x: crate::b::Kind) { match x { super::b::Kind::One => {} } }",
        "impl From<crate::b::B> for A { fn from(_: crate::b::B) -> Self { Self } }",
        "fn f<T: crate::b::Trait<B = A>>() where T: From<crate::b::B> {}",
        "mod inner { fn f() { super::super::b::f() } }",
        "fn f() { vec![1, 2, crate::b::f()]; }",
        "use super::b; fn f(x: u8) -> bool { matches!(x, y if b::f(y)) }",
        "fn f() { m!(0..crate::b::f()); }",
        "fn f() { m!(x: crate::b::f()); }",
        "macro_rules! m { ($x:ident) => { $crate::b::f($x) } }",
        "macro_rules! m { () => { { vec![crate::b::f()] } } }",
        "#[derive(Deserialize)] struct C { #[serde(default = \"crate::b::f\")] c: u8 }",
        "#[derive(Args)] struct C { #[arg(value_parser = super::b::f)] c: u8 }",
        "#[cfg(feature = \"x\")] use crate::b::B;",
        "#[cfg(not(test))] use crate::b::B;",
        "#[cfg(any(test, unix))] use crate::b::B;",
        "pub use crate::b::B;",
    ] {
        assert_eq!(pair(code), PAIR, "{code}");
    }
}

#[test]
fn no_paths_of_the_code() {
    for code in [
        "use crate::b;",
        "#[cfg(test)] use crate::b::B;",
        "#[cfg(all(test, feature = \"x\"))] mod tests { use crate::b::B; }",
        "#[cfg(any(test, all(test, unix)))] use crate::b::B;",
        "#[test] fn f() { crate::b::f() }",
        "impl A { #[cfg(test)] fn f() { crate::b::f() } }",
        "fn f() { #[cfg(test)] let x = crate::b::f(); }",
        "/// As [`crate::b::B`].\nfn f() {}",
        "fn f() { ::b::f(); other::b::f(); println!(\"crate::b::f\"); }",
        "use super::b; fn f() { m!(x.b::f(), x::b::f(), 'b::f()); }",
        "fn f() { crate::macros::f() }",
        "mod b { pub fn f() {} } fn f() { b::f() }",
    ] {
        assert!(pair(code).is_empty(), "{code}");
    }
}

#[test]
fn through_a_re_export() {
    let found = circles(&[
        ("lib.rs", "mod a; mod inner; pub use inner::B as Renamed;"),
        ("a.rs", "use crate::Renamed; pub struct A;"),
        ("inner/mod.rs", "mod b; pub use b::B;"),
        ("inner/b.rs", "use crate::a::A; pub struct B;"),
    ]);
    assert_eq!(found, [["a.rs", "inner/b.rs"]]);
}

#[test]
fn through_an_import_of_the_parent() {
    let found = circles(&[
        ("lib.rs", "mod a; mod inner;"),
        ("a.rs", "use crate::inner::Child; pub struct A;"),
        (
            "inner/mod.rs",
            "mod child; pub use child::Child; use crate::a::A;",
        ),
        ("inner/child.rs", "use super::A; pub struct Child;"),
    ]);
    assert_eq!(found, [["a.rs", "inner/child.rs"]]);
}

#[test]
fn through_a_glob() {
    let inner = [
        ("inner/mod.rs", "mod b; pub use b::*; pub fn apart() {}"),
        ("inner/b.rs", "use crate::a::A; pub struct B;"),
    ];
    let with = |a| {
        let files = [("lib.rs", "mod a; mod inner;"), ("a.rs", a)];
        circles(&[files, inner].concat())
    };
    let expected = [["a.rs", "inner/b.rs"]];
    assert_eq!(with("use crate::inner::B; pub struct A;"), expected);
    assert_eq!(with("use crate::inner::*; pub struct A(B);"), expected);
    assert!(with("use crate::inner::*; pub struct A; fn f() { apart() }").is_empty());
    assert!(with("use crate::inner::*; pub struct A; fn f(B: u8) { B }").is_empty());
}

#[test]
fn three_files_and_one_that_looks_on() {
    let found = circles(&[
        (
            "main.rs",
            "mod a; mod b; mod c; mod d; fn main() { a::f() }",
        ),
        ("a.rs", "pub fn f() { crate::b::f() }"),
        ("b.rs", "pub fn f() { crate::c::f() }"),
        ("c.rs", "pub fn f() { crate::a::f() }"),
        ("d.rs", "pub fn f() { crate::a::f() }"),
    ]);
    assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
}

#[test]
fn parent_and_child() {
    let child = ("inner/child.rs", "use super::Parent; pub struct Child;");
    let with = |place, parent: &str| {
        let parent = format!("pub struct Parent; {parent}");
        circles(&[("lib.rs", "mod inner;"), (place, &parent), child])
    };
    let own = "mod child; fn f(_: child::Child) {}";
    assert_eq!(
        with("inner/mod.rs", own),
        [["inner/child.rs", "inner/mod.rs"]]
    );
    assert_eq!(with("inner.rs", own), [["inner/child.rs", "inner.rs"]]);
    let own = "mod child; use child::Child;";
    assert_eq!(
        with("inner/mod.rs", own),
        [["inner/child.rs", "inner/mod.rs"]]
    );
    let re_exported_and_used = "mod child; pub use child::Child; fn f(_: Child) {}";
    assert_eq!(with("inner.rs", re_exported_and_used).len(), 1);
    for fine in [
        "mod child;",
        "pub mod child; pub use child::Child;",
        "mod child; pub(crate) use self::child::*;",
        "mod child; #[cfg(test)] mod tests { use super::child::Child; }",
    ] {
        assert!(with("inner/mod.rs", fine).is_empty(), "{fine}");
        assert!(with("inner.rs", fine).is_empty(), "{fine}");
    }
}

#[test]
fn macros_of_the_text_above() {
    let found = circles(&[
        ("lib.rs", "#[macro_use] mod rules; mod a; mod b;"),
        (
            "rules.rs",
            "macro_rules! say { () => { $crate::a::f() } } #[macro_export] macro_rules! shout { () => {} }",
        ),
        ("a.rs", "pub fn f() { say!() }"),
        ("b.rs", "fn f() { crate::shout!() } "),
    ]);
    assert_eq!(found, [["a.rs", "rules.rs"]]);
}

#[test]
fn files_of_tests_alone() {
    let found = circles(&[
        ("lib.rs", "mod a; mod b; #[cfg(test)] mod testing;"),
        ("a.rs", "#[cfg(test)] mod tests; pub struct A;"),
        ("a/tests.rs", "use crate::b::B; this is not Rust"),
        ("b.rs", "use crate::a::A; pub struct B;"),
    ]);
    assert!(found.is_empty());
}

#[test]
fn long_files() {
    let lines = |count| "//\n".repeat(count);
    let src = planted(&[
        ("lib.rs", "mod long; mod fits; #[cfg(test)] mod tests;"),
        ("long.rs", &lines(MOST_LINES + 1)),
        ("fits.rs", &lines(MOST_LINES)),
        ("tests.rs", &lines(MOST_LINES + 1)),
    ]);
    let found = find(src.path()).unwrap();
    assert_eq!(found.long, [(src.path().join("long.rs"), MOST_LINES + 1)]);
    assert!(found.circles.is_empty() && !found.is_empty());
}

#[test]
fn sources_that_cannot_be_read() {
    let fault = |files| find(planted(files).path()).unwrap_err().to_string();
    assert!(fault(&[]).contains("lib.rs"));
    assert!(fault(&[("lib.rs", "mod absent;")]).contains("absent"));
    assert!(fault(&[("lib.rs", "\nfn (")]).contains("line 2"));
}
