//! Image towers that begin with weights which timm publishes for them alone (`--pretrained-image`).

use std::collections::HashMap;
use std::path::Path;

use openclip_model::ModelError;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::weights::{StateDict, TensorOut, write_safetensors};
use openclip_tests::{device, fixture_tensors, json, named_values, parameters_of};

const TRUNK: &str = "visual.trunk.";

/// Shapes and values by name.
type Published = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// The tower of a case as timm saves it by itself: without prefix, with a layer of classes.
fn published(case: &str, prefix: &str) -> Published {
    let dict = fixture_tensors(&format!("{case}.safetensors"), "weights/");
    let trunk = dict.tensors.iter().filter_map(|(key, tensor)| {
        let name = key.strip_prefix(TRUNK)?;
        let values = tensor.to_f32().unwrap();
        Some((format!("{prefix}{name}"), (tensor.shape.clone(), values)))
    });
    trunk
        .chain([(
            format!("{prefix}head.fc.weight"),
            (vec![3, 2], vec![0.5; 6]),
        )])
        .collect()
}

fn write(tensors: &Published, file: &Path) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let tensors = tensors
        .iter()
        .map(|(key, (shape, values))| TensorOut::f32(key, shape, values));
    write_safetensors(file, tensors, &Default::default()).unwrap();
}

/// A model of the case's configuration from random weights, with timm's file in the place where a user may put it.
fn create(case: &str, tensors: Option<&Published>) -> Result<Loaded, ModelError> {
    let dir = tempfile::tempdir().unwrap();
    let config = &json(&format!("{case}.json"))["model_cfg"];
    let path = dir.path().join("model.json");
    std::fs::write(&path, config.to_string()).unwrap();
    if let Some(tensors) = tensors {
        let name = match config["vision_cfg"]["timm_model_name"].as_str().unwrap() {
            name if name.starts_with("convnext") => format!("timm-{name}.fb_in22k_ft_in1k"),
            name => format!("timm-{name}.ms_in22k_ft_in1k"),
        };
        write(tensors, &dir.path().join(name).join("model.safetensors"));
    }
    let options = CreateOptions {
        pretrained_image: tensors.is_some(),
        cache_dir: Some(dir.path().to_owned()),
        ..CreateOptions::default()
    };
    factory::create(path.to_str().unwrap(), None, &device(), &options)
}

#[test]
fn the_trunk_has_timm_s_values_and_the_rest_its_own() {
    for (case, prefix) in [
        ("convnext/linear", ""),
        ("convnext/mlp", TRUNK),
        ("timm_towers/swin", ""),
    ] {
        let tensors = published(case, prefix);
        let random = parameters_of(&create(case, None).unwrap().model);
        let loaded = create(case, Some(&tensors)).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{case}");
        let mut count = 0;
        for (found, random) in parameters_of(&loaded.model).iter().zip(&random) {
            let place = format!("{case}: {}", found.key);
            match found.key.strip_prefix(TRUNK) {
                Some(name) => {
                    let (_, wanted) = &tensors[&format!("{prefix}{name}")];
                    assert_eq!(&found.values, wanted, "{place}");
                    count += 1;
                }
                None => assert_eq!(found.values, random.values, "{place}"),
            }
        }
        assert!(count > 20, "{case}");
    }
}

/// A map that is the trunk's own layer of classes keeps its random start, unless the file has as many.
#[test]
fn classes_of_another_number_are_told_of() {
    let case = "convnext/classifier";
    let mut tensors = published(case, "");
    let own = fixture_tensors(&format!("{case}.safetensors"), "weights/");
    let weight = &own.tensors[&format!("{TRUNK}head.fc.weight")];
    tensors.insert(
        "head.fc.weight".into(),
        (weight.shape.clone(), weight.to_f32().unwrap()),
    );
    assert_eq!(
        create(case, Some(&tensors)).unwrap().warnings,
        Vec::<String>::new()
    );
    tensors.insert("head.fc.weight".into(), (vec![3, 2], vec![0.5; 6]));
    let warnings = create(case, Some(&tensors)).unwrap().warnings;
    assert!(
        warnings[0].contains("visual.trunk.head.fc.weight"),
        "{warnings:?}"
    );
}

#[test]
fn a_file_that_does_not_fit_is_named_with_what_is_missing() {
    let case = "convnext/linear";
    let mut tensors = published(case, "");
    tensors.remove("stages.2.blocks.1.conv_dw.weight").unwrap();
    let bias = tensors.get_mut("stem.0.bias").unwrap();
    *bias = (vec![7], vec![0.0; 7]);
    let error = create(case, Some(&tensors)).unwrap_err().to_string();
    for told in [
        "timm-convnext_base.fb_in22k_ft_in1k",
        "missing     visual.trunk.stages.2.blocks.1.conv_dw.weight",
        "visual.trunk.stem.0.bias",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
}

/// Weights of the whole model leave nothing to do, which is said.
#[test]
fn weights_of_the_whole_model_win() {
    let case = "convnext/linear";
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("whole.safetensors");
    let saved = create(case, None).unwrap();
    saved.save(&weights).unwrap();
    let path = dir.path().join("model.json");
    let config = &json(&format!("{case}.json"))["model_cfg"];
    std::fs::write(&path, config.to_string()).unwrap();
    let options = CreateOptions {
        pretrained_image: true,
        ..CreateOptions::default()
    };
    let [path, weights] = [&path, &weights].map(|path| path.to_str().unwrap());
    let loaded = factory::create(path, Some(weights), &device(), &options).unwrap();
    assert!(
        loaded
            .warnings
            .iter()
            .any(|text| text.contains("--pretrained-image"))
    );
    let whole = StateDict::read(Path::new(weights)).unwrap();
    for (key, values) in named_values(&whole) {
        let own = parameters_of(&loaded.model);
        let found = own.iter().find(|param| param.key == key).unwrap();
        assert_eq!(found.values, values, "{key}");
    }
}
