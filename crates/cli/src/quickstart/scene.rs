//! What a picture shows, and the sentences that say so.

use std::fmt;

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

/// Words for one property; the first is the one that class names use.
type Words = &'static [&'static str];

/// Colours of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Turquoise,
    Blue,
    Purple,
    Pink,
}

impl Colour {
    pub(super) const ALL: [Self; 8] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Turquoise,
        Self::Blue,
        Self::Purple,
        Self::Pink,
    ];

    fn words(self) -> Words {
        match self {
            Self::Red => &["red"],
            Self::Orange => &["orange"],
            Self::Yellow => &["yellow"],
            Self::Green => &["green"],
            Self::Turquoise => &["turquoise", "cyan"],
            Self::Blue => &["blue"],
            Self::Purple => &["purple", "violet"],
            Self::Pink => &["pink"],
        }
    }

    /// Red, green and blue.
    pub(super) fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [214, 40, 40],
            Self::Orange => [245, 132, 25],
            Self::Yellow => [247, 208, 32],
            Self::Green => [46, 158, 64],
            Self::Turquoise => [38, 200, 196],
            Self::Blue => [42, 88, 214],
            Self::Purple => [128, 58, 180],
            Self::Pink => [245, 128, 184],
        }
    }
}

/// Outlines of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Heart,
    Cross,
    Ring,
    Moon,
}

impl Shape {
    pub(super) const ALL: [Self; 8] = [
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Star,
        Self::Heart,
        Self::Cross,
        Self::Ring,
        Self::Moon,
    ];

    fn words(self) -> Words {
        match self {
            Self::Circle => &["circle", "disc"],
            Self::Square => &["square"],
            Self::Triangle => &["triangle"],
            Self::Star => &["star"],
            Self::Heart => &["heart"],
            Self::Cross => &["cross"],
            Self::Ring => &["ring", "hoop"],
            Self::Moon => &["moon", "crescent"],
        }
    }
}

/// How much of the picture the shape takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

impl Size {
    pub(super) const ALL: [Self; 2] = [Self::Small, Self::Large];

    fn words(self) -> Words {
        match self {
            Self::Small => &["small", "little"],
            Self::Large => &["large", "big"],
        }
    }
}

/// The corner in which the shape lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Corner {
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

impl Corner {
    pub(super) const ALL: [Self; 4] = [
        Self::TopLeft,
        Self::TopRight,
        Self::BottomLeft,
        Self::BottomRight,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::TopLeft => "top left",
            Self::TopRight => "top right",
            Self::BottomLeft => "bottom left",
            Self::BottomRight => "bottom right",
        }
    }
}

/// A colour and a shape: what zero-shot classification tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Combination {
    pub(super) colour: Colour,
    pub(super) shape: Shape,
}

impl Combination {
    /// Every colour with every shape, in a fixed order.
    pub(super) fn all() -> Vec<Self> {
        let with_colour = |colour| Shape::ALL.map(|shape| Self { colour, shape });
        Colour::ALL.into_iter().flat_map(with_colour).collect()
    }
}

/// `a red circle`: the caption that stands for the combination among others.
impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{} {}", self.colour.words()[0], self.shape.words()[0]);
        f.write_str(&with_article(&name))
    }
}

/// Combinations to train on, and those that training never sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) trained: Vec<Combination>,
    pub(super) held_out: Vec<Combination>,
}

impl Split {
    /// Holds out two shapes of every colour, so that every shape is held out in two colours: each word is trained,
    /// each pair of words in question is not.
    pub(super) fn new(rng: &mut impl Rng) -> Self {
        let mut shapes = Shape::ALL;
        shapes.shuffle(rng);
        let count = shapes.len();
        let is_held_out = |combination: &Combination| {
            let row = Colour::ALL
                .iter()
                .position(|&c| c == combination.colour)
                .unwrap_or(0);
            let column = shapes
                .iter()
                .position(|&s| s == combination.shape)
                .unwrap_or(0);
            matches!((column + count - row) % count, 0 | 3)
        };
        let (held_out, trained) = Combination::all().into_iter().partition(is_held_out);
        Self { trained, held_out }
    }
}

/// Everything that a caption may tell of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scene {
    pub(super) what: Combination,
    pub(super) size: Size,
    pub(super) corner: Corner,
}

