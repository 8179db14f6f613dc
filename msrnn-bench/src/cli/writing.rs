//! Options of commands that write text, and what they open.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use msrnn_bench::error::BenchError;
use msrnn_bench::experiment::models::Models;
use msrnn_bench::input;
use msrnn_bench::output::{check_free, write_file};
use msrnn_bench::roads;
use msrnn_bench::writing::conversation::opening;
use msrnn_bench::writing::remembered::{Marking, Remembered};
use msrnn_bench::writing::saved::Identity;
use msrnn_core::compression::Compression;
use msrnn_models::Model;
use msrnn_models::chat::{ChatTemplate, NaiveDateTime};
use msrnn_models::recurrent::{Positions, bytes_per_state};
use msrnn_models::sampling::Sampling;
use msrnn_models::tokenizer::TextOptions;
use msrnn_policies::PolicySpec;

use super::DOWNLOADS;
use super::options::{ModelOptions, PolicyOptions, TextArgs};
use super::streams::{print_raw, remark, visible};

/// Said where a conversation cannot go on from the state.
pub(super) const READ_AGAIN: &str = "the conversation is read again from its beginning: the chat template changes what was \
                                     said before, or the reading of it was stopped";

/// How tokens are drawn, and where a text ends.
#[derive(Debug, clap::Args)]
pub(super) struct DrawArgs {
    /// Tokens to draw, at most
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(super) max_new_tokens: usize,
    /// Ends the text before this one, which is not part of it; several may be given
    #[arg(long, value_name = "TEXT")]
    pub(super) stop: Vec<String>,
    /// 0 takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Only the N most likely tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: usize,
    /// Only the most likely tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Only tokens at least P times as likely as the most likely one; 0 for all
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f64,
    /// Makes tokens less likely that prompt or text have already: their logits are divided by X where they are positive,
    /// else multiplied; 1 changes nothing. It comes first, then temperature, top-k, top-p and min-p, as in transformers
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
}

impl DrawArgs {
    pub(super) fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed,
        }
    }
}

/// Text by the model's chat template.
#[derive(Debug, clap::Args)]
pub(super) struct ChatArgs {
    /// The prompt is what a user says: it is put into the model's chat template, and the model answers
    #[arg(long)]
    pub(super) chat: bool,
    /// What the system says before it
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub(super) system: Option<String>,
    /// Never lets the rows of what the system says go, nor what the template has between it and the first message; they count inside
    /// the bound
    #[arg(long, requires = "system", conflicts_with = "prompts")]
    protect_system: bool,
    /// A template in Jinja instead of the model's own
    #[arg(long, value_name = "FILE", requires = "chat")]
    pub(super) chat_template: Option<PathBuf>,
}

impl ChatArgs {
    /// Opens a model for texts, or for conversations.
    pub(super) fn open(&self, model: &ModelOptions, reading: &TextArgs) -> Result<Model, BenchError> {
        let options = reading.options();
        if self.chat {
            check(options)?;
        }
        Ok(model.open()?.with_text(options)?)
    }

    /// The policy as it is asked for: which rows never go.
    pub(super) fn protecting(
        &self,
        spec: PolicySpec,
        template: Option<&ChatTemplate>,
        model: &Model,
    ) -> Result<PolicySpec, BenchError> {
        match (&self.system, template) {
            (Some(system), Some(template)) if self.protect_system => protecting(&spec, system, template, model),
            _ => Ok(spec),
        }
    }

    pub(super) fn template(&self, model: &Model) -> Result<Option<ChatTemplate>, BenchError> {
        match self.chat {
            true => template(model, self.chat_template.as_deref()).map(Some),
            false => Ok(None),
        }
    }
}

/// Refuses ways of reading that a chat template leaves no room for.
pub(super) fn check(options: TextOptions) -> Result<(), BenchError> {
    options.check_for_chat().map_err(|reason| BenchError::Input(reason.into()))
}

/// A policy under which no row goes of what every conversation with that message of the system begins with.
pub(super) fn protecting(
    spec: &PolicySpec,
    system: &str,
    template: &ChatTemplate,
    model: &Model,
) -> Result<PolicySpec, BenchError> {
    let first = opening(template, model.tokenizer()?, system, now())?;
    Ok(spec.protecting(first)?)
}

