//! How a parameter of a model starts that is trained from scratch.

/// The distribution of a parameter's first values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// The same for all values.
    Constant(f64),
    /// Mean 0 and this standard deviation.
    Normal(f64),
    /// Zeros in this row, else as [`Self::Normal`] with this standard deviation.
    NormalButRow(usize, f64),
    /// Mean 0 and this standard deviation before everything beyond two of them is drawn again.
    TruncatedNormal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
    /// The fixed sine–cosine table.
    SinCos,
}

impl Init {
    /// PyTorch's default for a matrix or kernel of this shape, `[output, input, …]`.
    pub fn of_matrix(shape: &[usize]) -> Self {
        Self::of_inputs(shape.iter().skip(1).product())
    }

    /// PyTorch's default for the layer that sees so many inputs, and for its bias.
    pub fn of_inputs(inputs: usize) -> Self {
        Self::Uniform((inputs.max(1) as f64).powf(-0.5))
    }

    /// Xavier's bound over a matrix `[output, input]`, packed ones as a whole.
    pub fn xavier(shape: &[usize]) -> Self {
        Self::Uniform((6.0 / shape.iter().take(2).sum::<usize>() as f64).sqrt())
    }

    /// PyTorch's defaults for a parameter of a native residual block, or of norms and layers like its own.
    ///
    /// `width` is the block's, `hidden` that inside its MLP, and `layer_scale` what its LayerScale starts with.
    pub fn of_block(
        key: &str,
        shape: &[usize],
        [width, hidden]: [usize; 2],
        layer_scale: Option<f64>,
    ) -> Self {
        match leaf(key) {
            (module, "weight") if module.starts_with("ln_") => Self::Constant(1.0),
            (module, "bias") if module.starts_with("ln_") => Self::Constant(0.0),
            (_, "in_proj_bias") | ("out_proj", "bias") => Self::Constant(0.0),
            (_, "gamma") => Self::Constant(layer_scale.unwrap_or(1.0)),
            (_, "in_proj_weight") => Self::xavier(shape),
            ("c_proj", "bias") => Self::of_inputs(hidden),
            (_, "bias") => Self::of_inputs(width),
            _ => Self::of_matrix(shape),
        }
    }
}

/// The last two names of a key: the layer's and the parameter's.
pub fn leaf(key: &str) -> (&str, &str) {
    let (path, leaf) = key.rsplit_once('.').unwrap_or(("", key));
    (path.rsplit('.').next().unwrap_or_default(), leaf)
}
