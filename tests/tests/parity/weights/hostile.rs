//! Files that lie, are damaged, or are no weights: one clear error each, and nothing in them runs.

use std::path::Path;

use openclip_model::weights::{RawTensor, StateDict, WeightsError};

use super::{data, read, refusal};

#[test]
fn hostile_pickles_are_refused_by_name_and_not_run() {
    let forbidden = [
        ("evil_reduce.pt", "posix.system"),
        ("evil_legacy.pt", "posix.system"),
        ("evil_train.pt", "posix.system"),
        ("evil_bare.pkl", "posix.system"),
        ("evil_inst.pt", "os.system"),
        ("evil_protocol0.pt", "os.system"),
        ("evil_newobj.pt", "os.system"),
        ("evil_build.pt", "builtins.exec"),
        ("evil_stack_global.pt", "os.system"),
        ("evil_script.pt", "subprocess.Popen"),
    ];
    for (file, name) in forbidden {
        match refusal(file) {
            WeightsError::ForbiddenGlobal { global, .. } => assert_eq!(global, name, "{file}"),
            other => panic!("{file}: {other}"),
        }
        let message = refusal(file).to_string();
        assert!(
            message.contains(file) && message.contains(name),
            "{message}"
        );
    }
    assert!(!Path::new("/tmp/openclip_pickle_was_executed").exists());
}

/// Pickles that would take much of everything: one error or none, and little memory.
#[test]
fn pickles_that_ask_for_much_get_little() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("much.pkl");
    let refusal = |pickle: &[u8]| {
        std::fs::write(&path, pickle).unwrap();
        StateDict::read(&path).unwrap_err().to_string()
    };
    // Lengths of bytes, texts and numbers that the file has not.
    for (length, width) in [
        (&b"\x8d"[..], 8),
        (b"\x8e", 8),
        (b"\x96", 8),
        (b"X", 4),
        (b"B", 4),
        (b"T", 4),
        (b"\x8b", 4),
    ] {
        let pickle = [b"\x80\x04", length, &vec![0xff; width], b"abc."].concat();
        assert!(refusal(&pickle).contains("truncated"), "{length:?}");
    }
    // A million tuples in each other, and a list a hundred thousand times in itself.
    let deep = [&b"\x80\x04)"[..], &vec![0x85; 1_000_000], b"."].concat();
    assert!(refusal(&deep).contains("no state dict"));
    let wide = [&b"\x80\x04]\x94("[..], &b"h\0".repeat(100_000), b"e."].concat();
    assert!(refusal(&wide).contains("no state dict"));
    // A tensor's class around a tensor's class, as deep as the file is long.
    let one = b"ctorch._tensor\n_rebuild_from_type_v2\n\x94".as_slice();
    let nested = b"h\0N\x86\x94".as_slice();
    let chain = [
        b"\x80\x04",
        one,
        b"N)",
        &b"h\0NN\x87".repeat(10),
        nested,
        b"R.",
    ]
    .concat();
    assert!(refusal(&chain).contains("pickle"));
    let mut around = [b"\x80\x04", one, b"0h\0(h\0N)t"].concat();
    for _ in 0..100_000 {
        // ( rebuild, None, the tuple before )
        around.extend(b"\x94(h\0Nj");
        around.extend(1u32.to_le_bytes());
        around.extend(b"t");
    }
    around.extend(b"R.");
    std::fs::write(&path, around).unwrap();
    assert!(StateDict::read(&path).is_err());
    // More values than any checkpoint has.
    let many = [&b"\x80\x04("[..], &vec![b')'; 3_000_000], b"l."].concat();
    assert!(refusal(&many).contains("more than"));
    // Dicts that hold each other many times over.
    let mut dicts = b"\x80\x04}\x94".to_vec();
    for _ in 0..20 {
        dicts.extend(b"}\x94(");
        for name in 0..60u8 {
            dicts.extend([0x8c, 1, 60 + name, b'h', 0]);
        }
        dicts.extend(b"u");
    }
    dicts.extend(b"0".repeat(20));
    dicts.extend(b"(");
    for name in 0..60u8 {
        dicts.extend([0x8c, 1, 60 + name, b'h', 0]);
    }
    dicts.extend(b"uh\0.");
    assert!(refusal(&dicts).contains("much.pkl"));
}

