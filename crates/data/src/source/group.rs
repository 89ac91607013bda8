//! From the members of a tar shard to samples, by webdataset's rule.
//!
//! A member `dir/key.suffix` belongs to the sample `dir/key`; the suffix starts at the first dot of the file name, so
//! that `cat.seg.png` is the member `seg.png` of `cat`, and is compared in lower case. Members of one sample follow one
//! another: another key, or a suffix that the sample already has, starts the next sample.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use regex::Regex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::json_caption::json_caption;
use super::{ImageData, Item, MAX_MEMBER_BYTES, Problem, ProblemKind, Sample};

/// Suffixes of images; the earliest in this list wins when a sample has several.
pub const IMAGE_SUFFIXES: [&str; 4] = ["jpg", "png", "jpeg", "webp"];
/// Suffixes of captions; the earliest in this list wins when a sample has both. A `.json` member is an object with a `caption`, as
/// img2dataset writes it.
pub const CAPTION_SUFFIXES: [&str; 2] = ["txt", "json"];
/// The place of `.json` in it.
const JSON: usize = 1;

#[allow(
    clippy::expect_used,
    reason = "a constant pattern, compiled in every test"
)]
static KEY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^((?:.*/|)[^.]+)[.]([^/]*)$").expect("valid pattern"));
#[allow(
    clippy::expect_used,
    reason = "a constant pattern, compiled in every test"
)]
static META: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^__[^/]*__(?:$|/)").expect("valid pattern"));

/// Key and lower-cased suffix of a member; `None` for members that belong to no sample.
pub fn split_name(name: &str) -> Option<(&str, String)> {
    if META.is_match(name) {
        return None;
    }
    let parts = KEY.captures(name)?;
    let (key, suffix) = (parts.get(1)?, parts.get(2)?);
    Some((key.as_str(), suffix.as_str().to_lowercase()))
}

/// What a member is to its sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// An image, with its place in [`IMAGE_SUFFIXES`].
    Image(usize),
    /// A caption, with its place in [`CAPTION_SUFFIXES`].
    Caption(usize),
    /// Nothing that is used: its bytes need not be read.
    Other,
    /// It belongs to no sample.
    Foreign,
}

impl Role {
    /// The bit that stands for it among the parts of a sample.
    fn part(self) -> u8 {
        match self {
            Self::Image(_) => 1,
            Self::Other => 2,
            Self::Caption(place) => 4 << place,
            Self::Foreign => 0,
        }
    }
}

/// The sample that is being collected.
#[derive(Debug)]
pub(crate) struct Group {
    key: String,
    suffixes: FxHashSet<String>,
    duplicate: bool,
    image: Option<(usize, Vec<u8>)>,
    caption: Option<(usize, Vec<u8>)>,
    /// Which parts have come, see [`Role::part`].
    parts: u8,
    /// Whether its image or caption is a link to another member.
    has_link: bool,
    /// Size of a member that is too large to be read.
    too_large: Option<u64>,
}

/// Collects members into groups.
#[derive(Debug, Default)]
pub(crate) struct Grouper {
    current: Option<Group>,
}

impl Grouper {
    /// Starts on a member: gives the group that it completes, if any, and the member's role.
    pub fn member(&mut self, name: &str) -> (Option<Group>, Role) {
        let Some((key, suffix)) = split_name(name) else {
            return (None, Role::Foreign);
        };
        let repeated = self
            .current
            .as_ref()
            .is_some_and(|group| group.key == key && group.suffixes.contains(&suffix));
        let continues = self
            .current
            .as_ref()
            .is_some_and(|group| group.key == key && !repeated);
        let finished = if continues { None } else { self.current.take() };
        let group = self.current.get_or_insert_with(|| Group {
            key: key.to_owned(),
            suffixes: FxHashSet::default(),
            duplicate: repeated,
            image: None,
            caption: None,
            parts: 0,
            has_link: false,
            too_large: None,
        });
        let place = |list: &[&str], held: &Option<(usize, Vec<u8>)>| {
            let place = list.iter().position(|known| *known == suffix)?;
            held.as_ref()
                .is_none_or(|(best, _)| place < *best)
                .then_some(place)
        };
        let role = match (
            place(&IMAGE_SUFFIXES, &group.image),
            place(&CAPTION_SUFFIXES, &group.caption),
        ) {
            (Some(place), _) => Role::Image(place),
            (_, Some(place)) => Role::Caption(place),
            _ => Role::Other,
        };
        group.suffixes.insert(suffix);
        if role == Role::Other {
            group.parts |= role.part();
        }
        (finished, role)
    }

    /// Gives the last member its bytes.
    pub fn content(&mut self, role: Role, bytes: Vec<u8>) {
        if let Some(group) = self.with_part(role) {
            match role {
                Role::Image(place) => group.image = Some((place, bytes)),
                Role::Caption(place) => group.caption = Some((place, bytes)),
                Role::Other | Role::Foreign => {}
            }
        }
    }

