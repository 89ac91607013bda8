//! From the columns of a file to the leaves that are read.

use super::super::columns::{Columns, OF_FILES};

/// Columns of text that name a row, in the order in which they are looked for.
const NAMES: [&str; 6] = ["key", "__key__", "uid", "id", "image_id", "sample_id"];

/// What a leaf holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes.
    Binary,
    /// Bytes that are said to be UTF-8.
    Text,
    /// Something that is not read, in the format's words.
    Other(String),
}

/// A column of single values: `caption`, or `bytes` of the structure `image`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// The names on the way to it, without those that a format puts around the elements of a list.
    pub path: Vec<String>,
    pub kind: Kind,
    /// Whether a row has any number of them.
    pub is_list: bool,
}

/// What a leaf is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Bytes,
    Path,
    Caption,
    Name,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Bytes, Self::Path, Self::Caption, Self::Name];
}

/// The leaf for every [`Role`] that the file has one for, by its place among the file's leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub leaves: [Option<usize>; Role::ALL.len()],
    /// The columns of pictures and captions, as the file spells them.
    pub image: String,
    pub caption: Option<String>,
    /// Whether rows have several captions.
    pub has_many_captions: bool,
}

/// Why there is no [`Selection`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// No column of such a name.
    Missing { wanted: String },
    /// A column that holds something else.
    Kind {
        column: String,
        found: String,
        expected: &'static str,
    },
}

impl Selection {
    /// Chooses the leaves.
    ///
    /// # Errors
    /// When a column is missing or of another kind.
    pub fn new(leaves: &[Leaf], columns: &Columns) -> Result<Self, Misfit> {
        // A column can be named by the way to its leaf, too: `image.bytes`.
        let ways: Vec<String> = leaves.iter().map(|leaf| leaf.path.join(".")).collect();
        let mut names: Vec<&str> = top_level(leaves);
        names.extend(ways.iter().map(String::as_str));
        let found = columns.find(&names, &OF_FILES);
        let found = found.map_err(|wanted| Misfit::Missing { wanted })?;
        let at = |way: &str| ways.iter().position(|other| other == way);
        let (bytes, path) = image(leaves, &found.image, at)?;
        let caption = match &found.caption {
            Some(name) => Some(caption(leaves, name, at)?),
            None => None,
        };
        let is_name = |leaf: &usize| leaves[*leaf].kind == Kind::Text && !leaves[*leaf].is_list;
        let name = NAMES.iter().filter_map(|name| at(name)).find(is_name);
        Ok(Self {
            leaves: [bytes, path, caption, name],
            has_many_captions: caption.is_some_and(|leaf| leaves[leaf].is_list),
            image: found.image,
            caption: found.caption,
        })
    }
}

impl Selection {
    /// The leaves that are neither a picture nor a caption, in their order.
    pub fn others(&self, count: usize) -> impl Iterator<Item = usize> + '_ {
        let used = [Role::Bytes, Role::Path, Role::Caption].map(|role| self.leaf(role));
        (0..count).filter(move |leaf| !used.contains(&Some(*leaf)))
    }

    /// The leaf that is read for `role`.
    pub fn leaf(&self, role: Role) -> Option<usize> {
        let at = Role::ALL.iter().position(|other| *other == role)?;
        self.leaves[at]
    }
}

/// The columns' names, each once, for messages too.
pub(super) fn top_level(leaves: &[Leaf]) -> Vec<&str> {
    let mut names: Vec<&str> = leaves.iter().map(|leaf| leaf.path[0].as_str()).collect();
    names.dedup();
    names
}

