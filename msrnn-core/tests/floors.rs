//! The modules of this crate are floors: each knows those below it, and none above. `ARCHITECTURE.md` says what they are.

#[path = "common/floors.rs"]
mod floors;

/// From the ground up.
const FLOORS: [&str; 21] = [
    // Numbers.
    "error",
    "simd",
    "precision",
    // What is done to every token by itself.
    "kernels",
    // A policy, as data and in tensor code, and who goes by it.
    "budget",
    "placement",
    "packing",
    "layer",
    "tensors",
    "omission",
    "merging",
    "score",
    "policy",
    "needs",
    "compression",
    // The state.
    "state",
    "trouble",
    // The step.
    "attention",
    "rnn",
    "vanilla",
    // What must hold of all of it.
    "laws",
];

#[test]
fn no_module_knows_one_above_it() {
    floors::no_module_knows_one_above_it(env!("CARGO_MANIFEST_DIR"), &FLOORS, "msrnn_core");
}
