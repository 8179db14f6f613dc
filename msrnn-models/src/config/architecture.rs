//! The architectures that are read: the one list of them, which errors, help and the README print.

use serde::{Deserialize, Serialize};

/// The supported architectures, by the classes that transformers has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Llama 1, 2, 3, Yi and everything else that declares `LlamaForCausalLM`.
    LlamaForCausalLM,
    /// Mistral, with its sliding window.
    MistralForCausalLM,
    /// Qwen 2 and 2.5: biases on queries, keys and values, a sliding window in some layers.
    Qwen2ForCausalLM,
    /// Qwen 3: queries and keys are normalised head by head.
    Qwen3ForCausalLM,
    /// SmolLM3: layers without rotary embedding.
    SmolLM3ForCausalLM,
    /// Phi-3 with the context that it was trained on: maps of several outputs in one tensor.
    Phi3ForCausalLM,
    /// Granite 3: four factors.
    GraniteForCausalLM,
}

/// What there is to know of an architecture's names.
struct Names {
    /// As `architectures` has it.
    class: &'static str,
    /// As `model_type` has it.
    model_type: &'static str,
    /// As `general.architecture` of a GGUF file has it.
    gguf: &'static str,
    /// What its models are called together.
    family: &'static str,
    /// Models of it.
    models: &'static str,
    /// What it has that a plain Llama has not.
    differs: &'static str,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::LlamaForCausalLM,
        Self::MistralForCausalLM,
        Self::Qwen2ForCausalLM,
        Self::Qwen3ForCausalLM,
        Self::SmolLM3ForCausalLM,
        Self::Phi3ForCausalLM,
        Self::GraniteForCausalLM,
    ];

    fn names(self) -> Names {
        match self {
            Self::LlamaForCausalLM => Names {
                class: "LlamaForCausalLM",
                model_type: "llama",
                gguf: "llama",
                family: "Llama",
                models: "Llama 2 and 3, Yi, TinyLlama, SmolLM2",
                differs: "",
            },
            Self::MistralForCausalLM => Names {
                class: "MistralForCausalLM",
                model_type: "mistral",
                gguf: "llama",
                family: "Mistral",
                models: "Mistral 7B",
                differs: "a sliding window",
            },
            Self::Qwen2ForCausalLM => Names {
                class: "Qwen2ForCausalLM",
                model_type: "qwen2",
                gguf: "qwen2",
                family: "Qwen 2",
                models: "Qwen 2 and 2.5",
                differs: "biases on queries, keys and values; a sliding window in some layers",
            },
            Self::Qwen3ForCausalLM => Names {
                class: "Qwen3ForCausalLM",
                model_type: "qwen3",
                gguf: "qwen3",
                family: "Qwen 3",
                models: "Qwen 3 without experts",
                differs: "queries and keys normalised head by head; a sliding window in some layers",
            },
            Self::SmolLM3ForCausalLM => Names {
                class: "SmolLM3ForCausalLM",
                model_type: "smollm3",
                gguf: "smollm3",
                family: "SmolLM3",
                models: "SmolLM3 3B",
                differs: "layers without rotary embedding; a sliding window in some layers",
            },
            Self::Phi3ForCausalLM => Names {
                class: "Phi3ForCausalLM",
                model_type: "phi3",
                gguf: "phi3",
                family: "Phi-3",
                models: "Phi-3 with a context of 4k, Phi-4 (not longrope: 128k, Phi-4-mini)",
                differs: "q, k, v in one tensor, gate and up in another; a sliding window",
            },
            Self::GraniteForCausalLM => Names {
                class: "GraniteForCausalLM",
                model_type: "granite",
                gguf: "granite",
                family: "Granite",
                models: "Granite 3 without experts",
                differs: "factors of embeddings, attention, residuals and logits",
            },
        }
    }

    /// Its class in transformers, as `architectures` of a `config.json` names it.
    pub fn class(self) -> &'static str {
        self.names().class
    }

    /// As `model_type` of a `config.json` names it.
    pub fn model_type(self) -> &'static str {
        self.names().model_type
    }

    /// As `general.architecture` of a GGUF file names it. A Mistral is a Llama there.
    pub fn in_gguf(self) -> &'static str {
        self.names().gguf
    }

    /// Whether GGUF files have the rows of queries and keys in another order than Hugging Face: channels that are
    /// rotated together side by side. llama.cpp's converter writes those so that it derives from its Llama.
    pub(crate) fn is_paired_in_gguf(self) -> bool {
        match self {
            Self::LlamaForCausalLM | Self::MistralForCausalLM | Self::SmolLM3ForCausalLM | Self::GraniteForCausalLM => {
                true
            }
            Self::Qwen2ForCausalLM | Self::Qwen3ForCausalLM | Self::Phi3ForCausalLM => false,
        }
    }

    /// Whether files have q, k and v in one tensor, and gate and up in another.
    pub(crate) fn is_fused(self) -> bool {
        self == Self::Phi3ForCausalLM
    }

    /// The one of a class's name. Weights without a head are part of it, and the older spelling is found in old files.
    pub(super) fn of_class(name: &str) -> Option<Self> {
        let wanted = name.strip_suffix("ForCausalLM").or_else(|| name.strip_suffix("Model"))?;
        let wanted = if wanted == "LLaMA" { "Llama" } else { wanted };
        Self::ALL.into_iter().find(|known| known.class().strip_suffix("ForCausalLM") == Some(wanted))
    }

    /// The one of a `model_type`.
    pub(super) fn of_type(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.model_type() == name)
    }

    /// The first one of a `general.architecture`.
    pub(crate) fn of_gguf(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.in_gguf() == name)
    }

    /// What all of them are called, for a sentence: `Llama, Mistral, … and Granite`.
    pub fn families() -> String {
        listed(&Self::ALL.map(|known| known.names().family))
    }

    /// What is supported, for an error.
    pub(crate) fn supported() -> String {
        let all = Self::ALL.map(|known| format!("{} ({})", known.class(), known.names().models));
        format!("supported are {}", listed(&all.each_ref().map(String::as_str)))
    }

    /// What is read from GGUF files, for an error.
    pub(crate) fn supported_in_gguf() -> String {
        let mut names = Self::ALL.map(Self::in_gguf).to_vec();
        names.dedup();
        format!("read are {}; Mistral and Yi are \"llama\"", listed(&names))
    }

    /// All of them as a table for the README.
    pub fn markdown() -> String {
        let mut table = "| `architectures` | models | beside a Llama's | GGUF |\n|---|---|---|---|\n".to_owned();
        for Names { class, gguf, models, differs, .. } in Self::ALL.map(Self::names) {
            table.push_str(&format!("| `{class}` | {models} | {differs} | `{gguf}` |\n"));
        }
        table
    }
}

/// Words with commas, and `and` before the last.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_to_its_architecture_and_no_other_does() {
        for known in Architecture::ALL {
            assert_eq!(Architecture::of_class(known.class()), Some(known));
            assert_eq!(Architecture::of_class(&known.class().replace("ForCausalLM", "Model")), Some(known));
            assert_eq!(Architecture::of_type(known.model_type()), Some(known));
            let first = Architecture::of_gguf(known.in_gguf());
            assert_eq!(first.map(Architecture::in_gguf), Some(known.in_gguf()));
        }
        assert_eq!(Architecture::of_class("LLaMAForCausalLM"), Some(Architecture::LlamaForCausalLM));
        for other in ["Qwen2MoeForCausalLM", "LlamaForSequenceClassification", "Llama", "Gemma2ForCausalLM", ""] {
            assert_eq!(Architecture::of_class(other), None, "{other}");
        }
        assert_eq!((Architecture::of_type("qwen3_moe"), Architecture::of_gguf("qwen2moe")), (None, None));
    }
}
