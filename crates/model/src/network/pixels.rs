//! From decoded pictures to the image tower's input.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use crate::files::config::PreprocessConfig;

/// Puts `u8` planes `[batch, 3, height, width]` on `device` and normalises them: `(x / 255 − mean) / std`, in `dtype`.
///
/// Bytes travel to the device as they are where it has the type, a quarter of what floats take.
pub fn normalise(
    planes: Vec<u8>,
    shape: [usize; 4],
    preprocess: &PreprocessConfig,
    device: &Device,
    dtype: FloatDType,
) -> Tensor<4> {
    let pixels: Tensor<4> = if device.supports_dtype(DType::U8) {
        let data = TensorData::new(planes, shape);
        Tensor::<4, Int>::from_data(data, (device, DType::U8)).cast(FloatDType::F32)
    } else {
        let floats: Vec<f32> = planes.into_iter().map(f32::from).collect();
        Tensor::from_data(TensorData::new(floats, shape), (device, DType::F32))
    };
    let channels = |values: [f32; 3]| {
        Tensor::<4>::from_data(
            TensorData::new(values.to_vec(), [1, 3, 1, 1]),
            (device, DType::F32),
        )
    };
    let mean = channels(preprocess.mean.map(|mean| mean * 255.0));
    let scale = channels(preprocess.std.map(|std| 1.0 / (std * 255.0)));
    ((pixels - mean) * scale).cast(dtype)
}

/// Writes `values` `[3, height, width]` over the rectangle of `sample` that begins at `[top, left]`, in pictures
/// `[batch, 3, height, width]`.
pub fn write_over(
    images: Tensor<4>,
    sample: usize,
    [top, left]: [usize; 2],
    [height, width]: [usize; 2],
    values: Vec<f32>,
) -> Tensor<4> {
    let values = TensorData::new(values, [1, 3, height, width]);
    let values = Tensor::<4>::from_data(values, (&images.device(), DType::F32));
    let dtype = images.dtype();
    let place = [
        sample..sample + 1,
        0..3,
        top..top + height,
        left..left + width,
    ];
    images.slice_assign(place, values.cast(dtype))
}

/// Token ids `[batch, context_length]` on `device`.
pub fn tokens(ids: Vec<i32>, shape: [usize; 2], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(ids, shape), device)
}
