//! In which dtypes a decoder is held.

use burn::tensor::{DType, Device, FloatDType};
use msrnn_core::budget::StateBytes;
use msrnn_core::kernels::{Activations, Format, largest_buffer};
use msrnn_core::policy::{Layer, Plan, Policy};
use msrnn_core::precision::accumulation;

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::weights::{Named, tensors};

/// In which dtypes weights and the rows of states are held. What is computed from them is in the
/// accumulation dtype of the weights: f64 for f64, else f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Of matrices.
    pub weights: Weights,
    /// Of keys and values.
    pub states: DType,
    /// What weights in blocks are multiplied with.
    pub activations: Activations,
}

/// In which dtype weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// All in one float dtype.
    Float(DType),
    /// Matrices in 8 bits with a scale for every 64 values of a row ([`Format::Int8`]), norms and biases in f32.
    Int8,
    /// Matrices as the files have them, in blocks ([`Format`]) or in a float dtype of at most 32 bits, norms and biases in
    /// f32.
    Stored,
}

impl Storage {
    /// The dtype that is computed in.
    pub fn computes_in(&self) -> FloatDType {
        accumulation(self.vectors())
    }

    /// Bytes that one weight takes, but for its share of a scale; of those that only the files tell, about.
    pub fn bytes_per_weight(&self) -> usize {
        match self.weights {
            Weights::Float(dtype) => dtype.size(),
            Weights::Int8 | Weights::Stored => 1,
        }
    }

    /// Bytes of all weights of a model of this configuration. Of [`Weights::Stored`], which only the files tell, those of
    /// floats of 32 bits, which are the most; see [`Outline`](crate::checkpoint::Outline).
    pub fn weight_bytes(&self, config: &ModelConfig) -> usize {
        let bytes = |named: &Named| {
            let elements: usize = named.shape.iter().product();
            match self.weights {
                Weights::Int8 if named.shape.len() == 2 => Format::Int8.bytes(elements).unwrap_or(usize::MAX),
                _ => elements * self.vectors().size(),
            }
        };
        tensors(config).iter().map(bytes).sum()
    }

    /// Bytes that one state takes in all layers: key, value, position and what the policy carries; of an unbounded
    /// state where there is no policy. `int`: bytes of an integer on the device.
    ///
    /// Of packed rows: the codes of a slot, and beside all of them the rows that are whole. Beside rows is also what
    /// [`Storage::state_bytes`] counts once.
    pub fn bytes_per_state(&self, config: &ModelConfig, policy: Option<&dyn Policy>, int: usize) -> StateBytes {
        let mut all = StateBytes::default();
        for index in 0..config.layers {
            let layer = Layer { index, layers: config.layers, kv_heads: config.kv_heads, states: 1 };
            let plan = policy.map(|policy| policy.plan(&layer));
            for Part { plan, layer } in Part::all(plan.as_ref(), layer) {
                let beside_rows = self.beside_rows(plan, &layer, int);
                all.beside += self.beside_all(config, plan, &layer, int);
                match plan.and_then(|plan| plan.packing) {
                    None => all.each += beside_rows + layer.kv_heads * self.row_bytes(config),
                    Some(packing) => {
                        let (each, beside) = packing.bytes_per_slot(config.head_dim, self.states);
                        all.each += beside_rows + layer.kv_heads * each;
                        all.beside += layer.kv_heads * beside;
                    }
                }
            }
        }
        all
    }

