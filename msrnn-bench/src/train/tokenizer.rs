//! The bundled model's tokenizer: byte-level BPE, learnt from the story generator.
//!
//! Large enough that nearly every word of a story is one token, so that a fact is recalled in as many steps
//! as it has words.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::error::BenchError;

/// First token of a text.
pub(crate) const BOS: (&str, u32) = ("<s>", 0);
/// Last token of a text.
pub(crate) const EOS: (&str, u32) = ("</s>", 1);

/// Learns a vocabulary of `vocab_size` ids from `texts`; the result is the text of a
/// `tokenizer.json`. A number is a
/// piece of its own, without the space before it; BOS is put before a text.
pub(crate) fn learn(texts: impl Iterator<Item = String> + Send, vocab_size: usize) -> Result<String, BenchError> {
    let failed = |e: tokenizers::Error| BenchError::Train(format!("the tokenizer could not be learnt: {e}"));
    let special = |token: &str| AddedToken::from(token.to_owned(), true);
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .special_tokens(vec![special(BOS.0), special(EOS.0)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let byte_level = ByteLevel::new(false, true, true);
    let split: Vec<PreTokenizerWrapper> = vec![Digits::new(false).into(), byte_level.into()];
    let bos = TemplateProcessing::builder()
        .try_single(format!("{} $A", BOS.0))
        .map_err(|e| BenchError::Train(e.to_string()))?
        .special_tokens(vec![BOS])
        .build()
        .map_err(|e| BenchError::Train(e.to_string()))?;
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(Sequence::new(split)))
        .with_post_processor(Some(bos))
        .with_decoder(Some(byte_level))
        .build()
        .map_err(failed)?;
    tokenizer.train(&mut trainer, texts).map_err(failed)?;
    tokenizer.to_string(true).map_err(failed)
}