#[test]
fn impossible_views_are_refused_by_key() {
    assert_eq!(
        read("view_good.pt").tensors["weight"].to_f32().unwrap(),
        [0.0; 4]
    );
    for name in [
        "numel",
        "negative_numel",
        "offset",
        "negative_offset",
        "shape",
        "overflow",
        "negative_shape",
        "strides",
        "expanded",
        "ranks",
        "axes",
    ] {
        match refusal(&format!("view_{name}.pt")) {
            WeightsError::Tensor { key, .. } => assert_eq!(key, "weight", "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
    assert!(
        refusal("view_no_data.pt")
            .to_string()
            .contains("archive/data/7")
    );
}

#[test]
fn what_holds_no_weights_is_one_clear_error() {
    for (file, words) in [
        ("cyclic.pt", "no state dict"),
        ("cyclic_script.pt", "contains itself"),
        ("wide_script.pt", "too wide"),
        ("deep.pt", "no state dict"),
        ("bomb.pt", "is compressed"),
        ("big_endian.pt", "byteorder"),
        ("no_tensor.pt", "[\"epoch\"]"),
        ("numpy.npz", "NumPy"),
    ] {
        let message = refusal(file).to_string();
        assert!(
            message.contains(words) && message.contains(file),
            "{message}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pt");
    for (content, words) in [
        (&b""[..], "empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "Git LFS",
        ),
        (b"<!DOCTYPE html>", "HTML"),
        (b"\x93NUMPY\x01\0", "NumPy"),
        (b"random words of text", "no weights format"),
        (b"\n  <html>", "HTML"),
        (b"{\"error\": \"not found\"}", "JSON"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x89HDF\r\n\x1a\n\0", "HDF5"),
        (b"\x08\x07\x12\x07pytorch", "ONNX"),
        (b"\x81\xa6params\x82", "MessagePack"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (&[0; 600], "nothing but zeros"),
        (
            b"PK\x03\x04 and then something else entirely",
            "zip directory",
        ),
    ] {
        std::fs::write(&path, content).unwrap();
        let message = StateDict::read(&path).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    assert!(matches!(
        StateDict::read(folder.path()),
        Err(WeightsError::Io { .. })
    ));
    assert!(matches!(
        StateDict::read(&data("absent.pt")),
        Err(WeightsError::Io { .. })
    ));
}

#[test]
fn lying_safetensors_headers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lie.safetensors");
    let attempt = |declared: u64, json: &str, data: usize| {
        let bytes = [&declared.to_le_bytes(), json.as_bytes(), &vec![0; data]].concat();
        std::fs::write(&path, bytes).unwrap();
        StateDict::read(&path)
    };
    let honest = |json: &str, data: usize| attempt(json.len() as u64, json, data);
    let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(honest(one, 8).is_ok());
    assert!(honest(one, 7).is_err(), "truncated data");
    assert!(honest(one, 9).is_err(), "bytes of no tensor");
    assert!(attempt(u64::MAX, one, 8).is_err(), "huge header");
    assert!(attempt(1 << 40, one, 8).is_err(), "huge header");
    assert!(
        attempt(one.len() as u64 + 9, one, 8).is_err(),
        "header beyond the file"
    );
    for json in [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#,
    ] {
        let error = honest(json, 16).expect_err(json).to_string();
        assert!(error.contains("lie.safetensors"), "{error}");
    }
    let four_bit = r#"{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}"#;
    let error = honest(four_bit, 4).unwrap_err().to_string();
    assert!(error.contains("`a`") && error.contains("F4"), "{error}");
}

/// Reads a file and every tensor in it; only a panic, a hang or a huge allocation can fail here.
fn survive(path: &Path) {
    if let Ok(dict) = StateDict::read(path) {
        let total: usize = dict.tensors.values().map(RawTensor::numel).sum();
        assert!(total < 1 << 20, "{total} elements from a small file");
        for tensor in dict.tensors.values() {
            let _ = tensor.to_f32();
        }
    }
}

#[test]
fn truncated_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut");
    for name in ["zip.pt", "legacy.pt", "f64.safetensors"] {
        let whole = std::fs::read(data(name)).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(
                StateDict::read(&path).is_err(),
                "{name} cut to {len} of {} bytes",
                whole.len()
            );
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    for name in [
        "zip.pt",
        "legacy.pt",
        "views.pt",
        "metadata.safetensors",
        "cyclic_script.pt",
        "protocol4.pt",
    ] {
        let whole = std::fs::read(data(name)).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] = [0, 0xff, whole[at] ^ 0x10, whole[at] ^ 1][at % 4];
            std::fs::write(&path, &damaged).unwrap();
            survive(&path);
        }
    }
}
