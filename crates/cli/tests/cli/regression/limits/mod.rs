//! Inputs at the edge: sizes, vocabularies, locks, memory.

mod sweep;

use crate::support::Room;

/// `classify` with a change to the tiny model's configuration.
fn classify(room: &Room, from: &str, to: &str) -> String {
    let json = std::fs::read_to_string(room.path("tiny.json")).unwrap();
    assert!(json.contains(from));
    room.write("other.json", json.replace(from, to));
    let ask = ["classify", "--model", "other.json"];
    let what = ["--image", "red.png", "--text", "a red picture"];
    room.run(&[&ask[..], &what].concat()).error(1)
}

/// Computed on whatever lay behind the table on a GPU, and ended in a panic on a CPU.
#[test]
fn a_tokenizer_with_more_ids_than_the_model() {
    let room = Room::captioned(2);
    let error = classify(&room, "\"vocab_size\": 49408", "\"vocab_size\": 1000");
    for word in ["CLIP", "49408", "1000", "text_cfg.vocab_size"] {
        assert!(error.contains(word), "{error}");
    }
    let train = ["train", "--model", "other.json", "--train-data"];
    let ran = room.run(&[&train[..], &["train.csv", "--batch-size", "4"]].concat());
    let error = ran.error(1);
    assert!(error.contains("text_cfg.vocab_size"), "{error}");
    assert!(!room.path("logs").exists());
}

/// Divided by zero.
#[test]
fn bench_of_a_model_with_three_token_ids() {
    let room = Room::captioned(1);
    let json = std::fs::read_to_string(room.path("tiny.json")).unwrap();
    for ids in ["1", "3"] {
        let size = format!("\"vocab_size\": {ids}");
        room.write("few.json", json.replace("\"vocab_size\": 49408", &size));
        let bench = ["bench", "--model", "few.json", "--batch", "2"];
        let ran = room.run(&[&bench[..], &["--steps", "1", "--warmup", "0"]].concat());
        assert!(ran.ok().json()["train_step_s"].is_number());
    }
}

/// `bench` left out what it was told about the picture.
#[test]
fn bench_of_another_picture_size() {
    let room = Room::captioned(1);
    let bench = ["bench", "--model", "tiny.json", "--force-image-size", "3"];
    let error = room.run(&bench).error(1);
    assert!(error.contains("--force-image-size: 3, "), "{error}");
}

/// Spoke of a picture of 0 patches, or of a map of 0 rows.
#[test]
fn a_picture_too_small_for_each_family() {
    let room = Room::empty();
    for (model, smallest) in [
        ("ViT-B-32", 32),
        ("ViT-L-14", 14),
        ("RN50", 32),
        ("convnext_base", 32),
        ("swin_base_patch4_window7_224", 4),
        ("vit_relpos_medium_patch16_cls_224", 16),
        ("EVA02-B-16", 16),
        ("PE-Core-B-16", 16),
        ("ViT-B-16-SigLIP", 16),
        ("MobileCLIP-B", 16),
        ("MobileCLIP-S1", 1),
        ("ViTamin-S", 1),
        ("coca_ViT-B-32", 32),
    ] {
        let info = |sides: &[usize]| {
            let sides: Vec<String> = sides.iter().map(ToString::to_string).collect();
            let sides: Vec<&str> = sides.iter().map(String::as_str).collect();
            let info = ["info", "--model", model, "--force-image-size"];
            room.run(&[&info[..], &sides].concat())
        };
        info(&[smallest]).ok();
        let words = format!("is {smallest}×{smallest}");
        let below = smallest - 1;
        let error = info(&[below]).error(1);
        assert!(
            error.contains(&format!("--force-image-size: {below}, ")) && error.contains(&words),
            "{model}: {error}"
        );
        let error = info(&[64, below]).error(1);
        let wanted = match model {
            "RN50" if below >= 32 => "a square".to_owned(),
            _ => format!("--force-image-size: 64×{below}, "),
        };
        assert!(error.contains(&wanted), "{model}: {error}");
        let error = info(&[usize::MAX]).error(1);
        assert!(error.contains("pixels"), "{model}: {error}");
    }
}

/// The beams of a picture are bounded by the memory that they take.
#[test]
fn more_beams_than_fit_into_memory() {
    let room = Room::captioned(1);
    let json = std::fs::read_to_string(room.path("tiny.json")).unwrap();
    let decoder = "\"custom_text\": true, \"multimodal_cfg\": {\"context_length\": 16, \"width\": 32, \"heads\": 2, \"layers\": 1},";
    room.write("coca.json", json.replacen('{', &format!("{{{decoder}"), 1));
    let caption = |beams: &str, groups: &str| {
        let caption = ["caption", "--model", "coca.json", "--image", "red.png"];
        let options = ["--seq-len", "8", "--beams", beams, "--beam-groups", groups];
        room.run(&[&caption[..], &options].concat())
    };
    caption("6", "2").ok();
    for (beams, words) in [
        ("1000000000000", "fit into 8 GiB"),
        ("18446744073709551614", "fit into 8 GiB"),
        ("0", "cannot be divided"),
        ("7", "cannot be divided"),
    ] {
        let error = caption(beams, "2").error(1);
        assert!(
            error.starts_with(&format!("beams: {beams}")) || error.contains(words),
            "{error}"
        );
        assert!(error.contains(words), "{error}");
    }
    caption("6", "0").error(1);
}

/// Asked the system for more than there is, which ends a program.
#[test]
fn a_model_larger_than_the_memory() {
    let room = Room::captioned(1);
    let error = classify(
        &room,
        "\"vocab_size\": 49408, \"width\": 32",
        "\"vocab_size\": 16777216, \"width\": 4194304",
    );
    assert!(error.contains("GiB"), "{error}");
}