/// The leaves of a picture's bytes and of its path.
fn image(
    leaves: &[Leaf],
    column: &str,
    at: impl Fn(&str) -> Option<usize>,
) -> Result<(Option<usize>, Option<usize>), Misfit> {
    let wrong = |found: String| Misfit::Kind {
        column: column.to_owned(),
        found,
        expected: "binary, a structure of bytes and path, or text with paths or addresses",
    };
    if let Some(leaf) = at(column) {
        return match &leaves[leaf].kind {
            Kind::Binary => Ok((Some(leaf), None)),
            Kind::Text => Ok((None, Some(leaf))),
            Kind::Other(kind) => Err(wrong(kind.clone())),
        };
    }
    let part = |name: &str, fits: fn(&Kind) -> bool| {
        let leaf = at(&format!("{column}.{name}"))?;
        fits(&leaves[leaf].kind).then_some(leaf)
    };
    let bytes = part("bytes", |kind| *kind == Kind::Binary);
    let path = part("path", |kind| *kind == Kind::Text);
    if bytes.is_none() && path.is_none() {
        let start = format!("{column}.");
        let parts = leaves.iter().map(|leaf| leaf.path.join("."));
        let parts: Vec<String> = parts.filter(|way| way.starts_with(&start)).collect();
        return Err(wrong(format!("a structure of {}", parts.join(", "))));
    }
    Ok((bytes, path))
}

fn caption(
    leaves: &[Leaf],
    column: &str,
    at: impl Fn(&str) -> Option<usize>,
) -> Result<usize, Misfit> {
    let wrong = |found: &str| Misfit::Kind {
        column: column.to_owned(),
        found: found.to_owned(),
        expected: "text, or a list of text",
    };
    let leaf = at(column).ok_or_else(|| wrong("a structure"))?;
    match &leaves[leaf].kind {
        Kind::Other(kind) => Err(wrong(kind)),
        _ => Ok(leaf),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn leaf(way: &str, kind: Kind) -> Leaf {
        Leaf {
            path: way.split('.').map(str::to_owned).collect(),
            kind,
            is_list: false,
        }
    }

    fn select(leaves: &[Leaf]) -> Result<[Option<usize>; 4], Misfit> {
        Selection::new(leaves, &Columns::default()).map(|selection| selection.leaves)
    }

    #[test]
    fn pictures_are_bytes_a_structure_or_paths() {
        let text = leaf("text", Kind::Text);
        let hugging_face = [
            leaf("image.bytes", Kind::Binary),
            leaf("image.path", Kind::Text),
            text.clone(),
        ];
        assert_eq!(
            select(&hugging_face).unwrap(),
            [Some(0), Some(1), Some(2), None]
        );
        let img2dataset = [
            leaf("url", Kind::Text),
            leaf("caption", Kind::Text),
            leaf("key", Kind::Text),
            leaf("width", Kind::Other("INT32".into())),
            leaf("jpg", Kind::Binary),
        ];
        assert_eq!(
            select(&img2dataset).unwrap(),
            [Some(4), None, Some(1), Some(2)]
        );
        assert_eq!(
            select(&img2dataset[..4]).unwrap(),
            [None, Some(0), Some(1), Some(2)]
        );
        let named = Columns {
            image: Some("image.bytes".into()),
            ..Columns::default()
        };
        let leaves = Selection::new(&hugging_face, &named).unwrap().leaves;
        assert_eq!(leaves, [Some(0), None, Some(2), None]);
    }

    #[test]
    fn a_list_of_captions_is_said() {
        let mut captions = leaf("caption", Kind::Text);
        captions.is_list = true;
        let leaves = [leaf("image", Kind::Binary), captions];
        let selection = Selection::new(&leaves, &Columns::default()).unwrap();
        assert!(selection.has_many_captions);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = leaf("text", Kind::Text);
        for (image, words) in [
            (leaf("image", Kind::Other("list of INT32".into())), "INT32"),
            (leaf("image.data", Kind::Binary), "image.data"),
            (
                leaf("image.bytes", Kind::Other("INT64".into())),
                "image.bytes",
            ),
        ] {
            match select(&[image, text.clone()]) {
                Err(Misfit::Kind { column, found, .. }) => {
                    assert_eq!(column, "image");
                    assert!(found.contains(words), "{found}");
                }
                other => panic!("{other:?}"),
            }
        }
        let numbers = leaf("caption", Kind::Other("DOUBLE".into()));
        let error = select(&[leaf("jpg", Kind::Binary), numbers]).unwrap_err();
        assert!(matches!(error, Misfit::Kind { column, .. } if column == "caption"));
        let error = select(&[text]).unwrap_err();
        assert!(matches!(error, Misfit::Missing { wanted } if wanted.contains("\"image\"")));
    }
}
