//! From the members of a tar shard to samples, by webdataset's rule.
//!
//! A member `dir/key.suffix` belongs to the sample `dir/key`; the suffix starts at the first dot of the file name, so
//! that `cat.seg.png` is the member `seg.png` of `cat`, and is compared in lower case. Members of one sample follow one
//! another: another key, or a suffix that the sample already has, starts the next sample. Which suffixes are used is
//! `keys`' affair.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use regex::Regex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::keys::{Draw, Keys};
use super::{
    Fields, ImageData, Item, MAX_MEMBER_BYTES, Problem, ProblemKind, Sample, json_caption,
};

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
    /// An image, with the place of its suffix among those of [`Keys`].
    Image(usize),
    /// A caption, with the place of its suffix among those of [`Keys`].
    Caption(usize),
    /// What goes along with its sample, and nothing else.
    Fields,
    /// Nothing that is used: its bytes need not be read.
    Other,
    /// It belongs to no sample.
    Foreign,
}

impl Role {
    /// The bit that stands for it among the parts of a sample.
    fn part(self) -> Parts {
        match self {
            Self::Image(_) => 1,
            Self::Fields | Self::Other => 2,
            // Whoever names more suffixes than there are bits has the last ones share one.
            Self::Caption(place) => CAPTION << place.min(CAPTION.leading_zeros() as usize),
            Self::Foreign => 0,
        }
    }
}

/// Parts of a sample, a bit for each.
pub(crate) type Parts = u32;
/// The bit of the first caption, behind which those of the others are.
const CAPTION: Parts = 4;

/// The sample that is being collected.
#[derive(Debug)]
pub(crate) struct Group {
    key: String,
    suffixes: FxHashSet<String>,
    duplicate: bool,
    image: Option<(usize, Vec<u8>)>,
    caption: Option<(usize, Vec<u8>)>,
    /// The document of what goes along.
    fields: Option<Vec<u8>>,
    /// Whether the member at hand is that document.
    is_carried: bool,
    /// Which parts have come, see [`Role::part`].
    parts: Parts,
    /// Whether its image or caption is a link to another member.
    has_link: bool,
    /// Size of a member that is too large to be read.
    too_large: Option<u64>,
}

/// Collects members into groups.
#[derive(Debug)]
pub(crate) struct Grouper<'a> {
    keys: &'a Keys,
    current: Option<Group>,
}

impl<'a> Grouper<'a> {
    pub fn new(keys: &'a Keys) -> Self {
        Self {
            keys,
            current: None,
        }
    }

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
            fields: None,
            is_carried: false,
            parts: 0,
            has_link: false,
            too_large: None,
        });
        let better = |place: &usize, held: &Option<(usize, Vec<u8>)>| {
            held.as_ref().is_none_or(|(best, _)| place < best)
        };
        let image = self.keys.image(&suffix);
        let caption = self.keys.caption(&suffix);
        let role = match (
            image.filter(|place| better(place, &group.image)),
            caption.filter(|place| better(place, &group.caption)),
        ) {
            (Some(place), _) => Role::Image(place),
            (_, Some(place)) => Role::Caption(place),
            _ if self.keys.is_carried(&suffix) => Role::Fields,
            _ => Role::Other,
        };
        group.is_carried = self.keys.is_carried(&suffix);
        group.suffixes.insert(suffix);
        if role == Role::Other {
            group.parts |= role.part();
        }
        (finished, role)
    }

    /// Gives the last member its bytes.
    pub fn content(&mut self, role: Role, bytes: Vec<u8>) {
        if let Some(group) = self.with_part(role) {
            if group.is_carried {
                group.fields = Some(bytes.clone());
            }
            match role {
                Role::Image(place) => group.image = Some((place, bytes)),
                Role::Caption(place) => group.caption = Some((place, bytes)),
                Role::Fields | Role::Other | Role::Foreign => {}
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
        if let Some(group) = self.with_part(role)
            && role != Role::Fields
        {
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
    pub fn parts(&self) -> Parts {
        self.parts
    }

    /// The same in words.
    pub fn part_names(&self, keys: &Keys) -> String {
        part_names(self.parts, keys)
    }

    /// Whether an image and a caption have come.
    pub fn is_complete(&self) -> bool {
        self.parts & Role::Image(0).part() != 0 && self.parts >= CAPTION
    }

    /// The sample, or what is wrong with it; a repeated key is told beside the sample.
    pub fn into_items(self, shard: &Arc<str>, keys: &Keys, draw: &Draw) -> Vec<Item> {
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
        // A document that cannot be read says nothing; as a caption it is told of above.
        let fields = self
            .fields
            .and_then(|bytes| json_caption::parse(&bytes).ok());
        let fields = fields.map(Fields::of_object).unwrap_or_default();
        let members = || listed(&self.suffixes) + if self.has_link { LINK } else { "" };
        let caption = match self.caption {
            Some((place, bytes)) => keys.read(place, bytes, draw, &self.key),
            None => Ok(None),
        };
        items.push(match (self.too_large, self.image, caption) {
            (Some(bytes), ..) => {
                let reason = format!("a member of {bytes} bytes, the limit is {MAX_MEMBER_BYTES}");
                problem(ProblemKind::UnreadableImage, reason)
            }
            (_, None, _) => problem(ProblemKind::MissingImage, keys.no_image(&members())),
            (_, _, Err(error)) => problem(ProblemKind::InvalidCaption, error),
            (_, _, Ok(None)) if keys.needs_caption() => {
                problem(ProblemKind::MissingCaption, keys.no_caption(&members()))
            }
            (_, Some((_, bytes)), Ok(caption)) => Item::Sample(Sample {
                name: self.key,
                shard: Some(Arc::clone(shard)),
                image: ImageData::Encoded(bytes),
                caption,
                label: None,
                fields,
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
pub(crate) struct Seen(FxHashMap<u64, Parts>);

impl Seen {
    /// The parts, in words, of an earlier group of the same key that has none of this one's: the two are one sample.
    /// (Groups that share a part are two samples of one key.)
    pub fn other_parts(&mut self, group: &Group, keys: &Keys) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        group.key.hash(&mut hasher);
        let key = hasher.finish();
        let earlier = self.0.get(&key).copied().unwrap_or_default();
        if earlier != 0 && group.parts != 0 && earlier & group.parts == 0 {
            return Some(part_names(earlier, keys));
        }
        if earlier != 0 || self.0.len() < MAX_KEYS {
            self.0.insert(key, earlier | group.parts);
        }
        None
    }
}

fn part_names(parts: Parts, keys: &Keys) -> String {
    let captions = (0..=CAPTION.leading_zeros() as usize).map(Role::Caption);
    let roles = [Role::Image(0)].into_iter().chain(captions);
    let roles = roles.chain([Role::Other]);
    let names = roles
        .filter(|role| parts & role.part() != 0)
        .map(|role| match role {
            Role::Image(_) => "image".to_owned(),
            Role::Caption(place) => keys.caption_name(place),
            Role::Fields | Role::Other | Role::Foreign => "other members".to_owned(),
        });
    let names: Vec<String> = names.collect();
    names.join(" and ")
}

/// The first few suffixes, in alphabetical order.
fn listed(suffixes: &FxHashSet<String>) -> String {
    let mut sorted: Vec<&str> = suffixes.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let shown = sorted.len().min(8);
    let more = if sorted.len() > shown { ", …" } else { "" };
    format!("{}{more}", sorted[..shown].join(", "))
}

#[cfg(test)]
mod tests;
