//! Which columns of a table hold pictures and captions.

/// The columns that are read: those that a user names, else the first there is of the usual names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// `--csv-img-key`; `None` takes the first of the usual ones.
    pub image: Option<String>,
    /// `--csv-caption-key`; `None` takes the first of the usual ones.
    pub caption: Option<String>,
    /// Whether a table without any of the usual caption columns is an error. A column that is named has to be there.
    pub needs_captions: bool,
    /// The other columns go along with the samples.
    pub carried: bool,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            image: None,
            caption: None,
            needs_captions: true,
            carried: false,
        }
    }
}

/// The usual names, in the order in which they are looked for.
#[derive(Debug)]
pub(super) struct Usual {
    pub image: &'static [&'static str],
    pub caption: &'static [&'static str],
}

/// Of CSV files: OpenCLIP's defaults first.
pub(super) const OF_CSV: Usual = Usual {
    image: &["filepath", "image", "jpg", "url", "path", "file_name"],
    caption: &["title", "caption", "text"],
};

/// Of Parquet and Arrow files: pictures before what only says where they are.
pub(super) const OF_FILES: Usual = Usual {
    image: &["image", "jpg", "filepath", "url", "path", "file_name"],
    caption: &["caption", "text", "title"],
};

/// The columns of a table that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub image: String,
    pub caption: Option<String>,
}

impl Columns {
    /// What tells columns that a user names from the usual ones.
    pub(super) fn mark(&self) -> Option<String> {
        let is_named = self.image.is_some() || self.caption.is_some();
        is_named.then(|| format!("{:?} {:?}", self.image, self.caption))
    }

    /// Finds the columns among `names`. A usual name is known in any case: img2dataset's lists of LAION have `URL` and `TEXT`.
    ///
    /// # Errors
    /// What is missing, in words, where it has to be there.
    pub(super) fn find(&self, names: &[&str], usual: &Usual) -> Result<Found, String> {
        let image = find(self.image.as_deref(), names, usual.image)?;
        let caption = match find(self.caption.as_deref(), names, usual.caption) {
            Err(_) if self.caption.is_none() && !self.needs_captions => None,
            found => Some(found?),
        };
        Ok(Found { image, caption })
    }
}

fn find(wanted: Option<&str>, names: &[&str], usual: &[&str]) -> Result<String, String> {
    let found = match wanted {
        Some(wanted) => names.iter().find(|name| **name == wanted),
        None => usual.iter().find_map(|usual| {
            let exact = names.iter().find(|name| *name == usual);
            exact.or_else(|| names.iter().find(|name| name.eq_ignore_ascii_case(usual)))
        }),
    };
    match (found, wanted) {
        (Some(name), _) => Ok((*name).to_owned()),
        (None, Some(wanted)) => Err(format!("{wanted:?}")),
        (None, None) => Err(format!("{}", Listed(usual))),
    }
}

/// `"a", "b" or "c"`
struct Listed<'a>(&'a [&'a str]);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            let before = match at {
                0 => "",
                _ if at + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}{name:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn found(names: &[&str], columns: &Columns, usual: &Usual) -> (String, Option<String>) {
        let found = columns.find(names, usual).unwrap();
        (found.image, found.caption)
    }

    #[test]
    fn the_first_of_the_usual_names_is_taken() {
        let default = Columns::default();
        let pair = |image: &str, caption: &str| (image.to_owned(), Some(caption.to_owned()));
        let all = [
            "title", "text", "caption", "url", "filepath", "jpg", "image",
        ];
        assert_eq!(found(&all, &default, &OF_FILES), pair("image", "caption"));
        assert_eq!(found(&all, &default, &OF_CSV), pair("filepath", "title"));
        let laion = ["SAMPLE_ID", "URL", "TEXT"];
        assert_eq!(found(&laion, &default, &OF_FILES), pair("URL", "TEXT"));
        let both = ["URL", "url", "text"];
        assert_eq!(found(&both, &default, &OF_FILES), pair("url", "text"));
    }

    #[test]
    fn a_column_that_is_named_has_to_be_there() {
        let named = Columns {
            image: Some("photo".into()),
            caption: Some("Text".into()),
            needs_captions: false,
            carried: false,
        };
        let names = ["photo", "image", "Text"];
        assert_eq!(found(&names, &named, &OF_FILES).0, "photo");
        assert_eq!(
            named.find(&["photo", "text"], &OF_FILES).unwrap_err(),
            "\"Text\""
        );
        assert_eq!(
            named.find(&["image", "Text"], &OF_FILES).unwrap_err(),
            "\"photo\""
        );
        let default = Columns::default();
        let missing = default.find(&["image", "x"], &OF_FILES).unwrap_err();
        assert_eq!(missing, "\"caption\", \"text\" or \"title\"");
        let alone = Columns {
            needs_captions: false,
            ..default
        };
        assert_eq!(found(&["x", "image"], &alone, &OF_FILES).1, None);
    }
}
