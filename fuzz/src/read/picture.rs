//! A picture of any format, whole and as a training view that is decoded in part.

use std::sync::{Arc, LazyLock};

use openclip_data::image::{Augmentation, Decoding, Limits, Transform, decode, train_transform};
use rand::SeedableRng;
use rand::rngs::StdRng;

const LIMITS: Limits = Limits {
    max_pixels: 1 << 22,
};

/// Pixels of a view's sides: a small one, so that pictures are decoded at an eighth of their size, and a large one.
const SIDES: [usize; 2] = [12, 160];

/// `--fast-decode`, with crops of every size.
static VIEWS: LazyLock<[(usize, Arc<Transform>); 2]> = LazyLock::new(|| {
    SIDES.map(|side| {
        let augmentation = Augmentation {
            scale: (0.05, 1.0),
            ..Augmentation::default()
        };
        let decoding = Decoding {
            rgb_first: side == SIDES[0],
            fast: true,
            limits: LIMITS,
        };
        let transform = train_transform([side, side], augmentation, decoding);
        (side, transform.expect("settings of a transform"))
    })
});

pub fn picture(data: &[u8]) {
    if let Ok(picture) = decode(data, LIMITS) {
        assert!(picture.width() * picture.height() <= LIMITS.max_pixels);
    }
    // Other formats are decoded as above.
    if data.starts_with(b"\xff\xd8") {
        for (side, transform) in &*VIEWS {
            let mut rng = StdRng::seed_from_u64(data.len() as u64);
            let mut planes = vec![0; 3 * side * side];
            // An error is an answer too.
            let _ = transform(data, &mut rng, &mut planes);
        }
    }
}
