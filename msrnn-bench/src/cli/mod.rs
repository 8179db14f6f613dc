//! The command line: one file per subcommand.

mod bench;
mod chat;
mod config_file;
mod convert;
mod devices;
mod downloads;
mod experiment;
mod generate;
mod interrupt;
mod options;
mod perplexity;
mod plan;
mod policies;
mod prompts;
mod report;
mod settings;
mod streams;
mod texts;
mod throughput;
mod trace;
mod train;
mod values;
mod writing;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};
use msrnn_bench::error::BenchError;
use msrnn_bench::progress;
use msrnn_bench::speed::threads;
use msrnn_policies::registry::Registry;

use downloads::DOWNLOADS;
use interrupt::INTERRUPT;
use streams::{Remarks, may_colour, outlive_limits, print, print_json, print_raw, remark, say, usage};

#[derive(Debug, Parser)]
#[command(
    name = "msrnn",
    version = version(),
    about = about(),
    after_help = "Without a command, msrnn compares all policies on the bundled model.\n\n\
    Nothing is overwritten, but a --state-out that is the --state-in. A file is written whole or not at all. A --out DIR \
    of a run is a new directory, or one of which all that is finished is part of what is asked for: that is not done \
    again, and the rest is added. Another run is refused and stays as it is.\n\n\
    Exit codes: 0 done; 1 failed, with the reason on stderr; 2 wrong usage; 3 some units of a run failed, the others are \
    finished and reported; 130 interrupted, with what was finished kept and marked as partial."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Threads that compute; RAYON_NUM_THREADS, or one per core, if absent. Results do not depend on it
    #[arg(long, value_name = "N", global = true)]
    threads: Option<usize>,
}

/// Version, commit, and what was compiled in.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let features =
            [("flex", cfg!(feature = "flex")), ("wgpu", cfg!(feature = "wgpu")), ("cuda", cfg!(feature = "cuda"))];
        let features = features.into_iter().chain([("hub", cfg!(feature = "hub")), ("pdf", cfg!(feature = "pdf"))]);
        let features: Vec<&str> = features.filter_map(|(name, is_in)| is_in.then_some(name)).collect();
        format!("{} ({}; {})", env!("CARGO_PKG_VERSION"), env!("MSRNN_COMMIT"), features.join(", "))
    });
    &VERSION
}

fn about() -> String {
    let families = msrnn_models::config::Architecture::families();
    format!(
        "Transformers as multi-state RNNs: run {families} checkpoints in bounded memory, under any compression policy, and see \
         what it costs"
    )
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare policies × states by perplexity, against the full state and shorter contexts: `experiment lm`
    Compare(Box<experiment::lm::Args>),
    /// Perplexity of a text under one policy
    Perplexity(perplexity::Args),
    /// Continue a prompt
    Generate(generate::Args),
    /// Talk with a model in bounded memory; what was said is read once and stays in the state
    Chat(chat::Args),
    /// Largest batch and tokens per second for numbers of states, beside the paper's table 1
    Throughput(throughput::Args),
    /// Write which row was omitted when
    Trace(trace::Args),
    /// Run one of the paper's experiments; results go to a run directory, which can be resumed
    #[command(subcommand)]
    Experiment(experiment::Which),
    /// Results of run directories, parts of one experiment put together
    Report(report::Args),
    /// Measure speed: prefill, scoring, decode, and the share of what the machine allows
    Bench(bench::Args),
    /// Write a GGUF file as a Hugging Face directory, or the reverse
    Convert(convert::Args),
    /// Train the bundled model
    Train(train::Args),
    /// List what this build and this machine offer to run on
    Devices(devices::Args),
    /// List the policies
    Policies(policies::ListArgs),
    /// Explain a policy: idea, rule, cost, source
    Explain(policies::ExplainArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Interrupted,
    /// Some units failed, the others are finished.
    Failed,
}

/// The whole command, with these policies: parses the command line, runs what it asks for, and says how it ended.
///
/// A binary of one's own that calls it with a registry of more policies is the command with these in every
/// subcommand: `compare`, the experiments and their reports, `bench`, `explain`, completions. `examples/own-command`
/// is one. It installs the registry, so no policy may be read before. An allocator that keeps memory, as `main.rs` of
/// this crate has, makes training faster.
///
/// ```no_run
/// use msrnn_policies::Tova;
/// use msrnn_policies::registry::{Entry, Registry};
///
/// fn main() -> std::process::ExitCode {
///     let mine = Entry { idea: "TOVA under another name.", ..Entry::new("mine", Tova::layer_wise()) };
///     msrnn_bench::main_with(Registry::default().with(mine))
/// }
/// ```
pub fn main_with(registry: Registry) -> ExitCode {
    if let Err(error) = registry.install() {
        say(&format!("error: {error}"));
        return ExitCode::FAILURE;
    }
    interrupt::obey();
    outlive_limits();
    let arguments = std::env::args_os().collect::<Vec<_>>();
    settings::are_those_of(&Cli::command(), &arguments);
    let arguments = match config_file::expand(&Cli::command(), arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            say(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let command = cli.command.unwrap_or_else(default_command);
    listen(cli.quiet, cli.verbose);
    // How many threads train decides what comes out of it.
    if let (Some(n), false) = (cli.threads, matches!(command, Command::Train(_)))
        && let Err(error) = threads::limit(n)
    {
        say(&format!("error: {error}"));
        return ExitCode::FAILURE;
    }
    let result = match command {
        Command::Compare(args) => experiment::lm::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Throughput(args) => throughput::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Experiment(which) => experiment::run(&which),
        Command::Report(args) => report::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Policies(args) => policies::list(&args),
        Command::Explain(args) => policies::explain(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), program(), &mut script);
            print_raw(&String::from_utf8_lossy(&script)).map(|()| Outcome::Done)
        }
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(3),
        Ok(Outcome::Interrupted) => {
            say(interrupt::ENDED);
            ExitCode::from(130)
        }
        Err(BenchError::NobodyReads) => ExitCode::SUCCESS,
        Err(error @ BenchError::Interrupted) => {
            say(&error.to_string());
            ExitCode::from(130)
        }
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says on stderr what is asked to be said there.
fn listen(quiet: bool, verbose: bool) {
    if quiet {
        progress::be_quiet();
    }
    // Who embeds the command may have a log already.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(may_colour())
        // It would say on stderr that it cannot write to stderr.
        .log_internal_errors(false)
        .event_format(Remarks)
        .with_max_level(match (quiet, verbose) {
            (true, _) => tracing::Level::ERROR,
            (_, true) => tracing::Level::INFO,
            _ => tracing::Level::WARN,
        })
        .try_init();
}

/// What this command is called, for completions.
fn program() -> String {
    let path = std::env::args_os().next().map(PathBuf::from);
    let name = path.as_deref().and_then(|path| path.file_stem()).and_then(|name| name.to_str());
    name.unwrap_or("msrnn").into()
}

fn default_command() -> Command {
    let compare = Cli::parse_from(["msrnn", "compare"]).command;
    compare.expect("`msrnn compare` is a command")
}

/// The command as it was given, for a record; what is not Unicode in it is replaced.
fn command_line() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}
