//! A model on its way to a hub that behaves, or does not.

use std::fs;
use std::path::{Path, PathBuf};

use openclip_model::weights::StateDict;

use crate::hub::ELSEWHERE;
use crate::support::fake_hub::{FakeHub, Fault, TOKEN};
use crate::support::server::Server;
use crate::support::{Ran, Room};

const MODEL: [&str; 4] = ["--model", "tiny.json", "--pretrained", "tiny.safetensors"];
const TO: [&str; 2] = ["--repo-id", "me/tiny"];
const PICTURE: [&str; 6] = ["--image", "red.png", "--text", "red", "green", "--json"];
/// What a folder holds, in order.
const FILES: [&str; 8] = [
    "README.md",
    "merges.txt",
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

fn run(room: &Room, endpoint: &str, args: &[&str]) -> Ran {
    run_with(room, endpoint, args, TOKEN)
}

fn run_with(room: &Room, endpoint: &str, args: &[&str], token: &str) -> Ran {
    let mut command = room.command(args);
    for name in ELSEWHERE {
        command.env_remove(name);
    }
    command
        .env("HF_ENDPOINT", endpoint)
        .env("HF_TOKEN", token)
        .env("HF_HUB_DOWNLOAD_TIMEOUT", "1")
        .env("TMPDIR", room.path(""));
    Ran::from(command.output().unwrap())
}

fn push(room: &Room, hub: &FakeHub, more: &[&str]) -> Ran {
    run(
        room,
        &hub.endpoint,
        &[&["push"], &MODEL[..], &TO, more].concat(),
    )
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The folders that pushes have left in `room`.
fn left(room: &Room) -> Vec<PathBuf> {
    let entries = fs::read_dir(room.path("")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_left = |path: &PathBuf| path.to_string_lossy().contains("openclip-tiny-");
    paths.filter(is_left).collect()
}

#[test]
fn a_model_that_is_pushed_loads_from_there() {
    let (room, hub) = (Room::new(), FakeHub::new(None));
    let flags = [
        "--license",
        "mit",
        "--tags",
        "tiny",
        "--private",
        "--revision",
        "v1",
        "--commit-message",
        "A first one",
        "--image-mean",
        "0.5",
    ];
    let ran = push(&room, &hub, &flags).ok();
    assert_eq!(
        ran.stdout,
        format!("{}/me/tiny/commit/abc123\n", hub.endpoint)
    );
    assert_eq!(hub.is_private("me/tiny"), Some(true));
    assert_eq!(hub.commits()[0]["summary"], "A first one");
    assert!(left(&room).is_empty());

    let files = hub.files();
    let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        FILES.map(|name| format!("/me/tiny/resolve/v1/{name}"))
    );
    let card = String::from_utf8(files[0].1.clone()).unwrap();
    for line in [
        "- tiny",
        "license: mit",
        "library_name: open_clip",
        "hf-hub:me/tiny",
    ] {
        assert!(card.contains(line), "{line}: {card}");
    }

    let classify = |model: &[&str]| {
        let files: Vec<_> = files.iter().map(|(p, b)| (p.as_str(), b.clone())).collect();
        let server = Server::new(&files);
        let args = [&["classify"], model, &PICTURE].concat();
        run(&room, &server.endpoint, &args)
    };
    let own = [&MODEL[..], &["--image-mean", "0.5"]].concat();
    let expected = classify(&own).ok().stdout;
    let found = classify(&["--model", "hf-hub:me/tiny@v1"]).ok();
    assert_eq!(found.stdout, expected);
    // The branch is in the cache now, and `main` is not.
    let offline = ["classify", "--model", "hf-hub:me/tiny@v1"];
    let offline = run(
        &room,
        "http://127.0.0.1:9",
        &[&offline[..], &PICTURE].concat(),
    );
    assert_eq!(offline.ok().stdout, expected);
    let error = classify(&["--model", "hf-hub:me/tiny"]).error(1);
    assert!(error.contains("has no open_clip_config.json"), "{error}");
}

#[test]
fn large_files_go_in_the_pieces_that_the_hub_asks_for() {
    let room = Room::new();
    let size = fs::metadata(room.path("tiny.safetensors")).unwrap().len() as usize;
    let hub = FakeHub::new(Some(size / 3));
    hub.misbehave(&[("/2", Fault::Cut), ("/3", Fault::Status(500))]);
    push(&room, &hub, &["--bin", "--output", "out"]).ok();
    let files = hub.files();
    assert_eq!(files.len(), FILES.len() + 1);
    for (path, bytes) in files {
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(
            fs::read(room.path("out").join(name)).unwrap(),
            bytes,
            "{name}"
        );
    }
    let pickle = StateDict::read(&room.path("out/open_clip_pytorch_model.bin")).unwrap();
    let tensors = StateDict::read(&room.path("tiny.safetensors")).unwrap();
    for (key, tensor) in &tensors.tensors {
        let same = pickle.tensors[key].to_bytes().unwrap();
        assert_eq!(same, tensor.to_bytes().unwrap(), "{key}");
    }
}

#[test]
fn a_dry_run_leaves_the_folder_and_asks_nobody() {
    let (room, hub) = (Room::new(), FakeHub::new(None));
    room.write(
        "results/one.json",
        r#"{"dataset": "wds/a|b", "task": "zeroshot_classification", "metrics": {"acc1": 0.51234, "acc5": null}}"#,
    );
    let flags = ["--dry-run", "--results", "results", "--license", "mit"];
    assert_eq!(push(&room, &hub, &flags).ok().stdout, "tiny\n");
    assert_eq!(hub.requests(), Vec::<String>::new());
    assert_eq!(names(&room.path("tiny")), FILES);
    let card = fs::read_to_string(room.path("tiny/README.md")).unwrap();
    let row = "| wds/a b | zeroshot_classification | acc1 | 0.5123 |\n";
    assert!(card.ends_with(row), "{card}");
    let classify = |model: &[&str]| {
        room.run(&[&["classify"], model, &PICTURE].concat())
            .ok()
            .stdout
    };
    assert_eq!(classify(&["--model", "local-dir:tiny"]), classify(&MODEL));

    room.write("results/two.json", "{\"dataset\": ");
    let error = push(&room, &hub, &flags).error(1);
    assert!(error.contains("two.json"), "{error}");
    let own = ["--dry-run", "--card", "card.md", "--hf-tokenizer-self"];
    room.write("card.md", "# Mine\n");
    push(&room, &hub, &own).ok();
    let card = fs::read_to_string(room.path("tiny/README.md")).unwrap();
    assert_eq!(card, "# Mine\n");
    let config = fs::read_to_string(room.path("tiny/open_clip_config.json")).unwrap();
    assert!(
        config.contains(r#""hf_tokenizer_name": "me/tiny""#),
        "{config}"
    );
}

#[test]
fn a_refusal_is_one_line_and_the_folder_stays() {
    let room = Room::new();
    for (part, fault, words) in [
        ("repos/create", Fault::Status(401), "HTTP 401"),
        ("repos/create", Fault::Status(403), "may not do that"),
        (
            "/preupload/",
            Fault::Status(403),
            "the list of files: the token may not do that (HTTP 403): so it is here",
        ),
        (
            "/preupload/",
            Fault::Status(404),
            "no such repository or branch",
        ),
        (
            "PUT /storage",
            Fault::Status(413),
            "open_clip_model.safetensors: it is larger than the hub takes",
        ),
        ("/commit/", Fault::Later(429, 4000), "asks to wait 4000 s"),
    ] {
        let hub = FakeHub::new(None);
        hub.misbehave(&[(part, fault)]);
        let error = push(&room, &hub, &[]).error(1);
        assert!(
            error.starts_with("me/tiny: ") && error.contains(words),
            "{error}"
        );
        assert!(
            !error.contains(TOKEN) && hub.commits().is_empty(),
            "{error}"
        );
        let folders = left(&room);
        assert_eq!(folders.len(), 1, "{folders:?}");
        let folder = &folders[0];
        assert!(
            error.contains(&format!("the folder stays at {}", folder.display())),
            "{error}"
        );
        assert_eq!(names(folder), FILES);
        fs::remove_dir_all(folder).unwrap();
    }
    let hub = FakeHub::new(None);
    for (token, words) in [("hf_wrong", "does not take the token"), ("", "HF_TOKEN")] {
        let args = [&["push"], &MODEL[..], &TO, &["--output", "out"]].concat();
        let error = run_with(&room, &hub.endpoint, &args, token).error(1);
        assert!(
            error.contains(words) && error.contains("stays at out"),
            "{error}"
        );
    }
}

#[test]
fn what_may_pass_is_tried_again() {
    let (room, hub) = (Room::new(), FakeHub::new(None));
    hub.misbehave(&[
        ("repos/create", Fault::Status(500)),
        ("/preupload/", Fault::Later(429, 1)),
        ("objects/batch", Fault::Silent),
        ("PUT /storage", Fault::Cut),
        ("PUT /storage", Fault::Status(503)),
        ("/commit/", Fault::Status(502)),
    ]);
    let ran = push(&room, &hub, &[]).ok();
    assert_eq!(hub.files().len(), FILES.len());
    for words in [
        "HTTP 500: so it is here; trying again",
        "in 1 s",
        "HTTP 503",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
}

#[test]
fn an_upload_that_is_given_up_goes_on_where_it_was() {
    let (room, hub) = (Room::new(), FakeHub::new(None));
    hub.misbehave(&[("/commit/", Fault::Status(500)); 5]);
    let error = push(&room, &hub, &["--output", "out"]).error(1);
    assert!(error.contains("5 attempts failed"), "{error}");
    let sent = |requests: Vec<String>| requests.iter().filter(|r| r.starts_with("PUT ")).count();
    assert_eq!(sent(hub.requests()), 1);
    push(&room, &hub, &["--output", "out"]).ok();
    assert_eq!(sent(hub.requests()), 0);
    assert_eq!(hub.files().len(), FILES.len());
}

#[test]
fn a_page_that_is_there_stays() {
    let room = Room::new();
    let hub = FakeHub::new(None).with_card("me/tiny", "# Mine\n");
    // Whoever may write to a repository need not be allowed to make one.
    hub.misbehave(&[("repos/create", Fault::Status(403))]);
    let ran = push(&room, &hub, &[]).ok();
    assert!(ran.stderr.contains("its README.md stays"), "{}", ran.stderr);
    let files = hub.files();
    assert_eq!(files.len(), FILES.len());
    assert_eq!(files[0].1, b"# Mine\n");
}

#[test]
fn what_cannot_be_pushed_is_refused_before_anything_is_written() {
    let (room, hub) = (Room::new(), FakeHub::new(None));
    for (args, words) in [
        (vec!["--repo-id", "tiny"], "expected ORG/NAME"),
        (vec!["--repo-id", "me/../tiny"], "expected ORG/NAME"),
        (
            vec!["--repo-id", "me/tiny", "--revision", "a b"],
            "no name of a branch",
        ),
    ] {
        let error = run(
            &room,
            &hub.endpoint,
            &[&["push"], &MODEL[..], &args].concat(),
        )
        .error(2);
        assert!(error.contains(words), "{error}");
    }
    let bare = [&["push", "--model", "tiny.json"], &TO[..]].concat();
    let error = run(&room, &hub.endpoint, &bare).error(2);
    assert!(error.contains("no weights of its own"), "{error}");
    assert_eq!(hub.requests(), Vec::<String>::new());
    assert!(left(&room).is_empty());
}
