//! What a model has beside its weights: tokenizer, chat template, which tokens end a text.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::chat::CHAT_TEMPLATE;
use crate::checkpoint::Source;
use crate::config::{ModelConfig, ends};
use crate::error::ModelError;
use crate::file::read_text;
use crate::model::GENERATION_CONFIG;
use crate::tokenizer::{TOKENIZER, TOKENIZER_CONFIG};

/// Files of a model directory, as far as there are any.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    /// `tokenizer.json`
    pub(super) tokenizer: Option<Value>,
    /// `tokenizer_config.json`, with the chat template.
    pub(super) tokenizer_config: Map<String, Value>,
    /// `generation_config.json`
    pub(super) generation: Option<Value>,
    /// What is to be said about them.
    pub(super) notes: Vec<String>,
}

impl Texts {
    pub(super) fn read(path: &Path, source: &Source) -> Result<Self, ModelError> {
        let Some(gguf) = &source.gguf else { return Self::of_directory(path) };
        let config = &source.config;
        let generation = json!({ "bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_ids });
        let generation = Some(generation);
        Ok(match gguf.vocabulary() {
            Ok(vocabulary) => {
                let tokenizer_config = vocabulary.config.as_object().cloned().unwrap_or_default();
                let tokenizer = Some(vocabulary.tokenizer());
                Self { tokenizer, tokenizer_config, generation, notes: vocabulary.notes }
            }
            Err(error) => {
                Self { generation, notes: vec![format!("no tokenizer is written: {error}")], ..Self::default() }
            }
        })
    }

    fn of_directory(directory: &Path) -> Result<Self, ModelError> {
        let read = |name: &str| {
            let path = directory.join(name);
            if !path.exists() {
                return Ok(None);
            }
            let parsed = serde_json::from_str::<Value>(&read_text(&path)?);
            parsed.map(Some).map_err(|e| ModelError::Config { path, reason: e.to_string() })
        };
        let mut texts = Self { tokenizer: read(TOKENIZER)?, generation: read(GENERATION_CONFIG)?, ..Self::default() };
        if let Some(Value::Object(config)) = read(TOKENIZER_CONFIG)? {
            texts.tokenizer_config = config;
        }
        let template = directory.join(CHAT_TEMPLATE);
        if template.exists() {
            texts.tokenizer_config.insert("chat_template".into(), read_text(&template)?.into());
        }
        Ok(texts)
    }

    /// The ids that end a generated text, as [`Model::load`](crate::Model::load) takes them.
    pub(super) fn ends(&self, config: &ModelConfig) -> Result<Vec<u32>, ModelError> {
        let Some(generation) = &self.generation else { return Ok(config.eos_token_ids.clone()) };
        ends(&generation.to_string()).map_err(|reason| ModelError::Config { path: GENERATION_CONFIG.into(), reason })
    }

    /// The name of a token with a part of its own, such as `bos_token`.
    pub(super) fn named(&self, key: &str) -> Option<&str> {
        let token = self.tokenizer_config.get(key)?;
        token.as_str().or_else(|| token["content"].as_str())
    }
}
