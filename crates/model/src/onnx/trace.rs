//! The forward pass, recorded twice with batches of different sizes.

use std::collections::{BTreeMap, HashMap};

use burn::backend::Capture;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Float, Int, Tensor, TensorData};
use burn_ir::{GraphIr, OperationIr, TensorId};

use super::part::Part;
use crate::load::factory::Loaded;
use crate::network::clip::Clip;
use crate::network::params::Path;
use crate::panics;

/// Pictures and captions of the two recordings. No extent of a network is a multiple of one in the first and of the other in the
/// second, unless it is a batch's.
const SIZES: [[usize; 2]; 2] = [[5, 7], [11, 13]];

/// Names of the inputs, whose batches are numbered so.
pub(super) const INPUTS: [&str; 2] = ["image", "text"];

/// An extent of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dim {
    Fixed(usize),
    /// So many times the batch of an input.
    Batch {
        input: usize,
        times: usize,
    },
}

/// What was recorded, as of the first recording.
pub(super) struct Trace {
    pub graph: GraphIr,
    pub values: BTreeMap<TensorId, TensorData>,
    /// Names of inputs, outputs and parameters.
    pub names: HashMap<TensorId, String>,
    /// Extents of every tensor.
    pub dims: HashMap<TensorId, Vec<Dim>>,
}

/// Records the towers of a model.
pub(super) fn trace(loaded: &Loaded, part: Part) -> Result<Trace, String> {
    let [first, second] = SIZES.map(|sizes| {
        panics::caught(|| record(loaded, part, sizes)).unwrap_or_else(|panic| {
            let said = panics::message(panic.as_ref()).unwrap_or("it reads values as it goes");
            Err(format!("its operations cannot be recorded: {said}"))
        })
    });
    let (first, second) = (first?, second?);
    let dims = dims(&first, &second)?;
    Ok(Trace {
        graph: first.graph,
        values: first.values,
        names: first.names,
        dims,
    })
}

struct Recording {
    graph: GraphIr,
    values: BTreeMap<TensorId, TensorData>,
    names: HashMap<TensorId, String>,
}

fn record(loaded: &Loaded, part: Part, sizes: [usize; 2]) -> Result<Recording, String> {
    let device = Device::capture();
    let mut names = HashMap::new();
    let mut missing = false;
    let captured = device.capture_scope(|scope| {
        let model = loaded.model.clone().to_device(&device);
        names = keys(&model);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let mut name = |id: Option<TensorId>, name: &str, ids: &mut Vec<TensorId>| match id {
            None => missing = true,
            Some(id) => {
                names.insert(id, name.to_owned());
                ids.push(id);
            }
        };
        let (height, width) = loaded.config.vision_cfg.image_size.dims();
        let [pictures, captions] = sizes;
        let image = (part != Part::Text).then(|| {
            let data = TensorData::zeros::<f32, _>([pictures, 3, height, width]);
            let image = Tensor::<4>::from_data(data, &device);
            name(float(&image), INPUTS[0], &mut inputs);
            model.encode_image(image, true)
        });
        let text = (part != Part::Image).then(|| {
            let shape = [captions, loaded.config.text_cfg.context_length];
            let ids = Tensor::<2, Int>::from_data(TensorData::zeros::<i64, _>(shape), &device);
            let id = ids.clone().try_into_primitive::<Capture>();
            name(id.ok().map(|ids| ids.id()), INPUTS[1], &mut inputs);
            model.encode_text(ids, true)
        });
        for (features, of) in [(&image, "image_features"), (&text, "text_features")] {
            if let Some(features) = features {
                name(float(features), of, &mut outputs);
            }
        }
        if let (Some(image), Some(text)) = (&image, &text) {
            let logits = model.join(image.clone(), text.clone()).logits();
            name(float(&logits), "logits_per_image", &mut outputs);
        }
        scope.complete(inputs, outputs)
    });
    let captured = captured.map_err(|error| error.to_string())?;
    match missing {
        true => Err("an input or output was not recorded".into()),
        false => Ok(Recording {
            graph: captured.graph,
            values: captured.values,
            names,
        }),
    }
}

fn float<const D: usize>(tensor: &Tensor<D, Float>) -> Option<TensorId> {
    let recorded = tensor.clone().try_into_primitive::<Capture>().ok()?;
    Some(recorded.id())
}

/// OpenCLIP's keys of the parameters, which are on the capture device.
fn keys(model: &Clip) -> HashMap<TensorId, String> {
    struct Keys {
        path: Path,
        custom_text: bool,
        found: HashMap<TensorId, String>,
    }
    impl ModuleVisitor for Keys {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(id) = float(&param.val()) {
                self.found.insert(id, self.path.key(self.custom_text));
            }
        }
    }
    let mut keys = Keys {
        path: Path::default(),
        custom_text: model.custom_text,
        found: HashMap::new(),
    };
    model.visit(&mut keys);
    keys.found
}

/// The extents of every tensor of the first recording, compared with those of the second.
fn dims(first: &Recording, second: &Recording) -> Result<HashMap<TensorId, Vec<Dim>>, String> {
    let (a, b) = (&first.graph.operations, &second.graph.operations);
    let apart = || "its operations depend on the size of a batch".to_string();
    if a.len() != b.len() {
        return Err(apart());
    }
    let mut dims = HashMap::new();
    for (a, b) in a.iter().zip(b) {
        let (own, other) = (tensors(a), tensors(b));
        if std::mem::discriminant(a) != std::mem::discriminant(b) || own.len() != other.len() {
            return Err(apart());
        }
        for (own, other) in own.into_iter().zip(other) {
            let (own_shape, other_shape) = (&own.shape, &other.shape);
            if own_shape.rank() != other_shape.rank() {
                return Err(apart());
            }
            let pairs = own_shape.iter().zip(other_shape.iter());
            let found: Option<Vec<Dim>> = pairs.map(|(own, other)| dim(*own, *other)).collect();
            dims.insert(own.id, found.ok_or_else(apart)?);
        }
    }
    Ok(dims)
}

/// What an operation reads and makes.
pub(super) fn tensors(operation: &OperationIr) -> Vec<&burn_ir::TensorIr> {
    let made = operation.outputs();
    operation.nodes().into_iter().chain(made).collect()
}

fn dim(first: usize, second: usize) -> Option<Dim> {
    if first == second {
        return Some(Dim::Fixed(first));
    }
    let [a, b] = SIZES;
    let of = |input: &usize| {
        let times = first / a[*input];
        times * a[*input] == first && times * b[*input] == second
    };
    let input = (0..INPUTS.len()).find(of)?;
    Some(Dim::Batch {
        input,
        times: first / a[input],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_that_differ_are_a_batchs() {
        assert_eq!(dim(5, 5), Some(Dim::Fixed(5)));
        assert_eq!(dim(5, 11), Some(Dim::Batch { input: 0, times: 1 }));
        assert_eq!(dim(28, 52), Some(Dim::Batch { input: 1, times: 4 }));
        assert_eq!(dim(35, 143), None);
        assert_eq!(dim(6, 12), None);
    }
}
