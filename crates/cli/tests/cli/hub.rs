//! Weights from a server that behaves like the Hugging Face hub, or does not.

use std::fs;
use std::path::PathBuf;

use crate::support::server::{Fault, Server, sha256};
use crate::support::{Ran, Room};
use openclip_model::weights::StateDict;

const CONFIG: &str = "/org/tiny/resolve/main/open_clip_config.json";
const WEIGHTS: &str = "/org/tiny/resolve/main/open_clip_model.safetensors";

/// A text encoder by itself, as Hugging Face publishes it.
const ENCODER: &str = "/org/roberta-base/resolve/main/model.safetensors";
const PUBLISHED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/parity/data/hftext/encoders/roberta/model.safetensors"
);

/// Variables that would lead elsewhere than to the server and the room's own cache.
pub const ELSEWHERE: [&str; 11] = [
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "XDG_CACHE_HOME",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// A room with a tiny model and an empty cache, and a server that has the model as a repository.
struct Site {
    room: Room,
    server: Server,
}

impl Site {
    fn new() -> Self {
        let room = Room::new();
        let model: serde_json::Value =
            serde_json::from_slice(&fs::read(room.path("tiny.json")).unwrap()).unwrap();
        let preprocess = serde_json::json!({
            "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear", "resize_mode": "squash"
        });
        let hub = serde_json::json!({"model_cfg": model, "preprocess_cfg": preprocess});
        let weights = fs::read(room.path("tiny.safetensors")).unwrap();
        let server = Server::new(&[
            (CONFIG, hub.to_string().into_bytes()),
            (WEIGHTS, weights.clone()),
            (
                "/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main/open_clip_pytorch_model.bin",
                weights.clone(),
            ),
            ("/files/tiny.safetensors", weights.clone()),
            (ENCODER, fs::read(PUBLISHED).unwrap()),
            (
                &format!("/openaipublic/{}/own.safetensors", sha256(&weights)),
                weights.clone(),
            ),
            (
                &format!("/openaipublic/{}/wrong.safetensors", sha256(b"")),
                weights,
            ),
        ]);
        Self { room, server }
    }

    /// With the repository's configuration downloaded already, so that the weights come next.
    fn with_config() -> Self {
        let site = Self::new();
        site.run(&["info", "--model", "hf-hub:org/tiny"]).ok();
        site.server.requests();
        site
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "HF_ENDPOINT", &self.server.endpoint)
    }

    fn run_with(&self, args: &[&str], variable: &str, value: &str) -> Ran {
        let mut command = self.room.command(args);
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", &self.server.endpoint)
            .env(variable, value);
        Ran::from(command.output().unwrap())
    }
}

const HUB: [&str; 3] = ["classify", "--model", "hf-hub:org/tiny"];
const FILE: [&str; 5] = [
    "classify",
    "--model",
    "tiny.json",
    "--pretrained",
    "tiny.safetensors",
];
const PICTURE: [&str; 6] = ["--image", "red.png", "--text", "red", "green", "--json"];

fn classify() -> Vec<&'static str> {
    [&HUB[..], &PICTURE].concat()
}

/// What the file itself gives under the repository's preprocessing.
fn expected(room: &Room) -> String {
    let preprocess = [
        "--image-mean",
        "0.5",
        "--image-std",
        "0.25",
        "--image-interpolation",
        "bilinear",
        "--image-resize-mode",
        "squash",
    ];
    room.run(&[&FILE[..], &preprocess, &PICTURE].concat())
        .ok()
        .stdout
}

fn blobs(room: &Room) -> Vec<PathBuf> {
    let dir = room.path(".cache/huggingface/hub/models--org--tiny/blobs");
    let mut paths: Vec<_> = fs::read_dir(dir)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    paths.retain(|path: &PathBuf| path.extension().is_none_or(|e| e != "lock"));
    paths.sort();
    paths
}

#[test]
fn a_repository_is_downloaded_once() {
    let site = Site::new();
    let first = site.run(&classify()).ok();
    assert_eq!(first.stdout, expected(&site.room));
    assert!(
        first
            .stderr
            .contains("downloading open_clip_model.safetensors of org/tiny"),
        "{}",
        first.stderr
    );
    assert!(!first.stderr.contains("random weights"), "{}", first.stderr);
    assert!(!site.server.requests().is_empty());
    // Python's layout: a link in the snapshot that `refs/main` names, to the blob.
    let hub = site.room.path(".cache/huggingface/hub/models--org--tiny");
    assert_eq!(fs::read_to_string(hub.join("refs/main")).unwrap(), "abc123");
    let weights = fs::read(site.room.path("tiny.safetensors")).unwrap();
    assert!(hub.join("blobs").join(sha256(&weights)).is_file());
    assert!(
        hub.join("snapshots/abc123/open_clip_model.safetensors")
            .is_file()
    );

    let again = site.run(&classify()).ok();
    assert_eq!(again.stdout, first.stdout);
    assert_eq!(site.server.requests(), Vec::<String>::new());
    let offline = site.run_with(&classify(), "HF_HUB_OFFLINE", "1");
    assert_eq!(offline.ok().stdout, first.stdout);
}

