//! Where a parameter stands between the input of its tower and the output.

/// Place of a layer in the order of its tower; equal ones belong to one layer.
pub type Depth = Vec<usize>;

/// After every block, in the layer of the last.
pub const WITH_LAST: usize = usize::MAX;

/// The number that follows `name.` in a key: `blocks.3.norm` has 3 under `blocks`.
pub fn number_under(key: &str, name: &str) -> Option<usize> {
    let rest = key.strip_prefix(name)?.strip_prefix('.')?;
    rest.split('.').next()?.parse().ok()
}

/// Layers of a native tower: what makes tokens, each block with the norm behind the last, projection.
pub fn native(key: &str, tokens: &[&str], last_norm: &str, projection: &str) -> Option<Depth> {
    match key.split('.').next().unwrap_or_default() {
        first if tokens.contains(&first) => Some(vec![0]),
        first if first == last_norm => Some(vec![1, WITH_LAST]),
        first if first == projection => Some(vec![2]),
        _ => Some(vec![1, number_under(key, "transformer.resblocks")?]),
    }
}

/// Groups of timm's `group_matcher`, of a key without `visual.trunk.`: stem, each block, what is behind them.
pub fn timm(key: &str) -> Option<Depth> {
    const STEM: [&str; 6] = [
        "cls_token",
        "reg_token",
        "pos_embed",
        "patch_embed",
        "norm_pre",
        "stem",
    ];
    let parts: Vec<&str> = key.split('.').collect();
    let number = |i: usize| parts.get(i).and_then(|part| part.parse::<usize>().ok());
    Some(match (parts[0], number(1)) {
        ("blocks", Some(block)) => vec![1, block],
        ("stages" | "layers", Some(stage)) => match parts.get(2) {
            Some(&("downsample" | "pos_emb")) => vec![1, stage, 0],
            _ => vec![1, stage, number(3).unwrap_or(0)],
        },
        (first, _) if STEM.contains(&first) => vec![0],
        ("norm", _) => vec![1, WITH_LAST],
        _ => vec![2],
    })
}
