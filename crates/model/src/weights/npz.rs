//! big_vision's SigLIP checkpoints: NumPy archives of arrays under JAX's names and in its layouts.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use rawzip::CompressionMethod;

use super::keys::join;
use super::siglip;
use super::tensor::{DType, RawTensor, WeightsFile, row_major};
use super::torch::{Members, Span};
use super::{StateDict, WeightsError};

/// Bytes of an array's header, at most.
const MAX_HEADER: usize = 1 << 16;
/// Axes of an array, at most.
const MAX_RANK: usize = 8;
/// Blocks that are stacked in one array, at most.
const MAX_BLOCKS: usize = 1 << 12;
/// Bytes that a byte of a deflated member can become, at most (zlib's manual).
const MAX_INFLATION: u64 = 1032;

/// Reads an archive of `.npy` members and turns big_vision's names into OpenCLIP's.
pub(super) fn read(file: &Arc<WeightsFile>, members: &Members) -> Result<StateDict, WeightsError> {
    let mut arrays = BTreeMap::new();
    let names = members
        .spans
        .keys()
        .filter_map(|name| name.strip_suffix(".npy"));
    // A training checkpoint has the optimizer's state beside the parameters.
    let root = match members.spans.contains_key("params/b.npy") {
        true => "params/",
        false => "",
    };
    // Members that share their bytes could unpack to any size.
    let mut left = file.len;
    for name in names {
        let known = |inner: &&str| {
            inner.starts_with("img/") || inner.starts_with("txt/") || ["t", "b"].contains(inner)
        };
        if let Some(inner) = name.strip_prefix(root).filter(known) {
            let member = format!("{name}.npy");
            let &(span, method) = &members.spans[&member];
            left = left
                .checked_sub(span.1)
                .ok_or_else(|| bad(file, name, "shares its bytes with another member"))?;
            arrays.insert(inner.to_string(), array(file, &member, span, method)?);
        }
    }
    if !arrays.contains_key("img/embedding/kernel") {
        return Err(WeightsError::Numpy {
            file: file.path.clone(),
        });
    }
    let arrays = unstack(file, arrays)?;
    Ok(StateDict {
        tensors: rename(file, &arrays)?,
        metadata: siglip::preprocessing(),
        ..StateDict::default()
    })
}

fn bad(file: &WeightsFile, key: &str, reason: impl Into<String>) -> WeightsError {
    WeightsError::Tensor {
        file: file.path.clone(),
        key: key.chars().take(200).collect(),
        reason: reason.into(),
    }
}

/// One member: its header is read now, its elements later where they are stored as they are.
fn array(
    file: &Arc<WeightsFile>,
    name: &str,
    (start, len): Span,
    method: CompressionMethod,
) -> Result<RawTensor, WeightsError> {
    let bad = |reason: String| bad(file, name, reason);
    let broken = |error: std::io::Error| bad(error.to_string());
    if method == CompressionMethod::STORE {
        let head = file.read_vec(start, len.min(MAX_HEADER as u64) as usize)?;
        let (header, consumed) = Header::read(&mut head.as_slice()).map_err(bad)?;
        let data = (start + consumed as u64, len - consumed as u64);
        let strides = header.strides();
        return RawTensor::in_file(file, header.dtype, header.shape, strides, 0, data)
            .and_then(|tensor| tensor.dense().map_err(|error| error.to_string()))
            .map_err(bad);
    }
    if method != CompressionMethod::DEFLATE {
        return Err(bad("compressed in another way than NumPy's".into()));
    }
    let packed = file.read_vec(start, len as usize)?;
    let mut unpacked = flate2::read::DeflateDecoder::new(packed.as_slice());
    let (header, _) = Header::read(&mut unpacked).map_err(bad)?;
    let size = header
        .size()
        .filter(|size| *size as u64 <= len.saturating_mul(MAX_INFLATION));
    let Some(size) = size else {
        return Err(bad(format!(
            "shape {:?} cannot come out of {len} bytes",
            header.shape
        )));
    };
    let mut bytes = vec![0; size];
    unpacked.read_exact(&mut bytes).map_err(broken)?;
    let strides = header.strides();
    RawTensor::in_memory(header.dtype, bytes, header.shape, strides)
        .and_then(|tensor| tensor.dense().map_err(|error| error.to_string()))
        .map_err(bad)
}

