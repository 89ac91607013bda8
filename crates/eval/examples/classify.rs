//! Loads a model and classifies one picture: `cargo run --release -p openclip-eval --example classify -- ViT-B-32
//! ViT-B-32.safetensors cat.jpg "a cat" "a dog"`.

use std::error::Error;

use burn::tensor::{FloatDType, activation::softmax};
use openclip_data::image::{Limits, decode};
use openclip_data::tokenizer;
use openclip_eval::Encoder;
use openclip_model::{device, factory};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, weights, picture, labels @ ..] = args.as_slice() else {
        return Err("expected MODEL WEIGHTS PICTURE LABEL…".into());
    };
    let device = device::parse("auto")?;
    let loaded = factory::create(model, Some(weights), &device, &Default::default())?;
    let tokenizer = tokenizer::for_model(&loaded.config, None)?;
    let encoder = Encoder::of(&loaded, &device, FloatDType::F32);
    let image = encoder.picture(&decode(&std::fs::read(picture)?, Limits::default())?)?;
    let texts = encoder.texts(tokenizer.as_ref(), labels)?;
    let probabilities = softmax(image.matmul(texts.transpose()) * 100.0, 1);
    #[allow(clippy::print_stdout)]
    for (label, probability) in labels.iter().zip(probabilities.into_data().iter::<f32>()) {
        println!("{probability:.3}  {label}");
    }
    Ok(())
}
