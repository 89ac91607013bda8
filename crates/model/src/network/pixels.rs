//! From decoded pictures to the image tower's input.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use crate::files::config::PreprocessConfig;

/// Planes `[batch, 3, height, width]` on `device`.
///
/// Bytes travel to the device as they are where it has the type, a quarter of what wider numbers take.
pub fn planes(planes: Vec<u8>, shape: [usize; 4], device: &Device) -> Tensor<4, Int> {
    if device.supports_dtype(DType::U8) {
        return Tensor::from_data(TensorData::new(planes, shape), (device, DType::U8));
    }
    let wide: Vec<i32> = planes.into_iter().map(i32::from).collect();
    Tensor::from_data(TensorData::new(wide, shape), (device, DType::I32))
}

/// `(x / 255 − mean) / std` of planes, in `dtype`.
pub fn normalise(
    planes: Tensor<4, Int>,
    preprocess: &PreprocessConfig,
    dtype: FloatDType,
) -> Tensor<4> {
    let device = &planes.device();
    let pixels: Tensor<4> = planes.cast(FloatDType::F32);
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
