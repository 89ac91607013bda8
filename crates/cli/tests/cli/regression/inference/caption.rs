//! `caption` of a tiny model with random weights.

use super::told;
use crate::support::{Ran, Room};

const COCA: &str = r#"{
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1,
        "attentional_pool": true, "attn_pooler_heads": 2, "output_tokens": true},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1,
        "embed_cls": true, "output_tokens": true},
    "multimodal_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1,
        "attn_pooler_heads": 2},
    "custom_text": true
}"#;

fn caption(room: &Room, more: &[&str]) -> Ran {
    room.write("coca.json", COCA);
    let coca = ["caption", "--model", "coca.json", "--seq-len", "6"];
    room.run(&[&coca[..], more].concat())
}

#[test]
fn a_bad_picture_took_the_captions_of_the_others_along() {
    let room = Room::new();
    room.picture("set/deep/a.png", [1, 2, 3]);
    room.write("bad.png", "hello");
    let ask = ["--image", "set", "bad.png", "red.png"];
    let ran = caption(&room, &[&ask[..], &["--json"]].concat());
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    let json = ran.json();
    let names: Vec<_> = json.as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0]["image"], "set/deep/a.png");
    assert_eq!(names[1]["image"], "red.png");
    assert!(told(&ran, "error")[0].starts_with("bad.png: no picture"));
    let ran = caption(&room, &["--image", "red.png", "--prompt", "-5 degrees"]).ok();
    assert!(
        ran.stdout.starts_with("red.png: -5 degrees") || ran.stdout.starts_with("red.png: - 5")
    );
}

#[test]
fn a_short_context_refused_the_default() {
    let room = Room::new();
    room.write("coca.json", COCA);
    let ask = ["caption", "--model", "coca.json", "--image", "red.png"];
    room.run(&ask).ok();
}
