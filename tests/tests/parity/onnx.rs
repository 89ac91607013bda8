//! Models as ONNX files. What their numbers are is checked by `tests/parity/check_onnx.py`, which the ignored test writes for.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use openclip_model::factory::{CONFIG_METADATA, Loaded};
use openclip_model::onnx::proto::{Graph, Model, Tensor, ValueInfo};
use openclip_model::onnx::{self, MOST_WITHIN, OPSET, Part};
use openclip_model::params;
use openclip_tests::family::{cases, config};
use openclip_tests::{device, fixture};
use prost::Message;

/// Folders of the families' cases.
const FAMILIES: [&str; 9] = [
    "models",
    "resnet",
    "siglip",
    "convnext",
    "vitamin",
    "mobileclip",
    "eva",
    "timm_towers",
    "hftext",
];

/// Operators that files may have, all of them ONNX's own.
const OPERATORS: [&str; 45] = [
    "Add",
    "And",
    "ArgMax",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "ConstantOfShape",
    "Conv",
    "Cos",
    "CumSum",
    "Div",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Gather",
    "GatherElements",
    "GlobalAveragePool",
    "Greater",
    "Identity",
    "LayerNormalization",
    "Less",
    "Log",
    "MatMul",
    "Max",
    "MaxPool",
    "Mul",
    "Not",
    "Or",
    "Pow",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Sqrt",
    "Sub",
    "Transpose",
];
const FURTHER: [&str; 12] = [
    "GreaterOrEqual",
    "LessOrEqual",
    "Min",
    "Neg",
    "Pad",
    "ReduceMin",
    "Sin",
    "Tanh",
    "Tile",
    "Where",
    "HardSigmoid",
    "Abs",
];

fn loaded(path: &str) -> Loaded {
    let config = config(path);
    Loaded {
        model: openclip_tests::model(
            &config,
            &format!("{path}.safetensors"),
            "weights/",
            &device(),
        ),
        name: path.rsplit('/').next().unwrap().into(),
        config,
        preprocess: Default::default(),
        warnings: Vec::new(),
    }
}

fn read(path: &Path) -> (Model, Graph) {
    let mut model = Model::decode(&*std::fs::read(path).unwrap()).unwrap();
    let graph = model.graph.take().unwrap();
    (model, graph)
}

fn all_cases() -> Vec<String> {
    let folders = FAMILIES.iter().map(|family| fixture(family));
    let mut found: Vec<String> = folders.flat_map(|folder| cases(&folder)).collect();
    found.push(fixture("coca/pool").display().to_string());
    found
}

/// Names and extents of inputs or outputs; an open extent by its name.
fn infos(infos: &[ValueInfo]) -> Vec<(String, i32, Vec<String>)> {
    let info = |info: &ValueInfo| {
        let kind = info.kind.as_ref().unwrap().tensor.as_ref().unwrap();
        let dims = kind.shape.as_ref().unwrap().dim.iter();
        let dims = dims.map(|dim| match (dim.value, &dim.param) {
            (Some(value), None) => value.to_string(),
            (None, Some(name)) => name.clone(),
            other => panic!("{other:?}"),
        });
        (
            info.name.clone().unwrap(),
            kind.elem_type.unwrap(),
            dims.collect(),
        )
    };
    infos.iter().map(info).collect()
}

/// Every operand is there before it is used, every name is given once, and nothing is computed for nobody.
fn is_sound(case: &str, graph: &Graph) {
    let mut known: HashSet<&str> = HashSet::new();
    let mut used: HashSet<&str> = HashSet::new();
    let names = |infos: &'static str| move || panic!("{infos} without a name");
    for info in &graph.input {
        assert!(
            known.insert(info.name.as_deref().unwrap_or_else(names("an input"))),
            "{case}"
        );
    }
    for tensor in &graph.initializer {
        let name = tensor.name.as_deref().unwrap_or_else(names("a constant"));
        assert!(known.insert(name), "{case}: {name} twice");
        let size = match tensor.data_type {
            Some(9) => 1,
            Some(1) => 4,
            Some(7) => 8,
            other => panic!("{case}: {name} of type {other:?}"),
        };
        let count: i64 = tensor.dims.iter().product();
        let held = tensor.raw_data.as_ref().map_or(0, Vec::len);
        assert_eq!(count * size, held as i64, "{case}: {name}");
    }
    for node in &graph.node {
        let op = node.op_type.as_deref().unwrap();
        assert!(
            OPERATORS.contains(&op) || FURTHER.contains(&op),
            "{case}: {op}"
        );
        for input in &node.input {
            assert!(known.contains(input.as_str()), "{case}: {op} of {input}");
            used.insert(input);
        }
        for output in &node.output {
            assert!(known.insert(output), "{case}: {output} twice");
        }
    }
    for info in &graph.output {
        assert!(known.contains(info.name.as_deref().unwrap()), "{case}");
        used.insert(info.name.as_deref().unwrap());
    }
    let idle: Vec<_> = known.difference(&used).collect();
    assert!(idle.is_empty(), "{case}: nobody uses {idle:?}");
}

/// Constants that are parameters have the parameters' keys and values.
fn holds_parameters(case: &str, loaded: &Loaded, constants: &[Tensor]) -> usize {
    let all = params::export(&loaded.model).unwrap();
    let by_key: BTreeMap<_, _> = all
        .iter()
        .map(|param| (param.key.as_str(), param))
        .collect();
    let mut found = 0;
    for tensor in constants {
        let name = tensor.name.as_deref().unwrap();
        let Some(param) = by_key.get(name) else {
            continue;
        };
        found += 1;
        let mut own: Vec<u32> = param.values.iter().map(|value| value.to_bits()).collect();
        let raw = tensor.raw_data.as_ref().unwrap().as_chunks().0.iter();
        let mut there: Vec<u32> = raw.map(|bytes| u32::from_le_bytes(*bytes)).collect();
        // Matrices of linear layers are turned.
        own.sort_unstable();
        there.sort_unstable();
        assert_eq!(own, there, "{case}: {name}");
    }
    found
}

