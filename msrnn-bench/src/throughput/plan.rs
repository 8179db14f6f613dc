//! Bytes of weights, states and work, predicted from the shape, and the batch that fits.

use burn::tensor::{Device, Int, Tensor};
use msrnn_core::policy::{Layer, Policy};
use msrnn_models::checkpoint::Outline;
use msrnn_models::config::ModelConfig;
use msrnn_models::storage::Storage;
use serde::Serialize;

use crate::device::DeviceName;
use crate::devices::DeviceMemory;
use crate::error::BenchError;
use crate::memory::{self, product};
use crate::wording::counted;

/// What is known before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// k
    pub states: usize,
    /// Bytes of the weights as they are held.
    pub weight_bytes: u64,
    /// Bytes of one sequence's states in all layers, the policy's memory included: exactly what
    /// [`MultiState::bytes`](msrnn_core::state::MultiState::bytes) adds up to.
    pub state_bytes: u64,
    /// Bytes of one sequence's logits and of what a layer passes on, an estimate.
    pub work_bytes: u64,
    /// Most sequences that fit into the memory.
    pub batch: usize,
}

impl Plan {
    /// What whole sequences never come to: so many rows, or such a batch.
    pub fn never_reached(&self, sequences: usize, length: usize) -> Vec<String> {
        let Self { states, batch, .. } = *self;
        // The last token is drawn and not read.
        let rows = (length <= states + 1)
            .then(|| format!("sequences of {length} tokens never omit a row of {states}: give a larger ‘length’"));
        let full = (sequences < batch)
            .then(|| format!("{sequences} sequences never fill a batch of {batch}: give more ‘sequences’"));
        rows.into_iter().chain(full).collect()
    }

    /// Refuses it where weights and states take more memory than is at hand, before they are made.
    ///
    /// # Errors
    ///
    /// Says how much they would take.
    pub(crate) fn check_room(&self, name: DeviceName, device: &Device) -> Result<(), BenchError> {
        let states = self.state_bytes.saturating_mul(self.batch as u64);
        let bytes = self.weight_bytes.saturating_add(states);
        let at_hand = match name.is_host() {
            true => memory::at_hand(),
            false => DeviceMemory::of(name, device).map(|memory| memory.free),
        };
        let what = format!("weights and {} of {} states", counted(self.batch, "sequence"), self.states);
        memory::refuse(bytes, at_hand, &what, "give less ‘memory’")
    }
}

/// Sizes on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// dtypes of weights and states.
    pub storage: Storage,
    /// Bytes of an integer of the device's.
    pub int: usize,
}

impl Sizes {
    /// Of a device, for a model that is held so.
    pub fn of(storage: impl Into<Storage>, device: &Device) -> Self {
        Self { storage: storage.into(), int: Tensor::<1, Int>::zeros([1], device).dtype().size() }
    }
}

/// Bytes of one sequence's states in all layers, bounded to k, of a policy whose states do not grow; see
/// [`Storage::state_bytes`].
pub fn state_bytes(config: &ModelConfig, policy: &dyn Policy, states: usize, sizes: Sizes) -> u64 {
    sizes.storage.state_bytes(config, Some((policy, states)), states, sizes.int) as u64
}

/// Bytes that a step of one sequence works in, beside weights and states: logits and their copy for
/// sampling, the widest activations of a layer, attention weights; in f32.
pub(crate) fn work_bytes(config: &ModelConfig, states: usize) -> u64 {
    let activations = 3 * config.intermediate_size + 8 * config.hidden_size;
    let weights = product(&[4 * 2 * config.heads, states.saturating_add(1)]);
    weights.saturating_add((4 * (2 * config.vocab_size + activations)) as u64)
}

