//! A question as token ids, and how a model answers it.

use std::sync::atomic::Ordering;

use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};
use msrnn_core::precision::widen;
use msrnn_core::state::MultiState;
use msrnn_models::recurrent::Recurrent;
use msrnn_models::sampling::greedy;
use msrnn_models::storage::Storage;
use msrnn_models::tokenizer::Tokenizer;
use msrnn_models::trouble::{check, reason};
use serde::{Deserialize, Serialize};

use crate::contexts::BLOCK;
use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::experiment::Watch;
use crate::numbers;
use crate::stories::questions::Question;

/// A question in token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt {
    /// Everything before the answer, with what the tokenizer puts before a text.
    pub context: Vec<u32>,
    /// How many ids of the context come before what asks.
    pub before: usize,
    /// The answers to choose from, the right one first. None is empty.
    pub candidates: Vec<Vec<u32>>,
}

/// How a question was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Whether the greedy continuation begins with the answer, token for token.
    pub exact: bool,
    /// 1 + the number of wrong candidates whose log-likelihood, summed over their tokens, is not
    /// below that of the answer.
    pub rank: usize,
    /// Log-likelihood of the answer, in nats.
    pub log_likelihood: f64,
    /// Tokens of context and answer.
    pub tokens: usize,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
}

/// A question and its answer, to be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The end of the text, which asks.
    pub asked: String,
    /// The right answer.
    pub answer: String,
    /// The greedy continuation, of as many tokens.
    pub written: String,
}

impl Prompt {
    /// The question in ids: what all candidates' encodings have in common is the context, so that a
    /// token that spans the seam belongs to the answer.
    ///
    /// # Errors
    ///
    /// When the tokenizer cannot write the question: it gives another text back.
    pub(crate) fn new(question: &Question, tokenizer: &Tokenizer) -> Result<Self, BenchError> {
        let bare = tokenizer.encode(&question.text)?;
        let back = tokenizer.decode(&bare)?;
        if back.trim() != question.text.trim() {
            let lost = question.text.split_whitespace().find(|word| !back.contains(word)).unwrap_or("its spaces");
            return Err(BenchError::Input(format!(
                "the tokenizer of this model cannot write the question: {lost:?} is lost; choose another ‘task’, \
                 or give a ‘haystack’ that it was made for"
            )));
        }
        let whole = |candidate: &String| tokenizer.encode(&format!("{}{candidate}", question.text));
        let whole = question.candidates.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
        let shared = |ids: &[u32]| ids.iter().zip(&bare).take_while(|(a, b)| a == b).count();
        let seam = whole.iter().map(|ids| shared(ids).min(ids.len() - 1)).min().unwrap_or(0);
        let context = tokenizer.begun(&bare[..seam]);
        if context.is_empty() {
            return Err(BenchError::Input(
                "nothing comes before the answer, since the tokenizer joins it with the whole question and puts nothing \
                 before a text; use ‘bos’ always"
                    .into(),
            ));
        }
        // The tokens that end before the asking begins.
        let ahead = tokenizer.begun(&tokenizer.encode(&question.text[..question.asked_at])?);
        let before = ahead.iter().zip(&context).take_while(|(a, b)| a == b).count();
        Ok(Self { context, before, candidates: whole.into_iter().map(|ids| ids[seam..].to_vec()).collect() })
    }

