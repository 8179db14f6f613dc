//! Conversations as text, by the template that comes with a model.
//!
//! A template is a program in Jinja that a model's maker wrote: it puts messages between the special tokens that the
//! model was trained on. It is run as transformers runs it (5.23, `utils/chat_template_utils.py`): the same settings of
//! the engine, the same functions and variables, no tools and no documents. What the engine here, `minijinja`, does
//! otherwise is in `docs/fidelity.md`.
//!
//! The text holds all there is, BOS too where the model wants one: it is encoded without what a tokenizer puts before
//! other texts ([`Tokenizer::encode`](crate::tokenizer::Tokenizer::encode)).

mod engine;
mod files;
mod json;

pub use chrono::NaiveDateTime;
use minijinja::{Environment, Value};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
pub use files::{ADDITIONAL_TEMPLATES, CHAT_TEMPLATE, ChatFiles};

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// The words.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: &str, content: &str) -> Self {
        Self { role: role.to_owned(), content: content.to_owned() }
    }
}

/// A template that was read, with the tokens that it may write.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// Reads a template. `tokens`: the special tokens that have a name, such as `bos_token`, with their texts.
    ///
    /// # Errors
    ///
    /// Says in which line the template is none.
    pub fn new(source: &str, tokens: impl IntoIterator<Item = (&'static str, String)>) -> Result<Self, ModelError> {
        let environment = engine::environment(source).map_err(|error| {
            ModelError::Chat(format!(
                "the template cannot be read: {}; take the model's files anew, or another template with \
                 ‘chat_template’",
                engine::told(&error)
            ))
        })?;
        Ok(Self { environment, tokens: tokens.into_iter().collect() })
    }

    /// The text of a conversation; with `prompted` up to where the model's answer begins. `now` is the time that a
    /// template may ask for.
    ///
    /// # Errors
    ///
    /// When there is no message, or the template refuses them, as many do two of one role in a row.
    pub fn render(&self, messages: &[Message], prompted: bool, now: NaiveDateTime) -> Result<String, ModelError> {
        if messages.is_empty() {
            return Err(ModelError::Chat("a conversation without a message has no text; give one".into()));
        }
        let message = |message: &Message| {
            Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
        };
        let mut variables = vec![
            ("messages", messages.iter().map(message).collect::<Vec<_>>().into()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", prompted.into()),
            (engine::NOW, engine::moment(now)),
        ];
        variables.extend(self.tokens.iter().map(|(name, text)| (*name, Value::from(text.as_str()))));
        let rendered = self
            .environment
            .get_template(engine::NAME)
            .and_then(|template| template.render(Value::from_pairs(variables)));
        rendered.map_err(|error| ModelError::Chat(format!("of these messages: {}", engine::told(&error))))
    }
}
