//! The state of PyTorch's AdamW, as `open_clip_train.main` saves it, as Burn's.
//!
//! PyTorch numbers the parameters of all groups together, in the order of `named_parameters` within a group. Which group a parameter
//! is in depends on the version: see `Rule`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::OptimizerRecord;
use burn::tensor::{FloatDType, Tensor};
use burn_pack::{Scalar, Writer};
use openclip_model::params::ParamInfo;
use openclip_model::weights::{Entry, OptimizerGroup, OptimizerState, Slot};
use openclip_model::{Clip, params};

use super::algorithm::Algorithm;
use super::groups::{Optim, decays};

/// AdamW's state in PyTorch, and where Burn's record has it.
const MOMENTS: [(&str, &str); 3] = [
    ("exp_avg", "momentum.moment_1"),
    ("exp_avg_sq", "momentum.moment_2"),
    ("max_exp_avg_sq", "momentum.max_moment_2"),
];

/// What gives another optimizer away: an entry of a parameter's state or a setting of a group. The first one counts.
const OTHERS: [(&str, &str); 26] = [
    ("exp_avg_sq_row", "Adafactor"),
    ("clip_threshold", "Adafactor"),
    ("beta2_cap", "Adafactor (big_vision)"),
    ("mu_product", "NAdam"),
    ("m_schedule", "NAdam"),
    ("momentum_decay", "NAdam"),
    ("exp_avg_diff", "Adan"),
    ("exp_avg_var", "AdaBelief"),
    ("exp_avg_lr_1", "LaProp"),
    ("last_grad", "MARS"),
    ("exp_inf", "Adamax"),
    ("grad_sum_sq", "MADGRAD"),
    ("acc_delta", "Adadelta"),
    ("preconditioner_update_probability", "Kron"),
    ("ns_steps", "Muon"),
    ("trust_coeff", "LARS"),
    ("always_adapt", "LAMB"),
    ("grad_averaging", "NovoGrad"),
    ("wd_ratio", "AdamP or SGDP"),
    ("clip_exp", "ADOPT"),
    ("square_avg", "RMSprop"),
    ("sum", "Adagrad"),
    ("momentum_buffer", "SGD"),
    ("dampening", "SGD"),
    ("caution", "an optimizer of timm's"),
    ("use_fallback", "an optimizer of timm's"),
];

/// Which parameters have no weight decay, and come first.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// OpenCLIP up to 3.3: always two groups, that without decay first.
    Names,
    /// OpenCLIP's main: vectors, and tables of positions and class tokens by name; groups in the order of their first parameter.
    Declared,
}

/// Last parts of keys whose parameters OpenCLIP's main declares to be without decay, however many axes they have.
const DECLARED: [&str; 9] = [
    "positional_embedding",
    "class_embedding",
    "cls_emb",
    "pos_embed",
    "cls_token",
    "reg_token",
    "reg_tokens",
    "absolute_pos_embed",
    "relative_position_bias_table",
];

/// Parts of the keys of Hugging Face's towers that it excludes likewise.
const DECLARED_IN_ENCODERS: [&str; 4] = [
    "position_embeddings",
    "token_type_embeddings",
    "relative_attention_bias",
    "embed_positions",
];

impl Rule {
    const ALL: [(Self, &'static str); 2] = [
        (Self::Names, "OpenCLIP 3"),
        (Self::Declared, "OpenCLIP's main"),
    ];

    fn groups<'a>(self, trained: &[&'a ParamInfo], optim: &Optim) -> Vec<Vec<&'a ParamInfo>> {
        let decays = |param: &ParamInfo| match self {
            Self::Names => decays(&param.key, &param.shape),
            Self::Declared => {
                let last = param.key.rsplit('.').next().unwrap_or_default();
                let in_encoder = |part: &&str| param.key.contains(*part);
                param.shape.len() > 1
                    && !DECLARED.contains(&last)
                    && !DECLARED_IN_ENCODERS.iter().any(in_encoder)
                    && !optim.wd_exclude.iter().any(|glob| glob.matches(&param.key))
            }
        };
        let (decayed, others): (Vec<_>, Vec<_>) = trained.iter().partition(|param| decays(param));
        match self {
            Self::Names => vec![others, decayed],
            Self::Declared => {
                let mut groups = vec![others, decayed];
                if trained.first().is_some_and(|param| decays(param)) {
                    groups.reverse();
                }
                groups.retain(|group| !group.is_empty());
                groups
            }
        }
    }
}

