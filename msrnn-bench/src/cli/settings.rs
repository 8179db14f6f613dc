//! Settings as the options that they are.
//!
//! The libraries have settings and no options. An error of theirs that means one names it as Rust does, in quotation
//! marks: ‘max_new_tokens’. Where that reaches stderr, a setting that the running subcommand has becomes the option that
//! is typed, --max-new-tokens; others stay what they are.

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::OnceLock;

use clap::Command;

/// Names of the running subcommand's options.
static OPTIONS: OnceLock<Vec<String>> = OnceLock::new();

/// From now on these are the options: those of the subcommand that the arguments name.
pub(super) fn are_those_of(cli: &Command, arguments: &[OsString]) {
    // An embedder that calls the command twice is told of the first one's options.
    let _ = OPTIONS.set(options(cli, arguments));
}

/// A text in which settings of the running subcommand are options.
pub(super) fn as_options(text: &str) -> Cow<'_, str> {
    replaced(text, OPTIONS.get().map_or(&[], Vec::as_slice))
}

fn options(cli: &Command, arguments: &[OsString]) -> Vec<String> {
    let mut path = vec![cli];
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        path.extend(path[path.len() - 1].find_subcommand(argument));
    }
    let arguments = path.into_iter().flat_map(Command::get_arguments);
    arguments.filter_map(|argument| argument.get_long().map(str::to_owned)).collect()
}

fn replaced<'t>(text: &'t str, options: &[String]) -> Cow<'t, str> {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('‘') {
        shown += before;
        let option = after.split_once('’').map(|(name, after)| (name.replace('_', "-"), after));
        rest = match option.filter(|(name, _)| options.contains(name)) {
            Some((name, after)) => {
                shown.extend(["--", &name]);
                after
            }
            None => {
                shown.push('‘');
                after
            }
        };
    }
    match shown.is_empty() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(shown + rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn of(line: &str, text: &str) -> String {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        replaced(text, &options(&super::super::Cli::command(), &arguments)).into_owned()
    }

    #[test]
    fn a_setting_is_the_option_that_the_running_subcommand_has_and_else_stays_a_setting() {
        let text = "give ‘max_new_tokens’ 3 or another ‘out’, not ‘one’ or ‘two";
        let both = "give --max-new-tokens 3 or another --out, not ‘one’ or ‘two";
        assert_eq!(of("msrnn -q generate --out x", text), both);
        assert_eq!(of("msrnn experiment story", text), both);
        assert_eq!(of("msrnn bench", text), both.replace("--max-new-tokens", "‘max_new_tokens’"));
        assert_eq!(of("msrnn bench", "‘threads’ 0"), "--threads 0");
        assert_eq!(of("msrnn", "nothing"), "nothing");
    }
}
