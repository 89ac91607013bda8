//! Weights and scores that are no numbers.

use super::{run, write_nan_weights};
use crate::support::{Ran, Room};

fn with_nan(room: &Room, command: &str, more: &[&str]) -> Ran {
    write_nan_weights(room, "nan.safetensors");
    let model = [
        command,
        "--model",
        "tiny.json",
        "--pretrained",
        "nan.safetensors",
    ];
    room.run(&[&model[..], more].concat())
}

fn assert_told(ran: &Ran) {
    assert_eq!(ran.status, 1, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("warning: the weights of tiny are not finite"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stdout.is_empty());
}

#[test]
fn weights_that_are_nan_answered_without_a_word() {
    let room = Room::new();
    let ask = ["--image", "red.png", "--text", "a", "b"];
    assert_told(&with_nan(&room, "classify", &ask));
    let ran = with_nan(&room, "classify", &[&ask[..], &["--json"]].concat());
    assert_told(&ran);
    assert!(ran.json()[0]["labels"][0]["cosine"].is_null());

    room.write(
        "pairs.csv",
        "filepath\ttitle\nred.png\tred\nblue.png\tblue\n",
    );
    let ran = with_nan(
        &room,
        "embed",
        &["--images", "pairs.csv", "--output", "out"],
    );
    assert_told(&ran);
    assert!(
        ran.stderr.contains("4 rows are not finite"),
        "{}",
        ran.stderr
    );
    let ran = with_nan(&room, "eval", &["--val-data", "pairs.csv", "--json"]);
    assert_told(&ran);
    assert!(
        ran.stderr
            .contains("retrieval: features or loss are not finite")
    );
    room.picture("set/red/a.png", [200, 10, 10]);
    room.picture("set/blue/a.png", [20, 10, 210]);
    let ran = with_nan(&room, "eval", &["--zeroshot", "set"]);
    assert_told(&ran);
    assert!(
        ran.stderr.contains("scores of 2 of 2 pictures"),
        "{}",
        ran.stderr
    );

    // Finite weights say nothing of the kind.
    let ran = run(&room, "classify", &ask).ok();
    assert_eq!(ran.stderr, "");
}