/// What the first bytes of a `.npy` file say (NumPy enhancement proposal 1).
#[derive(Debug, PartialEq)]
struct Header {
    dtype: DType,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// The header, and its length.
    fn read(bytes: &mut impl Read) -> Result<(Self, usize), String> {
        let short = |error: std::io::Error| format!("not a NumPy array: {error}");
        let mut magic = [0; 8];
        bytes.read_exact(&mut magic).map_err(short)?;
        let [0x93, b'N', b'U', b'M', b'P', b'Y', major, _] = magic else {
            return Err("not a NumPy array".into());
        };
        let (length, before) = match major {
            1 => {
                let mut length = [0; 2];
                bytes.read_exact(&mut length).map_err(short)?;
                (usize::from(u16::from_le_bytes(length)), 10)
            }
            2 | 3 => {
                let mut length = [0; 4];
                bytes.read_exact(&mut length).map_err(short)?;
                (u32::from_le_bytes(length) as usize, 12)
            }
            other => return Err(format!(".npy version {other}, expected 1 to 3")),
        };
        if length > MAX_HEADER - before {
            return Err(format!("a header of {length} bytes"));
        }
        let mut text = vec![0; length];
        bytes.read_exact(&mut text).map_err(short)?;
        let text = String::from_utf8(text).map_err(|error| error.to_string())?;
        Ok((Self::parse(&text)?, before + length))
    }

    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
    fn parse(text: &str) -> Result<Self, String> {
        let after = |key: &str| {
            let (_, rest) = text
                .split_once(&format!("'{key}':"))
                .ok_or_else(|| format!("no {key} in the header"))?;
            Ok::<_, String>(rest.trim_start())
        };
        let descr = after("descr")?
            .strip_prefix('\'')
            .and_then(|rest| rest.split_once('\''));
        let dtype = match descr.map(|(descr, _)| descr) {
            Some("<f8") => DType::F64,
            Some("<f4") => DType::F32,
            Some("<f2") => DType::F16,
            // NumPy has no bfloat16 and writes two opaque bytes.
            Some("|V2") => DType::BF16,
            Some("<i8") => DType::I64,
            Some("<i4") => DType::I32,
            Some(other) => return Err(format!("elements of type {other:?}")),
            None => return Err("elements of a structured type".into()),
        };
        let order = after("fortran_order")?;
        let shape = after("shape")?
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'));
        let Some((shape, _)) = shape else {
            return Err("a shape that is no tuple".into());
        };
        let axes = shape
            .split(',')
            .map(str::trim)
            .filter(|axis| !axis.is_empty());
        let shape: Result<Vec<usize>, _> = axes.map(str::parse).collect();
        let shape = shape.map_err(|error| format!("shape: {error}"))?;
        if shape.len() > MAX_RANK {
            return Err(format!("{} axes, expected at most {MAX_RANK}", shape.len()));
        }
        Ok(Self {
            dtype,
            fortran_order: order.starts_with("True"),
            shape,
        })
    }

    fn strides(&self) -> Vec<usize> {
        if !self.fortran_order {
            return row_major(&self.shape);
        }
        let reversed: Vec<usize> = self.shape.iter().rev().copied().collect();
        row_major(&reversed).into_iter().rev().collect()
    }

    /// Bytes of all elements.
    fn size(&self) -> Option<usize> {
        let mut axes = self.shape.iter();
        axes.try_fold(self.dtype.size(), |size, &axis| size.checked_mul(axis))
    }
}

type Arrays = BTreeMap<String, RawTensor>;

/// Gives every block arrays of its own where all blocks are stacked along the first axis.
fn unstack(file: &WeightsFile, arrays: Arrays) -> Result<Arrays, WeightsError> {
    let mut apart = BTreeMap::new();
    for (key, tensor) in arrays {
        let Some((before, after)) = key.split_once("/encoderblock/") else {
            apart.insert(key, tensor);
            continue;
        };
        let blocks = tensor.shape.first().copied().unwrap_or(0);
        if blocks > MAX_BLOCKS {
            return Err(bad(
                file,
                &key,
                format!("{blocks} blocks, expected at most {MAX_BLOCKS}"),
            ));
        }
        for block in 0..blocks {
            let one = tensor.rows(block..block + 1);
            let one = one.and_then(|one| one.reshaped(tensor.shape[1..].to_vec()));
            let one = one.ok_or_else(|| bad(file, &key, "cannot be taken apart"))?;
            apart.insert(format!("{before}/encoderblock_{block}/{after}"), one);
        }
    }
    Ok(apart)
}