impl Scene {
    /// `what` somewhere, in some size.
    pub(super) fn random(what: Combination, rng: &mut impl Rng) -> Self {
        Self {
            what,
            size: if rng.random() {
                Size::Small
            } else {
                Size::Large
            },
            corner: Corner::ALL[rng.random_range(0..Corner::ALL.len())],
        }
    }

    /// `what` in every size and corner.
    pub(super) fn every(what: Combination) -> impl Iterator<Item = Self> {
        Size::ALL.into_iter().flat_map(move |size| {
            Corner::ALL
                .into_iter()
                .map(move |corner| Self { what, size, corner })
        })
    }

    /// The whole scene in one wording: `a small red circle in the top left`.
    pub(super) fn full_caption(&self) -> String {
        let Combination { colour, shape } = self.what;
        let words = [self.size.words()[0], colour.words()[0], shape.words()[0]];
        format!(
            "{} in the {}",
            with_article(&words.join(" ")),
            self.corner.word()
        )
    }

    /// One of many wordings, which may leave out size and corner.
    pub(super) fn caption(&self, rng: &mut impl Rng) -> String {
        let mut words = vec![
            pick(self.what.colour.words(), rng),
            pick(self.what.shape.words(), rng),
        ];
        if rng.random_bool(0.4) {
            words.insert(0, pick(self.size.words(), rng));
        }
        let mut caption = with_article(&words.join(" "));
        if rng.random_bool(0.3) {
            let opening = pick(
                &["a picture of", "a drawing of", "an image of", "there is"],
                rng,
            );
            caption = format!("{opening} {caption}");
        }
        if rng.random_bool(0.4) {
            let corner = self.corner.word();
            caption += &match rng.random_range(0..3) {
                0 => format!(" in the {corner}"),
                1 => format!(" at the {corner}"),
                _ => format!(" in the {corner} corner"),
            };
        }
        caption
    }
}

fn with_article(name: &str) -> String {
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {name}")
}

fn pick(words: &[&'static str], rng: &mut impl Rng) -> &'static str {
    words.choose(rng).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn every_word_is_trained_and_held_out() {
        for seed in 0..20 {
            let Split { trained, held_out } = Split::new(&mut StdRng::seed_from_u64(seed));
            assert_eq!((trained.len(), held_out.len()), (48, 16));
            for colour in Colour::ALL {
                assert_eq!(held_out.iter().filter(|c| c.colour == colour).count(), 2);
            }
            for shape in Shape::ALL {
                assert_eq!(held_out.iter().filter(|c| c.shape == shape).count(), 2);
            }
            assert!(held_out.iter().all(|c| !trained.contains(c)));
        }
    }

    #[test]
    fn no_caption_of_training_names_a_held_out_combination() {
        let rng = &mut StdRng::seed_from_u64(1);
        let split = Split::new(rng);
        let names: Vec<(Words, Words)> = split
            .held_out
            .iter()
            .map(|c| (c.colour.words(), c.shape.words()))
            .collect();
        for &what in split.trained.iter().cycle().take(2000) {
            let caption = Scene::random(what, rng).caption(rng);
            let says = |words: &[&str]| {
                words
                    .iter()
                    .any(|&word| caption.split(' ').any(|w| w == word))
            };
            assert!(!names.iter().any(|(c, s)| says(c) && says(s)), "{caption}");
        }
    }

    #[test]
    fn captions_vary() {
        let rng = &mut StdRng::seed_from_u64(2);
        let what = Combination {
            colour: Colour::Orange,
            shape: Shape::Ring,
        };
        assert_eq!(what.to_string(), "an orange ring");
        let scene = Scene {
            what,
            size: Size::Small,
            corner: Corner::TopLeft,
        };
        assert_eq!(scene.full_caption(), "a small orange ring in the top left");
        let wordings: BTreeSet<String> = (0..500).map(|_| scene.caption(rng)).collect();
        assert!(wordings.len() > 60, "{}", wordings.len());
        assert!(wordings.contains("a drawing of an orange hoop at the top left"));
    }

    #[test]
    fn full_captions_are_distinct() {
        let scenes = Combination::all().into_iter().flat_map(Scene::every);
        let captions: BTreeSet<String> = scenes.map(|scene| scene.full_caption()).collect();
        assert_eq!(captions.len(), 512);
    }
}