    /// Reads the context from empty states and answers. None when interrupted. With `ask_after` what comes before the
    /// asking is one block, after which the states are cut. What is observed are the states
    /// before the answer, and the predictions of the right answer's tokens.
    ///
    /// Greedy decoding writes the answer if and only if, fed the answer, every token of it is the
    /// likeliest, so that one pass over the answer gives both its likelihood and the exact match.
    ///
    /// # Errors
    ///
    /// When logits are not numbers.
    pub(crate) fn answer(
        &self,
        recurrent: &Recurrent<'_>,
        tokenizer: &Tokenizer,
        storage: Storage,
        device: &Device,
        ask_after: bool,
        watch: &Watch<'_>,
    ) -> Result<Option<(Trial, Observed)>, BenchError> {
        let mut states = recurrent.initial_states(1);
        let mut last = None;
        let (block, rest) = self.context.split_at(if ask_after { self.before } else { 0 });
        if !block.is_empty() {
            let logits = recurrent.prefill(ids(block, device), &mut states)?;
            let [_, n, vocab] = logits.dims();
            last = Some(logits.narrow(1, n - 1, 1).reshape([1, vocab]));
            (watch.advance)(block.len());
        }
        for block in rest.chunks(BLOCK) {
            if watch.interrupt.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let logits = recurrent.scan(ids(block, device), &mut states);
            let [_, n, vocab] = logits.dims();
            last = Some(logits.narrow(1, n - 1, 1).reshape([1, vocab]));
            (watch.advance)(block.len());
        }
        let first = last.expect("a context has tokens");
        let mut observed = Observed::of(&states);
        let mut scores = Vec::new();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let (logits, after) = logits(recurrent, &states, &first, candidate, device);
            if index == 0 {
                let by = self.context.len() - 1;
                observed.predict(&after, 0, by..by + candidate.len());
            }
            let (sum, greedy) = likelihood(logits.clone(), candidate);
            if !sum.is_finite() {
                return Err(self.refuse(logits, candidate, storage, recurrent, &after));
            }
            scores.push((sum, greedy));
        }
        let (log_likelihood, exact) = scores[0];
        // Not below, so that a model that tells nothing apart is not right by the order of a list.
        let rank = 1 + scores[1..].iter().filter(|(other, _)| other.total_cmp(&log_likelihood).is_ge()).count();
        let tokens = self.context.len() + self.candidates[0].len();
        let written = match exact {
            true => self.candidates[0].clone(),
            false => greedily(recurrent, storage, states, first, self.candidates[0].len(), device)?,
        };
        let [asked, answer, written] =
            [&self.context[self.before..], &self.candidates[0], &written].map(|ids| tokenizer.decode(ids));
        let said = Said { asked: asked?, answer: answer?, written: written? };
        Ok(Some((Trial { exact, rank, log_likelihood, tokens, said: Some(said) }, observed)))
    }

    /// Why a candidate has no likelihood. logits: `[tokens of the candidate, vocab]`
    fn refuse(
        &self,
        logits: Tensor<2>,
        candidate: &[u32],
        storage: Storage,
        recurrent: &Recurrent<'_>,
        states: &[MultiState],
    ) -> BenchError {
        let [_, vocab] = logits.dims();
        let data = logits.into_data().convert::<f32>();
        let rows: Vec<&[f32]> = data.as_slice::<f32>().expect("logits are floats").chunks(vocab).collect();
        let impossible = |index: usize| rows[index][candidate[index] as usize] == f32::NEG_INFINITY;
        let broken = (0..rows.len()).find(|&index| check(rows[index]).is_err() || impossible(index)).unwrap_or(0);
        let place = format!("token {}, which predicts an answer", self.context.len() - 1 + broken);
        let reason = || reason(storage, recurrent.compression(), states, 0);
        numbers::refuse(rows[broken], candidate[broken], place, storage, reason)
    }
}

/// The likeliest continuation, token by token. logits: of its first token, `[1, vocab]`
fn greedily(
    recurrent: &Recurrent<'_>,
    storage: Storage,
    mut states: Vec<MultiState>,
    mut logits: Tensor<2>,
    tokens: usize,
    device: &Device,
) -> Result<Vec<u32>, BenchError> {
    let mut written = Vec::with_capacity(tokens);
    while written.len() < tokens {
        let dims = logits.dims();
        let values = logits.into_data().convert::<f32>();
        // The answer's own logits are numbers, so that others are not is told as it would be while writing.
        let reason = |states: &[MultiState]| reason(storage, recurrent.compression(), states, 0);
        let token = greedy(values.as_slice::<f32>().expect("logits are floats"))
            .map_err(|error| BenchError::Input(format!("{error}: {}", reason(&states))))?;
        written.push(token);
        logits = recurrent.scan(ids(&[token], device), &mut states).reshape(dims);
    }
    Ok(written)
}

/// Logits that predict a continuation, `[tokens, vocab]`, and the states after all of it but the last token.
///
/// first: logits of its first token, `[1, vocab]`
fn logits(
    recurrent: &Recurrent<'_>,
    states: &[MultiState],
    first: &Tensor<2>,
    candidate: &[u32],
    device: &Device,
) -> (Tensor<2>, Vec<MultiState>) {
    let mut logits = first.clone();
    let vocab = logits.dims()[1];
    // A fork, since the other candidates begin from the same states.
    let mut fork = states.to_vec();
    if candidate.len() > 1 {
        let read = &candidate[..candidate.len() - 1];
        let rest = recurrent.scan(ids(read, device), &mut fork).reshape([read.len(), vocab]);
        logits = Tensor::cat(vec![logits, rest], 0);
    }
    (logits, fork)
}

/// Log-likelihood of a continuation, and whether each of its tokens is the likeliest. logits: `[tokens, vocab]`
fn likelihood(logits: Tensor<2>, candidate: &[u32]) -> (f64, bool) {
    let [_, vocab] = logits.dims();
    let data = log_softmax(widen(logits), 1).into_data().convert::<f64>();
    let values: &[f64] = data.as_slice().expect("log probabilities are numbers");
    let mut sum = 0.0;
    let mut greedy = true;
    for (row, &id) in values.chunks(vocab).zip(candidate) {
        let chosen = row[id as usize];
        sum += chosen;
        // On equal logits greedy decoding takes the first.
        greedy &=
            row.iter().enumerate().all(|(other, &value)| value < chosen || (value == chosen && other >= id as usize));
    }
    (sum, greedy)
}

