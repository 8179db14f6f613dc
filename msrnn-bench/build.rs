//! Tells the program which commit it is built from, for manifests.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Where the work tree or a file of the source changes, so does the answer.
    for path in
        ["../.git/HEAD", "../.git/index", "src", "../msrnn-core/src", "../msrnn-models/src", "../msrnn-policies/src"]
    {
        if std::path::Path::new(path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rustc-env=MSRNN_COMMIT={}", commit().unwrap_or_else(|| "unknown".into()));
}

/// `0123456789ab`, or `0123456789ab-changed` where tracked source files differ from it.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "..", ":!../docs", ":!../README.md"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-changed") })
}
