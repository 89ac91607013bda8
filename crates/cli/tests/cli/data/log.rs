//! What a training run says of its loader.

use std::fs;

use serde_json::Value;

use super::jpeg;
use crate::support::Room;

#[test]
fn a_run_tells_what_it_waited_for() {
    let room = Room::captioned(1);
    // Pictures that take far longer to decode than the model to learn from.
    let picture = jpeg(2400, 1800, 3);
    room.write("large.jpg", picture);
    let rows: String = (0..24).map(|n| format!("large.jpg\trow {n}\n")).collect();
    room.write("large.csv", format!("filepath\ttitle\n{rows}"));
    let args = "train --model tiny.json --train-data large.csv --batch-size 4 --epochs 1 --warmup 1 --workers 1 \
                --device cpu --log-every-n-steps 2 --name run --report-to tensorboard --save-frequency 0";
    room.run(&args.split_whitespace().collect::<Vec<_>>()).ok();

    let text = |name: &str| fs::read_to_string(room.path("logs/run").join(name)).unwrap();
    let steps: Vec<Value> = text("train.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(steps.len(), 6);
    assert!(
        steps[0]["waits"]["start"].as_f64().unwrap() > 0.0,
        "{}",
        steps[0]
    );
    for step in &steps[1..] {
        assert!(step["waits"].get("start").is_none(), "{step}");
        assert!(step["decode_time"].as_f64().unwrap() > 0.01, "{step}");
        assert!(
            step["batches_ready"].is_u64() && step["samples_waiting"].is_u64(),
            "{step}"
        );
    }
    let log = text("out.log");
    let of = |start: &str| {
        let mut lines = log.lines().filter_map(|line| line.split(" | ").nth(2));
        lines
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
    };
    let line = of("Loader: the trainer waited ");
    assert!(
        line.contains("decode") && line.contains(" samples waiting on average"),
        "{log}"
    );
    // What it waits for most is the machine's affair as well.
    assert!(of("waiting for ").contains(" % of the time: "), "{log}");
    let events = fs::read_dir(room.path("logs/run/tensorboard"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let events = fs::read(events.path()).unwrap();
    for name in [
        "wait_share_decode",
        "decode_images_per_core_s",
        "batches_ready",
    ] {
        let name = format!("train/loader/{name}");
        assert!(
            events
                .windows(name.len())
                .any(|part| part == name.as_bytes()),
            "{name}"
        );
    }
}
