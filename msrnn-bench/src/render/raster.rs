//! Grids of values as PNG: one pixel per cell, since a vector per cell makes files of megabytes.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::colour;
use crate::error::BenchError;

/// A grid as `data:` URL of a PNG, first row on top. Colours from a palette of 255 steps; one more
/// for cells without a value.
///
/// `values`: rows of equal length, none of both zero. `span`: values of the first and last colour.
///
/// # Errors
///
/// When the grid is larger than a PNG can be.
pub(crate) fn data_url(values: &[Vec<Option<f64>>], span: (f64, f64)) -> Result<String, BenchError> {
    let failed = |e: &dyn std::fmt::Display| BenchError::Input(format!("the heat map cannot be drawn: {e}"));
    let size = |length: usize| u32::try_from(length).map_err(|e| failed(&e));
    let (width, height) = (size(values.first().map_or(0, Vec::len))?, size(values.len())?);
    let pixel = |value: &Option<f64>| match value {
        Some(value) => (colour::share(*value, span) * 254.0).round() as u8,
        None => 255,
    };
    let pixels: Vec<u8> = values.iter().flatten().map(pixel).collect();
    let steps = (0..255).map(|step| colour::of_share(f64::from(step) / 254.0));
    let palette: Vec<u8> = steps.chain([colour::NO_VALUE]).flatten().collect();

    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette);
    let mut writer = encoder.write_header().map_err(|e| failed(&e))?;
    writer.write_image_data(&pixels).map_err(|e| failed(&e))?;
    writer.finish().map_err(|e| failed(&e))?;
    Ok(format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes)))
}
