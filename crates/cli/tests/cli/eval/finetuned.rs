//! A classifier that was fine-tuned.

use super::*;

#[test]
fn a_fine_tuned_classifier_has_a_task_of_its_own() {
    let room = Room::new();
    folders(&room, "things/train");
    folders(&room, "things/test");
    names(&room, "things");
    let finetune = "finetune --model tiny.json --pretrained tiny.safetensors --train-data things/train --val-data things/test \
                    --head-only --lr 0.1 --warmup 0 --epochs 30 --batch-size 6 --workers 1 --logs logs --name few";
    let finetune: Vec<&str> = finetune.split_whitespace().collect();
    room.run(&finetune).ok();
    let tuned = "logs/few/checkpoints/epoch_30";
    let head = openclip_eval::head::Head::read(
        &room.path(tuned).join("head.safetensors"),
        &openclip_tests::device(),
    );
    assert_eq!(head.unwrap().prompts.classes, ["blue", "green", "red"]);

    let measure = |weights: &str, more: &[&str]| {
        let ask = [
            "eval",
            "--model",
            "tiny.json",
            "--dataset",
            "things",
            "--output",
            "out",
            "--pretrained",
            weights,
        ];
        room.run(&[&ask[..], more].concat())
    };
    let own = ["--task", "finetuned_classification"];
    let ran = measure(tuned, &own).ok();
    assert!(!ran.stderr.contains("note: the head"), "{}", ran.stderr);
    let file = |task| format!("things_epoch_30_tiny.json_en_{task}.json");
    let found = record(&room, &file("finetuned_classification"));
    assert_eq!(found["task"], "finetuned_classification");
    assert_eq!(share(&found, "acc1"), 1.0);

    let ran = measure(tuned, &[]).ok();
    let notes = told(&ran, "note: ");
    assert!(
        notes.iter().any(|note| note.contains("head.safetensors")),
        "{notes:?}"
    );
    record(&room, &file("zeroshot_classification"));

    let ran = measure("tiny.safetensors", &own);
    let errors = told(&ran, "error: ");
    assert!(
        errors.len() == 1 && errors[0].contains("no head.safetensors"),
        "{errors:?}"
    );
    room.write("things/classnames.txt", "blue\nyellow\nred\n");
    let ran = measure(tuned, &own);
    let errors = told(&ran, "error: ");
    assert!(
        errors.len() == 1 && errors[0].contains("`yellow`") && errors[0].contains("`green`"),
        "{errors:?}"
    );
}
