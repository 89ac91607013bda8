//! What systems and programs leave among people's files.

/// Folders and files that are no data, beside hidden ones: of macOS, `fsck`, Synology and Windows.
const NAMES: [&str; 7] = [
    "__MACOSX",
    "lost+found",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "desktop.ini",
];

/// Whether a file or folder of this name (no path) is passed over: hidden ones (`.DS_Store`, `._cat.jpg`,
/// `.ipynb_checkpoints`), and those that systems make for themselves.
pub fn is_litter(name: &str) -> bool {
    let is_hidden = name.starts_with('.') && name != "." && name != "..";
    is_hidden || is_of_system(name)
}

/// Whether a system makes files or folders of this name for itself, rather than a user a hidden one.
pub(crate) fn is_of_system(name: &str) -> bool {
    NAMES.contains(&name) || name == ".DS_Store" || name.starts_with("._")
}

/// Whether a path in an archive is passed over. Hidden folders may well hold data there, as in `.cache/0001.jpg`; only
/// those of notebooks and of macOS do not.
pub(crate) fn is_litter_in_archive(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    is_litter(name)
        || folders
            .split('/')
            .any(|folder| NAMES.contains(&folder) || folder == ".ipynb_checkpoints")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systems_leave_is_told_from_data() {
        for name in [
            ".DS_Store",
            "._000.jpg",
            "__MACOSX",
            "lost+found",
            "Thumbs.db",
        ] {
            assert!(is_litter(name), "{name}");
        }
        for name in ["cat", ".", "..", "__pycache__", "000.jpg", "Thumbs.db.jpg"] {
            assert!(!is_litter(name), "{name}");
        }
        for (path, expected) in [
            ("a/._000.jpg", true),
            ("__MACOSX/a/000.jpg", true),
            ("a/.ipynb_checkpoints/000-checkpoint.jpg", true),
            ("./000.jpg", false),
            (".cache/000.jpg", false),
            ("../000.jpg", false),
            ("a/.", false),
        ] {
            assert_eq!(is_litter_in_archive(path), expected, "{path}");
        }
    }
}
