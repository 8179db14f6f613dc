//! What stands around a document and its question: nothing, or the model's chat template.

use msrnn_models::chat::{Message, NaiveDateTime};
use msrnn_models::error::ModelError;
use msrnn_models::tokenizer::Tokenizer;

use crate::error::BenchError;

/// Stands for the document where a template is filled: no text has it.
const DOCUMENT: &str = "\u{f8ff}document\u{f8ff}";

/// What comes before the document and after it.
pub(super) struct Frame<'t> {
    tokenizer: &'t Tokenizer,
    /// None: the tokenizer's own beginning.
    before: Option<String>,
    after: String,
    /// Whether the template leaves out blanks that what is said begins with.
    trims: bool,
}

impl<'t> Frame<'t> {
    /// Around a document and `rest`, which follows it.
    ///
    /// # Errors
    ///
    /// When there is no chat template, or one that does not say what the user says as it is.
    pub(super) fn new(tokenizer: &'t Tokenizer, rest: &str, chat: bool) -> Result<Self, BenchError> {
        if !chat {
            return Ok(Self { tokenizer, before: None, after: rest.to_owned(), trims: false });
        }
        // The same day always, so that results do not depend on when they were made.
        let day = NaiveDateTime::default();
        let template = tokenizer.chat().template()?;
        let around = |blanks: &str| -> Result<Option<(String, String)>, BenchError> {
            let said = [Message::new("user", &format!("{blanks}{DOCUMENT}{rest}"))];
            let text = template.render(&said, true, day)?;
            Ok(match text.split(DOCUMENT).collect::<Vec<_>>()[..] {
                [before, after] => Some((before.to_owned(), after.to_owned())),
                _ => None,
            })
        };
        match (around("")?, around(" ")?) {
            (Some((before, after)), Some((behind_a_blank, _))) => {
                Ok(Self { tokenizer, trims: behind_a_blank == before, before: Some(before), after })
            }
            _ => Err(BenchError::Input(
                "the model's chat template does not say what the user says once, as it is; leave ‘chat’ out".into(),
            )),
        }
    }

    /// The ids of a prompt with that much of a document, and how many of the last ones are asked apart from it.
    pub(super) fn ids(&self, document: &str, apart: bool) -> Result<(Vec<u32>, usize), ModelError> {
        let Self { tokenizer, before, after, trims } = self;
        let document = if *trims { document.trim_start() } else { document };
        let begun = |text: &str| match before {
            None => tokenizer.prompt(text),
            Some(before) => tokenizer.encode(&format!("{before}{text}")),
        };
        if !apart {
            return Ok((begun(&format!("{document}{after}"))?, 0));
        }
        // As a context is encoded that was there before the question.
        let asked = tokenizer.encode(after)?;
        Ok(([begun(document)?, asked.clone()].concat(), asked.len()))
    }
}
