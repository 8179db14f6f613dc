//! How a text is read: what it begins with, and whether special tokens can be spelled in it.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What texts and prompts begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bos {
    /// What the tokenizer's template puts before a text; nothing where it puts nothing.
    #[default]
    Auto,
    /// The same, or else the BOS token that the model's files name.
    Always,
    /// Nothing.
    Never,
}

/// What a special token that is spelled in a text, such as `</s>`, becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpecialTokens {
    /// What the tokenizer's files say: the token, unless they ask to split special tokens.
    #[default]
    Auto,
    /// The token.
    Parse,
    /// The letters that it is spelled with.
    Literal,
}

/// How a tokenizer reads texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextOptions {
    /// What texts and prompts begin with.
    #[serde(default)]
    pub bos: Bos,
    /// What spelled special tokens become.
    #[serde(default)]
    pub special_tokens: SpecialTokens,
}

impl Bos {
    const ALL: [(Self, &'static str); 3] = [(Self::Auto, "auto"), (Self::Always, "always"), (Self::Never, "never")];
}

impl SpecialTokens {
    const ALL: [(Self, &'static str); 3] = [(Self::Auto, "auto"), (Self::Parse, "parse"), (Self::Literal, "literal")];
}

macro_rules! by_name {
    ($name:ident) => {
        impl Display for $name {
            fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
                let name = Self::ALL.iter().find(|(value, _)| value == self).map_or("", |(_, name)| name);
                f.pad(name)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|(_, name)| *name == text);
                let names = Self::ALL.map(|(_, name)| name).join(", ");
                found.map(|(value, _)| *value).ok_or_else(|| format!("expected one of {names}"))
            }
        }
    };
}

by_name!(Bos);
by_name!(SpecialTokens);

impl TextOptions {
    /// Whether texts that a chat template made can be read so.
    ///
    /// # Errors
    ///
    /// What the template leaves no room for.
    pub fn check_for_chat(self) -> Result<(), &'static str> {
        match self {
            Self { special_tokens: SpecialTokens::Literal, .. } => Err(
                "with ‘special_tokens’ literal the special tokens of the chat template would be letters; leave it out",
            ),
            Self { bos: Bos::Auto, .. } => Ok(()),
            _ => Err("in a conversation the chat template says what it begins with; leave ‘bos’ out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (bos, _) in Bos::ALL {
            assert_eq!(bos.to_string().parse(), Ok(bos));
        }
        for (special, _) in SpecialTokens::ALL {
            assert_eq!(special.to_string().parse(), Ok(special));
        }
        assert!("often".parse::<Bos>().unwrap_err().contains("auto, always, never"));
    }
}
