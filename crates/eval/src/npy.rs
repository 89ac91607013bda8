//! What the first bytes of an `.npy` file say (NumPy enhancement proposal 1).

/// Bytes before the header: magic word, version and length, of version 1 and of later ones.
const START: usize = 10;
const LATER_START: usize = 12;

/// The header, with its values as they are written.
pub(crate) struct Header<'a> {
    /// Where the numbers begin.
    pub end: usize,
    text: &'a str,
}

impl<'a> Header<'a> {
    /// Reads it from the beginning of a file.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let cut = || "cut off within its header".to_owned();
        if !bytes.starts_with(b"\x93NUMPY") {
            return Err("not an .npy file".into());
        }
        let version = *bytes.get(6).ok_or_else(cut)?;
        let (start, length) = match version {
            1 if bytes.len() >= START => {
                (START, usize::from(u16::from_le_bytes([bytes[8], bytes[9]])))
            }
            2 | 3 if bytes.len() >= LATER_START => {
                let length = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
                (LATER_START, length as usize)
            }
            1..=3 => return Err(cut()),
            _ => {
                return Err(format!(
                    "version {version} of the format, which is not read"
                ));
            }
        };
        let end = start.checked_add(length).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(cut)?;
        let text = std::str::from_utf8(&bytes[start..end]);
        let text = text.map_err(|_| "its header is not text".to_owned())?;
        Ok(Self { end, text })
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        let (_, rest) = self.text.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    }

    /// The kind of numbers, such as `<f4`; empty where there is none.
    pub fn kind(&self) -> &'a str {
        let kind = self.value("descr").unwrap_or_default();
        let kind = kind.trim_start_matches('\'').split('\'').next();
        kind.unwrap_or_default()
    }

    /// Whether the last axis changes fastest.
    pub fn is_by_row(&self) -> bool {
        self.value("fortran_order")
            .is_some_and(|order| order.starts_with("False"))
    }

    /// The shape, without its brackets.
    pub fn shape(&self) -> &'a str {
        let shape = self
            .value("shape")
            .unwrap_or_default()
            .trim_start_matches('(');
        shape.split(')').next().unwrap_or_default()
    }

    /// The extents of the shape; `None` where one is no number.
    pub fn sides(&self) -> Option<Vec<usize>> {
        let sides = self.shape().split(',').map(str::trim);
        let sides = sides.filter(|side| !side.is_empty());
        sides.map(|side| side.parse().ok()).collect()
    }
}
