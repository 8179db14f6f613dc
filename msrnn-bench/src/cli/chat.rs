//! `msrnn chat`

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use msrnn_bench::error::BenchError;
use msrnn_bench::output::check_free;
use msrnn_bench::writing::conversation::{Conversation, Said};
use msrnn_bench::writing::remembered::Remembered;
use msrnn_bench::writing::saved::{self, Aside};
use msrnn_bench::writing::times::Speed;
use msrnn_bench::writing::{Ended, Writing};
use msrnn_core::budget::Budget;
use msrnn_models::Model;
use msrnn_models::chat::Message;
use msrnn_models::recurrent::Recurrent;
use msrnn_models::sampling::Sampler;
use msrnn_models::session::Session;
use msrnn_models::stop::StopTexts;
use rustyline::error::ReadlineError;

use super::interrupt::{begin_turn, end_turn, results_are_in_memory, work_by_turns};
use super::options::{ModelOptions, PolicyOptions, RunOptions, TextArgs};
use super::streams::{print_text, say};
use super::writing::{DrawArgs, READ_AGAIN, check, identity, now, protecting, show_state, template};
use super::{INTERRUPT, Outcome};

/// What can be said to the command instead of the model.
const HELP: &str = "\
/help               this
/reset              forget all but what --system says
/state [FILE.html]  what of the conversation is still held
/quit               end, as Ctrl-D does
//TEXT              says /TEXT
Ctrl-C stops an answer.";

#[derive(Debug, clap::Args)]
#[command(after_help = "Every line is a turn, also where standard input is a file or a pipe. The state stays between \
turns: only what is new is read, if the chat template leaves what was said before as it was; else the conversation is \
read again, and that is said. --protocol prefill is of the first turn. After each turn stderr tells how many tokens the \
states have seen, how many rows they hold, and their bytes. /help lists what can be said to the command itself.")]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// What the system says first
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Never lets the rows of what the system says go, nor what the template has between it and the first message; they count inside
    /// the bound
    #[arg(long, requires = "system")]
    protect_system: bool,
    /// A template in Jinja instead of the model's own
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    #[command(flatten)]
    reading: TextArgs,
    #[command(flatten)]
    policy: PolicyOptions,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    draw: DrawArgs,
    /// Save the conversation at its end
    #[arg(long, value_name = "FILE")]
    state_out: Option<PathBuf>,
    /// Go on with a conversation that was saved under the same model, policy, --dtype and --positions
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    state_in: Option<PathBuf>,
    /// Write control characters to a terminal as they are, instead of spelling them out
    #[arg(long)]
    raw: bool,
}

/// Where lines come from.
enum Lines {
    Typed(Box<rustyline::Editor<(), rustyline::history::MemHistory>>),
    Read(std::io::StdinLock<'static>),
}

/// A line, or why there is none.
enum Line {
    Text(String),
    /// Ctrl-C where nothing is under way.
    Stopped,
    End,
}

impl Lines {
    fn new() -> Result<Self, BenchError> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Read(std::io::stdin().lock()));
        }
        let settings = rustyline::Config::builder().auto_add_history(true).build();
        let editor = rustyline::Editor::with_history(settings, rustyline::history::MemHistory::new());
        editor.map(|editor| Self::Typed(Box::new(editor))).map_err(|error| unreadable(&error.to_string()))
    }

    fn next(&mut self) -> Result<Line, BenchError> {
        match self {
            Self::Typed(editor) => match editor.readline("> ") {
                Ok(line) => Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Line::Stopped),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(unreadable(&error.to_string())),
            },
            Self::Read(stdin) => {
                let mut line = String::new();
                match stdin.read_line(&mut line).map_err(|error| unreadable(&error.to_string()))? {
                    0 => Ok(Line::End),
                    _ => Ok(Line::Text(line)),
                }
            }
        }
    }
}

fn unreadable(reason: &str) -> BenchError {
    BenchError::Input(format!("standard input: {reason}; lines of UTF-8 are read"))
}