/// AdamW's state under the parameters of a model.
#[derive(Debug)]
pub struct Adopted {
    /// For [`ModuleOptimizer::load_record`](burn::optim::ModuleOptimizer::load_record).
    pub record: OptimizerRecord,
    /// Settings of the file that are not those of the run, if any: the run's count.
    pub difference: Option<String>,
}

/// The state of `model`'s optimizer out of `state`, in a file whose state dict has its keys in the order `keys`. `frozen`
/// parameters take no part.
///
/// # Errors
/// When the state is not AdamW's, or not of these parameters; the text says what does not fit.
pub fn adopt(
    state: &OptimizerState,
    keys: &[String],
    model: &Clip,
    frozen: &HashSet<ParamId>,
    optim: &Optim,
) -> Result<Adopted, String> {
    let Algorithm::AdamW { amsgrad, .. } = optim.algorithm else {
        return Err("it is AdamW's, but --opt asks for another one".into());
    };
    if let Some(name) = other_optimizer(state) {
        return Err(format!("it is that of {name}; only AdamW's is read"));
    }
    let all = params::describe(model);
    let learns = |param: &&ParamInfo| param.is_parameter() && !frozen.contains(&param.id);
    let all: Vec<&ParamInfo> = all.iter().filter(learns).collect();
    let mut moments = Moments::default();
    let pairs = paired(state, &in_order(keys, &all), optim)?;
    for (param, slot) in &pairs {
        moments.take(param, &state.slots[*slot], amsgrad)?;
    }
    Ok(Adopted {
        record: moments.record(model)?,
        difference: difference(state, &pairs, optim),
    })
}

/// What the optimizer is, if it is not AdamW.
fn other_optimizer(state: &OptimizerState) -> Option<String> {
    let slots = || state.slots.values();
    let settings = || state.groups.iter().map(|group| &group.settings);
    let has = |name: &str| slots().chain(settings()).any(|map| map.contains_key(name));
    if let Some((_, other)) = OTHERS.iter().find(|(mark, _)| has(mark)) {
        return Some((*other).to_owned());
    }
    let is_set = |name| settings().any(|map| matches!(map.get(name), Some(Entry::Flag(true))));
    let are_adams = |map: &BTreeMap<String, Entry>| {
        map.contains_key("exp_avg") && map.contains_key("exp_avg_sq") && map.contains_key("step")
    };
    if has("decoupled_weight_decay") && has("amsgrad") && !is_set("decoupled_weight_decay") {
        return Some("Adam, whose weight decay is part of the gradient".into());
    }
    if !has("amsgrad") && has("exp_avg_sq") {
        return Some("RAdam or like it".into());
    }
    if slots().all(are_adams) {
        return None;
    }
    if has("exp_avg") && !has("exp_avg_sq") {
        return Some("Lion".into());
    }
    let odd = slots().find(|map| !are_adams(map));
    let names: Vec<_> = odd.into_iter().flat_map(BTreeMap::keys).cloned().collect();
    Some(format!("one that keeps {}", names.join(", ")))
}

/// The parameters as the file has them one after another.
fn in_order<'a>(keys: &[String], all: &[&'a ParamInfo]) -> Vec<&'a ParamInfo> {
    let by_key: HashMap<&str, &ParamInfo> = all
        .iter()
        .map(|param| (param.key.as_str(), *param))
        .collect();
    let found = keys.iter().filter_map(|key| find(&by_key, key));
    found.collect()
}

/// The parameter that a key of the file means, behind wrappers and whichever place the text tower has.
fn find<'a>(by_key: &HashMap<&str, &'a ParamInfo>, key: &str) -> Option<&'a ParamInfo> {
    let key = key.replace("_orig_mod.", "");
    let bare = key.trim_start_matches("module.");
    let below = format!("text.{bare}");
    let above = bare.strip_prefix("text.").unwrap_or(bare);
    let names = [bare, &below, above];
    names.iter().find_map(|name| by_key.get(name).copied())
}

