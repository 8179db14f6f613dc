//! Where a model's files keep its templates, and which of several counts.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::ChatTemplate;
use crate::error::ModelError;
use crate::file::read_text;

/// Where transformers 5 keeps a template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The directory of others beside it.
pub const ADDITIONAL_TEMPLATES: &str = "additional_chat_templates";

/// The template that counts where several have names.
const DEFAULT: &str = "default";

/// What a tokenizer's files say about conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatFiles {
    templates: BTreeMap<String, String>,
    tokens: BTreeMap<&'static str, String>,
}

impl ChatFiles {
    /// From `chat_template` of `tokenizer_config.json`: one template, or a list of them with their names. `tokens`: the
    /// special tokens that have a name.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub(crate) fn new(template: Option<&Value>, tokens: BTreeMap<&'static str, String>) -> Result<Self, String> {
        let wrong = || "`chat_template` is neither a text nor a list of {\"name\", \"template\"}".to_owned();
        let mut templates = BTreeMap::new();
        match template {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => drop(templates.insert(DEFAULT.to_owned(), text.clone())),
            Some(Value::Array(list)) => {
                for entry in list {
                    let part = |key: &str| entry[key].as_str().map(str::to_owned).ok_or_else(wrong);
                    templates.insert(part("name")?, part("template")?);
                }
            }
            Some(Value::Object(named)) => {
                for (name, text) in named {
                    templates.insert(name.clone(), text.as_str().ok_or_else(wrong)?.to_owned());
                }
            }
            Some(_) => return Err(wrong()),
        }
        Ok(Self { templates, tokens })
    }

    /// The same with the template files of a model directory: where there are any, they alone count.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub(crate) fn in_directory(mut self, directory: &Path) -> Result<Self, ModelError> {
        let mut found = BTreeMap::new();
        let one = directory.join(CHAT_TEMPLATE);
        if one.exists() {
            found.insert(DEFAULT.to_owned(), read_text(&one)?);
        }
        let others = directory.join(ADDITIONAL_TEMPLATES);
        if others.is_dir() {
            let failed = |source| ModelError::Read { path: others.clone(), source };
            for entry in std::fs::read_dir(&others).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jinja"));
                if let Some(name) = name {
                    found.insert(name.to_owned(), read_text(&path)?);
                }
            }
        }
        if !found.is_empty() {
            self.templates = found;
        }
        Ok(self)
    }

    /// The text of the template that counts, if there is one.
    pub fn text(&self) -> Option<&str> {
        self.templates.get(DEFAULT).map(String::as_str)
    }

    /// The template that counts.
    ///
    /// # Errors
    ///
    /// When there is none, or several of which none is the default; when it cannot be read.
    pub fn template(&self) -> Result<ChatTemplate, ModelError> {
        match self.templates.get(DEFAULT) {
            Some(text) => self.given(text),
            None if self.templates.is_empty() => Err(ModelError::Chat(
                "the model has no chat template, in tokenizer_config.json, chat_template.jinja or its GGUF file: it was \
                 not made for conversations; give plain text, or a template with ‘chat_template’"
                    .into(),
            )),
            None => {
                let names: Vec<&str> = self.templates.keys().map(String::as_str).collect();
                Err(ModelError::Chat(format!(
                    "the model has chat templates called {}, and none called {DEFAULT}; give one with ‘chat_template’",
                    names.join(", ")
                )))
            }
        }
    }

    /// Another template, with the tokens of these files.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn given(&self, template: &str) -> Result<ChatTemplate, ModelError> {
        ChatTemplate::new(template, self.tokens.clone())
    }
}
