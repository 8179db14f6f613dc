//! The same multi-state RNN on every device: laws, hand-worked cases and models on the GPU backends
//! that were compiled in, against the CPU.
//!
//! ```sh
//! cargo test --release --workspace --features wgpu --test cross_device
//! ```
//!
//! Every backend that was compiled in is tried; `MSRNN_TEST_DEVICE=wgpu:1,cuda` names others. Tests of
//! a device that is not there count as ignored, and the reason is printed. `PROPTEST_CASES` sets the
//! trials of a law, 48 where it is not set: software Vulkan takes some 60 µs an operation, so fewer will
//! have to do there (`runs/wgpu-check`).

mod cross_device_models;
#[path = "../../msrnn-policies/tests/hand_worked/mod.rs"]
mod hand_worked;

use std::process::ExitCode;

use burn::tensor::{DType, Device};
use libtest_mimic::{Arguments, Failed, Trial};
use msrnn_bench::device::DeviceName;
use msrnn_core::laws;
use msrnn_core::precision::computes_in;
use msrnn_policies::registry;

use cross_device_models as models;

/// Policies of every kind of decision: by position, by weight, with memory, per layer and per head.
const POLICIES: [&str; 14] = [
    "window",
    "window+2",
    "h2o",
    "h2o-layer",
    "tova",
    "tova-head",
    "tova+2",
    "random",
    "score(m = 0.5 * m + max_weight; keep m * value_norm / (1 + age); first 1; per head)",
    "every(3, h2o)",
    "every(2, pooled(tova, floor=0.3))",
    "merge(h2o, threshold=ema0.5)",
    "int8(tova, group=3, recent=1)",
    "score(m = 0.5 * m + weight; keep if(head == 1, m, age * (head - 1)); per head)",
];

/// Policies whose rows are packed: in every number of bits, between cuts, by channel, with what looks at queries.
const PACKED: [&str; 6] = [
    "int4(h2o+1, group=2, recent=0)",
    "every(3, int4(tova, group=3, recent=5))",
    "after-prompt(int8(tova, keys=channel, group=3, recent=0))",
    "every(4, int2(tova-head, keys=channel, group=2, recent=1))",
    "int8(merge(h2o), group=2, recent=1)",
    "protect(int2(snapkv(window=3, pool=max3), group=2, recent=1), first=1)",
];

/// Policies of which every head does something else: by blocks, by steps, at cuts, after a prompt.
const BY_HEAD: [&str; 3] = [
    "heads(0: full, *: window+4)",
    "heads(0: tova, 1: every(3, h2o), *: merge(tova, threshold=ema0.5))",
    "heads(0-1: after-prompt(snapkv(window=2, pool=max3)), *: window)",
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let names = match devices() {
        Ok(names) => names,
        Err(error) => {
            eprintln!("MSRNN_TEST_DEVICE: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    if names.is_empty() {
        let none = Trial::test("no GPU backend was compiled in: add --features wgpu or cuda", || Ok(()));
        trials.push(none.with_ignored_flag(true));
    }
    for name in names {
        let opened = name.open();
        if let Err(error) = &opened {
            eprintln!("ignoring the tests of {name}: {error}");
        }
        trials.extend(of_device(name, opened.ok()));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What is asked for, or the GPU backends of this build.
fn devices() -> Result<Vec<DeviceName>, String> {
    match std::env::var("MSRNN_TEST_DEVICE") {
        Ok(names) => names.split(',').map(|name| name.trim().parse().map_err(|e| format!("{e}"))).collect(),
        Err(_) => {
            Ok([DeviceName::Wgpu(None), DeviceName::Cuda(0)].into_iter().filter(|name| name.is_compiled_in()).collect())
        }
    }
}

/// All tests of a device, ignored where it is not there.
fn of_device(name: DeviceName, device: Option<Device>) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |what: String, test: Box<dyn FnOnce(&Device) + Send>| {
        let (there, device) = (device.is_some(), device.clone());
        let run = move || -> Result<(), Failed> {
            test(&device.expect("an ignored test does not run"));
            Ok(())
        };
        trials.push(Trial::test(format!("{name}::{what}"), run).with_ignored_flag(!there));
    };
    for policy in POLICIES {
        let shared = move || registry::policy(policy).expect("the registry knows its policies");
        for &(law, holds) in laws::LAWS {
            add(format!("laws::{policy}::{law}"), Box::new(move |device| holds(&shared(), device)));
        }
        add(
            format!("agrees_with_the_cpu::{policy}"),
            Box::new(move |device| laws::two_devices_agree(&shared(), &cpu(), device)),
        );
    }
    let listed =
        || POLICIES.into_iter().map(|policy| registry::policy(policy).expect("the registry knows its policies"));
    add(
        "laws::skips_are_written_down".into(),
        Box::new(move |_| laws::skips_are_written_down(listed(), include_str!("cross_device_skipped.txt"))),
    );
    for policy in PACKED {
        let shared = move || registry::policy(policy).expect("the registry knows its policies");
        let law = laws::a_packed_state_equals_the_plain_state_over_rounded_rows;
        let name = "a_packed_state_equals_the_plain_state_over_rounded_rows";
        add(format!("laws::{policy}::{name}"), Box::new(move |device| law(&shared(), device)));
    }
    for policy in BY_HEAD {
        let shared = move || registry::policy(policy).expect("the registry knows its policies");
        let law = laws::heads_with_plans_of_their_own_equal_layers_of_one_head;
        let name = "heads_with_plans_of_their_own_equal_layers_of_one_head";
        add(format!("laws::{policy}::{name}"), Box::new(move |device| law(&shared(), device)));
    }
    add(
        "laws::unbounded_state_equals_vanilla_attention".into(),
        Box::new(laws::unbounded_state_equals_vanilla_attention),
    );
    for (case, _) in hand_worked::cases() {
        add(format!("hand_worked::{case}"), Box::new(move |device| hand_worked_case(&case, device)));
    }
    for (what, test) in models::TESTS {
        add(format!("models::{what}"), Box::new(move |device| test(&cpu(), device)));
    }
    trials
}

/// The device that others are held against.
fn cpu() -> Device {
    DeviceName::Cpu.open().expect("tests are built with the CPU's backend")
}

/// A hand-worked case in every form, in every dtype of the device.
fn hand_worked_case(name: &str, device: &Device) {
    use hand_worked::Form;
    let (_, case) = hand_worked::cases().into_iter().find(|(case, _)| case == name).expect("it was listed");
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        if !computes_in(device, dtype) {
            continue;
        }
        for form in [Form::Steps, Form::Scan, Form::ScanInTwos] {
            for batch in [1, 2] {
                case.check(name, form, batch, dtype, device);
            }
        }
    }
}
