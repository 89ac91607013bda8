//! `openclip models`, `info` and `eval`.

use crate::support::Room;

#[test]
fn models_are_listed_with_their_parameters() {
    let room = Room::empty();
    let json = room.run(&["models", "--json"]).ok().json();
    let models = json.as_array().unwrap();
    let find = |name: &str| models.iter().find(|model| model["name"] == name).unwrap();
    // Totals of open_clip.
    assert_eq!(find("ViT-B-32")["parameters"], 151_277_313);
    assert_eq!(
        find("ViT-B-32")["image_size"],
        serde_json::json!([224, 224])
    );
    assert_eq!(find("ViT-bigG-14")["parameters"], 2_539_567_105_u64);
    assert_eq!(find("ViT-B-32")["context_length"], 77);
    assert_eq!(find("ViT-B-32")["flops"], 14_777_163_776_u64);
    // timm's sizes, not the defaults of a native tower.
    assert_eq!(find("ViT-SO400M-14-SigLIP")["image_width"], 1152);
    assert_eq!(find("ViT-SO400M-14-SigLIP")["patch_size"], 14);
    assert_eq!(find("convnext_base")["image_width"], 1024);
    assert_eq!(find("convnext_base")["patch_size"], serde_json::Value::Null);
    let text = room.run(&["models"]).ok().stdout;
    assert_eq!(text.lines().count(), models.len() + 1);
    assert!(
        text.lines()
            .any(|line| line.starts_with("ViT-B-32 ") && line.contains("151.3 M")),
        "{text}"
    );
}

#[test]
fn published_weights_are_listed() {
    let room = Room::empty();
    let json = room.run(&["models", "--pretrained", "--json"]).ok().json();
    assert_eq!(json.as_array().unwrap().len(), 196);
    let text = room.run(&["models", "--pretrained"]).ok().stdout;
    let line = text
        .lines()
        .find(|line| line.starts_with("ViT-B-32 ") && line.contains("laion2b_s34b_b79k"));
    assert!(
        line.unwrap()
            .ends_with("laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        "{text}"
    );
    let info = room.run(&["info", "--model", "RN50"]).ok().stdout;
    assert!(info.contains("yfcc15m") && info.contains("18.18"), "{info}");
}

#[test]
fn info_describes_a_model_with_and_without_weights() {
    let room = Room::new();
    let json = room
        .run(&["info", "--model", "ViT-B-32", "--json"])
        .ok()
        .json();
    assert_eq!(json["parameters"], 151_277_313);
    assert_eq!(json["image_parameters"], 87_849_216);
    assert_eq!(json["text_parameters"], 63_428_096);
    assert_eq!(json["preprocess"]["resize_mode"], "shortest");
    let bigger = room
        .run(&[
            "info",
            "--model",
            "ViT-B-32",
            "--force-image-size",
            "384",
            "--json",
        ])
        .ok();
    assert_eq!(bigger.json()["image_size"], serde_json::json!([384, 384]));
    let weights = [
        "info",
        "--model",
        "tiny.json",
        "--pretrained",
        "tiny.safetensors",
    ];
    let text = room.run(&weights).ok().stdout;
    assert!(
        text.contains("32x32 pixels") && text.contains("16 tokens"),
        "{text}"
    );
}

#[test]
fn eval_measures_retrieval_and_zero_shot() {
    let room = Room::new();
    room.write(
        "val.csv",
        "filepath\ttitle\nred.png\tred\ngreen.png\tgreen\nblue.png\tblue\n",
    );
    for (class, colour) in [("red", [200, 0, 0]), ("green", [0, 200, 0])] {
        room.picture(&format!("set/{class}/x.png"), colour);
    }
    room.write("templates.txt", "a {} thing\n{}\n");
    let flags = [
        "--val-data",
        "val.csv",
        "--zeroshot",
        "set",
        "--templates",
        "templates.txt",
        "--json",
    ];
    let weights = [
        "eval",
        "--model",
        "tiny.json",
        "--pretrained",
        "tiny.safetensors",
    ];
    let json = room.run(&[&weights[..], &flags].concat()).ok().json();
    assert_eq!(json["num_samples"], 3.0);
    assert_eq!(json["image_to_text_R@10"], 1.0);
    assert!(
        (1.0..=3.0).contains(&json["text_to_image_mean_rank"].as_f64().unwrap()),
        "{json}"
    );
    assert_eq!(json["zeroshot-top5"], 1.0);
    assert!((0.0..=1.0).contains(&json["zeroshot-top1"].as_f64().unwrap()));

    let nothing = room.run(&weights).error(2);
    assert!(nothing.contains("nothing to measure"), "{nothing}");
    room.write("classes.txt", "red\ngreen\nblue\n");
    let three = ["--zeroshot", "set", "--classes", "classes.txt"];
    let error = room.run(&[&weights[..], &three].concat()).error(1);
    assert!(
        error.contains("2 class folders for 3 class names"),
        "{error}"
    );
}