fn ids(ids: &[u32], device: &Device) -> Tensor<2, Int> {
    let n = ids.len();
    Tensor::from_data(TensorData::new(ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), [1, n]), device)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use burn::tensor::DType;
    use msrnn_models::Model;
    use msrnn_models::generate::generate;
    use msrnn_models::protocol::Protocol;
    use msrnn_models::recurrent::Positions;
    use msrnn_models::sampling::Sampling;
    use msrnn_policies::PolicySpec;

    use super::super::haystack::Haystack;
    use super::super::task::Task;
    use super::*;
    use crate::bundled;

    fn prompts(model: &Model, task: Task, n: u64) -> Vec<Prompt> {
        let tokenizer = model.tokenizer().unwrap();
        let measure = |text: &str| tokenizer.encode(text).unwrap().len();
        let haystack = Haystack::stories(0);
        let question = |index| task.question(3, index, 520, 0.5, &haystack, &measure).unwrap();
        (0..n).map(|index| Prompt::new(&question(index), tokenizer).unwrap()).collect()
    }

    fn answer(model: &Model, policy: &str, prompt: &Prompt) -> (Trial, Observed) {
        let compression = policy.parse::<PolicySpec>().unwrap().compression(520, |_| 1).unwrap();
        let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
        let interrupt = AtomicBool::new(false);
        let watch = Watch { advance: &|_| {}, tell: &|_| {}, interrupt: &interrupt };
        let device = model.decoder.device();
        let tokenizer = model.tokenizer().unwrap();
        prompt.answer(&recurrent, tokenizer, model.decoder.storage(), &device, false, &watch).unwrap().unwrap()
    }

    /// What is asked comes after the cut: whatever it is, the same rows of the context are there for it.
    #[test]
    fn asked_after_a_cut_the_context_is_compressed_by_what_was_read_before_the_question() {
        let model = bundled::load(DType::F64, &Device::flex()).unwrap();
        let device = model.decoder.device();
        let interrupt = AtomicBool::new(false);
        let watch = Watch { advance: &|_| {}, tell: &|_| {}, interrupt: &interrupt };
        for prompt in prompts(&model, Task::Facts, 3) {
            let tokenizer = model.tokenizer().unwrap();
            let ahead = tokenizer.decode(&prompt.context[..prompt.before]).unwrap();
            let asks = tokenizer.decode(&prompt.context[prompt.before..]).unwrap();
            assert!(ahead.len() > 5 * asks.len() && asks.trim_start().starts_with('"'), "{asks:?}");
            for policy in ["snapkv(window=8)@64", "after-prompt(tova)@64", "full"] {
                let compression = policy.parse::<PolicySpec>().unwrap().compression(520, |_| 1).unwrap();
                let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
                let storage = model.decoder.storage();
                let ask = |prompt: &Prompt, after| {
                    prompt.answer(&recurrent, tokenizer, storage, &device, after, &watch).unwrap().unwrap()
                };
                let (trial, observed) = ask(&prompt, true);
                // The plain twin: a block, a cut, and then token by token.
                let mut states = recurrent.initial_states(1);
                let (block, rest) = prompt.context.split_at(prompt.before);
                recurrent.prefill(ids(block, &device), &mut states).unwrap();
                let held: Vec<_> = states.iter().map(MultiState::held).collect();
                let mut logits = None;
                for token in rest.iter().chain(&prompt.candidates[0][..prompt.candidates[0].len() - 1]) {
                    logits = Some(recurrent.scan(ids(&[*token], &device), &mut states));
                }
                assert!(logits.is_some());
                for (state, held) in states.iter().zip(&held) {
                    for (now, then) in state.held()[0].iter().zip(&held[0]) {
                        assert!(then.iter().all(|position| now.contains(position)), "{policy}");
                    }
                }
                assert_eq!(observed.omitted > 0, policy != "full");
                match policy {
                    "full" => {
                        let (strict, _) = answer(&model, policy, &prompt);
                        assert!((trial.log_likelihood - strict.log_likelihood).abs() < 1e-9);
                    }
                    _ => assert!(trial.log_likelihood.is_finite()),
                }
            }
        }
    }

    #[test]
    fn an_exact_match_is_what_greedy_generation_writes() {
        let model = bundled::load(DType::F64, &Device::flex()).unwrap();
        for (task, n) in [(Task::Facts, 7), (Task::Passkey, 2)] {
            for prompt in prompts(&model, task, n) {
                for policy in ["full", "window@32"] {
                    let compression = policy.parse::<PolicySpec>().unwrap().compression(520, |_| 1).unwrap();
                    let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
                    let (context, n) = (&prompt.context, prompt.candidates[0].len());
                    // Greedy.
                    let greedy = Sampling::default();
                    let written = generate(&model, &recurrent, context, Protocol::Strict, greedy, n, |_| true).unwrap();
                    let (trial, observed) = answer(&model, policy, &prompt);
                    assert_eq!(trial.exact, written.tokens == prompt.candidates[0]);
                    let said = trial.said.unwrap();
                    let decoded = |ids: &[u32]| model.tokenizer().unwrap().decode(ids).unwrap();
                    assert_eq!(said.written, decoded(&written.tokens));
                    assert_eq!(said.answer, decoded(&prompt.candidates[0]));
                    assert!(decoded(context).ends_with(said.asked.trim_start()) && said.asked.len() < 200, "{said:?}");
                    // What it writes is an exact match, and with another last token it is none.
                    let mut wanted = Prompt { candidates: vec![written.tokens], ..prompt.clone() };
                    assert!(answer(&model, policy, &wanted).0.exact);
                    *wanted.candidates[0].last_mut().unwrap() ^= 1;
                    assert!(!answer(&model, policy, &wanted).0.exact);
                    assert_eq!(observed.omitted > 0, policy != "full");
                }
            }
        }
    }

    /// What retrieval needs: the full state finds facts, a window that they have left does not.
    #[test]
    fn the_bundled_model_finds_facts_with_the_full_state_alone() {
        let model = bundled::load(DType::F32, &Device::flex()).unwrap();
        let prompts = prompts(&model, Task::Facts, 20);
        let right = |policy| prompts.iter().filter(|prompt| answer(&model, policy, prompt).0.rank == 1).count();
        let (full, window) = (right("full"), right("window@16"));
        assert!(full >= 14 && window <= 10, "{full} and {window} of 20; guessing gives 5");
    }

    #[test]
    fn likelihoods_and_ranks_are_those_of_the_vanilla_transformer() {
        let model = bundled::load(DType::F64, &Device::flex()).unwrap();
        let device = Device::flex();
        for prompt in prompts(&model, Task::Facts, 4) {
            let of = |candidate: &Vec<u32>| {
                let all: Vec<u32> = prompt.context.iter().chain(candidate).copied().collect();
                let logits = model.decoder.forward(ids(&all, &device));
                let [_, n, vocab] = logits.dims();
                let data = log_softmax(logits.reshape([n, vocab]), 1).into_data().convert::<f64>();
                let values: &[f64] = data.as_slice().unwrap();
                let first = prompt.context.len() - 1;
                candidate.iter().enumerate().map(|(i, &id)| values[(first + i) * vocab + id as usize]).sum::<f64>()
            };
            let expected: Vec<f64> = prompt.candidates.iter().map(of).collect();
            let (trial, _) = answer(&model, "full", &prompt);
            // Two ways to sum in f64.
            assert!((trial.log_likelihood - expected[0]).abs() < 1e-9);
            assert_eq!(trial.rank, 1 + expected[1..].iter().filter(|&&other| other >= expected[0]).count());
            assert_eq!(trial.tokens, prompt.context.len() + prompt.candidates[0].len());
        }
    }

    #[test]
    fn context_and_answer_spell_the_question() {
        let model = bundled::load(DType::F32, &Device::flex()).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        for task in [Task::Facts, Task::Passkey, Task::Needle] {
            for prompt in prompts(&model, task, 7) {
                assert_eq!(prompt.context[..1], tokenizer.prefix().unwrap());
                assert!(prompt.context.len() + prompt.candidates[0].len() <= 521);
                let text = tokenizer.decode(&prompt.context).unwrap();
                let of = |candidate: &Vec<u32>| tokenizer.decode(candidate).unwrap();
                assert!(prompt.candidates.iter().all(|candidate| !of(candidate).trim().is_empty()));
                assert!(text.contains(of(&prompt.candidates[0]).trim()));
            }
        }
    }

    #[test]
    fn a_tokenizer_without_the_words_is_refused() {
        let json = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "The": 1, "is": 2}, "unk_token": "[UNK]"}}"#;
        let tokenizer = Tokenizer::from_bytes(json.as_bytes(), None).unwrap();
        let candidates = vec![" green".to_owned(), " is".to_owned()];
        let question = Question {
            text: "The grass is".into(),
            stated_at: 0..3,
            asked_at: 9,
            answer: candidates[0].clone(),
            candidates,
        };
        let error = Prompt::new(&question, &tokenizer).unwrap_err().to_string();
        assert!(error.contains("\"grass\"") && error.contains("‘task’"), "{error}");
    }
}