#[test]
fn every_family_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    let cases = all_cases();
    assert!(cases.len() > 60, "{}", cases.len());
    for case in cases {
        let loaded = loaded(&case);
        let files = onnx::export(&loaded, Part::Both, &path, MOST_WITHIN)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(files, [path.clone()]);
        let (model, graph) = read(&path);
        let opset = &model.opset_import[0];
        assert_eq!((opset.domain.as_ref(), opset.version), (None, Some(OPSET)));
        assert_eq!(model.metadata[0].key.as_deref(), Some(CONFIG_METADATA));
        is_sound(&case, &graph);
        let (height, width) = loaded.config.vision_cfg.image_size.dims();
        let (length, embed) = (
            loaded.config.text_cfg.context_length,
            loaded.config.embed_dim,
        );
        let text = |words: &[&dyn ToString]| words.iter().map(|word| word.to_string()).collect();
        let [pictures, captions] = ["image_batch", "text_batch"];
        let inputs: [(String, i32, Vec<String>); 2] = [
            ("image".into(), 1, text(&[&pictures, &3, &height, &width])),
            ("text".into(), 7, text(&[&captions, &length])),
        ];
        assert_eq!(infos(&graph.input), inputs, "{case}");
        let outputs: [(String, i32, Vec<String>); 3] = [
            ("image_features".into(), 1, text(&[&pictures, &embed])),
            ("text_features".into(), 1, text(&[&captions, &embed])),
            ("logits_per_image".into(), 1, text(&[&pictures, &captions])),
        ];
        assert_eq!(infos(&graph.output), outputs, "{case}");
        let parameters = holds_parameters(&case, &loaded, &graph.initializer);
        // Not those that features do not depend on: a caption decoder, a pooler that is not asked.
        assert!(parameters > 8, "{case}: {parameters} parameters");
    }
}

#[test]
fn one_tower_alone_has_its_own_input() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    let loaded = loaded(fixture("models/vit_plain").to_str().unwrap());
    for (part, input, output, prefix) in [
        (Part::Image, "image", "image_features", "visual."),
        (Part::Text, "text", "text_features", "transformer."),
    ] {
        onnx::export(&loaded, part, &path, MOST_WITHIN).unwrap();
        let (_, graph) = read(&path);
        is_sound(input, &graph);
        let [inputs, outputs] = [infos(&graph.input), infos(&graph.output)];
        assert_eq!((inputs.len(), outputs.len()), (1, 1));
        assert_eq!(
            (inputs[0].0.as_str(), outputs[0].0.as_str()),
            (input, output)
        );
        let of = |prefix: &str| {
            let names = graph
                .initializer
                .iter()
                .filter_map(|tensor| tensor.name.as_deref());
            names.filter(|name| name.starts_with(prefix)).count()
        };
        assert!(of(prefix) > 8);
        let other = if part == Part::Image {
            "transformer."
        } else {
            "visual."
        };
        assert_eq!(of(other), 0);
    }
}

#[test]
fn many_weights_go_to_a_file_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    let loaded = loaded(fixture("models/vit_plain").to_str().unwrap());
    onnx::export(&loaded, Part::Both, &path, MOST_WITHIN).unwrap();
    let (_, within) = read(&path);
    let files = onnx::export(&loaded, Part::Both, &path, 1000).unwrap();
    let beside = dir.path().join("model.onnx.data");
    assert_eq!(files, [path.clone(), beside.clone()]);
    let (_, graph) = read(&path);
    let data = std::fs::read(beside).unwrap();
    let mut outside = 0;
    for (tensor, whole) in graph.initializer.iter().zip(&within.initializer) {
        if tensor.data_location != Some(1) {
            assert_eq!(tensor, whole);
            continue;
        }
        outside += 1;
        assert_eq!(tensor.raw_data, None);
        let said: BTreeMap<_, _> = tensor
            .external_data
            .iter()
            .map(|entry| {
                (
                    entry.key.as_deref().unwrap(),
                    entry.value.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(said["location"], "model.onnx.data");
        let [start, length]: [usize; 2] =
            ["offset", "length"].map(|key| said[key].parse().unwrap());
        assert_eq!(start % 4096, 0);
        assert_eq!(
            &data[start..start + length],
            whole.raw_data.as_ref().unwrap()
        );
    }
    assert!(outside > 4, "{outside}");
}

/// Writes every case for `tests/parity/check_onnx.py` into the folder `OPENCLIP_ONNX_DIR`.
#[test]
#[ignore = "writes for Python"]
fn write_for_python() {
    let dir = std::path::PathBuf::from(std::env::var("OPENCLIP_ONNX_DIR").unwrap());
    let mut failed = Vec::new();
    for case in all_cases() {
        let family = Path::new(&case).parent().unwrap().file_name().unwrap();
        let name = format!(
            "{}-{}",
            family.to_str().unwrap(),
            case.rsplit('/').next().unwrap()
        );
        let path = dir.join(format!("{name}.onnx"));
        if let Err(error) = onnx::export(&loaded(&case), Part::Both, &path, MOST_WITHIN) {
            failed.push(format!("{name}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