/// What OpenCLIP calls the parts of a block or of the attention pool.
struct Names {
    norms: [&'static str; 2],
    mlp: [&'static str; 2],
    out: &'static str,
    /// Which of query, key and value lie in one tensor, and the beginning of its name.
    packed: &'static [(&'static [&'static str], &'static str)],
}

const TRUNK: Names = Names {
    norms: ["norm1.", "norm2."],
    mlp: ["mlp.fc1.", "mlp.fc2."],
    out: "attn.proj.",
    packed: &[(&["query", "key", "value"], "attn.qkv.")],
};

const TEXT: Names = Names {
    norms: ["ln_1.", "ln_2."],
    mlp: ["mlp.c_fc.", "mlp.c_proj."],
    out: "attn.out_proj.",
    packed: &[(&["query", "key", "value"], "attn.in_proj_")],
};

const POOL: Names = Names {
    norms: ["norm.", "norm."],
    mlp: ["mlp.fc1.", "mlp.fc2."],
    out: "proj.",
    packed: &[(&["query"], "q."), (&["key", "value"], "kv.")],
};

/// Layers outside the blocks, big_vision's beginning of the name first.
const LAYERS: [(&str, &str); 4] = [
    ("img/embedding/", "visual.trunk.patch_embed.proj."),
    ("img/Transformer/encoder_norm/", "visual.trunk.norm."),
    ("txt/Encoder_0/encoder_norm/", "text.ln_final."),
    ("txt/head/", "text.text_projection."),
];

/// Parameters that are no layer's.
const FIXED: [(&str, &str); 7] = [
    ("img/pos_embedding", "visual.trunk.pos_embed"),
    ("img/cls", "visual.trunk.cls_token"),
    ("img/MAPHead_0/probe", "visual.trunk.attn_pool.latent"),
    ("txt/Embed_0/embedding", "text.token_embedding.weight"),
    ("txt/pos_embedding", "text.positional_embedding"),
    ("t", "logit_scale"),
    ("b", "logit_bias"),
];

/// A key without counterpart keeps its name, so that the strict load reports it.
fn rename(file: &WeightsFile, arrays: &Arrays) -> Result<Arrays, WeightsError> {
    let mut out = BTreeMap::new();
    for (key, tensor) in arrays {
        if let Some((_, name)) = FIXED.iter().find(|(theirs, _)| key == theirs) {
            let tensor = match (*name, tensor.shape.as_slice()) {
                ("text.positional_embedding", &[1, length, width]) => {
                    tensor.clone().reshaped(vec![length, width])
                }
                _ => None,
            }
            .unwrap_or_else(|| tensor.clone());
            out.insert(name.to_string(), tensor);
            continue;
        }
        if let Some((theirs, name)) = LAYERS.iter().find(|(theirs, _)| key.starts_with(theirs)) {
            let (leaf, tensor) = layer(&key[theirs.len()..], tensor);
            out.insert(format!("{name}{leaf}"), tensor);
            continue;
        }
        let Some((prefix, inner, names, place)) = place(key) else {
            out.insert(key.clone(), tensor.clone());
            continue;
        };
        let Some(part) = inner.strip_prefix("MultiHeadDotProductAttention_0/") else {
            let layers = [
                ("LayerNorm_0/", names.norms[0]),
                ("LayerNorm_1/", names.norms[1]),
                ("MlpBlock_0/Dense_0/", names.mlp[0]),
                ("MlpBlock_0/Dense_1/", names.mlp[1]),
            ];
            match layers.iter().find(|(theirs, _)| inner.starts_with(theirs)) {
                Some((theirs, name)) => {
                    let (leaf, tensor) = layer(&inner[theirs.len()..], tensor);
                    out.insert(format!("{place}{name}{leaf}"), tensor);
                }
                None => {
                    out.insert(key.clone(), tensor.clone());
                }
            }
            continue;
        };
        let unfit = || {
            bad(
                file,
                key,
                format!("shape {:?} is no attention's", tensor.shape),
            )
        };
        if let Some(leaf) = part.strip_prefix("out/") {
            // [heads, head width, width]
            let flat = match tensor.shape.as_slice() {
                &[heads, head, width] => {
                    product(heads, head).and_then(|rows| tensor.clone().reshaped(vec![rows, width]))
                }
                _ => Some(tensor.clone()),
            };
            let (leaf, tensor) = layer(leaf, &flat.ok_or_else(unfit)?);
            out.insert(format!("{place}{}{leaf}", names.out), tensor);
            continue;
        }
        let Some((role, leaf)) = part.split_once('/') else {
            out.insert(key.clone(), tensor.clone());
            continue;
        };
        let Some((roles, name)) = names
            .packed
            .iter()
            .find(|(roles, _)| roles.first() == Some(&role))
        else {
            // Joined with the first of its group, if that is there.
            let group = names.packed.iter().find(|(roles, _)| roles.contains(&role));
            let first = group.and_then(|(roles, _)| roles.first());
            let first =
                first.map(|first| format!("{prefix}MultiHeadDotProductAttention_0/{first}/{leaf}"));
            if !first.is_some_and(|first| arrays.contains_key(&first)) {
                out.insert(key.clone(), tensor.clone());
            }
            continue;
        };
        let mut parts = Vec::new();
        for role in *roles {
            let key = format!("{prefix}MultiHeadDotProductAttention_0/{role}/{leaf}");
            let Some(tensor) = arrays.get(&key) else {
                return Err(bad(file, &key, "is missing"));
            };
            parts.push(heads_joined(leaf, tensor).ok_or_else(unfit)?);
        }
        let leaf = if leaf == "kernel" { "weight" } else { leaf };
        let parts: Vec<_> = parts.iter().collect();
        let joined = match parts.as_slice() {
            [one] => (*one).clone(),
            many => join(key, many)?,
        };
        out.insert(format!("{place}{name}{leaf}"), joined);
    }
    Ok(out)
}

/// The block or pool that a key belongs to: its beginning, the rest, the names inside, and OpenCLIP's beginning.
fn place(key: &str) -> Option<(&str, &str, &'static Names, String)> {
    let pool = "img/MAPHead_0/";
    if let Some(inner) = key.strip_prefix(pool) {
        return Some((
            &key[..pool.len()],
            inner,
            &POOL,
            "visual.trunk.attn_pool.".into(),
        ));
    }
    let stacks = [
        (
            "img/Transformer/encoderblock_",
            &TRUNK,
            "visual.trunk.blocks.",
        ),
        (
            "txt/Encoder_0/encoderblock_",
            &TEXT,
            "text.transformer.resblocks.",
        ),
    ];
    stacks.into_iter().find_map(|(theirs, names, ours)| {
        let (block, inner) = key.strip_prefix(theirs)?.split_once('/')?;
        let prefix = &key[..key.len() - inner.len()];
        Some((prefix, inner, names, format!("{ours}{block}.")))
    })
}

/// A dense layer's, convolution's or norm's parameter in PyTorch's name and layout.
fn layer(leaf: &str, tensor: &RawTensor) -> (String, RawTensor) {
    let tensor = tensor.clone();
    match leaf {
        "kernel" if tensor.shape.len() == 4 => ("weight".into(), tensor.permuted([3, 2, 0, 1])),
        "kernel" => ("weight".into(), tensor.transposed()),
        "scale" => ("weight".into(), tensor),
        leaf => (leaf.into(), tensor),
    }
}

/// `[width, heads, head width]` → `[heads·head width, width]`, and a bias `[heads, head width]` to one axis.
fn heads_joined(leaf: &str, tensor: &RawTensor) -> Option<RawTensor> {
    match (leaf, tensor.shape.as_slice()) {
        ("kernel", &[width, heads, head]) => {
            let columns = product(heads, head)?;
            Some(tensor.clone().reshaped(vec![width, columns])?.transposed())
        }
        ("bias", &[heads, head]) => tensor.clone().reshaped(vec![product(heads, head)?]),
        _ => None,
    }
}

fn product(a: usize, b: usize) -> Option<usize> {
    a.checked_mul(b)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn headers() {
        let parse = |text: &str| Header::parse(text);
        let header =
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n").unwrap();
        assert_eq!(
            (header.dtype, header.shape.clone()),
            (DType::F32, vec![2, 3])
        );
        assert_eq!((header.strides(), header.size()), (vec![3, 1], Some(24)));
        let header =
            parse("{'descr': '|V2', 'fortran_order': True, 'shape': (4, 5, 6), }").unwrap();
        assert_eq!(
            (header.dtype, header.strides()),
            (DType::BF16, vec![1, 4, 20])
        );
        assert_eq!(
            parse("{'descr': '<f8', 'fortran_order': False, 'shape': (), }")
                .unwrap()
                .size(),
            Some(8)
        );
        for wrong in [
            "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': 3, }",
            "",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (18446744073709551615, 2), }";
        assert_eq!(parse(huge).unwrap().size(), None);
    }
}
