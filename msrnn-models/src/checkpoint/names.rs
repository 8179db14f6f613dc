//! Which tensor of the files is which of the model, and what files are that have others.

use std::collections::BTreeSet;

use burn::tensor::DType;
use safetensors::tensor::Dtype;

use super::shards::{Found, Shards, Stored};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::weights::{self, EMBEDDING, HEAD, Named};

/// What a model is read from.
pub(super) struct Wanted {
    /// In the order of [`weights::tensors`].
    pub(super) places: Vec<Found>,
    /// Names of tensors that are left.
    pub(super) unused: Vec<String>,
}

/// Endings of the tensors that quantised checkpoints have in place of weights or beside them.
const QUANTISED: [&str; 15] = [
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".SCB",
    ".weight_format",
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".bitsandbytes__nf4",
    ".bitsandbytes__fp4",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_packed",
    ".weight_zero_point",
];

impl Shards<'_> {
    /// Every tensor of the model, each of the shape that the configuration implies.
    pub(super) fn wanted(&self, config: &ModelConfig) -> Result<Wanted, ModelError> {
        if let Some(name) = self.found.keys().find(|name| QUANTISED.iter().any(|ending| name.ends_with(ending))) {
            return Err(ModelError::OtherForm {
                path: self.directory.clone(),
                reason: format!(
                    "tensor {name} is that of a quantised checkpoint (GPTQ, AWQ, bitsandbytes or the like), which is \
                     not read; take the model's unquantised checkpoint, or dequantise it with transformers \
                     (`model.dequantize()`, then `save_pretrained`); ‘dtype’ int8 quantises while loading"
                ),
            });
        }
        let tensors = weights::tensors(config);
        let (mut places, mut missing) = (Vec::with_capacity(tensors.len()), Vec::new());
        for weights::Stored { whole: named, parts } in weights::stored(config) {
            let only_head = || self.find(HEAD).filter(|_| config.tie_word_embeddings && named.name == EMBEDDING);
            let Some(place) = self.find(&named.name).or_else(only_head) else {
                missing.push(named.name);
                continue;
            };
            self.check(&named, place)?;
            if parts.len() == 1 {
                places.push(place.clone());
                continue;
            }
            let mut first = 0;
            for part in &tensors[parts] {
                places.push(place.rows(first, part.shape.clone()));
                first += part.shape[0];
            }
        }
        if !missing.is_empty() {
            let hint = self.hint(config, &missing);
            return Err(ModelError::MissingTensors { path: self.directory.clone(), names: missing, hint });
        }
        let used: BTreeSet<&str> = places.iter().map(|place| place.name.as_str()).collect();
        let names = self.found.values().map(|found| &found.name);
        let mut unused: Vec<String> = names.filter(|name| !used.contains(name.as_str())).cloned().collect();
        // A tied head, written out; and tables that are computed, which old files have.
        let tied = config.tie_word_embeddings.then(|| self.find(HEAD)).flatten().map(|head| head.name.clone());
        unused.retain(|name| {
            Some(name) != tied.as_ref() && !name.ends_with(".rotary_emb.inv_freq") && !name.starts_with("rope_freqs.")
        });
        if let Some(surplus) = unused.iter().find(|name| is_of_model(name, config.layers)) {
            let class = config.architecture.class();
            let reason = match (surplus.ends_with(".bias"), self.directory.is_file()) {
                (_, true) => format!(
                    "tensor {surplus} is one that a {class} does not have, and without it the model is another; take the \
                     model's safetensors, or a file of an architecture that is read"
                ),
                (true, false) => format!(
                    "tensor {surplus} is a bias that config.json denies, and without it the model is another (transformers \
                     warns and leaves it out); set `attention_bias` or `mlp_bias` to true in config.json where its \
                     architecture has them, or remove the biases from the file"
                ),
                (false, false) => format!(
                    "tensor {surplus} is one that a {class} of this configuration does not have, and without it the model is \
                     another (transformers warns and leaves it out); correct config.json (`model_type`), or remove it from \
                     the file"
                ),
            };
            return Err(ModelError::OtherForm { path: self.directory.clone(), reason });
        }
        unused.extend(self.stale.iter().cloned());
        Ok(Wanted { places, unused })
    }

    /// Decides whether the head is the embedding, as transformers 5 does: not if the files have both and they differ.
    /// Returns what is to be said about it.
    pub(super) fn untie(&self, config: &mut ModelConfig, dtype: DType) -> Result<Vec<String>, ModelError> {
        let (true, Some(embedding), Some(head)) = (config.tie_word_embeddings, self.find(EMBEDDING), self.find(HEAD))
        else {
            return Ok(Vec::new());
        };
        let shape = vec![config.vocab_size, config.hidden_size];
        for (name, place) in [(EMBEDDING, embedding), (HEAD, head)] {
            self.check(&Named { name: name.into(), shape: shape.clone() }, place)?;
        }
        if self.same(embedding, head, dtype)? {
            return Ok(Vec::new());
        }
        config.tie_word_embeddings = false;
        Ok(vec![format!(
            "`tie_word_embeddings` is true and {HEAD} is not the embedding: the head of the file is used, as in \
             transformers 5, while transformers 4 uses the embedding; set `tie_word_embeddings` to false, or remove \
             {HEAD} from the file"
        )])
    }

    /// A tensor by the name that the model has for it, or one of those that transformers takes for it: without
    /// `model.`, as a model without head is saved, or with `model.` once more.
    fn find(&self, name: &str) -> Option<&Found> {
        let shorter = name.strip_prefix("model.").and_then(|name| self.found.get(name));
        self.found.get(name).or(shorter).or_else(|| self.found.get(&format!("model.{name}")))
    }

    fn check(&self, named: &Named, place: &Found) -> Result<(), ModelError> {
        if place.shape != named.shape {
            return Err(ModelError::Shape {
                path: self.directory.clone(),
                name: place.name.clone(),
                found: place.shape.clone(),
                expected: named.shape.clone(),
            });
        }
        match place.stored {
            // A row of one value is no whole block.
            Stored::Gguf(format) if !place.columns().is_multiple_of(format.block()) => Err(ModelError::OtherForm {
                path: self.directory.clone(),
                reason: format!(
                    "tensor {} is a vector in blocks of {}, which no converter writes, and is not read; convert the model anew",
                    place.name,
                    format.name()
                ),
            }),
            Stored::Gguf(_) | Stored::Safetensors(Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) => Ok(()),
            Stored::Safetensors(other) => Err(ModelError::Dtype {
                path: self.directory.clone(),
                name: place.name.clone(),
                dtype: format!("{other:?}"),
            }),
        }
    }

    /// What the files have instead of what is missing.
    fn hint(&self, config: &ModelConfig, missing: &[String]) -> String {
        let foreign = self.found.keys().find_map(|name| {
            let wanted = missing.iter().find(|wanted| ends_in(name, wanted))?;
            let whole = if name.ends_with(wanted.as_str()) { wanted } else { wanted.strip_prefix("model.")? };
            Some((&name[..name.len() - whole.len()], name))
        });
        if let Some((prefix, name)) = foreign {
            return format!(
                ": the names of its tensors begin with {prefix:?}, as in {name}; rename them to what transformers \
                 expects (`model.layers.0. …`)"
            );
        }
        let layers = self.found.keys().filter_map(|name| layer(name)).max().map_or(0, |last| last + 1);
        match layers {
            layers if layers < config.layers => {
                let said = if self.directory.is_file() { "the metadata" } else { "config.json" };
                format!(": {said} says {} layers, and the files hold {layers}", config.layers)
            }
            _ if missing == [HEAD] => format!(
                ": config.json says `tie_word_embeddings` false, or nothing, which is false; if the output projection is \
                 the embedding, set it to true (transformers would go on with a random {HEAD})"
            ),
            _ => String::new(),
        }
    }
}

/// Whether `name` is `wanted`, with or without its `model.`, behind a prefix.
fn ends_in(name: &str, wanted: &str) -> bool {
    let behind = |end: &str| name.strip_suffix(end).is_some_and(|prefix| prefix.ends_with('.'));
    behind(wanted) || wanted.strip_prefix("model.").is_some_and(behind)
}

/// The number of the layer that a tensor belongs to, also by the names of GGUF files.
fn layer(name: &str) -> Option<usize> {
    let rest = name.split_once("layers.").map(|(_, rest)| rest).or_else(|| name.strip_prefix("blk."))?;
    rest.split('.').next()?.parse().ok()
}

/// Whether a tensor is one of the first `layers`, or a bias of what stands around them.
fn is_of_model(name: &str, layers: usize) -> bool {
    const AROUND: [&str; 4] = ["lm_head.bias", "model.norm.bias", "output.bias", "output_norm.bias"];
    layer(name).is_some_and(|layer| layer < layers) || AROUND.contains(&name)
}
