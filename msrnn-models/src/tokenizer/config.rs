//! `tokenizer_config.json`: what transformers' classes make of a tokenizer.

use std::path::Path;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::chat::ChatFiles;
use crate::error::ModelError;
use crate::file::read_text;

/// Name of the file in a model directory.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// What of the file decides about ids and texts. Unknown keys are left alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenizerConfig {
    tokenizer_class: Option<String>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    #[serde(deserialize_with = "said")]
    bos_token: Option<Token>,
    #[serde(deserialize_with = "said")]
    eos_token: Option<Token>,
    #[serde(deserialize_with = "said")]
    unk_token: Option<Token>,
    pad_token: Option<Token>,
    clean_up_tokenization_spaces: Option<bool>,
    clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output: Option<bool>,
    split_special_tokens: Option<bool>,
    sep_token: Option<Token>,
    cls_token: Option<Token>,
    mask_token: Option<Token>,
    chat_template: Option<Value>,
}

/// A token's name, alone or with its flags.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Name(String),
    Flagged { content: String },
    Other(IgnoredAny),
}

/// What a key says that is there: that it is null, too, which is another thing than that it is absent.
fn said<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Token>, D::Error> {
    Token::deserialize(from).map(Some)
}

impl Token {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) | Self::Flagged { content: name } => Some(name),
            Self::Other(_) => None,
        }
    }
}

impl TokenizerConfig {
    /// The file of a model directory; none where it has none.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, ModelError> {
        let path = directory.join(TOKENIZER_CONFIG);
        if !path.exists() {
            return Ok(None);
        }
        serde_json::from_str(&read_text(&path)?)
            .map(Some)
            .map_err(|e| ModelError::Config { path, reason: e.to_string() })
    }

    /// The file's value.
    pub(super) fn parse(json: &Value) -> Result<Self, String> {
        Self::deserialize(json).map_err(|e| e.to_string())
    }

    /// The name of the first token of a text.
    pub(super) fn bos_token(&self) -> Option<&str> {
        self.bos_token.as_ref().and_then(Token::name)
    }

    /// The name of the token of unknown characters.
    pub(super) fn unk_token(&self) -> Option<&str> {
        self.unk_token.as_ref().and_then(Token::name)
    }

    /// The tokens that are special by their part, whatever `tokenizer.json` says.
    pub(super) fn special(&self) -> impl Iterator<Item = &str> {
        let tokens = [&self.bos_token, &self.eos_token, &self.unk_token, &self.pad_token];
        tokens.into_iter().flatten().filter_map(Token::name)
    }

    /// What the file says about conversations. transformers' class for Llama tokenizers names the tokens that a file
    /// leaves out.
    pub(super) fn chat(&self) -> Result<ChatFiles, String> {
        let llama = matches!(self.tokenizer_class.as_deref(), Some("LlamaTokenizer" | "LlamaTokenizerFast"));
        let named = [
            ("bos_token", &self.bos_token, Some("<s>")),
            ("eos_token", &self.eos_token, Some("</s>")),
            ("unk_token", &self.unk_token, Some("<unk>")),
            ("sep_token", &self.sep_token, None),
            ("pad_token", &self.pad_token, None),
            ("cls_token", &self.cls_token, None),
            ("mask_token", &self.mask_token, None),
        ];
        let named = named.into_iter().filter_map(|(key, token, usual)| {
            let name = token.as_ref().and_then(Token::name).or(usual.filter(|_| llama && token.is_none()))?;
            Some((key, name.to_owned()))
        });
        ChatFiles::new(self.chat_template.as_ref(), named.collect())
    }

    /// Whether spelled special tokens are letters.
    pub(super) fn literal(&self) -> bool {
        self.split_special_tokens.unwrap_or(false)
    }

    /// Whether spaces before punctuation are taken out of decoded text. transformers 5 leaves BPE alone.
    pub(super) fn cleans_up(&self, bpe: bool) -> bool {
        self.clean_up_tokenization_spaces.unwrap_or(false)
            && (!bpe || self.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output.unwrap_or(false))
    }

    /// Whether transformers 4 puts BOS before, and EOS behind, a text: its class for Llama tokenizers, which is
    /// also the one of a file that names none, makes the template anew. None where it takes the template as it is.
    pub(super) fn rebuilt(&self) -> Option<(bool, bool)> {
        match self.tokenizer_class.as_deref() {
            None | Some("LlamaTokenizer" | "LlamaTokenizerFast") => {
                Some((self.add_bos_token.unwrap_or(true), self.add_eos_token.unwrap_or(false)))
            }
            Some(_) => None,
        }
    }
}