    /// Bytes of one sequence's states in all layers after `tokens` tokens: as many slots of key, value, position and what
    /// the policy carries as its plan for k states has, or one more than tokens in layers that grow, two counters
    /// per decision, thresholds that move, and the latest queries that a rule looks at. `bound`: the policy and k, none of an unbounded state.
    pub fn state_bytes(
        &self,
        config: &ModelConfig,
        bound: Option<(&dyn Policy, usize)>,
        tokens: usize,
        int: usize,
    ) -> usize {
        let part = |Part { plan, layer }: Part<'_>| {
            let slots = plan.and_then(Plan::slots).unwrap_or_else(|| tokens.saturating_add(1));
            let of_head = match plan.and_then(|plan| plan.packing) {
                None => slots.saturating_mul(self.row_bytes(config)),
                Some(packing) => packing.bytes(slots, config.head_dim, self.states),
            };
            let beside_rows = slots.saturating_mul(self.beside_rows(plan, &layer, int));
            let beside = beside_rows.saturating_add(self.beside_all(config, plan, &layer, int));
            of_head.saturating_mul(layer.kv_heads).saturating_add(beside)
        };
        let of_layer = |index| {
            let states = bound.map_or(1, |(_, states)| states);
            let layer = Layer { index, layers: config.layers, kv_heads: config.kv_heads, states };
            let plan = bound.map(|(policy, _)| policy.plan(&layer));
            Part::all(plan.as_ref(), layer).into_iter().map(part).fold(0, usize::saturating_add)
        };
        (0..config.layers).map(of_layer).fold(0, usize::saturating_add)
    }

    /// Bytes of one row of a head, as it is computed.
    fn row_bytes(&self, config: &ModelConfig) -> usize {
        2 * config.head_dim * self.states.size()
    }

    /// Bytes of what is kept beside a row of all heads: its positions, and what the policy carries.
    fn beside_rows(&self, plan: Option<&Plan>, layer: &Layer, int: usize) -> usize {
        let wide: DType = accumulation(self.states).into();
        let (groups, carried) = plan.map_or((1, 0), |plan| (plan.decides.groups(layer.kv_heads), plan.carried(layer)));
        groups * (int + carried * wide.size())
    }

    /// Bytes of what there is once, however many rows it is held beside: two counters per decision, thresholds that move, and
    /// the latest queries that a rule looks at, of all heads. Heads that compete become states of their own, each of which has a
    /// free slot, beside which the layer's is left.
    fn beside_all(&self, config: &ModelConfig, plan: Option<&Plan>, layer: &Layer, int: usize) -> usize {
        let wide: DType = accumulation(self.states).into();
        let groups = plan.map_or(1, |plan| plan.decides.groups(layer.kv_heads));
        let thresholds = plan.and_then(|plan| plan.thresholds(layer.kv_heads)).unwrap_or_default();
        let heads = layer.kv_heads * config.heads / config.kv_heads;
        let queries = plan.map_or(0, Plan::queries) * heads * config.head_dim;
        let own = match plan.is_some_and(|plan| plan.pooled.is_some()) {
            true => {
                (layer.kv_heads + 1) * self.row_bytes(config)
                    + 2 * self.beside_rows(plan, layer, int)
                    + 2 * groups * int
            }
            false => 0,
        };
        2 * groups * int + (thresholds[0] * thresholds[1] + queries) * wide.size() + own
    }

    /// Whether a model of this configuration can be held so.
    ///
    /// # Errors
    ///
    /// When a row of weights is no whole number of the blocks that share a scale.
    pub fn check(&self, config: &ModelConfig) -> Result<(), ModelError> {
        let (inputs, block) =
            ([config.hidden_size, config.heads * config.head_dim, config.intermediate_size], Format::Int8.block());
        match inputs.into_iter().find(|input| !input.is_multiple_of(block)) {
            Some(input) if self.weights == Weights::Int8 => Err(ModelError::Blocks { input, block }),
            _ => Ok(()),
        }
    }

    /// As [`Storage::check`], and whether a device has buffers for the matrices.
    ///
    /// # Errors
    ///
    /// As [`Storage::check`]; when a matrix, out of its blocks, is larger than the device's [largest
    /// buffer](largest_buffer).
    pub fn check_on(&self, config: &ModelConfig, device: &Device) -> Result<(), ModelError> {
        self.check(config)?;
        let Some(most) = largest_buffer(device) else { return Ok(()) };
        let dtype = self.vectors();
        let bytes =
            |named: &Named| named.shape.iter().fold(dtype.size() as u64, |all, &n| all.saturating_mul(n as u64));
        match tensors(config).into_iter().find(|named| bytes(named) > most) {
            Some(named) => Err(ModelError::Buffer { bytes: bytes(&named), name: named.name, dtype, most }),
            None => Ok(()),
        }
    }

    /// Of norms and biases.
    pub fn vectors(&self) -> DType {
        match self.weights {
            Weights::Float(dtype) => dtype,
            Weights::Int8 | Weights::Stored => DType::F32,
        }
    }
}

/// Heads of a layer that do the same: all, or one that has a plan of its own.
struct Part<'p> {
    plan: Option<&'p Plan>,
    /// With as many KV heads as there are in it.
    layer: Layer,
}

impl<'p> Part<'p> {
    fn all(plan: Option<&'p Plan>, layer: Layer) -> Vec<Self> {
        match plan.map(|plan| &plan.heads[..]) {
            None | Some([]) => vec![Self { plan, layer }],
            Some(heads) => {
                heads.iter().map(|head| Self { plan: Some(head), layer: Layer { kv_heads: 1, ..layer } }).collect()
            }
        }
    }
}

/// Weights and states alike.
impl From<DType> for Storage {
    fn from(dtype: DType) -> Self {
        Self { weights: Weights::Float(dtype), states: dtype, activations: Activations::Float }
    }
}
