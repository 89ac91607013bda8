//! Weights files against PyTorch and OpenCLIP. `tests/parity/export_weights.py` made the fixtures.

mod hostile;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use openclip_model::load::keys::{normalise, with_text_prefix};
use openclip_model::weights::resize::{resize_image_pos_embed, resize_text_pos_embed};
use openclip_model::weights::{
    DType, Difference, RawTensor, StateDict, TensorOut, WeightsError, write_safetensors,
};
use openclip_tests::{finite, fixture, max_difference};
use safetensors::SafeTensors;

fn data(name: &str) -> PathBuf {
    fixture("weights").join(name)
}

fn read(name: &str) -> StateDict {
    StateDict::read(&data(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(name: &str) -> WeightsError {
    match StateDict::read(&data(name)) {
        Err(error) => error,
        Ok(dict) => panic!("{name} was read: {:?}", dict.tensors.keys()),
    }
}

/// Shape and `f32` values by key, read by the format's own library.
fn reference(name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(data(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let value = |chunk: &[u8]| f32::from_le_bytes(chunk.try_into().unwrap());
    file.iter()
        .map(|(key, view)| {
            let values: Vec<f32> = view.data().chunks_exact(4).map(value).collect();
            (key.to_string(), (view.shape().to_vec(), finite(values)))
        })
        .collect()
}

#[test]
fn every_form_holds_what_pytorch_sees() {
    let expected = reference("expected.safetensors");
    let files: BTreeSet<_> = expected
        .keys()
        .map(|key| key.split_once('/').unwrap().0)
        .collect();
    assert!(files.len() >= 20, "{files:?}");
    for file in files {
        let dict = read(file);
        let prefix = format!("{file}/");
        let wanted = expected
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?, value)))
            // Counters of BatchNorm that nothing here needs.
            .filter(|(key, _)| !key.ends_with("num_batches_tracked"));
        let wanted: Vec<_> = wanted.collect();
        let keys: Vec<_> = wanted.iter().map(|(key, _)| *key).collect();
        assert_eq!(dict.tensors.keys().collect::<Vec<_>>(), keys, "{file}");
        for (key, (shape, values)) in wanted {
            let tensor = &dict.tensors[key];
            assert_eq!(&tensor.shape, shape, "{file}/{key}");
            assert_eq!(&tensor.to_f32().unwrap(), values, "{file}/{key}");
        }
        assert!(!dict.is_openai());
    }
}

#[test]
fn element_types_and_metadata_are_kept() {
    assert_eq!(read("f16.pt").tensors["logit_scale"].dtype, DType::F16);
    assert_eq!(
        read("bf16.safetensors").tensors["logit_scale"].dtype,
        DType::BF16
    );
    assert_eq!(read("integers.pt").tensors["i64"].dtype, DType::I64);
    assert_eq!(
        read("integers.safetensors").tensors["bool"].dtype,
        DType::Bool
    );
    assert_eq!(read("metadata.safetensors").metadata["note"], "kept");
}

#[test]
fn content_decides_not_the_extension() {
    let folder = tempfile::tempdir().unwrap();
    for (source, name) in [
        ("zip.pt", "a.safetensors"),
        ("f64.safetensors", "b.pt"),
        ("legacy.pt", "c.npz"),
    ] {
        let path = folder.path().join(name);
        std::fs::copy(data(source), &path).unwrap();
        let dict = StateDict::read(&path).unwrap();
        assert_eq!(dict.tensors["visual.proj"].shape, [4, 3], "{name}");
    }
}

#[test]
fn openai_archive_has_the_weights_of_its_state_dict() {
    let dict = read("openai.pt");
    assert!(dict.is_openai());
    let json = std::fs::read_to_string(data("openai.json")).unwrap();
    let wanted: BTreeMap<String, (Vec<usize>, f64, f64)> = serde_json::from_str(&json).unwrap();
    assert_eq!(
        dict.tensors.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>()
    );
    for (key, (shape, sum, placed)) in &wanted {
        let tensor = &dict.tensors[key];
        assert_eq!((tensor.dtype, &tensor.shape), (DType::F16, shape), "{key}");
        let values = tensor.to_f32().unwrap();
        let found: f64 = values.iter().map(|&v| f64::from(v)).sum();
        let place = |(i, &v): (usize, &f32)| f64::from(v) * (i % 97 + 1) as f64;
        let found_placed: f64 = values.iter().enumerate().map(place).sum();
        // Two orders of summation in f64.
        assert!(
            (found - sum).abs() < 1e-9 && (found_placed - placed).abs() < 1e-7,
            "{key}"
        );
    }
}

#[test]
fn hugging_face_clip_becomes_openclip() {
    let (dict, wanted) = (read("hf.safetensors"), reference("hf_expected.safetensors"));
    assert_eq!(
        dict.tensors.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>()
    );
    for (key, (shape, values)) in &wanted {
        assert_eq!(&dict.tensors[key].shape, shape, "{key}");
        assert_eq!(&dict.tensors[key].to_f32().unwrap(), values, "{key}");
    }
    // Normalising what is normal changes nothing.
    let again = normalise(dict.clone()).unwrap();
    assert_eq!(
        again.tensors.keys().collect::<Vec<_>>(),
        dict.tensors.keys().collect::<Vec<_>>()
    );
}

#[test]
fn text_keys_move_under_text_and_back() {
    let dict = read("hf.safetensors");
    let names = |dict: &StateDict| dict.tensors.keys().cloned().collect::<BTreeSet<_>>();
    let root = names(&dict);
    let custom = with_text_prefix(dict, true);
    for key in &root {
        let stays = key.starts_with("visual.") || key == "logit_scale";
        let name = if stays {
            key.clone()
        } else {
            format!("text.{key}")
        };
        assert!(custom.tensors.contains_key(&name), "{name}");
    }
    assert_eq!(
        names(&with_text_prefix(custom.clone(), true)),
        names(&custom)
    );
    let back = with_text_prefix(custom, false);
    assert_eq!(names(&back), root);
    assert_eq!(names(&with_text_prefix(back, false)), root);
}

#[test]
fn positional_embeddings_resize_as_in_openclip() {
    let cases = reference("resize.safetensors");
    let olds: Vec<_> = cases
        .keys()
        .filter_map(|key| key.strip_suffix(".old"))
        .collect();
    assert_eq!(olds.len(), 12);
    for name in olds {
        let (shape, values) = &cases[&format!("{name}.old")];
        let (new_shape, wanted) = &cases[&format!("{name}.new")];
        let old = [shape[0], shape[1]];
        let found = match name.split_once("_to_").unwrap() {
            (kind, grid) if kind.starts_with("image") => {
                let (height, width) = grid.split_once('x').unwrap();
                resize_image_pos_embed(
                    values,
                    old,
                    (height.parse().unwrap(), width.parse().unwrap()),
                )
            }
            _ => resize_text_pos_embed(values, old, new_shape[0]),
        };
        let found = found.unwrap();
        let worst = max_difference(&found, wanted);
        // Sums of at most 14 × 14 products of f32 values around one, in another order.
        assert!(worst < 2e-6, "{name}: {worst}");
    }
}

#[test]
fn positional_embeddings_that_cannot_be_resized_are_errors() {
    let message = |result: Result<Vec<f32>, WeightsError>| result.unwrap_err().to_string();
    assert!(message(resize_image_pos_embed(&[0.0; 8 * 3], [8, 3], (2, 2))).contains("not square"));
    assert!(message(resize_image_pos_embed(&[0.0; 10 * 3], [10, 4], (2, 2))).contains("30 values"));
    assert!(resize_image_pos_embed(&[0.0; 3], [1, 3], (2, 2)).is_err());
    assert!(resize_image_pos_embed(&[0.0; 5 * 3], [5, 3], (0, 2)).is_err());
    assert!(resize_text_pos_embed(&[0.0; 6], [4, 2], 3).is_err());
    assert!(resize_text_pos_embed(&[], [0, 2], 3).is_err());
}

#[test]
fn written_files_are_readable_deterministic_and_atomic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    let values = [1.5f32, -2.0, 0.25, 3.0, 4.0, 5.0];
    let tensors = || {
        let mask = TensorOut {
            key: "mask",
            dtype: DType::Bool,
            shape: &[3],
            bytes: vec![1, 0, 1].into(),
        };
        vec![
            mask,
            TensorOut::f32("b.weight", &[2, 3], &values),
            TensorOut::f32("a", &[], &values[..1]),
        ]
    };
    let metadata: BTreeMap<_, _> = (0..8)
        .map(|i| (format!("key{i}"), format!("{i} \"ü\"")))
        .collect();
    write_safetensors(&path, tensors(), &metadata).unwrap();
    let first = std::fs::read(&path).unwrap();
    write_safetensors(&path, tensors().into_iter().rev(), &metadata).unwrap();
    assert_eq!(first, std::fs::read(&path).unwrap());

    let file = SafeTensors::deserialize(&first).unwrap();
    assert_eq!(file.tensor("b.weight").unwrap().shape(), [2, 3]);
    let (_, header) = SafeTensors::read_metadata(&first).unwrap();
    let found = header.metadata().clone().unwrap();
    assert_eq!(found["format"], "pt");
    assert_eq!(found["key3"], "3 \"ü\"");
    let dict = StateDict::read(&path).unwrap();
    assert_eq!(dict.tensors["b.weight"].to_f32().unwrap(), values);
    assert_eq!(dict.tensors["a"].shape, [0usize; 0]);
    assert_eq!(dict.tensors["mask"].to_f32().unwrap(), [1.0, 0.0, 1.0]);

    // A failed write leaves the old file and nothing else.
    let twice = [
        TensorOut::f32("a", &[], &values[..1]),
        TensorOut::f32("a", &[], &values[..1]),
    ];
    assert!(
        write_safetensors(&path, twice, &metadata)
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
    let unfit = [TensorOut::f32("a", &[2], &values)];
    assert!(write_safetensors(&path, unfit, &metadata).is_err());
    assert!(write_safetensors(&folder.path().join("absent/x"), tensors(), &metadata).is_err());
    assert_eq!(first, std::fs::read(&path).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        let other = folder.path().join("other");
        std::fs::write(&other, b"").unwrap();
        assert_eq!(
            mode,
            std::fs::metadata(&other).unwrap().permissions().mode()
        );
    }
}

#[test]
fn a_mismatch_names_every_key() {
    let error = WeightsError::Mismatch {
        file: "w.pt".into(),
        difference: Box::new(Difference {
            missing: vec!["m1".into(), "m2".into()],
            unexpected: vec!["u1".into()],
            shapes: vec![("s1".into(), vec![2, 3], vec![3, 2])],
            ..Difference::default()
        }),
    };
    let text = error.to_string();
    for word in ["w.pt", "m1", "m2", "u1", "s1", "[2, 3]", "[3, 2]"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn tensors_in_memory_reshape_and_transpose() {
    let tensor = RawTensor::from_f32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![2, 3]);
    let turned = tensor.clone().transposed();
    assert_eq!((turned.shape.as_slice(), turned.numel()), (&[3, 2][..], 6));
    assert_eq!(turned.to_f32().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert!(turned.reshaped(vec![6]).is_none());
    assert_eq!(tensor.clone().reshaped(vec![6, 1]).unwrap().shape, [6, 1]);
    assert!(tensor.reshaped(vec![7]).is_none());
    assert!(RawTensor::from_f32(vec![1.0], vec![2]).to_f32().is_err());
}
