//! Many prompts from a file, continued side by side; a line for every one that is finished.
//!
//! A line of the file is a JSON object with `prompt` or `messages`, and whatever shall differ from the defaults. A line of
//! the result says by its `request` what it is the result of: a hash over model, bound and all that decides about its
//! tokens. That is how a run that was interrupted goes on, and how one that would mix settings is refused.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::NaiveDateTime;
use msrnn_models::Model;
use msrnn_models::batched::{BatchedGeneration, Request};
use msrnn_models::chat::{ChatTemplate, Message};
use msrnn_models::generate::Stop;
use msrnn_models::recurrent::Recurrent;
use msrnn_models::sampling::Sampling;
use msrnn_models::stop::StopTexts;
use msrnn_models::tokenizer::{TextStream, Tokenizer};
use msrnn_models::whole;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Ended;
use super::saved::Identity;
use crate::error::BenchError;

/// What is continued, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    /// Its name, or the number of its line.
    pub id: String,
    /// Where it stands.
    pub line: usize,
    /// The ids of its prompt.
    pub prompt: Vec<u32>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens to draw, at most.
    pub max_new_tokens: usize,
    /// Texts that end it.
    pub stop: Vec<String>,
}

/// What counts where a line says nothing.
#[derive(Debug)]
pub(crate) struct Defaults<'t> {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens to draw, at most.
    pub max_new_tokens: usize,
    /// Texts that end a continuation.
    pub stop: Vec<String>,
    /// For lines with `messages`; with it a `prompt` is one message of the user.
    pub chat: Option<Chat<'t>>,
}

/// How conversations become text.
#[derive(Debug)]
pub(crate) struct Chat<'t> {
    /// The template.
    pub template: &'t ChatTemplate,
    /// What the system says where a line's messages do not begin with that.
    pub system: Option<String>,
    /// The time that a template may ask for.
    pub now: NaiveDateTime,
}

/// A finished request, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// As in the file of prompts.
    pub id: String,
    /// What it is the result of.
    pub request: String,
    /// What was written.
    pub text: String,
    /// Ids that were drawn.
    pub ids: Vec<u32>,
    /// Why it ended: `eos`, `length` or `stop-text`.
    pub stop: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
}

/// Reads a file of prompts; every line of it, before any is continued.
///
/// # Errors
///
/// Names the line, and the field where it is one.
pub(crate) fn read(
    text: &str,
    name: &Path,
    tokenizer: &Tokenizer,
    defaults: &Defaults<'_>,
) -> Result<Vec<Asked>, BenchError> {
    let mut all: Vec<Asked> = Vec::new();
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |reason: String| BenchError::Input(format!("{}, line {}: {reason}", name.display(), index + 1));
        let asked = parse(line, index + 1, tokenizer, defaults).map_err(wrong)?;
        if let Some(first) = lines.insert(asked.id.clone(), asked.line) {
            return Err(wrong(format!("field `id`: {:?} is that of line {first} already; rename one", asked.id)));
        }
        all.push(asked);
    }
    match all.is_empty() {
        true => Err(BenchError::Input(format!(
            "{}: there is no prompt in it; expected are lines such as {{\"id\": \"1\", \"prompt\": \"Once\"}}",
            name.display()
        ))),
        false => Ok(all),
    }
}

/// The fields that a line may have.
const FIELDS: &str = "id, prompt, messages, max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed and \
                      stop";