/// The largest batch that fits into `memory` bytes beside the weights of a model.
///
/// # Errors
///
/// When not even one sequence does, the policy lets states grow, so that no batch fits for ever, or it names layers or heads
/// that the model has not.
pub(crate) fn plan(
    model: &Outline,
    policy: &dyn Policy,
    states: usize,
    sizes: Sizes,
    memory: u64,
) -> Result<Plan, BenchError> {
    let config = &model.config;
    let layers =
        (0..config.layers).map(|index| Layer { index, layers: config.layers, kv_heads: config.kv_heads, states });
    let mut grows = false;
    for layer in layers {
        let plan = policy.plan(&layer);
        plan.check_named(policy, &layer)?;
        grows |= plan.slots().is_none();
    }
    if grows {
        return Err(BenchError::Input(format!(
            "under {} states grow with the text, so that no batch fits for ever; take a policy that goes on cutting, as \
             every(128, ..) does",
            policy.name()
        )));
    }
    let weight_bytes = model.weight_bytes as u64;
    let state_bytes = state_bytes(config, policy, states, sizes);
    let work_bytes = work_bytes(config, states);
    let each = state_bytes.saturating_add(work_bytes);
    let batch = memory.saturating_sub(weight_bytes) / each;
    if batch == 0 {
        return Err(BenchError::Input(format!(
            "{memory} bytes do not hold the weights, {weight_bytes} bytes, and one sequence of {states} states, {each} \
             bytes; give more with ‘memory’, or fewer ‘states’"
        )));
    }
    Ok(Plan { states, weight_bytes, state_bytes, work_bytes, batch: usize::try_from(batch).unwrap_or(usize::MAX) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::DType;
    use msrnn_core::state::MultiState;
    use msrnn_models::recurrent::{Positions, Recurrent};
    use msrnn_policies::registry;

    use super::*;
    use crate::open;
    use crate::precision::Precision;
    use crate::speed::cost::weight_bytes;
    use crate::speed::shape::Shape;

    const GIB: u64 = 1 << 30;

    /// A budget in bytes makes as many states as fit, packed or not, and not one more.
    #[test]
    fn a_budget_in_bytes_is_met_by_what_is_allocated() {
        let shape: Shape = "3x24x4:2x32x50".parse().unwrap();
        let device = Device::flex();
        let model = shape.model(0, DType::F32, &device);
        let budget = 96 << 10;
        let mut states = std::collections::BTreeMap::new();
        for name in
            ["tova", "int8(tova, recent=0)", "int4(tova)", "int2(h2o, recent=5)", "int4(every(9, tova), keys=channel)"]
        {
            let spec: msrnn_policies::PolicySpec = format!("{name}@96KiB").parse().unwrap();
            let each = |policy: &dyn Policy| msrnn_models::recurrent::bytes_per_state(&model.decoder, policy);
            let compression = spec.compression(1 << 20, each).unwrap();
            let bytes = |states: usize| {
                let compression = registry::compression(name, states).unwrap();
                let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
                recurrent.initial_states(1).iter().map(MultiState::bytes).sum::<usize>()
            };
            let k = compression.states().unwrap();
            if name != "tova" {
                assert!(bytes(k) <= budget, "{name}@{k}: {} bytes", bytes(k));
            }
            // Scales of keys per channel come by whole groups.
            let more = if name.contains("channel") { 33 } else { 1 };
            assert!(bytes(k + more) > budget, "{name}@{k} leaves room for more");
            states.insert(name, k);
        }
        // A head has six numbers here, beside which a scale and a low take four bytes.
        assert!(states["tova"] * 3 / 2 < states["int8(tova, recent=0)"], "{states:?}");
        assert!(states["int8(tova, recent=0)"] < states["int4(tova)"], "{states:?}");
    }

    #[test]
    fn predicted_state_bytes_are_what_the_states_report() {
        let shape: Shape = "2x24x4:2x32x50".parse().unwrap();
        let device = Device::flex();
        let narrow = Storage { states: DType::F16, ..DType::F32.into() };
        for storage in [DType::F32.into(), DType::F64.into(), DType::F16.into(), DType::BF16.into(), narrow] {
            let model = shape.model(0, storage, &device);
            let sizes = Sizes::of(storage, &device);
            for name in [
                "window",
                "window+4",
                "h2o",
                "h2o-layer",
                "tova",
                "tova-head",
                "random",
                "every(3, h2o)",
                "knorm",
                "int8(tova)",
                "int4(h2o, group=8, recent=7)",
                "int2(every(9, tova-head), keys=channel)",
                "every(9, snapkv(window=3))",
                "heads(0: every(4, snapkv(window=2)), *: tova)",
            ] {
                for states in [5, 32] {
                    for batch in [1, 3] {
                        let compression = registry::compression(name, states).unwrap();
                        let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
                        // Queries are kept from the first token on.
                        let mut held = recurrent.initial_states(batch);
                        recurrent.step(Tensor::zeros([batch], &device), &mut held);
                        let reported: usize = held.iter().map(MultiState::bytes).sum();
                        let policy = registry::policy(name).unwrap();
                        let predicted = state_bytes(&shape.config(), policy.as_ref(), states, sizes);
                        assert_eq!(
                            predicted * batch as u64,
                            reported as u64,
                            "{name}@{states}, {storage:?}, {batch} rows"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_sequences_never_come_to_is_said() {
        let plan = Plan { states: 8, weight_bytes: 0, state_bytes: 1, work_bytes: 0, batch: 3 };
        assert_eq!(plan.never_reached(3, 10), Vec::<String>::new());
        assert!(plan.never_reached(3, 9)[0].contains("never omit"));
        assert!(plan.never_reached(2, 10)[0].contains("a batch of 3"));
    }

    #[test]
    fn the_batch_is_the_largest_that_fits() {
        let config = "2x24x4:2x32x50".parse::<Shape>().unwrap().config();
        let policy = registry::policy("tova").unwrap();
        let sizes = Sizes { storage: DType::F16.into(), int: 4 };
        let model = Outline { weight_bytes: sizes.storage.weight_bytes(&config), config };
        for memory in [100_000, 1_000_000, GIB] {
            let plan = plan(&model, policy.as_ref(), 16, sizes, memory).unwrap();
            let with = |batch: u64| plan.weight_bytes + batch * (plan.state_bytes + plan.work_bytes);
            assert!(with(plan.batch as u64) <= memory && memory < with(plan.batch as u64 + 1), "{plan:?}");
        }
        let error = plan(&model, policy.as_ref(), 16, sizes, 1000).unwrap_err().to_string();
        assert!(error.contains("‘memory’"), "{error}");
        let grows = registry::policy("after-prompt(tova)").unwrap();
        let error = plan(&model, grows.as_ref(), 16, sizes, GIB).unwrap_err().to_string();
        assert!(error.contains("every(128, ..)"), "{error}");
    }

    #[test]
    fn weights_take_the_bytes_that_files_imply_before_they_are_read() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
        let directory = tempfile::tempdir().unwrap();
        // A head that is not the embedding, though the configuration says it.
        let differing = directory.path().join("differing");
        std::fs::create_dir(&differing).unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(testdata.join("checkpoints/llama-gqa").join(name), differing.join(name)).unwrap();
        }
        let config = std::fs::read_to_string(differing.join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["tie_word_embeddings"] = true.into();
        std::fs::write(differing.join("config.json"), config.to_string()).unwrap();

        let models = ["types", "llama", "llama-00001-of-00003", "llama3", "family-phi3", "family-qwen2-tied"];
        let models = models.map(|name| testdata.join(format!("gguf/{name}.gguf"))).into_iter();
        let directories = ["llama-gqa", "llama-f16", "llama-sharded-bf16", "llama-tied", "llama-bias", "phi3"];
        let models = models.chain(directories.map(|name| testdata.join("checkpoints").join(name))).chain([differing]);
        for path in models.map(Some).chain([None]) {
            for precision in ["stored", "stored/f16", "f32", "bf16", "f64"] {
                let precision: Precision = precision.parse().unwrap();
                let outline = open::outline(path.as_deref(), precision.storage()).unwrap();
                let model = open::open(path.as_deref(), DeviceName::Cpu, precision).unwrap();
                assert_eq!(outline.weight_bytes, weight_bytes(&model.decoder), "{path:?} in {precision}");
                assert_eq!(&outline.config, model.decoder.config(), "{path:?} in {precision}");
            }
        }
    }

    #[test]
    fn what_is_more_than_the_machine_has_is_refused_and_what_the_plan_says_is_not() {
        let plan = |batch| Plan { states: 8, weight_bytes: 1000, state_bytes: 1000, work_bytes: 10, batch };
        let check = |batch| plan(batch).check_room(DeviceName::Cpu, &Device::flex());
        assert!(check(2).is_ok());
        let error = check(1 << 50).unwrap_err().to_string();
        assert!(error.contains("sequences of 8 states would take") && error.contains("‘memory’"), "{error}");
    }

    #[test]
    fn the_papers_memory_comes_out_for_its_model() {
        let config = super::super::shape::ThroughputShape::Llama2With7B.config();
        let policy = registry::policy("tova").unwrap();
        let sizes = Sizes { storage: DType::F16.into(), int: 4 };
        for published in super::super::published::TABLE {
            let bytes = state_bytes(&config, policy.as_ref(), published.states, sizes) as f64;
            // The paper measured what was allocated, in blocks; half a MiB per token is the least.
            let ratio = published.gigabytes * 1e9 / bytes;
            assert!((1.0..1.12).contains(&ratio), "{} states: {bytes} bytes, {ratio}", published.states);
        }
    }
}