    /// Says that the last member is a link.
    pub fn link(&mut self, role: Role) {
        if let Some(group) = self.with_part(role) {
            group.has_link = true;
        }
    }

    /// Says that the last member has too many bytes to be read.
    pub fn too_large(&mut self, role: Role, bytes: u64) {
        if let Some(group) = self.with_part(role) {
            group.too_large = Some(bytes);
        }
    }

    fn with_part(&mut self, role: Role) -> Option<&mut Group> {
        let group = self.current.as_mut()?;
        group.parts |= role.part();
        Some(group)
    }

    /// Whether a sample has been begun.
    pub fn is_collecting(&self) -> bool {
        self.current.is_some()
    }

    /// The group at the end of the shard.
    pub fn finish(&mut self) -> Option<Group> {
        self.current.take()
    }
}

impl Group {
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which parts have come: a bit for each.
    pub fn parts(&self) -> u8 {
        self.parts
    }

    /// The same in words.
    pub fn part_names(&self) -> String {
        part_names(self.parts)
    }

    /// Whether an image and a caption have come.
    pub fn is_complete(&self) -> bool {
        let captions =
            (0..CAPTION_SUFFIXES.len()).fold(0, |parts, place| parts | Role::Caption(place).part());
        self.parts & Role::Image(0).part() != 0 && self.parts & captions != 0
    }

    /// The sample, or what is wrong with it; a repeated key is told beside the sample.
    pub fn into_items(self, shard: &Arc<str>) -> Vec<Item> {
        let place = format!("{shard}: {}", self.key);
        let mut items = Vec::with_capacity(1);
        let problem = |kind, reason| {
            Item::Problem(Problem {
                kind,
                place: place.clone(),
                reason,
            })
        };
        if self.duplicate {
            let reason = "a member occurs twice; the second starts another sample".to_owned();
            items.push(problem(ProblemKind::DuplicateKey, reason));
        }
        let caption = match self.caption {
            Some((JSON, bytes)) => json_caption(&bytes),
            Some((_, bytes)) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|error| error.to_string()),
            None => Ok(None),
        };
        items.push(match (self.too_large, self.image, caption) {
            (Some(bytes), ..) => {
                let reason = format!("a member of {bytes} bytes, the limit is {MAX_MEMBER_BYTES}");
                problem(ProblemKind::UnreadableImage, reason)
            }
            (_, None, _) => {
                let note = if self.has_link { LINK } else { "" };
                problem(ProblemKind::MissingImage, listed(&self.suffixes) + note)
            }
            (_, _, Err(error)) => problem(ProblemKind::InvalidCaption, error),
            (_, Some((_, bytes)), Ok(caption)) => Item::Sample(Sample {
                name: self.key,
                shard: Some(Arc::clone(shard)),
                image: ImageData::Encoded(bytes),
                caption,
                label: None,
            }),
        });
        items
    }
}

/// What to do about links, which webdataset passes over as well.
const LINK: &str = ", of which some are links, which are not followed; tar --dereference --hard-dereference writes files";

/// Most keys of a shard that are remembered.
const MAX_KEYS: usize = 1 << 20;

/// What the samples of a shard consisted of, to notice one whose members do not stand together.
#[derive(Debug, Default)]
pub(crate) struct Seen(FxHashMap<u64, u8>);

impl Seen {
    /// The parts, in words, of an earlier group of the same key that has none of this one's: the two are one sample.
    /// (Groups that share a part are two samples of one key.)
    pub fn other_parts(&mut self, group: &Group) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        group.key.hash(&mut hasher);
        let key = hasher.finish();
        let earlier = self.0.get(&key).copied().unwrap_or_default();
        if earlier != 0 && group.parts != 0 && earlier & group.parts == 0 {
            return Some(part_names(earlier));
        }
        if earlier != 0 || self.0.len() < MAX_KEYS {
            self.0.insert(key, earlier | group.parts);
        }
        None
    }
}

fn part_names(parts: u8) -> String {
    let names = [
        (Role::Image(0), "image"),
        (Role::Caption(0), "caption"),
        (Role::Caption(JSON), "caption in .json"),
        (Role::Other, "other members"),
    ];
    let names = names.iter().filter(|(role, _)| parts & role.part() != 0);
    let names: Vec<&str> = names.map(|(_, name)| *name).collect();
    names.join(" and ")
}

