//! Checkpoints and model folders as people have them.

use std::fs;

use crate::support::Room;

const ASK: [&str; 7] = [
    "classify", "--json", "--image", "red.png", "--text", "one", "two",
];

fn answer(room: &Room, weights: &[&str]) -> String {
    room.run(&[&ASK, weights].concat()).ok().stdout
}

fn of_tiny(room: &Room) -> String {
    answer(
        room,
        &["--model", "tiny.json", "--pretrained", "tiny.safetensors"],
    )
}

/// A folder with the configuration of `tiny.json`.
fn describe(room: &Room, folder: &str) {
    let config = fs::read_to_string(room.path("tiny.json")).unwrap();
    room.write(
        &format!("{folder}/open_clip_config.json"),
        format!("{{\"model_cfg\": {config}, \"preprocess_cfg\": {{}}}}"),
    );
}

#[test]
fn a_folder_whose_weights_had_another_name_answered_from_random_ones() {
    let room = Room::new();
    describe(&room, "hub");
    let weights = ["--model", "local-dir:hub"];
    let error = room.run(&[&ASK[..], &weights].concat()).error(1);
    assert!(
        error.contains("no weights") && error.contains("open_clip_config.json"),
        "{error}"
    );
    fs::copy(
        room.path("tiny.safetensors"),
        room.path("hub/my-clip.safetensors"),
    )
    .unwrap();
    assert_eq!(answer(&room, &weights), of_tiny(&room));
    fs::copy(room.path("tiny.safetensors"), room.path("hub/other.bin")).unwrap();
    let error = room.run(&[&ASK[..], &weights].concat()).error(1);
    assert!(error.contains("my-clip.safetensors, other.bin"), "{error}");
    // A folder's name alone is no model; the error says how it becomes one.
    let error = room
        .run(&[&ASK[..], &["--model", "./hub"]].concat())
        .error(2);
    assert!(error.contains("did you mean `local-dir:./hub`"), "{error}");
    describe(&room, "shards");
    fs::copy(
        room.path("tiny.safetensors"),
        room.path("shards/model-00001-of-00002.safetensors"),
    )
    .unwrap();
    let error = room
        .run(&[&ASK[..], &["--model", "local-dir:shards"]].concat())
        .error(1);
    assert!(
        error.contains("model-00002-of-00002.safetensors is missing"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_folder_was_no_pretrained() {
    let room = Room::new();
    room.write("run/checkpoints/epoch_3/state.json", "{}");
    for name in ["model.safetensors", "ema.safetensors"] {
        let to = room.path(&format!("run/checkpoints/epoch_3/{name}"));
        fs::copy(room.path("tiny.safetensors"), to).unwrap();
    }
    let folder = "run/checkpoints/epoch_3";
    let found = answer(&room, &["--model", "tiny.json", "--pretrained", folder]);
    assert_eq!(found, of_tiny(&room));
    room.write("empty/notes.txt", "");
    let error = room
        .run(&[&ASK[..], &["--model", "tiny.json", "--pretrained", "empty"]].concat())
        .error(1);
    assert!(
        error.contains("no weights") && error.contains("notes.txt"),
        "{error}"
    );
}

#[test]
fn quick_gelu_could_not_be_taken_back() {
    let room = Room::new();
    let weights = ["--model", "tiny.json", "--pretrained", "tiny.safetensors"];
    let quick = answer(&room, &[&weights[..], &["--force-quick-gelu"]].concat());
    assert_ne!(quick, of_tiny(&room));
    // A folder that says otherwise, and the flag that wins.
    let config = fs::read_to_string(room.path("tiny.json")).unwrap();
    let config = config.replacen('{', "{\"quick_gelu\": true, ", 1);
    room.write("quick.json", config);
    let weights = ["--model", "quick.json", "--pretrained", "tiny.safetensors"];
    let plain = answer(&room, &[&weights[..], &["--no-force-quick-gelu"]].concat());
    assert_eq!(plain, of_tiny(&room));
    let both = ["--force-quick-gelu", "--no-force-quick-gelu"];
    let ran = room.run(&[&ASK[..], &weights, &both].concat());
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("cannot be used with"), "{}", ran.stderr);
}
