//! Everything that launches kernels: models under every policy, in every dtype and head size.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use msrnn_bench::device::DeviceName;
use msrnn_bench::speed::shape::Shape;
use msrnn_core::compression::Compression;
use msrnn_core::kernels::Activations;
use msrnn_core::policy::{Layer, Rule};
use msrnn_models::Model;
use msrnn_models::captured::{Capture, Captured};
use msrnn_models::recurrent::{Positions, Recurrent};
use msrnn_models::storage::{Storage, Weights};
use msrnn_policies::registry;

/// Of SmolLM2, of Phi-3, of Llama, Mistral, Yi and Qwen.
const HEAD_SIZES: [usize; 3] = [64, 96, 128];

/// Rows that are held: as many as every policy of the registry needs.
const STATES: usize = 64;

/// Beside the registry's: a score that was typed, cuts at other moments, and what combinators make.
const COMPOSED: [&str; 6] = [
    "score(m = 0.5 * m + max_weight; keep m * value_norm / (1 + age); first 1; per head)",
    "every(3, h2o)",
    "protect(tova, first=2, newest=3)",
    "int8(tova, group=16, recent=8)",
    "int4(tova, group=32, recent=8)",
    "every(4, int2(tova-head, keys=channel, group=16, recent=8))",
];

/// Walks through all cases on the device. Nothing is computed, so that a policy in tensor code, which looks at its numbers
/// on the host, may stop; what it had launched is compiled all the same. One that is a score decides on the device and may
/// not.
pub(crate) fn walk(out: &Path) -> ExitCode {
    let device = DeviceName::Cuda(0).open().expect("the driver claims to have a card");
    let mut stopped = 0;
    for (dtype, storage) in storages() {
        for head_size in HEAD_SIZES {
            // One width for all, so that burn's products are the same ones.
            let heads = 384 / head_size;
            let shape = Shape {
                layers: 2,
                hidden_size: heads * head_size,
                heads,
                kv_heads: if heads % 2 == 0 { 2 } else { 1 },
                intermediate_size: 256,
                vocab_size: 128,
            };
            let model = shape.model(1, storage, &device);
            for policy in policies() {
                let case = format!("{policy}\t{dtype}\t{head_size}\n");
                std::fs::write(out.join("case"), &case).expect("the folder is there");
                if catch_unwind(AssertUnwindSafe(|| under(policy, &model, &device))).is_err() {
                    eprintln!("stopped by numbers that nobody computed: {case}");
                    stopped += usize::from(is_score(policy));
                }
            }
        }
    }
    match stopped {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Whether a policy's rule is a score.
fn is_score(policy: &str) -> bool {
    let plan = registry::policy(policy).map(|policy| policy.plan(&Layer::only(STATES)));
    plan.is_ok_and(|plan| matches!(plan.rule, Rule::Score(_)))
}

/// Those of the registry, and what can be made of them.
pub(crate) fn policies() -> impl Iterator<Item = &'static str> {
    let usable = registry::entries().filter(|entry| entry.policy().foresight().is_none());
    usable.map(|entry| entry.example).chain(COMPOSED)
}

/// Weights and states as `--dtype` gives them.
pub(crate) fn storages() -> Vec<(&'static str, Storage)> {
    let float =
        |dtype: DType| Storage { weights: Weights::Float(dtype), states: dtype, activations: Activations::Float };
    vec![
        ("f32", float(DType::F32)),
        ("f16", float(DType::F16)),
        ("bf16", float(DType::BF16)),
        (
            "f32/f16",
            Storage { weights: Weights::Float(DType::F32), states: DType::F16, activations: Activations::Float },
        ),
    ]
}

/// A text token by token and in blocks, and after a prompt.
fn under(policy: &str, model: &Model, device: &Device) {
    let compression = match registry::policy(policy) {
        Ok(policy) => {
            Compression::bounded(policy, STATES).expect("as many states as every policy of the registry needs")
        }
        Err(_) => Compression::Unbounded,
    };
    let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original).with_capture(Capture::OnHardware);
    for batch in [1, 3] {
        if recurrent.check_length(STATES + 40, 0).is_ok() {
            let mut states = recurrent.initial_states(batch);
            recurrent.scan(ids(batch, STATES + 33, device), &mut states).into_data();
            for _ in 0..3 {
                recurrent.step(ids(batch, 1, device).reshape([batch]), &mut states).into_data();
            }
            if Captured::is_possible(&recurrent, &states)
                && let Ok(mut captured) = Captured::step(&recurrent, states, &vec![7; batch]).1
            {
                captured.replay(&vec![8; batch]);
            }
        }
        let mut states = recurrent.initial_states(batch);
        // A refusal of scores that are no numbers is none of the kernels'.
        let _ = recurrent.prefill(ids(batch, STATES + 20, device), &mut states).map(Tensor::into_data);
        recurrent.scan(ids(batch, 5, device), &mut states).into_data();
    }
}

fn ids(batch: usize, n: usize, device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = (0..batch * n).map(|i| (i * 31 % 97) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [batch, n]), device)
}
