//! Prompts continued, conversations, and states that are saved: what the command writes, and what it holds.

mod chat;
mod generate;
mod many;
mod state;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::common::{Done, copy, testdata, write};

/// The bundled model with a chat template, in a directory of its own.
pub(crate) fn talker(place: &Path, template: &str) -> PathBuf {
    let model = copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bundled"), &place.join("talker"));
    write(&model, "tokenizer_config.json", json!({ "bos_token": "<s>", "eos_token": "</s>" }).to_string());
    write(&model, "chat_template.jinja", template);
    model
}

/// A template whose turns end with a special token.
pub(crate) fn lines() -> String {
    std::fs::read_to_string(testdata().join("chat/lines.jinja")).unwrap()
}

/// Runs `msrnn` with something on standard input.
fn fed(arguments: &[&str], input: &str) -> Done {
    let mut child = Command::new(env!("CARGO_BIN_EXE_msrnn"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let done = Done {
        command: arguments.join(" "),
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    assert!(!done.stderr.contains("panicked"), "{done:?}");
    done
}