#[test]
fn failures_that_pass_are_outlived() {
    let site = Site::new();
    site.server
        .misbehave(&[Fault::Status(500), Fault::Status(503)]);
    let ran = site.run(&classify()).ok();
    assert_eq!(ran.stdout, expected(&site.room));
    assert!(
        ran.stderr.contains("HTTP 500; trying again"),
        "{}",
        ran.stderr
    );
    assert_eq!(site.server.pending(), 0);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let site = Site::with_config();
    site.server.misbehave(&[Fault::Cut(1000), Fault::Cut(500)]);
    let ran = site.run(&classify()).ok();
    assert_eq!(ran.stdout, expected(&site.room));
    let requests = site.server.requests();
    for range in ["0-", "1000-", "1500-"] {
        let wanted = format!("/cdn{WEIGHTS} {range}");
        assert!(requests.contains(&wanted), "{wanted} in {requests:?}");
    }
    // One that no attempt outlives leaves its part behind, for the next command.
    let site = Site::new();
    site.server.misbehave(&[Fault::Cut(0)]);
    site.run(&["info", "--model", "hf-hub:org/tiny"]).ok();
    site.server.misbehave(&[Fault::Cut(100); 5]);
    let error = site.run(&classify()).error(1);
    assert!(error.contains("5 attempts failed"), "{error}");
    site.server.requests();
    site.run(&classify()).ok();
    assert!(
        site.server
            .requests()
            .contains(&format!("/cdn{WEIGHTS} 500-"))
    );
}

#[test]
fn a_server_that_cannot_resume_is_asked_for_everything() {
    let site = Site::with_config();
    site.server
        .misbehave(&[Fault::Cut(1000), Fault::IgnoreRange]);
    let ran = site.run(&classify()).ok();
    assert!(
        ran.stderr.contains("damaged; trying again"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stdout, expected(&site.room));
}

#[test]
fn a_wrong_checksum_deletes_the_file_and_nothing_else() {
    let site = Site::with_config();
    let before = blobs(&site.room);
    site.server.misbehave(&[Fault::Damage]);
    let error = site.run(&classify()).error(1);
    let weights = fs::read(site.room.path("tiny.safetensors")).unwrap();
    assert!(
        error.contains("open_clip_model.safetensors of org/tiny")
            && error.contains(&sha256(&weights)),
        "{error}"
    );
    assert_eq!(blobs(&site.room), before);
    assert_eq!(site.run(&classify()).ok().stdout, expected(&site.room));
}

#[test]
fn a_silent_server_is_given_up() {
    let site = Site::with_config();
    site.server.misbehave(&[Fault::Stall]);
    let output = site.run_with(&classify(), "HF_HUB_DOWNLOAD_TIMEOUT", "1");
    let error = output.error(1);
    assert!(error.contains("sent nothing for 1 s"), "{error}");
}

#[test]
fn a_tag_is_downloaded_with_its_own_names() {
    let site = Site::new();
    let tag = [
        "info",
        "--model",
        "ViT-B-32",
        "--pretrained",
        "LAION2B-s34b-b79k",
        "--device",
        "cpu",
    ];
    // The repository has no safetensors; the file is another model's, which is found out after it has been downloaded.
    let error = site.run(&tag).error(1);
    assert!(error.contains("open_clip_pytorch_model.bin"), "{error}");
    let repository = "/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main";
    let requests = site.server.requests();
    for file in ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"] {
        let wanted = format!("{repository}/{file} 0-0");
        assert!(requests.contains(&wanted), "{wanted} in {requests:?}");
    }

    let place = site.room.path("cache");
    let own = [&tag[..], &["--cache-dir", "cache"]].concat();
    site.run(&own).error(1);
    assert!(
        place
            .join("models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K/refs/main")
            .is_file()
    );

    let unknown = ["info", "--model", "ViT-B-32", "--pretrained", "nonsense"];
    let error = site.run(&unknown).error(1);
    assert!(
        error.contains("nonsense") && error.contains("openai, laion400m_e31"),
        "{error}"
    );
}

#[test]
fn without_a_network_the_error_says_what_to_do() {
    let site = Site::new();
    let tag = [
        "info",
        "--model",
        "ViT-L-14",
        "--pretrained",
        "datacomp-xl-s13b-b90k",
    ];
    let place = site
        .room
        .path(".cache/openclip/ViT-L-14/datacomp_xl_s13b_b90k.safetensors");
    let says = |error: String, reason: &str| {
        for words in [
            "open_clip_model.safetensors or open_clip_pytorch_model.bin of \
             laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
            "https://huggingface.co/laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K/resolve/main/open_clip_model.safetensors",
            &format!("put it at {}", place.display()),
            reason,
        ] {
            assert!(error.contains(words), "{words} in {error}");
        }
    };
    let offline = site.run_with(&tag, "HF_HUB_OFFLINE", "1");
    says(offline.error(1), "HF_HUB_OFFLINE is set");
    assert!(site.server.requests().is_empty());
    let nobody = site.run_with(&tag, "HF_ENDPOINT", "http://127.0.0.1:9");
    says(nobody.error(1), "cannot be reached");

    // What it asked for, there, is taken: here the wrong model, which the error names by its file.
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(site.room.path("tiny.safetensors"), &place).unwrap();
    let error = site.run(&tag).error(1);
    assert!(
        error.contains("datacomp_xl_s13b_b90k.safetensors"),
        "{error}"
    );

    let hub = site.run_with(&classify(), "HF_HUB_OFFLINE", "1");
    let error = hub.error(1);
    assert!(
        error.contains("open_clip_config.json of org/tiny") && error.contains("local-dir:DIR"),
        "{error}"
    );
}

