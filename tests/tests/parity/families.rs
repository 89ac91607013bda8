//! A checkpoint of another family is refused with an error that names both families and the keys of both.

use openclip_model::weights::StateDict;
use openclip_tests::family::refusal_of;
use openclip_tests::{fixture, fixture_tensors, json, model_config};

/// What image tower, text tower and caption decoder are said to be.
type Parts = [&'static str; 3];

const CLIP: Parts = ["a native ViT", "OpenCLIP's own", "missing"];

const fn image(tower: &'static str) -> Parts {
    [tower, CLIP[1], CLIP[2]]
}

const fn text(tower: &'static str) -> Parts {
    [CLIP[0], tower, CLIP[2]]
}

/// Cases of every family.
const CASES: [(&str, Parts); 22] = [
    ("models/vit_plain", CLIP),
    ("models/custom_text", CLIP),
    ("models/vit_sin_cos", CLIP),
    ("resnet/odd_image", image("a ModifiedResNet")),
    ("siglip/plain", image("timm's ViT")),
    ("siglip/class_token", image("timm's ViT")),
    ("timm_towers/gap", image("timm's ViT")),
    ("timm_towers/relpos", image("a ViT with relative positions")),
    ("timm_towers/swin", image("a Swin transformer")),
    ("convnext/linear", image("a ConvNeXt")),
    ("vitamin/linear", image("a ViTamin")),
    ("mobileclip/mci0", image("a FastViT")),
    ("mobileclip/linear", image("a FastViT")),
    ("mobileclip/vit", image("MobileCLIP's ViT")),
    ("eva/eva02", image("an EVA")),
    ("eva/enormous", image("an EVA")),
    ("eva/perception", image("a Perception Encoder")),
    ("hftext/roberta_mean", text("a RoBERTa or BERT")),
    ("hftext/mt5_mean", text("a T5 encoder")),
    ("hftext/nllb_mean", text("an M2M100 encoder (NLLB)")),
    ("coca/pool", [CLIP[0], CLIP[1], "CoCa's"]),
    ("coca/roberta", [CLIP[0], "a RoBERTa or BERT", "CoCa's"]),
];

/// Asserts that `dict`, of the family `found`, is refused by the model of a case with the names of both.
fn refused(case: &str, expected: Parts, file: &str, dict: StateDict, found: Parts) {
    let config = model_config(&json(&format!("{case}.json"))["model_cfg"]);
    let error = refusal_of(&config, dict, file);
    let place = format!("{case} given {file}");
    let named = error.starts_with(&fixture(file).display().to_string());
    assert!(named, "{place}: {error}");
    let parts = ["image tower", "text tower", "caption decoder"];
    for (part, (found, expected)) in parts.iter().zip(found.iter().zip(expected)) {
        let sentence = format!("its {part} is {found}, the model's is {expected};");
        let said = error.contains(&sentence);
        assert_eq!(said, *found != expected, "{place}: {sentence}: {error}");
    }
    let kinds = ["  missing ", "  unexpected "];
    let listed = kinds.map(|kind| error.lines().any(|line| line.starts_with(kind)));
    let only_one_writes_captions = found[2] != expected[2];
    assert!(listed[0] || only_one_writes_captions, "{place}: {error}");
    assert!(listed[1] || only_one_writes_captions, "{place}: {error}");
    assert!(listed[0] || listed[1], "{place}: {error}");
}

#[test]
fn every_pair_of_families_is_told_apart() {
    for (case, expected) in CASES {
        for (other, found) in CASES.iter().filter(|(_, found)| *found != expected) {
            let file = format!("{other}.safetensors");
            let dict = fixture_tensors(&file, "weights/");
            refused(case, expected, &file, dict, *found);
        }
    }
}

#[test]
fn files_of_other_libraries_are_told_apart() {
    let openai = image("a ModifiedResNet");
    let siglip = image("timm's ViT");
    for (file, found, case, expected) in [
        ("resnet/openai.pt", openai, "models/vit_plain", CLIP),
        ("siglip/big_vision.npz", siglip, "models/custom_text", CLIP),
        ("weights/hf.safetensors", CLIP, "siglip/plain", siglip),
    ] {
        let dict = StateDict::read(&fixture(file)).unwrap();
        refused(case, expected, file, dict, found);
    }
}