fn parse(line: &str, number: usize, tokenizer: &Tokenizer, defaults: &Defaults<'_>) -> Result<Asked, String> {
    let fields: serde_json::Map<String, Value> =
        serde_json::from_str(line).map_err(|e| format!("this is no JSON object: {e}"))?;
    let mut asked = Asked {
        id: format!("line {number}"),
        line: number,
        prompt: Vec::new(),
        sampling: defaults.sampling,
        max_new_tokens: defaults.max_new_tokens,
        stop: defaults.stop.clone(),
    };
    let (mut prompt, mut messages): (Option<String>, Option<Vec<Message>>) = (None, None);
    for (key, value) in fields {
        let of = &mut asked.sampling;
        match key.as_str() {
            "id" => {
                asked.id = match value {
                    Value::String(id) => id,
                    Value::Number(id) => id.to_string(),
                    _ => return Err("field `id`: expected a text or a number".into()),
                }
            }
            "prompt" => prompt = Some(field(&key, value)?),
            "messages" => messages = Some(field(&key, value)?),
            "max_new_tokens" => asked.max_new_tokens = field(&key, value)?,
            "temperature" => of.temperature = field(&key, value)?,
            "top_k" => of.top_k = field(&key, value)?,
            "top_p" => of.top_p = field(&key, value)?,
            "min_p" => of.min_p = field(&key, value)?,
            "repetition_penalty" => of.repetition_penalty = field(&key, value)?,
            "seed" => of.seed = field(&key, value)?,
            "stop" if value.is_string() => asked.stop = vec![field(&key, value)?],
            "stop" => asked.stop = field(&key, value)?,
            _ => return Err(format!("field `{key}`: there is no such field; there are {FIELDS}")),
        }
    }
    asked.sampling.check().map_err(|e| e.to_string())?;
    StopTexts::new(&asked.stop).map_err(|e| format!("field `stop`: {e}"))?;
    if asked.max_new_tokens == 0 {
        return Err("field `max_new_tokens`: ask for at least 1".into());
    }
    let failed = |e: msrnn_models::error::ModelError| e.to_string();
    asked.prompt = match (prompt, messages, &defaults.chat) {
        (Some(_), Some(_), _) => return Err("fields `prompt` and `messages`: give one of them".into()),
        (None, None, _) => return Err("field `prompt`: it is missing, and so is `messages`".into()),
        (Some(prompt), None, None) => tokenizer.prompt(&prompt).map_err(failed)?,
        (None, Some(_), None) => {
            return Err("field `messages`: they become text by the model's chat template; give ‘chat’".into());
        }
        (prompt, messages, Some(chat)) => {
            let said = prompt.map(|prompt| vec![Message::new("user", &prompt)]);
            let mut messages = messages.or(said).unwrap_or_default();
            let begins = messages.first().is_some_and(|message| message.role == "system");
            if let Some(system) = chat.system.as_ref().filter(|_| !begins) {
                messages.insert(0, Message::new("system", system));
            }
            let text = chat.template.render(&messages, true, chat.now).map_err(failed)?;
            tokenizer.encode(&text).map_err(failed)?
        }
    };
    Ok(asked)
}

fn field<T: DeserializeOwned>(key: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| format!("field `{key}`: {e}"))
}

impl Asked {
    /// What the result is the result of: a hash over the model, how it is bounded, and this.
    ///
    /// # Errors
    ///
    /// When a number is none that JSON has.
    pub(crate) fn hash(&self, identity: &Identity) -> Result<String, BenchError> {
        let Identity { sha256, policy, precision, positions, .. } = identity;
        let all =
            ((sha256, policy, precision, positions), (&self.prompt, self.sampling, self.max_new_tokens, &self.stop));
        let bytes = serde_json::to_vec(&all).map_err(|e| BenchError::Input(format!("no JSON: {e}")))?;
        Ok(Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The file of results: lines are added, none is ever written over. It has one writer.
#[derive(Debug)]
pub(crate) struct Results {
    path: PathBuf,
    file: File,
    done: BTreeMap<String, (usize, String)>,
}

impl Results {
    /// Opens the file, or makes it. What a writer that was killed left of a last line goes.
    ///
    /// # Errors
    ///
    /// When another program writes it, or a line of it is no result.
    pub(crate) fn open(path: &Path) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Write { path: path.into(), source };
        let mut file = whole::lock(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let mut done = BTreeMap::new();
        for (index, line) in bytes[..end].split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
        {
            let result: Done = serde_json::from_slice(line).map_err(|e| {
                BenchError::Input(format!(
                    "{}, line {}: this is no result of one of the ‘prompts’ ({e}); nothing is written over: take \
                     another ‘out’",
                    path.display(),
                    index + 1
                ))
            })?;
            done.insert(result.id, (index + 1, result.request));
        }
        if end == 0 && !bytes.is_empty() && serde_json::from_slice::<Value>(&bytes).is_ok() {
            return Err(BenchError::Input(format!(
                "{} is no file of lines; nothing is written over: take another ‘out’",
                path.display()
            )));
        }
        file.set_len(end as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.into(), file, done })
    }

    /// What is still to be done.
    ///
    /// # Errors
    ///
    /// When a result that is there is one of another setting.
    pub(crate) fn left(&self, all: Vec<Asked>, identity: &Identity) -> Result<Vec<Asked>, BenchError> {
        let mut left = Vec::new();
        for asked in all {
            match self.done.get(&asked.id) {
                None => left.push(asked),
                Some((_, request)) if *request == asked.hash(identity)? => {}
                Some((line, _)) => {
                    return Err(BenchError::Input(format!(
                        "{}, line {line}: {:?} was done with another model, policy, prompt or parameter than it is \
                         asked for now; take another ‘out’",
                        self.path.display(),
                        asked.id
                    )));
                }
            }
        }
        Ok(left)
    }

    fn put(&mut self, done: &Done) -> Result<(), BenchError> {
        let mut line = serde_json::to_vec(done).map_err(|e| BenchError::Input(format!("no JSON: {e}")))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| BenchError::Write { path: self.path.clone(), source })
    }

    /// Waits until all is on disk.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub(crate) fn finish(self) -> Result<(), BenchError> {
        self.file.sync_all().map_err(|source| BenchError::Write { path: self.path, source })
    }
}

