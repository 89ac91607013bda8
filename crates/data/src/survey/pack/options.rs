//! How a set is packed.

use crate::survey::options::SurveyOptions;

/// How a set is packed.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// Threads, and the limit of pictures that are decoded.
    pub survey: SurveyOptions,
    /// Samples of a shard, at most and at least 1.
    pub samples_per_shard: u64,
    /// Pixels of the shorter side, which larger pictures are brought to; `None` decodes nothing.
    pub resize: Option<usize>,
    /// Quality of the JPEG that a picture becomes that is made smaller, 1 to 100.
    pub quality: u8,
    /// Leave out a sample whose encoded picture and caption came before, byte by byte.
    pub dedup: bool,
}
