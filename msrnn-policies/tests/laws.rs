//! Every policy of the registry put through every law.

use std::path::Path;
use std::sync::Arc;

use msrnn_core::policy::Policy;
use msrnn_core::policy_laws;
use msrnn_policies::registry;

/// Puts policies through the laws, and keeps a list of their names.
macro_rules! under_law {
    ($($module:ident: $name:literal),* $(,)?) => {
        const UNDER_LAW: &[&str] = &[$($name),*];
        $(policy_laws!($module, under_law($name));)*
    };
}

/// `laws_plain.rs` includes this file to put the plain twins of the kernels through the laws.
fn under_law(name: &str) -> Arc<dyn Policy> {
    if module_path!().starts_with("laws_plain") {
        msrnn_core::kernels::only_plain();
    }
    registry::policy(name).expect("the registry knows its policies")
}

under_law! {
    window: "window",
    window_plus: "window+2",
    h2o: "h2o",
    h2o_layer: "h2o-layer",
    tova: "tova",
    tova_head: "tova-head",
    tova_plus: "tova+2",
    random: "random",
}

#[test]
fn every_entry_of_the_registry_is_complete_and_tested() {
    for entry in registry::entries() {
        let name = entry.name;
        for (what, text) in [
            ("idea", entry.idea),
            ("rule", entry.rule),
            ("cost", entry.cost),
            ("citation", entry.citation),
            ("differences", entry.differences),
        ] {
            assert!(!text.trim().is_empty(), "{name} has no {what}");
        }
        let example = registry::policy(entry.example).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(example.name(), entry.example, "the example of {name} is not the name of what it makes");
        let found = registry::entry(entry.example).map(|entry| entry.name);
        assert_eq!(found, Some(name), "another entry parses the example of {name} too");
        assert!(
            UNDER_LAW.iter().any(|name| (entry.parse)(name).is_some()),
            "{name} is not put through the laws: add it to tests/laws.rs"
        );
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../testdata/policies/{name}.toml"));
        let case =
            std::fs::read_to_string(&case).unwrap_or_else(|error| panic!("no case at {}: {error}", case.display()));
        let case: toml::Table = case.parse().unwrap_or_else(|error| panic!("the case of {name}: {error}"));
        let spec = case["policy"].as_str().expect("a case names its policy");
        let of = spec.split('@').next().and_then(registry::entry).map(|entry| entry.name);
        assert_eq!(of, Some(name), "the case {name}.toml is one of {spec}");
    }
}
