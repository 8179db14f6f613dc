//! Which layers rotate, and which have the sliding window.

use super::keys::{Keys, Said};
use super::{Architecture, Layers};

/// The layers that rotate: of a SmolLM3 those that are listed, or all but every so many-th.
pub(super) fn rotated(keys: Keys<'_>, architecture: Architecture, layers: usize) -> Result<Layers, String> {
    if architecture != Architecture::SmolLM3ForCausalLM {
        return Ok(Layers::All);
    }
    let interval = keys.count("no_rope_layer_interval", usize::MAX)?.or_default("no_rope_layer_interval", 4)?;
    let Some(mut list) = keys.flags("no_rope_layers")?.value() else {
        return Ok(Layers::of((0..layers).map(|layer| (layer + 1) % interval != 0).collect()));
    };
    if list.len() < layers {
        return Err(format!("`no_rope_layers` has {} entries for {layers} layers", list.len()));
    }
    // More are left alone, as transformers does.
    list.truncate(layers);
    Ok(Layers::of(list))
}

/// The sliding window, and which layers have it: none of both where no layer has.
pub(super) fn windows(
    keys: Keys<'_>,
    architecture: Architecture,
    layers: usize,
    rotated: &Layers,
) -> Result<(Option<usize>, Layers), String> {
    let window = keys.count("sliding_window", usize::MAX)?;
    let flag = keys.flag("use_sliding_window")?;
    // By class: the window, and the layers that have it where no list says it.
    let (window, usual, by_layer) = match architecture {
        Architecture::LlamaForCausalLM | Architecture::GraniteForCausalLM => (None, Layers::All, false),
        Architecture::MistralForCausalLM | Architecture::Phi3ForCausalLM => {
            let absent = (architecture == Architecture::MistralForCausalLM).then_some(4096);
            let window = if window == Said::Absent { absent } else { window.value() };
            if let (Some(window), Some(false)) = (window, flag.value()) {
                return Err(format!(
                    "`use_sliding_window` is false and `sliding_window` is {window}; transformers' {} goes by the second \
                     alone, so make it null for no window, or remove the first",
                    architecture.class()
                ));
            }
            (window, Layers::All, false)
        }
        Architecture::Qwen2ForCausalLM | Architecture::Qwen3ForCausalLM => {
            let window = if window == Said::Absent { Some(4096) } else { window.value() };
            let used = flag.or_default("use_sliding_window", false)?;
            let first = keys.whole("max_window_layers")?.or_default("max_window_layers", 28)?;
            (window.filter(|_| used), Layers::of((0..layers).map(|layer| layer >= first).collect()), true)
        }
        Architecture::SmolLM3ForCausalLM => {
            let used = flag.or_default("use_sliding_window", false)?;
            let without = rotated.list(layers).into_iter().map(|rotated| !rotated);
            (window.value().filter(|_| used), Layers::of(without.collect()), true)
        }
    };
    let windowed = listed(keys, layers, window, by_layer)?.unwrap_or(usual);
    match window {
        Some(_) if windowed.list(layers).contains(&true) => Ok((window, windowed)),
        _ => Ok((None, Layers::All)),
    }
}

/// The layers that `layer_types` says have a window, if there is such a list; `by_layer`: whether its class asks it.
fn listed(keys: Keys<'_>, layers: usize, window: Option<usize>, by_layer: bool) -> Result<Option<Layers>, String> {
    let (full, sliding) = ("full_attention", "sliding_attention");
    let Some(types) = keys.texts("layer_types")?.value() else { return Ok(None) };
    if types.len() != layers {
        return Err(format!("`layer_types` has {} entries for {layers} layers", types.len()));
    }
    if let Some(other) = types.iter().find(|name| ![full, sliding].contains(*name)) {
        return Err(format!("`layer_types` has {other:?}, which is not read; read are {full:?} and {sliding:?}"));
    }
    if by_layer && window.is_none() && types.contains(&sliding) {
        return Err(format!(
            "`layer_types` has {sliding:?} and there is no window (`use_sliding_window`, `sliding_window`); set both, or make \
             all layers {full:?}"
        ));
    }
    let all = if window.is_some() { sliding } else { full };
    match types.iter().find(|name| !by_layer && **name != all) {
        Some(name) => Err(format!(
            "`layer_types` has {name:?}, and every layer of this model is of {all:?} (`sliding_window` decides for Mistral \
             and Phi-3); remove the key if that is meant"
        )),
        None => Ok(Some(Layers::of(types.iter().map(|name| *name == sliding).collect()))),
    }
}
