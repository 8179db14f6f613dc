//! A GGUF file.

use std::io::{BufWriter, Write};
use std::path::Path;

use burn::tensor::DType;

use super::texts::Texts;
use super::{WrittenAs, config, vocabulary};
use crate::checkpoint::Source;
use crate::error::ModelError;
use crate::gguf::write::{Announced, Entry, filler, header};
use crate::gguf::{in_gguf, order};
use crate::weights::{Named, Stored};
use crate::whole::WholeFile;
use msrnn_core::kernels::Format;

/// A tensor as it is written.
struct Written {
    announced: Announced,
    /// Where it comes from; none for what is computed.
    stored: Option<Stored>,
}

/// Writes the file, and returns what is to be said about it.
pub(super) fn write(
    source: &Source,
    texts: &Texts,
    out: &Path,
    written_as: WrittenAs,
) -> Result<Vec<String>, ModelError> {
    let failed = |source| ModelError::Write { path: out.into(), source };
    let mut notes = Vec::new();
    let mut entries = config::entries(source, written_as, out, &mut notes)?;
    entries.extend(vocabulary::entries(source, texts, out, &mut notes)?);
    notes.extend(other_ends(&texts.ends(&source.config)?, &entries));
    let factors = config::factors(&source.config);
    let tensors = tensors(source, written_as, factors.as_deref(), &mut notes);
    let announced: Vec<Announced> = tensors.iter().map(|tensor| tensor.announced.clone()).collect();

    let file = WholeFile::create(out).map_err(failed)?;
    let written = (|| {
        let mut writer = BufWriter::new(file.file());
        writer.write_all(&header(&entries, &announced)).map_err(failed)?;
        for tensor in &tensors {
            let bytes = match &tensor.stored {
                Some(stored) => bytes(source, stored, tensor.announced.format)?,
                None => factors.iter().flatten().flat_map(|factor| factor.to_le_bytes()).collect(),
            };
            writer.write_all(&bytes).map_err(failed)?;
            writer.write_all(&vec![0; filler(bytes.len())]).map_err(failed)?;
        }
        writer.flush().map_err(failed)
    })();
    match written {
        Ok(()) => file.finish().map_err(failed).map(|()| notes),
        Err(error) => {
            // The first error is the one to tell.
            let _ = file.discard();
            Err(error)
        }
    }
}

/// What is to be said where texts of the model end at other ids than the one that the file names.
fn other_ends(ends: &[u32], entries: &[(String, Entry)]) -> Option<String> {
    let named = entries.iter().find_map(|(key, value)| match value {
        Entry::U32(id) if key == "tokenizer.ggml.eos_token_id" => Some(*id),
        _ => None,
    });
    let named: Vec<u32> = named.into_iter().collect();
    (ends != named).then(|| {
        format!(
            "texts of this model end at any of the ids {ends:?}, and the file, which can name one, names {named:?}: texts \
             that are generated with it end elsewhere"
        )
    })
}

/// What is written, in its order. Vectors are floats of 32 bits whatever matrices are, as llama.cpp has them.
fn tensors(source: &Source, written_as: WrittenAs, factors: Option<&[f32]>, notes: &mut Vec<String>) -> Vec<Written> {
    let mut instead = false;
    let tensor = |stored: Stored| {
        let Named { name, shape } = stored.whole.clone();
        let wanted = if shape.len() == 1 { Format::F32 } else { written_as.format() };
        let whole = shape.last().is_some_and(|columns| columns.is_multiple_of(wanted.block()));
        instead |= !whole;
        let format = if whole { wanted } else { Format::F16 };
        let name = in_gguf(&name).expect("every tensor of a model has a name there");
        Written { announced: Announced { name, shape, format }, stored: Some(stored) }
    };
    let mut all: Vec<Written> = source.stored().into_iter().map(tensor).collect();
    if let Some(factors) = factors {
        let announced = Announced { name: config::FACTORS.into(), shape: vec![factors.len()], format: Format::F32 };
        all.insert(0, Written { announced, stored: None });
    }
    if instead {
        notes.push(format!("matrices whose rows are no multiple of the blocks of {written_as} are written as f16"));
    }
    all
}

/// A tensor as a format has it, its rows in the file's order.
fn bytes(source: &Source, stored: &Stored, format: Format) -> Result<Vec<u8>, ModelError> {
    // Read in the dtype itself, so that what does not fit is refused.
    let dtype = match format {
        Format::F16 => DType::F16,
        Format::BF16 => DType::BF16,
        _ => DType::F32,
    };
    let mut values = Vec::with_capacity(stored.whole.shape.iter().product());
    for part in source.read(stored, dtype)? {
        values.extend_from_slice(part.convert::<f32>().as_slice::<f32>().expect("it was converted"));
    }
    let rows = stored.whole.shape[0];
    let columns = values.len() / rows;
    let order = order(&stored.whole.name, &source.config);
    let in_order: Vec<f32> =
        (0..rows).flat_map(|row| &values[order.target(row) * columns..][..columns]).copied().collect();
    Ok(format.quantize(&in_order).expect("a format that is written"))
}

/// An entry.
pub(super) fn entry(key: &str, value: Entry) -> (String, Entry) {
    (key.to_owned(), value)
}
