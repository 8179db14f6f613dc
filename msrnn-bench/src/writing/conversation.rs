//! A conversation in bounded memory: what was said is read once, and stays in the state.
//!
//! A template writes the whole conversation anew at every turn. Only what is new of it is read: that is all behind what
//! the states have seen, if the text begins with that, which is looked at every time. Where it does not, as under
//! templates that change earlier turns, the conversation is read again from its beginning, and the caller is told so.

use chrono::NaiveDateTime;
use msrnn_models::chat::{ChatTemplate, Message};
use msrnn_models::protocol::Protocol;
use msrnn_models::session::Session;
use msrnn_models::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

use super::{Ended, Written};
use crate::error::BenchError;

/// What was said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// In order.
    pub messages: Vec<Message>,
    /// The text of it as it was read and written, up to the end of the last answer.
    pub text: String,
}

/// What has to be read for the next answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its ids.
    pub ids: Vec<u32>,
    /// Whether they are the whole conversation, to be read by a session that knows nothing of it.
    pub again: bool,
    /// The whole text, up to where the answer begins.
    text: String,
}

/// A conversation.
#[derive(Debug)]
pub struct Conversation<'t> {
    template: &'t ChatTemplate,
    tokenizer: &'t Tokenizer,
    said: Said,
    now: NaiveDateTime,
}

impl<'t> Conversation<'t> {
    /// One in which was said what `said` has. `now`: the time that its template may ask for.
    pub fn new(template: &'t ChatTemplate, tokenizer: &'t Tokenizer, said: Said, now: NaiveDateTime) -> Self {
        Self { template, tokenizer, said, now }
    }

    /// What was said.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// Forgets all but a message of the system at its beginning.
    pub fn reset(&mut self) {
        self.said.messages.retain(|message| message.role == "system");
        self.said.text.clear();
    }

    /// Somebody says something. `known`: all ids that the session has read and written.
    ///
    /// # Errors
    ///
    /// When the template refuses it; then it was not said.
    pub fn say(&mut self, message: Message, known: &[u32]) -> Result<Turn, BenchError> {
        self.said.messages.push(message);
        match self.turn(known) {
            Ok(turn) => Ok(turn),
            Err(error) => {
                self.said.messages.pop();
                Err(error)
            }
        }
    }

    fn turn(&self, known: &[u32]) -> Result<Turn, BenchError> {
        let text = self.template.render(&self.said.messages, true, self.now)?;
        let ids = self.tokenizer.encode(&text)?;
        if let Some(new) = ids.strip_prefix(known).filter(|new| !new.is_empty()) {
            return Ok(Turn { ids: new.to_vec(), again: false, text });
        }
        // An answer may have come in other tokens than its text is cut into. At a special token no token spans the seam.
        let behind = text.strip_prefix(&*self.said.text).filter(|_| !self.said.text.is_empty());
        if let Some(new) = behind.filter(|new| self.tokenizer.begins_with_special(new)) {
            return Ok(Turn { ids: self.tokenizer.encode(new)?, again: false, text });
        }
        Ok(Turn { ids, again: true, text })
    }

    /// Takes note of the answer to a turn.
    pub fn answered(&mut self, turn: Turn, written: &Written) {
        // What was drawn of a stop text is in the states and not in the text.
        self.said.text = match written.ended {
            Ended::StopText => String::new(),
            _ => turn.text + &written.text,
        };
        self.said.messages.push(Message::new("assistant", &written.text));
    }

    /// Takes back what was said last, to which there is no answer.
    pub fn take_back(&mut self) {
        self.said.messages.pop();
    }
}

/// With how many ids every conversation begins in which the system says that. The last of them may open the user's first
/// turn.
///
/// # Errors
///
/// When the template refuses it.
pub fn opening(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    system: &str,
    now: NaiveDateTime,
) -> Result<usize, BenchError> {
    let begun = |user: &str| {
        let said = Said { messages: vec![Message::new("system", system)], text: String::new() };
        Conversation::new(template, tokenizer, said, now).say(Message::new("user", user), &[])
    };
    let (one, other) = (begun("0")?, begun("x")?);
    Ok(one.ids.iter().zip(&other.ids).take_while(|(one, other)| one == other).count())
}

impl Turn {
    /// Reads the turn: in the session as it is, or from the beginning.
    ///
    /// Returns whether all was read.
    ///
    /// # Errors
    ///
    /// As [`Session::read`].
    pub fn read<'m>(
        &self,
        session: &mut Session<'m>,
        fresh: impl FnOnce() -> Session<'m>,
        protocol: Protocol,
        pass: impl FnMut(usize) -> bool,
    ) -> Result<bool, BenchError> {
        if self.again {
            *session = fresh();
        }
        Ok(session.read(&self.ids, protocol, pass)?)
    }
}
