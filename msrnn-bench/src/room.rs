//! Whether weights and states of a run fit into the memory at hand, looked at before they are made.
//!
//! What is counted is the least that is needed: whatever is refused here could not have been done. Of a GPU's memory
//! only the largest buffer is known here; who runs out of the whole is told by its driver.

use msrnn_core::compression::Compression;
use msrnn_core::kernels::largest_buffer;
use msrnn_core::policy::Layer;
use msrnn_models::config::ModelConfig;
use msrnn_models::decoder::Decoder;
use msrnn_models::recurrent::state_bytes;

use crate::contexts::BLOCK;
use crate::device::is_host;
use crate::error::BenchError;
use crate::memory;

/// Refuses a batch of texts of so many tokens whose states, and logits of one block of tokens, do not fit. `tokens` of an
/// unbounded state count; a bounded one has all its rows from the beginning.
///
/// # Errors
///
/// Says how much they would take, and which options make it less.
pub(crate) fn check(
    decoder: &Decoder,
    compression: &Compression,
    tokens: usize,
    batch: usize,
) -> Result<(), BenchError> {
    let (device, config) = (decoder.device(), decoder.config());
    if !is_host(&device) {
        return check_buffer(keys_of_layer(decoder, compression, tokens, batch), largest_buffer(&device));
    }
    let rows = compression.states().unwrap_or(tokens);
    let logits = memory::product(&[batch, tokens.min(BLOCK), config.vocab_size, size_of::<f32>()]);
    let states = memory::product(&[state_bytes(decoder, compression, tokens), batch]);
    let what = match batch {
        1 => format!("a state of {rows} rows"),
        _ => format!("{batch} states of {rows} rows side by side"),
    };
    memory::check(
        states.saturating_add(logits),
        &what,
        "give fewer states, a shorter text or ‘context’, or a smaller ‘batch’",
    )
}

/// Bytes of the keys of the layer that holds most, where they are one tensor: 0 where they are packed, or every head has its
/// own.
fn keys_of_layer(decoder: &Decoder, compression: &Compression, tokens: usize, batch: usize) -> u64 {
    let config = decoder.config();
    let of_layer = |index| {
        let rows = match compression.planned() {
            None => tokens,
            Some((policy, states)) => {
                let plan = policy.plan(&Layer { index, layers: config.layers, kv_heads: config.kv_heads, states });
                match plan.packing.is_some() || plan.pooled.is_some() || !plan.heads.is_empty() {
                    true => 0,
                    false => plan.slots().unwrap_or(tokens),
                }
            }
        };
        memory::product(&[batch, rows, config.kv_heads, config.head_dim, decoder.storage().states.size()])
    };
    (0..config.layers).map(of_layer).max().unwrap_or(0)
}

/// Refuses keys that are larger than a device's largest buffer, where that is known.
fn check_buffer(keys: u64, most: Option<u64>) -> Result<(), BenchError> {
    match most {
        Some(most) if keys > most => Err(BenchError::Input(format!(
            "the keys of a layer would take {}, and the device's largest buffer has {}; give fewer states, a shorter text, a \
             smaller ‘batch’, or ‘device’ cpu",
            memory::in_words(keys),
            memory::in_words(most)
        ))),
        _ => Ok(()),
    }
}

/// Refuses a ceiling that is told of more tokens than the weights fit of that it is told: at every token those of all rows,
/// for every layer and decision.
///
/// # Errors
///
/// Says how much they would take.
pub(crate) fn check_foresight(
    decoder: &Decoder,
    compression: &Compression,
    tokens: usize,
    batch: usize,
) -> Result<(), BenchError> {
    let Some((policy, states)) = compression.planned() else { return Ok(()) };
    let (layers, kv_heads) = (decoder.layers.len(), decoder.config().kv_heads);
    let decisions = (0..layers).map(|index| {
        let plan = policy.plan(&Layer { index, layers, kv_heads, states });
        plan.decides.groups(kv_heads)
    });
    let rows = memory::product(&[tokens, tokens.saturating_add(1)]) / 2;
    let each = memory::product(&[decisions.sum(), batch, size_of::<f32>()]);
    memory::check(
        rows.saturating_mul(each),
        &format!("what {} is told of {tokens} tokens", policy.name()),
        "give a shorter ‘context’ or a smaller ‘batch’",
    )
}

