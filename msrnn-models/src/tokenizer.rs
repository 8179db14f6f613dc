//! Text to token ids and back, by the checkpoint's own `tokenizer.json`.
//!
//! What Hugging Face transformers does with the file is done here; where the two differ on purpose
//! `docs/fidelity.md` says so.

mod config;
mod contained;
mod options;
mod parts;
mod spelled;
mod stages;
mod stream;

use std::path::Path;
use std::sync::OnceLock;

use tokenizers::models::ModelWrapper;
use tokenizers::{AddedToken, Encoding, Token, Tokenizer as Inner};

use crate::chat::ChatFiles;
use crate::error::ModelError;
use crate::file::read_text;
use crate::gguf::Vocabulary;
use config::TokenizerConfig;
pub(crate) use contained::contained;
use parts::Cuts;
use stages::Stages;

pub use config::TOKENIZER_CONFIG;
pub use options::{Bos, SpecialTokens, TextOptions};
pub use parts::{PART, Part};
pub(crate) use stages::sign;
pub use stream::TextStream;

/// Name of the tokenizer's file in a model directory.
pub const TOKENIZER: &str = "tokenizer.json";

/// A tokenizer of a model directory.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    /// The first token of a text, where some file names one.
    bos: Option<u32>,
    /// The id of unknown characters.
    unknown: Option<u32>,
    /// What the template puts before a text.
    template: Vec<u32>,
    /// What contexts and prompts begin with.
    prefix: Vec<u32>,
    /// Whether the files ask for spelled special tokens as letters.
    literal: bool,
    /// Whether transformers' cleaning belongs to decoding.
    clean: bool,
    stages: Option<Stages>,
    /// Where texts may be cut, found out when the first long one comes.
    cuts: OnceLock<Option<Cuts>>,
    notes: Vec<String>,
    chat: ChatFiles,
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, if it is there, `tokenizer_config.json` of a model directory. `bos` is the model's
    /// first token of a text, for [`Bos::Always`] where the tokenizer's files name none.
    ///
    /// # Errors
    ///
    /// When the first is missing or is not a tokenizer, or the second is damaged.
    pub fn read(directory: &Path, bos: Option<u32>) -> Result<Self, ModelError> {
        let path = directory.join(TOKENIZER);
        let config = TokenizerConfig::read(directory)?;
        let name = path.display().to_string();
        let text = read_text(&path)?;
        let inner = contained(&name, || Inner::from_bytes(&text))?;
        drop(text);
        let mut made = Self::new(&name, inner, config, bos)?;
        made.chat = made.chat.in_directory(directory)?;
        Ok(made)
    }

    /// Parses the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// When they are not a tokenizer.
    pub fn from_bytes(bytes: &[u8], bos: Option<u32>) -> Result<Self, ModelError> {
        Self::new(TOKENIZER, contained(TOKENIZER, || Inner::from_bytes(bytes))?, None, bos)
    }

    /// The tokenizer of a GGUF file's vocabulary; `name` is the file's.
    ///
    /// # Errors
    ///
    /// When the vocabulary contradicts itself.
    pub fn of_vocabulary(name: &str, vocabulary: Vocabulary, bos: Option<u32>) -> Result<Self, ModelError> {
        let config = TokenizerConfig::parse(&vocabulary.config).map_err(|reason| wrong(name, &reason))?;
        let notes = vocabulary.notes.clone();
        let mut made = Self::new(name, contained(name, || vocabulary.into_library())?, Some(config), bos)?;
        made.notes.splice(0..0, notes);
        Ok(made)
    }

    fn new(
        name: &str,
        mut inner: Inner,
        config: Option<TokenizerConfig>,
        bos: Option<u32>,
    ) -> Result<Self, ModelError> {
        let mut notes = Vec::new();
        // Part of the file as its last user left it, and obeyed by the library alone: transformers asks for neither.
        contained(name, || inner.with_truncation(None).map(|_| ()))?;
        inner.with_padding(None);
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && bpe.dropout.is_some_and(|dropout| dropout > 0.0)
        {
            notes.push(format!(
                "{name}: dropout {} would draw the ids of a text at random (as it does in transformers); it is off",
                bpe.dropout.unwrap_or_default()
            ));
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            inner.with_model(bpe);
        }
        let settings = config.clone().unwrap_or_default();
        let known = |token: &&str| inner.token_to_id(token).is_some();
        let special =
            settings.special().filter(known).filter(|token| !inner.get_added_vocabulary().is_special_token(token));
        let special: Vec<AddedToken> = special.map(|token| AddedToken::from(token, true)).collect();
        contained(name, || Ok(inner.add_special_tokens(&special)))?;

        let (before, behind) = contained(name, || around(&inner))?;
        if !behind.is_empty() {
            notes.push(format!(
                "{name}: the template puts the ids {behind:?} behind a text; they are left out, a text is not at its \
                 end where it is scored or continued"
            ));
        }
        let rebuilt = config.as_ref().and_then(TokenizerConfig::rebuilt);
        if let Some((bos, _)) = rebuilt.filter(|(bos, _)| *bos == before.is_empty()) {
            let (four, here) = if bos { ("BOS", "nothing") } else { ("nothing", "BOS") };
            notes.push(format!(
                "transformers 4 puts {four} before a text, by {TOKENIZER_CONFIG}; transformers 5 puts {here}, by the \
                 template of {TOKENIZER}, and so does this; ‘bos’ always or never decides it"
            ));
        }
        let (bpe, unknown) = match inner.get_model() {
            ModelWrapper::BPE(model) => (true, model.unk_token.clone()),
            ModelWrapper::WordLevel(model) => (false, Some(model.unk_token.clone())),
            ModelWrapper::WordPiece(model) => (false, Some(model.unk_token.clone())),
            ModelWrapper::Unigram(_) => (false, settings.unk_token().map(str::to_owned)),
        };
        let unknown = unknown.and_then(|token| inner.token_to_id(&token));
        let clean = settings.cleans_up(bpe);
        let bos = settings.bos_token().and_then(|token| inner.token_to_id(token)).or(bos);
        let stages = Stages::new(inner.get_decoder(), clean);
        let chat = settings.chat().map_err(|reason| wrong(TOKENIZER_CONFIG, &reason))?;
        let (literal, template) = (settings.literal(), before);
        let prefix = template.clone();
        let cuts = OnceLock::new();
        let made = Self { inner, bos, unknown, template, prefix, literal, clean, stages, cuts, notes, chat };
        made.with(TextOptions::default())
    }

    /// The same tokenizer reading texts in another way.
    ///
    /// # Errors
    ///
    /// When there has to be a BOS and no file names one.
    pub fn with(mut self, options: TextOptions) -> Result<Self, ModelError> {
        self.prefix = match (options.bos, self.bos) {
            (Bos::Never, _) => Vec::new(),
            (Bos::Auto, _) => self.template.clone(),
            (Bos::Always, _) if !self.template.is_empty() => self.template.clone(),
            (Bos::Always, Some(bos)) => vec![bos],
            (Bos::Always, None) => {
                return Err(ModelError::Tokenizer(format!(
                    "‘bos’ always, but neither {TOKENIZER_CONFIG} nor config.json names a BOS token that the tokenizer \
                     knows; use ‘bos’ auto or never"
                )));
            }
        };
        self.inner.set_encode_special_tokens(match options.special_tokens {
            SpecialTokens::Auto => self.literal,
            SpecialTokens::Parse => false,
            SpecialTokens::Literal => true,
        });
        Ok(self)
    }

    /// What was found in the files that their user should know: sentences for a warning each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the files say about conversations.
    pub fn chat(&self) -> &ChatFiles {
        &self.chat
    }

    /// The ids of a text, with nothing put before or behind it. Long texts are encoded part by part.
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let mut ids = Vec::new();
        for part in self.parts(text, PART) {
            ids.extend(self.encode_whole(part.text)?);
        }
        Ok(ids)
    }

    /// The same, as the library does it, all at once: for every byte of the text it takes a hundred and more of memory.
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot encode the text.
    pub fn encode_whole(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = contained("encoding a text", || self.inner.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Parts of a text whose ids, one after the other, are those of the text; each has `at_least` so many bytes but the
    /// last. One part where no cut is known to change nothing.
    pub fn parts<'t>(&'t self, text: &'t str, at_least: usize) -> impl Iterator<Item = Part<'t>> {
        let cuts = if text.len() > at_least { self.cuts.get_or_init(|| Cuts::of(&self.inner)).as_ref() } else { None };
        Cuts::parts(cuts, text, at_least)
    }

    /// The ids that every context and prompt begins with: what the template of `tokenizer.json` puts before a text,
    /// as transformers 5 does, unless [`Tokenizer::with`] was told otherwise. What it puts behind one is not here.
    ///
    /// # Errors
    ///
    /// Never; the ids are known since the files were read.
    pub fn prefix(&self) -> Result<Vec<u32>, ModelError> {
        Ok(self.prefix.clone())
    }

    /// The ids of a prompt: [`Tokenizer::begun`] of its text.
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot encode the text.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Ok(self.begun(&self.encode(text)?))
    }

    /// The ids behind the prefix. Where they begin with it already, since the text spells it, it is not put twice.
    pub fn begun(&self, ids: &[u32]) -> Vec<u32> {
        [&self.prefix, self.without_prefix(ids)].concat()
    }

    /// The ids of a text without the prefix, where the text itself spells it at its beginning.
    pub fn without_prefix<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        ids.strip_prefix(self.prefix.as_slice()).unwrap_or(ids)
    }

    /// How many ids of an encoded text are special tokens: those that the text spells. Unknown characters, which some
    /// tokenizers give a special token, do not count.
    pub fn specials(&self, ids: &[u32]) -> usize {
        ids.iter().filter(|&&id| Some(id) != self.unknown && self.token(id).is_none() && self.knows(id)).count()
    }

    /// Whether an id is one of the tokenizer's.
    pub fn knows(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }

    /// The text of some ids, without special tokens and ids that the tokenizer does not know.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        let text = self.decoding(|| self.inner.decode(ids, true))?;
        Ok(if self.clean { stages::cleaned(&text) } else { text })
    }

    /// What new ids add to the text of a prompt: the text of both without the beginning that it shares with that of
    /// the prompt.
    ///
    /// The prompt's text is a beginning of the other, and this its rest, but where new ids change how the prompt's end
    /// is read, as those do that complete a character: then everything from the first changed character on is new.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn continuation(&self, prompt: &[u32], new: &[u32]) -> Result<String, ModelError> {
        let all = self.decode(&[prompt, new].concat())?;
        let shared = stream::shared(&self.decode(prompt)?, &all);
        Ok(all[shared..].to_owned())
    }

    /// Text of a stream of ids, piece by piece.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn stream(&self) -> Result<TextStream<'_>, ModelError> {
        self.stream_behind(&[])
    }

    /// [`Tokenizer::continuation`] of a prompt, piece by piece.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn stream_behind(&self, prompt: &[u32]) -> Result<TextStream<'_>, ModelError> {
        TextStream::new(self, self.stages.clone(), prompt)
    }

    /// The text of some ids, and where that of every id ends in it, in bytes: never before the one of the id before it.
    /// A part of a character has no text, all of it comes with its last part.
    ///
    /// # Errors
    ///
    /// When the decoder fails.
    pub fn decode_with_ends(&self, ids: &[u32]) -> Result<(String, Vec<usize>), ModelError> {
        let mut stream = self.stream()?;
        let mut text = String::new();
        let mut ends: Vec<usize> = Vec::with_capacity(ids.len());
        for &id in ids {
            text.push_str(&stream.push(id)?);
            let held = stream.end()?;
            let before = ends.last().copied().unwrap_or(0);
            let incomplete = held.ends_with(char::REPLACEMENT_CHARACTER);
            ends.push(if incomplete { before } else { before.max(text.len() + held.len()) });
        }
        text.push_str(&stream.finish()?);
        ends.iter_mut().for_each(|end| *end = text.floor_char_boundary(*end));
        if let Some(last) = ends.last_mut() {
            *last = text.len();
        }
        Ok((text, ends))
    }

    /// What the template puts before a text and behind it.
    pub(crate) fn around(&self) -> Result<(Vec<u32>, Vec<u32>), ModelError> {
        contained("the template", || around(&self.inner))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Number of ids, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The largest id, plus one.
    pub fn end_of_ids(&self) -> usize {
        self.inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1)
    }

    /// What an id is in the vocabulary; none where it is special or unknown.
    fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id).filter(|token| !self.inner.get_added_vocabulary().is_special_token(token))
    }

    fn decoding<T>(&self, work: impl FnOnce() -> Result<T, tokenizers::Error>) -> Result<T, ModelError> {
        contained("decoding ids", work)
    }
}

fn wrong(name: &str, reason: &str) -> ModelError {
    ModelError::Tokenizer(format!("{name}: {reason}"))
}

/// What the template puts before a text and behind it.
fn around(inner: &Inner) -> Result<(Vec<u32>, Vec<u32>), tokenizers::Error> {
    // An id that no token has, to be found again.
    const TEXT: u32 = u32::MAX;
    let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
    let whole = inner.post_process(text, None, true)?;
    let parts: Vec<&[u32]> = whole.get_ids().split(|&id| id == TEXT).collect();
    match parts[..] {
        [before, behind] => Ok((before.to_vec(), behind.to_vec())),
        _ => Err(format!("the template takes a text {} times instead of once", parts.len() - 1).into()),
    }
}