/// Every parameter with state, and the name that the state has.
fn paired<'a, 'b>(
    state: &'b OptimizerState,
    trained: &[&'a ParamInfo],
    optim: &Optim,
) -> Result<Vec<(&'a ParamInfo, &'b Slot)>, String> {
    let with_state = |(param, slot): (&'a ParamInfo, &'b Slot)| {
        state.slots.contains_key(slot).then_some((param, slot))
    };
    let by_key: HashMap<&str, &ParamInfo> = trained
        .iter()
        .map(|param| (param.key.as_str(), *param))
        .collect();
    if state.slots.keys().any(|slot| matches!(slot, Slot::Key(_))) {
        let pairs = state.slots.keys().map(|slot| match slot {
            Slot::Key(key) => find(&by_key, key)
                .map(|param| (param, slot))
                .ok_or_else(|| format!("{key} is no parameter that the model trains")),
            Slot::Index(index) => Err(format!("{index} stands among names")),
        });
        return pairs.collect();
    }
    let found: Vec<usize> = state
        .groups
        .iter()
        .map(|group| group.params.len())
        .collect();
    let (mut rules, mut misfits) = (Vec::new(), Vec::new());
    for (rule, version) in Rule::ALL {
        let groups = rule.groups(trained, optim);
        let wanted: Vec<usize> = groups.iter().map(Vec::len).collect();
        if wanted != found {
            rules.push(format!("{} as {version} groups them", sum(&wanted)));
            continue;
        }
        let slots = |group: &'b OptimizerGroup| group.params.iter();
        let pairs = groups.iter().zip(&state.groups);
        let pairs = pairs.flat_map(|(params, group)| params.iter().copied().zip(slots(group)));
        let pairs: Vec<_> = pairs.filter_map(with_state).collect();
        let misfit = pairs
            .iter()
            .find_map(|(param, slot)| misfit(param, &state.slots[*slot]));
        match misfit {
            None => return Ok(pairs),
            Some(misfit) => misfits.push(misfit),
        }
    }
    let reason = misfits.into_iter().next().unwrap_or_else(|| {
        let (found, rules) = (sum(&found), rules.join(", or "));
        format!("{found} in its groups, where the model trains {rules}")
    });
    Err(format!(
        "it is that of other parameters: {reason}; the flags that freeze towers or set the size of pictures have to be those of its run"
    ))
}

/// `24 + 14`.
fn sum(sizes: &[usize]) -> String {
    let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
    sizes.join(" + ")
}

/// What is wrong if these are not the moments of a parameter.
fn misfit(param: &ParamInfo, state: &BTreeMap<String, Entry>) -> Option<String> {
    let Some(Entry::Tensor(moment)) = state.get("exp_avg") else {
        return Some(format!("{} has no moments", param.key));
    };
    let fits = moment.shape == param.shape || (param.shape.is_empty() && moment.shape == [1]);
    let (key, shape) = (&param.key, &param.shape);
    (!fits).then(|| {
        format!(
            "{key} has shape {shape:?}, and its moments have {:?}",
            moment.shape
        )
    })
}

/// Settings that differ between the file and the run.
fn difference(
    state: &OptimizerState,
    pairs: &[(&ParamInfo, &Slot)],
    optim: &Optim,
) -> Option<String> {
    let Algorithm::AdamW {
        betas,
        eps,
        amsgrad,
    } = optim.algorithm
    else {
        return None;
    };
    let settings = || state.groups.iter().map(|group| &group.settings);
    let setting = |name| settings().find_map(|settings| settings.get(name));
    let same = |a: f64, b: f32| (a - f64::from(b)).abs() <= 1e-6 * a.abs();
    let mut found = Vec::new();
    if let Some(Entry::Numbers(old)) = setting("betas")
        && !(old.len() == 2 && old.iter().zip(betas).all(|(old, new)| same(*old, new)))
    {
        found.push(format!("betas {old:?} (here {betas:?})"));
    }
    if let Some(Entry::Number(old)) = setting("eps")
        && !same(*old, eps)
    {
        found.push(format!("eps {old} (here {eps})"));
    }
    if let Some(Entry::Flag(old)) = setting("amsgrad")
        && *old != amsgrad
    {
        found.push(format!("amsgrad {old} (here {amsgrad})"));
    }
    let decay_of = |group: &OptimizerGroup| match group.settings.get("weight_decay") {
        Some(Entry::Number(decay)) => *decay,
        _ => 0.0,
    };
    let decay = state.groups.iter().map(decay_of).fold(0.0, f64::max);
    if !same(decay, optim.weight_decay) {
        found.push(format!(
            "weight decay {decay} (here {})",
            optim.weight_decay
        ));
    }
    let decayed = state.groups.iter().filter(|group| decay_of(group) > 0.0);
    let decayed: BTreeSet<&Slot> = decayed.flat_map(|group| &group.params).collect();
    let others = |here: bool| {
        let others = pairs
            .iter()
            .filter(|(param, slot)| optim.decays(param) == here && decayed.contains(slot) != here);
        let keys: Vec<_> = others.map(|(param, _)| param.key.as_str()).collect();
        keys.join(" ")
    };
    if decay > 0.0 && optim.weight_decay > 0.0 {
        match others(true).as_str() {
            "" => {}
            keys => found.push(format!(
                "no weight decay of {keys} (here they decay but for --wd-exclude {keys})"
            )),
        }
        match others(false).as_str() {
            "" => {}
            keys => found.push(format!("weight decay of {keys} (here there is none)")),
        }
    }
    (!found.is_empty()).then(|| found.join(", "))
}

/// Values by key, for each of [`MOMENTS`], and the steps behind them.
#[derive(Default)]
struct Moments<'a> {
    values: [HashMap<String, &'a openclip_model::weights::RawTensor>; 3],
    times: HashMap<ParamId, u64>,
}

impl<'a> Moments<'a> {
    fn take(
        &mut self,
        param: &ParamInfo,
        state: &'a BTreeMap<String, Entry>,
        amsgrad: bool,
    ) -> Result<(), String> {
        if let Some(reason) = misfit(param, state) {
            return Err(reason);
        }
        let wanted = if amsgrad { 3 } else { 2 };
        for ((name, _), values) in MOMENTS.iter().zip(&mut self.values).take(wanted) {
            if let Some(Entry::Tensor(moment)) = state.get(*name) {
                if moment.numel() != param.numel() {
                    let (key, shape) = (&param.key, &moment.shape);
                    return Err(format!("{name} of {key} has shape {shape:?}"));
                }
                values.insert(param.key.clone(), moment);
            }
        }
        let time = match state.get("step") {
            Some(Entry::Number(time)) => Some(*time),
            Some(Entry::Tensor(time)) => {
                let time = time.to_f32().map_err(|error| error.to_string())?;
                time.first().map(|time| f64::from(*time))
            }
            _ => None,
        };
        let time = time.filter(|time| time.is_finite() && *time >= 0.0);
        let time = time.ok_or_else(|| format!("{} has no number of steps", param.key))?;
        self.times.insert(param.id, time as u64);
        Ok(())
    }

    /// Burn's record of the optimizer. The moments are put into a model in the place of its parameters, which gives them its layout,
    /// dtype and device.
    fn record(mut self, model: &Clip) -> Result<OptimizerRecord, String> {
        let mut collected = Collect::default();
        for ((_, field), values) in MOMENTS.iter().zip(&mut self.values) {
            if values.is_empty() {
                continue;
            }
            let ids: HashSet<ParamId> = params::describe(model)
                .into_iter()
                .filter(|param| values.contains_key(&param.key))
                .map(|param| param.id)
                .collect();
            let mut failure = None;
            let moments = params::assign(model.clone(), |key, _| {
                let values = values.remove(key)?.to_f32();
                values.map_err(|error| failure = Some(error)).ok()
            });
            if let Some(error) = failure {
                return Err(error.to_string());
            }
            let dtype: Option<FloatDType> = match model.logit_scale.val().dtype() {
                burn::tensor::DType::F32 => None,
                other => Some(other.into()),
            };
            let moments = match dtype {
                Some(dtype) => params::cast(moments, dtype),
                None => moments,
            };
            (collected.field, collected.ids) = (field, ids);
            moments.visit(&mut collected);
        }
        let Collect { tensors, ranks, .. } = collected;
        let mut writer = Writer::new(tensors);
        for (id, rank) in ranks {
            let (id, time) = (id.val(), self.times[&id]);
            writer = writer
                .with_scalar(&format!("{id}.__rank"), Scalar::from(rank))
                .with_scalar(&format!("{id}.momentum.time"), Scalar::from(time));
        }
        let bytes = writer.into_bytes().map_err(|error| error.to_string())?;
        OptimizerRecord::from_bytes(bytes).map_err(|error| error.to_string())
    }
}

/// Takes the values of some parameters out of a module.
#[derive(Default)]
struct Collect {
    field: &'static str,
    ids: HashSet<ParamId>,
    tensors: Vec<burn_pack::Tensor>,
    ranks: HashMap<ParamId, usize>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let id = param.id;
        if !self.ids.contains(&id) {
            return;
        }
        let (bytes, shape, dtype) = param.val().into_data().into_parts();
        let name = format!("{}.{}", id.val(), self.field);
        let tensor = burn_pack::Tensor::new(name, dtype, shape, Some(id.val()), bytes);
        self.tensors.push(tensor);
        self.ranks.insert(id, D);
    }
}
