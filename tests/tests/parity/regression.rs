//! One test per mended report, named after what went wrong.

use burn::tensor::Tensor;
use openclip_model::factory::CreateOptions;
use openclip_model::l2_normalize;
use openclip_model::weights::{DType, RawTensor};
use openclip_tests::family::create;
use openclip_tests::{device, values};

use crate::loading::{small, write};

/// A picture or a caption whose feature is zero has a finite gradient, as in PyTorch.
#[test]
fn a_zero_feature_has_a_gradient() {
    let device = device().autodiff();
    let x = Tensor::<2>::from_data([[0.0, 0.0], [3.0, 4.0]], &device).require_grad();
    let unit = l2_normalize(x.clone());
    assert_eq!(values(unit.clone()), [0.0, 0.0, 0.6, 0.8]);
    let gradients = (unit * Tensor::from_data([[1.0, -2.0], [1.0, 0.0]], &device))
        .sum()
        .backward();
    let found = values(x.grad(&gradients).unwrap());
    // torch.nn.functional.normalize gives the same: 1/1e-12 at zero.
    let wanted = [1e12, -2e12, 0.128, -0.096];
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(
            (found - wanted).abs() <= 1e-5 * wanted.abs(),
            "{found} instead of {wanted}"
        );
    }
}

/// What `torch.jit.load(…).state_dict()` of OpenAI's archives holds besides the weights.
#[test]
fn constants_of_openai_are_not_weights() {
    let (config, mut dict) = small();
    for key in ["input_resolution", "context_length", "vocab_size"] {
        dict.tensors.insert(
            key.into(),
            RawTensor::from_bytes(DType::I64, vec![0; 8], vec![]),
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("openai.safetensors");
    write(&dict, &path);
    create(&config, &path, &CreateOptions::default()).unwrap();
}
