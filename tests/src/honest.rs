//! A test of the tests: a value that is not finite fails every comparison, wherever it is and on whichever side.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Tensor;
use openclip_model::params::ParamValues;
use openclip_model::weights::{RawTensor, StateDict};
use safetensors::SafeTensors;
use serde_json::json;

use crate::family::{self, equal_gradients, near_in_bf16, same_gradients, same_moments};
use crate::{
    Tensors, device, fixture, largest, max_difference, named_values, parameters_of,
    relative_difference, values,
};

const ODD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

fn fails<T>(what: &str, body: impl FnOnce() -> T) {
    let ended = catch_unwind(AssertUnwindSafe(body));
    assert!(ended.is_err(), "{what} is taken for a number");
}

/// Copies of `good` with one odd value each, in every place.
fn spoilt(good: &[f32]) -> Vec<Vec<f32>> {
    let places = (0..good.len()).flat_map(|i| ODD.map(|odd| (i, odd)));
    let copies = places.map(|(i, odd)| {
        let mut values = good.to_vec();
        values[i] = odd;
        values
    });
    copies.collect()
}

/// Asserts that `compare` takes equal values, and nothing that is odd on one side or on both.
fn refuses_odd_values<T>(compare: impl Fn(&[f32], &[f32]) -> T) {
    let good = [0.5, -1.0, 0.25, 0.0];
    compare(&good, &good);
    for bad in spoilt(&good) {
        fails(&format!("{bad:?} found"), || compare(&bad, &good));
        fails(&format!("{bad:?} wanted"), || compare(&good, &bad));
        fails(&format!("{bad:?} twice"), || compare(&bad, &bad));
    }
}

fn param(key: &str, values: &[f32]) -> ParamValues {
    ParamValues {
        key: key.into(),
        shape: vec![values.len()],
        values: values.to_vec(),
        dtype: openclip_model::weights::DType::F32,
    }
}

fn expected(gradients: &[(&str, &[f32])]) -> Tensors {
    let named = gradients.iter().map(|(key, values)| {
        let tensor = (vec![values.len()], values.to_vec());
        (format!("grad/{key}"), tensor)
    });
    Tensors(named.collect())
}

#[test]
fn differences() {
    refuses_odd_values(max_difference);
    refuses_odd_values(relative_difference);
    refuses_odd_values(|found, wanted| largest(found).max(largest(wanted)));
}

#[test]
fn gradients() {
    let other = [3.0, 4.0];
    refuses_odd_values(|found, wanted| {
        let sides = [found, wanted].map(|values| [param("other", &other), param("own", values)]);
        equal_gradients("case", &sides[0], &sides[1], 1e-3)
    });
    refuses_odd_values(|found, wanted| {
        let found = [param("other", &other), param("own", found)];
        let wanted = expected(&[("other", &other), ("own", wanted)]);
        same_gradients("case", "grad/", &found, &wanted, 1e-3)
    });
}

#[test]
fn gradients_where_none_is_expected() {
    let wanted = expected(&[("own", &[1.0])]);
    let nothing = expected(&[("own", &[0.0])]);
    let same = |wanted: &Tensors, own: &[f32], fixed: &[f32]| {
        let found = [param("own", own), param("fixed", fixed)];
        same_gradients("case", "grad/", &found, wanted, 1e-3)
    };
    same(&wanted, &[1.0], &[0.0, 1e-6]);
    same(&nothing, &[1e-6], &[0.0]);
    for odd in ODD {
        fails("a gradient of what is fixed", || {
            same(&wanted, &[1.0], &[0.0, odd])
        });
        fails("a gradient of no loss", || same(&nothing, &[odd], &[0.0]));
    }
}

/// Of a large gradient a fixture holds some values; the others count as well.
#[test]
fn gradients_that_are_sampled() {
    let whole = vec![1.0; 1000];
    let wanted = vec![1.0; 50];
    let wanted = expected(&[("own", &wanted)]);
    let same = |own: &[f32]| same_gradients("case", "grad/", &[param("own", own)], &wanted, 1e-3);
    same(&whole);
    for bad in spoilt(&whole) {
        fails("a value between the samples", || same(&bad));
    }
}

#[test]
fn moments_of_initial_weights() {
    let drawn = [1.0, -1.0, 1.0, -1.0];
    let normal = json!({"mean": 0.0, "std": 1.0, "kurtosis": 3.0});
    same_moments("case", &drawn, &normal);
    for bad in spoilt(&drawn) {
        fails("a weight", || same_moments("case", &bad, &normal));
    }
    let ones = json!({"constant": 1.0});
    same_moments("case", &[1.0; 3], &ones);
    for bad in spoilt(&[1.0; 3]) {
        fails("a constant", || same_moments("case", &bad, &ones));
    }
}

/// What tests read from tensors, files and models.
#[test]
fn values_that_are_read() {
    for odd in ODD {
        let tensor = Tensor::<1>::from_floats([1.0, odd, 2.0], &device());
        fails("a tensor's value", || values(tensor));
        let raw = RawTensor::from_f32(vec![1.0, odd], vec![2]);
        let mut dict = StateDict::default();
        dict.tensors.insert("key".into(), raw);
        fails("a file's value", || named_values(&dict));
    }
}

/// A model, its weights and what is wanted of it, each with an odd value among good ones.
#[test]
fn models_and_fixtures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case").display().to_string();
    let copy = |extension: &str| {
        let from = fixture(&format!("models/vit_plain.{extension}"));
        let to = format!("{path}.{extension}");
        std::fs::copy(from, &to).unwrap();
        to
    };
    copy("json");
    near_in_bf16_with(&copy("safetensors"), &path, None);
    for name in ["output/text_features", "weights/text_projection"] {
        for odd in ODD {
            let file = copy("safetensors");
            fails(name, || near_in_bf16_with(&file, &path, Some((name, odd))));
        }
    }
    fails("a weight", || parameters_of(&family::model(&path)));
}

/// Compares the case in half precision, with the first value of one of its tensors replaced.
fn near_in_bf16_with(file: &str, path: &str, odd: Option<(&str, f32)>) {
    if let Some((name, odd)) = odd {
        let mut bytes = std::fs::read(file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let data = tensors.tensor(name).unwrap().data().as_ptr();
        let at = data.addr() - bytes.as_ptr().addr();
        bytes[at..at + 4].copy_from_slice(&odd.to_le_bytes());
        std::fs::write(file, bytes).unwrap();
    }
    near_in_bf16(path, 3e-2);
}
