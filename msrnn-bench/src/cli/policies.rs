//! `msrnn policies` and `msrnn explain`, and policies as values of options.

use std::error::Error;
use std::ffi::OsStr;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::OnceLock;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};
use msrnn_bench::device::DeviceName;
use msrnn_bench::error::BenchError;
use msrnn_bench::roads;
use msrnn_policies::registry::{self, Entry, Registry};
use msrnn_policies::{PolicySpec, SpecError, split};

use super::{Outcome, print};

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// As the Markdown table of the README
    #[arg(long)]
    markdown: bool,
    /// As JSON: what is said of each, and how it is written
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// A policy, such as tova, window+4 or tova@512, or one that is composed or typed, such as every(128, tova)
    #[arg(value_parser = named::<String>(), hide_possible_values = true)]
    name: String,
    /// Where it would run: which way its tokens take depends on it
    #[arg(long, default_value = "cpu")]
    device: DeviceName,
}

pub(super) fn list(args: &ListArgs) -> Result<Outcome, BenchError> {
    print(&match args {
        ListArgs { json: true, .. } => {
            let all: Vec<_> = registry::entries().map(Entry::description).collect();
            serde_json::to_string_pretty(&all).expect("descriptions are JSON") + "\n"
        }
        ListArgs { markdown: true, .. } => registry::markdown(),
        _ => registry::table(),
    })?;
    Ok(Outcome::Done)
}

pub(super) fn explain(args: &ExplainArgs) -> Result<Outcome, BenchError> {
    print(&registry::explain(&args.name)?)?;
    if let Some(policy) = args.name.parse::<PolicySpec>().ok().and_then(|spec| spec.policy()) {
        let road = roads::road(policy, &args.device.open()?)?;
        print(&format!("{:<13} {road} ({})\n", "road", args.device))?;
    }
    Ok(Outcome::Done)
}

/// Policies separated by commas.
#[derive(Clone, Debug)]
pub(super) struct PolicyList(Vec<PolicySpec>);

impl FromStr for PolicyList {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        split(text).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// The policies of an option that may be given again and again.
pub(super) fn all(lists: &[PolicyList]) -> impl Iterator<Item = PolicySpec> {
    lists.iter().flat_map(|list| list.0.iter().cloned())
}

/// Those, and every policy that is registered beside the built-in ones.
pub(super) fn every_policy(built_in: &'static str) -> &'static str {
    static ALL: OnceLock<String> = OnceLock::new();
    ALL.get_or_init(|| {
        let known = Registry::default();
        let added = registry::entries().filter(|entry| known.entries().all(|other| other.name != entry.name));
        added.fold(built_in.to_owned(), |list, entry| list + "," + entry.example)
    })
}

/// Reads a value about policies, and tells completions what policies there are.
pub(super) fn named<T>() -> Named<T> {
    Named(PhantomData)
}

#[derive(Debug)]
pub(super) struct Named<T>(PhantomData<fn() -> T>);

impl<T> Clone for Named<T> {
    fn clone(&self) -> Self {
        named()
    }
}

impl<T> TypedValueParser for Named<T>
where
    T: FromStr<Err: Into<Box<dyn Error + Send + Sync>>> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        T::from_str.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let examples = std::iter::once("full").chain(registry::entries().map(|entry| entry.example));
        Some(Box::new(examples.map(PossibleValue::new)))
    }
}