/// The first few suffixes, in alphabetical order.
fn listed(suffixes: &FxHashSet<String>) -> String {
    let mut sorted: Vec<&str> = suffixes.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let shown = sorted.len().min(8);
    let more = if sorted.len() > shown { ", …" } else { "" };
    format!("members: {}{more}", sorted[..shown].join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Expected values are those of `webdataset.tariterators.base_plus_ext` and its filter of meta names.
    #[test]
    fn names() {
        for (name, expected) in [
            ("000.jpg", Some(("000", "jpg"))),
            ("dir/000.JPG", Some(("dir/000", "jpg"))),
            ("./000.Seg.PNG", Some(("./000", "seg.png"))),
            ("a.b/c.d.e", Some(("a.b/c", "d.e"))),
            ("noext", None),
            ("a.b/noext", None),
            (".hidden", None),
            ("a/.hidden", Some(("a/", "hidden"))),
            ("a.b/.hidden", None),
            ("x.", Some(("x", ""))),
            ("__meta__", None),
            ("__meta__/a.jpg", None),
            ("__a.jpg", Some(("__a", "jpg"))),
            ("dir/__meta__/a.jpg", Some(("dir/__meta__/a", "jpg"))),
        ] {
            let expected = expected.map(|(key, suffix): (&str, &str)| (key, suffix.to_owned()));
            assert_eq!(split_name(name), expected, "{name}");
        }
    }

    fn group(members: &[&str]) -> Vec<(String, Vec<ProblemKind>, Option<String>)> {
        let mut grouper = Grouper::default();
        let mut groups = Vec::new();
        for name in members {
            let (finished, role) = grouper.member(name);
            groups.extend(finished);
            grouper.content(role, name.as_bytes().to_vec());
        }
        groups.extend(grouper.finish());
        let one = |group: Group| {
            let key = group.key.clone();
            let (mut problems, mut image) = (Vec::new(), None);
            for item in group.into_items(&"s.tar".into()) {
                match item {
                    Item::Problem(problem) => problems.push(problem.kind),
                    Item::Sample(Sample {
                        image: ImageData::Encoded(bytes),
                        ..
                    }) => image = String::from_utf8(bytes).ok(),
                    Item::Sample(_) => {}
                }
            }
            (key, problems, image)
        };
        groups.into_iter().map(one).collect()
    }

    #[test]
    fn grouping() {
        use ProblemKind::{DuplicateKey, MissingImage};
        let row = |key: &str, problems: &[ProblemKind], image: &str| {
            (
                key.to_owned(),
                problems.to_vec(),
                (!image.is_empty()).then(|| image.to_owned()),
            )
        };
        assert_eq!(
            group(&["a.jpg", "a.txt", "b.txt", "b.json", "b.png"]),
            [row("a", &[], "a.jpg"), row("b", &[], "b.png")]
        );
        // A repeated suffix starts another sample of the same key.
        assert_eq!(
            group(&["a.jpg", "a.txt", "a.jpg", "a.txt"]),
            [row("a", &[], "a.jpg"), row("a", &[DuplicateKey], "a.jpg")]
        );
        // jpg before png before jpeg before webp, whatever the order of the members; seg.png is no image.
        assert_eq!(
            group(&["a.webp", "a.png", "a.jpeg", "a.seg.png"]),
            [row("a", &[], "a.png")]
        );
        assert_eq!(
            group(&["a.txt", "a.seg.png", "b.jpg"]),
            [row("a", &[MissingImage], ""), row("b", &[], "b.jpg")]
        );
        // Members without key neither start nor end a sample.
        assert_eq!(
            group(&["a.jpg", "README", "__x__/y.jpg", "a.txt"]),
            [row("a", &[], "a.jpg")]
        );
        assert_eq!(group(&["README"]), []);
    }

    #[test]
    fn a_caption_in_a_txt_member_goes_before_one_in_json() {
        let json = r#"{"caption": "in json", "similarity": NaN}"#;
        let caption = |members: &[(&str, &str)]| {
            let mut grouper = Grouper::default();
            for (name, text) in members {
                let (_, role) = grouper.member(name);
                grouper.content(role, text.as_bytes().to_vec());
            }
            match grouper.finish().unwrap().into_items(&"s.tar".into()).pop() {
                Some(Item::Sample(sample)) => Ok(sample.caption),
                other => Err(other),
            }
        };
        let of = |members: &[(&str, &str)]| caption(members).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(of(&[("a.jpg", ""), ("a.json", json)]), text("in json"));
        let both = [("a.jpg", ""), ("a.json", json), ("a.txt", "in txt")];
        assert_eq!(of(&both), text("in txt"));
        assert_eq!(of(&[both[0], both[2], both[1]]), text("in txt"));
        assert_eq!(of(&[("a.jpg", ""), ("a.json", r#"{"width": 3}"#)]), None);
        assert_eq!(of(&[("a.jpg", "")]), None);
        let broken = caption(&[("a.jpg", ""), ("a.json", "{")]).unwrap_err();
        assert!(
            matches!(&broken, Some(Item::Problem(problem)) if problem.kind == ProblemKind::InvalidCaption),
            "{broken:?}"
        );
    }
}
