#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn keys(fields: &str, probs: &[f64]) -> Result<Keys, DataError> {
    Keys::new(&KeyOptions {
        json_text_key: Some(fields.to_owned()),
        json_text_key_probs: probs.to_vec(),
        ..KeyOptions::default()
    })
}

fn caption(keys: &Keys, json: &str, order: &Order, key: &str) -> Result<Option<String>, String> {
    let draw = Draw {
        order: *order,
        pass: 0,
        shard: 3,
    };
    keys.read(0, json.as_bytes().to_vec(), &draw, key)
}

/// The cases of OpenCLIP's `JsonCaptionExtractor` on its main branch.
#[test]
fn the_first_field_with_a_text_wins() {
    let order = Order::training(0, 0);
    let json = r#"{"a": "   ", "b": " second ", "c": "third", "d": 4, "e": ["x"], "f": NaN}"#;
    for (fields, expected) in [
        ("a;b;c", Some("second")),
        ("missing;c", Some("third")),
        ("missing;a", None),
        ("d; e ;f;c", Some("third")),
        ("c;b", Some("third")),
    ] {
        let keys = keys(fields, &[]).unwrap();
        let found = caption(&keys, json, &order, "k").unwrap();
        assert_eq!(found.as_deref(), expected, "{fields}");
    }
    let keys = keys("a", &[]).unwrap();
    assert_eq!(caption(&keys, "[1]", &order, "k"), Ok(None));
    assert!(caption(&keys, "{", &order, "k").is_err());
    assert_eq!(keys.caption("json"), Some(0));
    assert_eq!(keys.caption("txt"), None);
}

#[test]
fn fields_are_drawn_by_their_weights() {
    let json = r#"{"a": "A", "b": "B", "c": "C"}"#;
    let order = Order::training(1, 2);
    let shares = |keys: &Keys, json: &str, order: &Order| {
        let mut counts = [0_u32; 3];
        for n in 0..4000 {
            let text = caption(keys, json, order, &format!("{n:09}"));
            let text = text.unwrap().unwrap();
            counts["ABC".find(&text).unwrap()] += 1;
        }
        counts.map(|count| f64::from(count) / 4000.0)
    };
    let close = |found: [f64; 3], expected: [f64; 3]| {
        let differences = found.iter().zip(expected);
        assert!(
            differences.into_iter().all(|(a, b)| (a - b).abs() < 0.03),
            "{found:?}"
        );
    };
    let drawn = keys("a;b;c", &[0.7, 0.3]).unwrap();
    close(shares(&drawn, json, &order), [0.7, 0.3, 0.0]);
    // Weights need not add up to 1; a field that is blank leaves its share to the others.
    let drawn = keys("a;b;c", &[4.0, 1.0, 3.0]).unwrap();
    close(shares(&drawn, json, &order), [0.5, 0.125, 0.375]);
    let blank = r#"{"a": " ", "b": "B", "c": "C"}"#;
    close(shares(&drawn, blank, &order), [0.0, 0.25, 0.75]);
    // Fields without weight are taken as they stand where no other has a text.
    let drawn = keys("a;b;c", &[1.0]).unwrap();
    close(shares(&drawn, json, &order), [1.0, 0.0, 0.0]);
    close(shares(&drawn, blank, &order), [0.0, 1.0, 0.0]);
}

#[test]
fn a_choice_depends_on_seed_epoch_rank_and_place_alone() {
    let keys = keys("a;b", &[1.0, 1.0]).unwrap();
    let json = r#"{"a": "A", "b": "B"}"#;
    let all = |order: Order| -> Vec<Option<String>> {
        (0..64)
            .map(|n| caption(&keys, json, &order, &n.to_string()).unwrap())
            .collect()
    };
    let order = Order::training(5, 1);
    assert_eq!(all(order), all(order));
    for other in [
        Order { seed: 6, ..order },
        Order { epoch: 2, ..order },
        Order { rank: 1, ..order },
    ] {
        assert_ne!(all(order), all(other));
    }
}

#[test]
fn flags_that_make_no_sense_are_named() {
    let options = |image: &str, text: &str, json: &str, probs: &[f64]| KeyOptions {
        image_key: Some(image.to_owned()),
        text_key: Some(text.to_owned()),
        json_text_key: Some(json.to_owned()),
        json_text_key_probs: probs.to_vec(),
        needs_caption: false,
        carried: false,
    };
    assert_eq!(
        Keys::new(&options("", "", "", &[])).unwrap(),
        Keys::default()
    );
    for (options, flag) in [
        (options(" ; ", "", "", &[]), "--image-key"),
        (options("", ";", "", &[]), "--text-key"),
        (options("", "txt;json", "", &[]), "--json-text-key names"),
        (options("", "", ";", &[]), "--json-text-key"),
        (options("", "", "", &[1.0]), "--json-text-key-probs"),
        (options("", "", "a", &[1.0, 1.0]), "--json-text-key-probs"),
        (options("", "", "a", &[-1.0]), "--json-text-key-probs"),
        (options("", "", "a", &[f64::NAN]), "--json-text-key-probs"),
    ] {
        let error = Keys::new(&options).unwrap_err().to_string();
        assert!(error.contains(flag), "{error}");
    }
}

#[test]
fn only_other_members_change_the_mark() {
    let usual = KeyOptions::default();
    let needs = KeyOptions {
        needs_caption: true,
        ..usual.clone()
    };
    let written_out = KeyOptions {
        image_key: Some(IMAGE_KEY.to_owned()),
        ..needs.clone()
    };
    for options in [&usual, &needs, &written_out] {
        assert_eq!(Keys::new(options).unwrap().mark(), None);
    }
    let text = KeyOptions {
        text_key: Some("txt".to_owned()),
        ..usual
    };
    assert!(Keys::new(&text).unwrap().mark().is_some());
    assert!(keys("a", &[]).unwrap().mark().is_some());
    assert_ne!(
        keys("a;b", &[]).unwrap().mark(),
        keys("b;a", &[]).unwrap().mark()
    );
}
