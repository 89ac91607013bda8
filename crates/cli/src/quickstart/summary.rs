//! The report on stdout.

use std::path::{Path, PathBuf};

use super::measure::Measured;

/// What the report points to.
pub(super) struct Files<'a> {
    pub(super) sheet: &'a Path,
    pub(super) run: &'a Path,
    pub(super) checkpoint: &'a Path,
    /// Single pictures.
    pub(super) pictures: &'a [PathBuf],
}

/// The report; `names` are the captions of the single pictures.
pub(super) fn lines(measured: &Measured, files: &Files<'_>, names: &[String]) -> Vec<String> {
    let Measured {
        classes,
        held_out,
        pictures,
        gallery,
        galleries,
        ..
    } = *measured;
    let figure = |what: &str, share: f64, choices: usize| {
        format!(
            "  {what:<44} {:>5.1} %   {:>6.1} %",
            100.0 * share,
            100.0 / choices as f64
        )
    };
    let file = |what: &str, path: &Path| format!("  {what:<14} {}", path.display());
    let mut lines = vec![
        String::new(),
        format!(
            "{pictures} pictures of {held_out} combinations of colour and shape that training never saw, \
             of {classes} in all:"
        ),
        String::new(),
        format!("  {:<44} {:>7}   {:>8}", "", "result", "chance"),
        figure(
            &format!("zero-shot among all {classes} captions"),
            measured.accuracy(),
            classes,
        ),
        figure(
            &format!("zero-shot among the {held_out} unseen ones"),
            measured.accuracy_among_held_out,
            held_out,
        ),
        figure(
            &format!("retrieval R@1, picture to {gallery} captions"),
            measured.image_to_text.r1,
            gallery,
        ),
        figure(
            &format!("retrieval R@1, caption to {gallery} pictures"),
            measured.text_to_image.r1,
            gallery,
        ),
        String::new(),
        format!(
            "  A caption of retrieval also tells size and corner; the {galleries} sets of {gallery} pairs are averaged."
        ),
        String::new(),
        file("contact sheet", files.sheet),
        file("checkpoint", &files.checkpoint.join("model.safetensors")),
        file("logs, curves", files.run),
    ];
    let [first, second, third, ..] = names else {
        return lines;
    };
    lines.extend([
        String::new(),
        "Use the model on pictures it never saw:".to_owned(),
        String::new(),
        format!(
            "  openclip classify --model local-dir:{} \\",
            quoted(files.checkpoint)
        ),
    ]);
    let images: Vec<String> = files
        .pictures
        .iter()
        .take(2)
        .map(|path| quoted(path))
        .collect();
    lines.push(format!("    --image {} \\", images.join(" ")));
    lines.push(format!(
        "    --text {}",
        [first, second, third]
            .map(|name| format!("\"{name}\""))
            .join(" ")
    ));
    lines
}

/// The path as a POSIX shell reads it back.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    match path.chars().all(is_plain) {
        true => path.into_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use openclip_eval::retrieval::RetrievalMetrics;

    use super::*;

    #[test]
    fn results_stand_beside_chance_and_the_command_can_be_pasted() {
        let metrics = RetrievalMetrics::from_ranks(&[0, 0, 0, 5]);
        let measured = Measured {
            classes: 64,
            held_out: 16,
            pictures: 512,
            right: 448,
            accuracy_among_held_out: 0.9375,
            gallery: 128,
            galleries: 4,
            image_to_text: metrics,
            text_to_image: metrics,
        };
        let files = Files {
            sheet: Path::new("out/contact_sheet.png"),
            run: Path::new("out/run"),
            checkpoint: Path::new("my out/run/checkpoints/epoch_6"),
            pictures: &["out/red_moon.png".into(), "out/pink_star.png".into()],
        };
        let names = ["a red moon", "a pink star", "a blue ring"].map(str::to_owned);
        let text = lines(&measured, &files, &names).join("\n");
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "zero-shot among all 64 captions 87.5 % 1.6 %",
            "zero-shot among the 16 unseen ones 93.8 % 6.2 %",
            "picture to 128 captions 75.0 % 0.8 %",
            "--model local-dir:'my out/run/checkpoints/epoch_6' \\ --image out/red_moon.png out/pink_star.png \\ --text \"a red moon\"",
        ] {
            assert!(squeezed.contains(part), "{part}\n{text}");
        }
        assert!(text.ends_with("    --text \"a red moon\" \"a pink star\" \"a blue ring\""));
    }
}
