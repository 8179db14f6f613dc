//! The engine of templates, set up as transformers sets up its own.

use std::fmt::Write;

use chrono::NaiveDateTime;
use chrono::format::{Item, StrftimeItems};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::json;

/// What the one template is called.
pub(super) const NAME: &str = "chat_template";

/// The variable that holds the time, in seconds since 1970 as if it were UTC. No template can spell it.
pub(super) const NOW: &str = " now";

/// Steps that a template may take: hundreds of times what any takes for a long conversation, and a second at most.
const STEPS: u64 = 10_000_000;

/// The engine with the template in it.
pub(super) fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut made = Environment::new();
    made.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    made.set_auto_escape_callback(|_| AutoEscape::None);
    made.set_unknown_method_callback(unknown_method_callback);
    made.set_fuel(Some(STEPS));
    made.add_filter("tojson", json::tojson);
    made.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    made.add_function("strftime_now", strftime_now);
    made.add_template_owned(NAME, with_generation(&source.replace("\r\n", "\n").replace('\r', "\n")))?;
    Ok(made)
}

/// What an error says, without what belongs to the engine.
pub(super) fn told(error: &Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(" (line {line} of the chat template)"));
    match error.kind() {
        ErrorKind::OutOfFuel => format!("the chat template does not end within {STEPS} steps"),
        kind => format!("{}{line}", error.detail().map_or_else(|| kind.to_string(), str::to_owned)),
    }
}

/// A time as a value.
pub(super) fn moment(now: NaiveDateTime) -> Value {
    Value::from(now.and_utc().timestamp())
}

/// The time, as a template asks for it.
fn strftime_now(state: &mut State<'_, '_>, format: &str) -> Result<String, Error> {
    let wrong = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {what}"));
    let seconds = state.lookup(NOW).and_then(|now| now.as_i64()).ok_or_else(|| wrong("there is no time"))?;
    let now = chrono::DateTime::from_timestamp(seconds, 0).ok_or_else(|| wrong("no such time"))?.naive_utc();
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        return Err(wrong(&format!("{format:?} is no format of a time")));
    }
    let mut text = String::new();
    write!(text, "{}", now.format_with_items(items.into_iter()))
        .map_err(|_| wrong(&format!("{format:?} asks for what a local time does not have")))?;
    Ok(text)
}

/// The template with blocks of the tag `generation`, which in transformers mark what a model is trained on and change no
/// text, as blocks of a scope of their own.
fn with_generation(source: &str) -> String {
    let mut made = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        let Some(length) = tag.find("%}").map(|end| end + 2) else { break };
        let (tag, behind) = tag.split_at(length);
        made.push_str(before);
        let inside = tag[2..length - 2].trim_matches(['-', '+']).trim();
        match inside {
            "generation" => made.push_str(&tag.replacen("generation", "with", 1)),
            "endgeneration" => made.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            _ => made.push_str(tag),
        }
        rest = behind;
    }
    made.push_str(rest);
    made
}

/// Options of [`json::tojson`], read here so that what is misspelled is refused.
pub(super) struct Json {
    pub(super) ensure_ascii: bool,
    pub(super) indent: Option<String>,
    pub(super) separators: Option<(String, String)>,
    pub(super) sort_keys: bool,
}

impl Json {
    pub(super) fn of(options: &Kwargs) -> Result<Self, Error> {
        let indent = match options.get::<Option<Value>>("indent")? {
            Some(value) if !value.is_none() => Some(match value.as_usize() {
                Some(spaces) if spaces <= 64 => " ".repeat(spaces),
                Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent is too large")),
                None => value.to_string(),
            }),
            _ => None,
        };
        let separators = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
            Some([item, key]) => Some((item.clone(), key.clone())),
            Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators are two texts")),
            None => None,
        };
        let made = Self {
            ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
            indent,
            separators,
            sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        };
        options.assert_all_used()?;
        Ok(made)
    }
}
