//! `--config FILE.toml`: the options of an experiment by name, below those of the command line.
//!
//! A file is turned into the options that it stands for, so that it can say exactly what the command
//! line can, with the same checks and the same messages.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, Command};
use msrnn_bench::error::BenchError;
use msrnn_bench::input::read_text;
use serde_json::{Map, Value, json};

/// The subcommand of an experiment.
pub(super) fn experiment<'c>(cli: &'c Command, name: &str) -> Option<&'c Command> {
    cli.find_subcommand("experiment")?.find_subcommand(name)
}

/// The command line, with the options of its `--config` file that it does not have itself.
pub(super) fn expand(cli: &Command, mut arguments: Vec<OsString>) -> Result<Vec<OsString>, BenchError> {
    // What is wrong with the command line is said when it is parsed for good.
    let Ok(matches) = cli.clone().try_get_matches_from(&arguments) else { return Ok(arguments) };
    let (command, matches) = match matches.subcommand() {
        Some(("experiment", matches)) => match matches.subcommand() {
            Some((name, matches)) => (experiment(cli, name), matches),
            None => return Ok(arguments),
        },
        Some((name, matches)) => (cli.find_subcommand(name), matches),
        None => return Ok(arguments),
    };
    let Some(command) = command else { return Ok(arguments) };
    if !options(command).any(|(name, _)| name == "config") {
        return Ok(arguments);
    }
    let Some(path) = matches.get_one::<PathBuf>("config") else { return Ok(arguments) };
    let given = |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    for (key, value) in read(path)? {
        let wrong = |reason: String| BenchError::Input(format!("{}: {key}: {reason}", path.display()));
        let name = key.replace('_', "-");
        let Some((_, arg)) = options(command).find(|(known, _)| *known == name && name != "config") else {
            let known: Vec<&str> = options(command).map(|(name, _)| name).filter(|name| *name != "config").collect();
            return Err(wrong(format!("no option is called that; there are {}", known.join(", "))));
        };
        if !given(arg) {
            arguments.extend(flags(arg, &name, &value).map_err(wrong)?.into_iter().map(OsString::from));
        }
    }
    Ok(arguments)
}

fn read(path: &Path) -> Result<toml::Table, BenchError> {
    read_text(path)?.parse().map_err(|e| BenchError::Input(format!("{}: {e}", path.display())))
}

/// The long options of a command by name.
fn options(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg))).filter(|(name, _)| *name != "help")
}

/// The options that a value of a file stands for.
fn flags(arg: &Arg, name: &str, value: &toml::Value) -> Result<Vec<String>, String> {
    let text = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(_) | toml::Value::Float(_) => Ok(value.to_string()),
        _ => Err(format!("{value} is no text or number")),
    };
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, toml::Value::Boolean(true)) => Ok(vec![format!("--{name}")]),
        (ArgAction::SetTrue, toml::Value::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err("expected true or false".into()),
        (ArgAction::Append, toml::Value::Array(values)) => {
            let values = values.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            Ok(values.into_iter().map(|value| format!("--{name}={value}")).collect())
        }
        (_, toml::Value::Array(_)) => Err("takes one value, not a list".into()),
        (_, value) => Ok(vec![format!("--{name}={}", text(value)?)]),
    }
}

/// What the file may say, as a JSON schema.
pub(super) fn schema(command: &Command) -> Value {
    let properties: Map<String, Value> = options(command)
        .filter(|(name, _)| *name != "config")
        .map(|(name, arg)| {
            let switch = matches!(arg.get_action(), ArgAction::SetTrue);
            let one = match arg.get_possible_values() {
                // Hidden ones are examples.
                values if values.is_empty() || arg.is_hide_possible_values_set() => {
                    json!({ "type": ["string", "number"] })
                }
                values => json!({ "enum": values.iter().map(|value| value.get_name()).collect::<Vec<_>>() }),
            };
            let mut property = match arg.get_action() {
                ArgAction::SetTrue => json!({ "type": "boolean" }),
                ArgAction::Append => json!({ "anyOf": [one.clone(), { "type": "array", "items": one }] }),
                _ => one,
            };
            if let Some(help) = arg.get_help() {
                property["description"] = help.to_string().into();
            }
            let defaults: Vec<String> =
                arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
            if !defaults.is_empty() && !switch {
                property["default"] = defaults.join(",").into();
            }
            (name.to_owned(), property)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("msrnn experiment {}", command.get_name()),
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli() -> Command {
        let lm = Command::new("lm")
            .arg(Arg::new("config").long("config").value_parser(clap::value_parser!(PathBuf)))
            .arg(Arg::new("states").long("states").value_delimiter(',').action(ArgAction::Append).default_value("1"))
            .arg(Arg::new("dtype").long("dtype").value_parser(["f32", "f64"]))
            .arg(Arg::new("json").long("json").action(ArgAction::SetTrue));
        Command::new("msrnn").subcommand(Command::new("experiment").subcommand(lm))
    }

    fn expanded(file: &str, arguments: &[&str]) -> Result<Vec<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file.toml");
        std::fs::write(&path, file).unwrap();
        let start = ["msrnn", "experiment", "lm", "--config", path.to_str().unwrap()];
        let all: Vec<OsString> = start.iter().chain(arguments).map(OsString::from).collect();
        let n = all.len();
        let expanded = expand(&cli(), all).map_err(|e| e.to_string())?;
        cli().try_get_matches_from(&expanded).map_err(|e| e.to_string())?;
        Ok(expanded[n..].iter().map(|arg| arg.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn a_file_stands_for_options_and_the_command_line_takes_precedence() {
        let file = "states = [16, \"25%\"]\ndtype = \"f64\"\njson = true\n";
        assert_eq!(expanded(file, &[]).unwrap(), ["--dtype=f64", "--json", "--states=16", "--states=25%"]);
        assert_eq!(expanded(file, &["--states", "8"]).unwrap(), ["--dtype=f64", "--json"]);
        assert_eq!(expanded("json = false", &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_a_file_gets_wrong_is_said_with_what_there_is() {
        for (file, says) in [
            ("stats = 3", "there are states, dtype, json"),
            ("json = 1", "true or false"),
            ("dtype = [1]", "one value"),
            ("dtype = \"f8\"", "f8"),
            ("[states]", "no text or number"),
            ("states =", "file.toml"),
        ] {
            let error = expanded(file, &[]).unwrap_err();
            assert!(error.contains(says), "{file}: {error}");
        }
    }

    #[test]
    fn the_schema_has_every_option_but_the_file_itself() {
        let cli = cli();
        let schema = schema(experiment(&cli, "lm").unwrap());
        let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["dtype", "json", "states"]);
        assert_eq!(schema["properties"]["dtype"]["enum"], json!(["f32", "f64"]));
        assert_eq!(schema["properties"]["json"]["type"], "boolean");
    }
}