/// A request under way.
struct Under<'t> {
    stream: TextStream<'t>,
    stops: StopTexts,
    text: String,
    stopped: bool,
}

/// Continues prompts, `batch` of them side by side, and writes a line for each as it ends. `advance` is told of every
/// line. Returns how many were finished; less than all when it was interrupted.
///
/// # Errors
///
/// When a request cannot be met, which is looked at before the first is begun, or a result cannot be written.
pub(crate) fn run(
    (model, recurrent, identity): (&Model, Recurrent<'_>, &Identity),
    asked: &[Asked],
    batch: usize,
    results: &mut Results,
    interrupt: &AtomicBool,
    mut advance: impl FnMut(),
) -> Result<usize, BenchError> {
    let tokenizer = model.tokenizer()?;
    let mut generation = BatchedGeneration::new(model, recurrent, batch.min(asked.len()).max(1))?;
    let mut under: Vec<Option<Under<'_>>> = Vec::with_capacity(asked.len());
    for one in asked {
        let Asked { prompt, sampling, max_new_tokens, .. } = one.clone();
        generation.push(Request { prompt, sampling, max_new_tokens }).map_err(|error| {
            BenchError::Input(format!("line {} of the prompts, id {:?}: {error}", one.line, one.id))
        })?;
        under.push(None);
    }
    let mut finished = 0;
    while generation.unfinished() > 0 && !interrupt.load(Ordering::Relaxed) {
        let (mut failed, mut broken_off) = (None, false);
        let ended = generation.round(&mut |request, token| {
            let goes_on = draw(&mut under[request], &asked[request], tokenizer, token);
            match goes_on {
                Ok(goes_on) => {
                    broken_off |= goes_on && interrupt.load(Ordering::Relaxed);
                    goes_on && !broken_off
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for completion in ended {
            let one = &asked[completion.request];
            let (under, stop) = (under[completion.request].take(), completion.stop);
            if stop == Stop::Interrupted && !under.as_ref().is_some_and(|under| under.stopped) {
                continue;
            }
            let (text, stopped) = match under {
                None => (String::new(), false),
                Some(Under { text, stopped: true, .. }) => (text, true),
                Some(Under { stream, stops, text, .. }) => {
                    let passed = stops.finish(&stream.finish()?);
                    (text + &passed.text, passed.stopped)
                }
            };
            let ended = match stop {
                _ if stopped => Ended::StopText,
                Stop::Eos => Ended::Eos,
                _ => Ended::Length,
            };
            results.put(&Done {
                id: one.id.clone(),
                request: one.hash(identity)?,
                text,
                ids: completion.tokens,
                stop: serde_json::to_value(ended)
                    .ok()
                    .and_then(|name| name.as_str().map(str::to_owned))
                    .unwrap_or_default(),
                prompt_tokens: one.prompt.len(),
            })?;
            finished += 1;
            advance();
        }
    }
    Ok(finished)
}

/// Takes in a token of a request; whether it goes on.
fn draw<'t>(
    under: &mut Option<Under<'t>>,
    asked: &Asked,
    tokenizer: &'t Tokenizer,
    token: u32,
) -> Result<bool, BenchError> {
    if under.is_none() {
        let (stream, stops) = (tokenizer.stream_behind(&asked.prompt)?, StopTexts::new(&asked.stop)?);
        *under = Some(Under { stream, stops, text: String::new(), stopped: false });
    }
    let Some(of) = under else { return Ok(false) };
    let piece = of.stream.push(token)?;
    let ahead = if asked.stop.is_empty() { None } else { of.stream.held()? };
    let passed = of.stops.push(&piece, &ahead.unwrap_or_default());
    of.text.push_str(&passed.text);
    of.stopped = passed.stopped;
    Ok(!of.stopped)
}