pub(super) fn run(args: &Args) -> Result<Outcome, BenchError> {
    let options = args.reading.options();
    check(options)?;
    let sampling = args.draw.sampling(args.run.seed);
    let mut sampler = Sampler::new(sampling)?;
    StopTexts::new(&args.draw.stop)?;
    if args.run.json {
        return Err(BenchError::Input(
            "a conversation is no JSON object; leave --json out, or take generate --chat".into(),
        ));
    }
    let model = args.model.open()?.with_text(options)?;
    let template = template(&model, args.chat_template.as_deref())?;
    let context = args.run.context(&model)?;
    let mut spec = args.policy.spec(args.run.seed)?;
    if let (Some(system), true) = (&args.system, args.protect_system) {
        spec = protecting(&spec, system, &template, &model)?;
    }
    if matches!(spec.budget(), Some(Budget::Percent(_))) && args.run.context.is_none() {
        return Err(BenchError::Input(
            "of a conversation a bound in percent is a share of --context; give that, or a number of states".into(),
        ));
    }
    let compression = args.policy.compression(&spec, context, &model)?;
    // The first turn comes as the protocol says; whether policy and protocol go together is known before.
    let recurrent = Recurrent::new(&model.decoder, compression.clone(), args.run.positions);
    recurrent.check_length(1, args.run.protocol.block(1))?;
    msrnn_bench::room::check(&model.decoder, &compression, context, 1)?;
    if let Some(path) = &args.state_out {
        check_free(path, args.state_in.as_deref())?;
    }
    let saves = args.state_in.is_some() || args.state_out.is_some();
    let identity = match saves {
        true => Some(identity(&args.model, &compression, args.run.positions)?),
        false => None,
    };
    let fresh = || Session::new(&model, &recurrent);
    let (mut session, aside) = match (&args.state_in, &identity) {
        (Some(path), Some(identity)) => saved::load(path, identity, &model, &recurrent)?,
        _ => (fresh(), Aside::default()),
    };
    if args.state_in.is_some() && aside.seed == sampling.seed {
        sampler = sampler.from(aside.drawn);
    }
    sampler.note(&session.ids());
    let said = match (aside.said, &args.system) {
        (Some(said), _) => said,
        (None, _) if args.state_in.is_some() => {
            return Err(BenchError::Input(
                "--state-in has the state of a text and not of a conversation; take msrnn generate, or save one with \
                 --chat"
                    .into(),
            ));
        }
        (None, Some(system)) => Said { messages: vec![Message::new("system", system)], text: String::new() },
        (None, None) => Said::default(),
    };
    let mut conversation = Conversation::new(&template, model.tokenizer()?, said, now());
    let mut lines = Lines::new()?;
    let mut warned = false;
    results_are_in_memory();
    work_by_turns();
    loop {
        let line = match lines.next()? {
            Line::Text(line) => line,
            Line::Stopped => {
                say("/quit or Ctrl-D ends");
                continue;
            }
            Line::End => break,
        };
        let line = line.trim();
        let line = match line.strip_prefix('/') {
            None if line.is_empty() => continue,
            None => line,
            Some(rest) if rest.starts_with('/') => rest,
            Some("help") => {
                say(HELP);
                continue;
            }
            Some("quit" | "exit") => break,
            Some("reset") => {
                conversation.reset();
                session = fresh();
                sampler = Sampler::new(sampling)?;
                say("all is forgotten");
                continue;
            }
            Some(state) if state == "state" || state.starts_with("state ") => {
                let to = state.trim_start_matches("state").trim();
                let remembered = Remembered::of(session.states(), session.seen(), model.tokenizer()?)?;
                // A page that cannot be written ends no conversation.
                if let Err(error) = show_state(&remembered, Path::new(if to.is_empty() { "-" } else { to }), false) {
                    say(&format!("error: {error}"));
                }
                continue;
            }
            Some(other) => {
                say(&format!("/{other} is nothing that is done here; /help lists what is"));
                continue;
            }
        };
        begin_turn();
        let done = args.turn(&model, line, &mut conversation, &mut session, fresh, &mut sampler);
        let interrupted = end_turn();
        match done {
            Ok(()) if interrupted => say("stopped"),
            Ok(()) => {}
            // A conversation goes on where it can.
            Err(error @ BenchError::Model(_)) => {
                say(&format!("error: {error}"));
                continue;
            }
            Err(error) => return Err(error),
        }
        say(&counted(&session));
        let length = recurrent.length(session.seen().len(), 0);
        let trained = model.decoder.config().max_position_embeddings;
        if let Some(said) = length.beyond("this conversation", trained).filter(|_| !warned) {
            tracing::warn!("{said}");
            warned = true;
        }
    }
    if let (Some(path), Some(identity)) = (&args.state_out, &identity) {
        let said = Some(conversation.said().clone());
        saved::save(path, identity, session, Aside { seed: sampling.seed, drawn: sampler.at(), said })?;
    }
    Ok(Outcome::Done)
}

impl Args {
    /// Reads what was said, and answers.
    fn turn<'m>(
        &self,
        model: &'m Model,
        line: &str,
        conversation: &mut Conversation<'_>,
        session: &mut Session<'m>,
        fresh: impl FnOnce() -> Session<'m>,
        sampler: &mut Sampler,
    ) -> Result<(), BenchError> {
        let turn = conversation.say(Message::new("user", line), &session.ids())?;
        if turn.again && !session.seen().is_empty() {
            say(READ_AGAIN);
        }
        let started = Instant::now();
        let pass = |_| !INTERRUPT.load(Ordering::Relaxed);
        let read = turn.read(session, fresh, self.run.protocol, pass);
        if !matches!(read, Ok(true)) {
            conversation.take_back();
            return read.map(|_| ());
        }
        let read = Speed::of(turn.ids.len(), started.elapsed());
        sampler.note(&turn.ids);
        let writing = Writing { max_new_tokens: self.draw.max_new_tokens, stop: &self.draw.stop, logprobs: None };
        let show = |text: &str| print_text(text, self.raw);
        let began = Instant::now();
        let written = match writing.write(session, model.tokenizer()?, sampler, &INTERRUPT, show, || {}) {
            Ok(written) => written,
            Err(error) => {
                conversation.take_back();
                return Err(error);
            }
        };
        print_text("\n", self.raw)?;
        conversation.answered(turn, &written);
        if written.ended == Ended::Length {
            say(&format!("the answer ends after --max-new-tokens {}", self.draw.max_new_tokens));
        }
        say(&format!("read {read}; wrote {}", Speed::of(written.ids.len(), began.elapsed())));
        Ok(())
    }
}

/// What the states have seen and hold.
fn counted(session: &Session<'_>) -> String {
    let rows: Vec<usize> = session.states().iter().map(|state| state.rows_held()[0]).collect();
    let (least, most) = (rows.iter().min().copied().unwrap_or(0), rows.iter().max().copied().unwrap_or(0));
    let held = if least == most { most.to_string() } else { format!("{least} to {most}") };
    let bytes: usize = session.states().iter().map(|state| state.bytes()).sum();
    format!("{} tokens seen, {held} rows held in each layer, {bytes} bytes of states", session.seen().len())
}