/// The chat template of a model, or another.
pub(super) fn template(model: &Model, other: Option<&Path>) -> Result<ChatTemplate, BenchError> {
    let files = model.tokenizer()?.chat();
    match other {
        Some(path) => Ok(files.given(&input::read_text(path)?)?),
        None => Ok(files.template()?),
    }
}

/// What is shown and kept of a state.
#[derive(Debug, clap::Args)]
pub(super) struct StateArgs {
    /// Show what of the text is still held: what is gone from all layers is dim, or in [- -] where nothing may be in
    /// colour. FILE.html is a page that shows the layers too
    #[arg(long, value_name = "FILE.html", num_args = 0..=1, default_missing_value = "-")]
    pub(super) show_state: Option<PathBuf>,
    /// Save what was read and written, to go on from there
    #[arg(long, value_name = "FILE")]
    pub(super) state_out: Option<PathBuf>,
    /// Go on from a saved state: the prompt comes after what it has read. Model, policy, --dtype and --positions must be
    /// those that it was saved under
    #[arg(long, value_name = "FILE")]
    pub(super) state_in: Option<PathBuf>,
}

impl StateArgs {
    /// Refuses files that the state could not be written to, before anything is read.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        if let Some(page) = self.show_state.as_ref().filter(|to| to.as_os_str() != "-") {
            check_free(page, None)?;
        }
        match &self.state_out {
            Some(path) => check_free(path, self.state_in.as_deref()),
            None => Ok(()),
        }
    }

    /// Of what a state is one; none where none is saved or taken up, since all of the model's files are read for it.
    pub(super) fn identity(
        &self,
        model: &ModelOptions,
        compression: &Compression,
        positions: Positions,
    ) -> Result<Option<Identity>, BenchError> {
        match self.state_in.is_some() || self.state_out.is_some() {
            true => identity(model, compression, positions).map(Some),
            false => Ok(None),
        }
    }
}

/// Model, bound, precision and positions. Reads all of the model's files.
pub(super) fn identity(
    model: &ModelOptions,
    compression: &Compression,
    positions: Positions,
) -> Result<Identity, BenchError> {
    let models = Models::new(std::slice::from_ref(&model.model), model.device, model.precision()?, DOWNLOADS);
    let source = models.sources()?.remove(0);
    Ok(Identity::new(source, compression, model.precision()?, positions))
}

impl PolicyOptions {
    /// A spec with its bound resolved for texts of that many tokens.
    pub(super) fn compression(
        &self,
        spec: &PolicySpec,
        tokens: usize,
        model: &Model,
    ) -> Result<Compression, BenchError> {
        let compression = spec.compression(tokens, |policy| bytes_per_state(&model.decoder, policy))?;
        roads::warn_where_packing_costs(&model.decoder, &compression);
        Ok(compression)
    }
}

/// A text from a file, or from standard input where it is called `-`.
pub(super) fn input(path: &Path) -> Result<String, BenchError> {
    if path.as_os_str() != "-" {
        return input::read_text(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|source| BenchError::Read { path: "standard input".into(), source })?;
    input::decode(bytes).map_err(|reason| BenchError::Input(format!("standard input: {reason}")))
}

/// The time, for templates that ask for it.
pub(super) fn now() -> NaiveDateTime {
    chrono::Local::now().naive_local()
}

/// Shows what is held: on stdout, on stderr where that is for JSON, or in a page.
pub(super) fn show_state(remembered: &Remembered, to: &Path, json: bool) -> Result<(), BenchError> {
    if to.as_os_str() != "-" {
        check_free(to, None)?;
        write_file(to, remembered.page("What is remembered").as_bytes())?;
        remark(&format!("{}; {}", remembered.summary(), to.display()));
        return Ok(());
    }
    let terminal = if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let marking = if terminal && !plain { Marking::Dim } else { Marking::Brackets };
    let shown = remembered.text(marking, |text| visible(text).into_owned());
    match json {
        // Spelled out already; the colours are ours.
        true => super::streams::say_raw(&shown),
        false => print_raw(&format!("{shown}\n"))?,
    }
    remark(&remembered.summary());
    Ok(())
}