#[test]
fn what_the_hub_does_not_have_is_named() {
    let site = Site::new();
    let model = |name: &'static str| ["info", "--model", name];
    let error = site.run(&model("hf-hub:org/nothing")).error(1);
    assert!(
        error.contains("org/nothing has no open_clip_config.json"),
        "{error}"
    );
    let error = site.run(&model("hf-hub:../secret")).error(1);
    assert!(error.contains("expected ORG/NAME"), "{error}");
    site.server.misbehave(&[Fault::Status(401)]);
    let error = site.run(&model("hf-hub:org/private")).error(1);
    assert!(error.contains("HF_TOKEN"), "{error}");
}

#[test]
fn addresses_are_downloaded_with_the_checksum_they_contain() {
    let site = Site::new();
    let weights = fs::read(site.room.path("tiny.safetensors")).unwrap();
    let load = |address: &str| {
        let address = format!("{}{address}", site.server.endpoint);
        let args = ["classify", "--model", "tiny.json", "--pretrained", &address];
        site.run(&[&args[..], &PICTURE].concat())
    };
    let expected = site.room.run(&[&FILE[..], &PICTURE].concat()).ok().stdout;

    site.server
        .misbehave(&[Fault::Status(500), Fault::Cut(700)]);
    assert_eq!(load("/files/tiny.safetensors").ok().stdout, expected);
    assert!(
        site.server
            .requests()
            .contains(&"/files/tiny.safetensors 700-".to_owned())
    );
    assert_eq!(load("/files/tiny.safetensors").ok().stdout, expected);
    assert!(site.server.requests().is_empty());
    assert!(site.room.path(".cache/clip/tiny.safetensors").is_file());

    let own = format!("/openaipublic/{}/own.safetensors", sha256(&weights));
    site.server.misbehave(&[Fault::Damage]);
    let error = load(&own).error(1);
    assert!(error.contains("sha256"), "{error}");
    site.server
        .misbehave(&[Fault::Cut(700), Fault::IgnoreRange]);
    assert_eq!(load(&own).ok().stdout, expected);
    // A file of the cache that has been changed is downloaded again.
    fs::write(site.room.path(".cache/clip/own.safetensors"), "other").unwrap();
    assert_eq!(load(&own).ok().stdout, expected);

    let wrong = format!("/openaipublic/{}/wrong.safetensors", sha256(b""));
    let error = load(&wrong).error(1);
    assert!(error.contains(&sha256(&weights)), "{error}");
    assert!(!site.room.path(".cache/clip/wrong.safetensors").exists());
    let error = load("/files/nothing.pt").error(1);
    assert!(error.contains("404"), "{error}");
}

#[test]
fn a_text_tower_starts_from_its_published_encoder() {
    let site = Site::new();
    let sizes = serde_json::json!({
        "vocab_size": 24, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 10, "max_position_embeddings": 16, "type_vocab_size": 2
    });
    let model = serde_json::json!({
        "embed_dim": 8,
        "vision_cfg": {"image_size": 10, "patch_size": 5, "width": 8, "head_width": 4, "layers": 1},
        "text_cfg": {
            "hf_model_name": "org/roberta-base", "hf_tokenizer_name": "roberta-base", "context_length": 12,
            "hf_model_config": sizes
        }
    });
    site.room.write("roberta.json", model.to_string());
    let args = [
        "convert",
        "--model",
        "roberta.json",
        "--output",
        "out.safetensors",
    ];
    let start = |offline| {
        let ran = site.run_with(&args, "HF_HUB_OFFLINE", offline).ok();
        let read = |path: &std::path::Path| StateDict::read(path).unwrap();
        let [found, wanted] = [
            (
                read(&site.room.path("out.safetensors")),
                "text.transformer.",
            ),
            (read(PUBLISHED.as_ref()), "roberta."),
        ]
        .map(|(dict, prefix)| {
            let key = format!("{prefix}encoder.layer.1.output.dense.weight");
            dict.tensors[&key].to_f32().unwrap()
        });
        (found == wanted, ran.stderr)
    };
    let (same, said) = start("1");
    assert!(!same);
    for word in [
        "org/roberta-base starts from random weights",
        "HF_HUB_OFFLINE",
        "model.safetensors or pytorch_model.bin into",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (same, said) = start("0");
    assert!(
        same && !said.contains("starts from random weights"),
        "{said}"
    );
    site.server.requests();
    assert!(start("0").0);
    assert_eq!(site.server.requests(), Vec::<String>::new());
}
