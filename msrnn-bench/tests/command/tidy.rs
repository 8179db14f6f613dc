//! The house rules that a test can check.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Rust sources below a folder.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

#[test]
fn library_crates_name_no_backend() {
    for library in ["msrnn-core", "msrnn-policies", "msrnn-models"] {
        let manifest: toml::Table = read(&format!("{library}/Cargo.toml")).parse().unwrap();
        let burn = &manifest["dependencies"]["burn"];
        assert!(burn.get("features").is_none(), "{library} asks burn for {burn}");
        for (path, text) in sources(&format!("{library}/src")) {
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            for backend in ["Device::flex", "Device::wgpu", "Device::cuda"] {
                assert!(!code.contains(backend), "{} names {backend}", path.display());
            }
        }
    }
}

#[test]
fn core_and_policies_do_no_io() {
    for library in ["msrnn-core/src", "msrnn-policies/src"] {
        for (path, text) in sources(library) {
            for io in ["std::fs", "std::net", "std::env", "println!"] {
                // The laws say on stderr what they have nothing to say of.
                let says = io == "println!" && path.components().any(|part| part.as_os_str() == "laws");
                assert!(says || !text.contains(io), "{} uses {io}", path.display());
            }
        }
    }
}

#[test]
fn the_readme_lists_the_registered_policies() {
    let table = msrnn_policies::registry::markdown();
    assert!(
        read("README.md").contains(&table),
        "paste the output of `msrnn policies --markdown` into README.md:\n{table}"
    );
}

#[test]
fn the_readme_lists_the_supported_architectures() {
    use msrnn_models::config::Architecture;
    let (readme, table) = (read("README.md"), Architecture::markdown());
    assert!(readme.contains(&table), "README.md is to have this table:\n{table}");
    let families = Architecture::families();
    assert!(
        readme.replace('\n', " ").contains(&format!("on {families} checkpoints")),
        "README.md is to begin with {families}"
    );
}

#[test]
fn every_policy_of_the_paper_and_its_control_are_in_compares_default() {
    let help = read("msrnn-bench/src/cli/experiment/lm.rs");
    let of_the_paper = |citation: &str| citation.contains("2401.06104") || citation.contains("A control");
    for entry in msrnn_policies::registry::entries().filter(|entry| of_the_paper(entry.citation)) {
        assert!(help.contains(entry.example), "{} is not among the defaults of compare", entry.example);
    }
}

#[test]
fn the_bundled_model_is_the_one_that_train_makes() {
    let made: msrnn_bench::train::TrainConfig = serde_json::from_str(&read("msrnn-bench/bundled/train.json")).unwrap();
    assert_eq!(made, msrnn_bench::train::TrainConfig::default());
    let config = msrnn_models::config::ModelConfig::parse(&read("msrnn-bench/bundled/config.json")).unwrap();
    assert_eq!(config, made.model());
    assert!((1_000_000..=4_000_000).contains(&config.parameters()), "{} parameters", config.parameters());
    assert!(config.heads > config.kv_heads, "grouped-query attention");
    let bytes: u64 = std::fs::read_dir(root().join("msrnn-bench/bundled"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes <= 16 << 20, "{bytes} bytes");
}