/// Refuses sizes that no model has, by the limits that a file's are read with.
///
/// # Errors
///
/// Names what is beyond its limit.
pub(crate) fn check_sizes(config: &ModelConfig) -> Result<(), BenchError> {
    ModelConfig::parse(&config.to_json().to_string()).map(|_| ()).map_err(BenchError::Input)
}

/// Refuses a model of random weights that does not fit, or of sizes that no model has. `copies`: of its weights in f32,
/// as training holds gradients and averages beside them.
///
/// # Errors
///
/// Says how much it would take.
pub(crate) fn check_weights(config: &ModelConfig, copies: usize) -> Result<(), BenchError> {
    check_sizes(config)?;
    let bytes = memory::product(&[config.parameters(), size_of::<f32>(), copies]);
    memory::check(bytes, &format!("a model of {} weights", config.parameters()), "choose a smaller one")
}

/// Refuses so many units of an experiment that not even their names fit.
///
/// # Errors
///
/// Says how many there are.
pub(crate) fn check_units(counts: &[usize]) -> Result<(), BenchError> {
    /// Bytes of a unit with its name.
    const UNIT: u64 = 128;
    let units = memory::product(counts);
    memory::check(
        units.saturating_mul(UNIT),
        &format!("a list of {units} units of work"),
        "give fewer policies, states, texts, seeds or questions",
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use msrnn_policies::{PolicySpec, registry};

    use super::*;
    use crate::speed::shape::Shape;

    #[test]
    fn what_no_machine_holds_is_refused_with_the_options_that_make_it_less() {
        let shape: Shape = "2x24x4:2x32x50".parse().unwrap();
        let model = shape.model(0, DType::F32, &Device::flex());
        let tova = |states| registry::compression("tova", states).unwrap();
        for (compression, tokens, batch) in
            [(tova(1 << 40), 8, 1), (Compression::Unbounded, 1 << 40, 1), (tova(16), 100, 1 << 40)]
        {
            let error = check(&model.decoder, &compression, tokens, batch).unwrap_err().to_string();
            assert!(error.contains("at hand") && error.contains("‘batch’"), "{error}");
        }
        assert!(check(&model.decoder, &tova(16), 1000, 4).is_ok());
        for text in ["16000x1048576x1024:1x1048576x100", "1000000000x64x4x64x50", "2x64x4x64x99999999999"] {
            assert!(check_weights(&text.parse::<Shape>().unwrap().config(), 1).is_err(), "{text}");
        }
        assert!(check_weights(&shape.config(), 4).is_ok());
        assert!(check_units(&[1_000_000, 1_000_000]).unwrap_err().to_string().contains("1000000000000 units"));
        assert!(check_units(&[1000, 1000]).is_ok());
    }

    #[test]
    fn keys_are_counted_where_a_layer_holds_them_in_one_tensor() {
        let shape: Shape = "4x64x4:2x128x256".parse().unwrap();
        let model = shape.model(0, DType::F32, &Device::flex());
        let row = 3 * 2 * 16 * 4;
        let of = |spec: &str| {
            let compression = spec.parse::<PolicySpec>().unwrap().compression(1000, |_| 1).unwrap();
            keys_of_layer(&model.decoder, &compression, 1000, 3)
        };
        let tova = of("tova@64");
        assert_eq!(keys_of_layer(&model.decoder, &Compression::Unbounded, 1000, 3), 1000 * row);
        assert_eq!(tova, 65 * row);
        assert!(of("pyramid(tova)@64") > tova);
        assert_eq!(of("int4(tova)@64"), 0);
        assert!(check_buffer(tova, Some(tova)).is_ok());
        let refused = check_buffer(tova, Some(tova - 1)).unwrap_err().to_string();
        assert!(refused.contains("the keys of a layer would take"), "{refused}");
    }
}
