//! A saved multi-state: plain data that serialises with serde.

mod intact;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::packed::{Of, Packed};
use super::rounding::Codes;
use super::{MultiState, StateShape};
use crate::compression::Compression;
use crate::error::Error;
use crate::packing::{Packing, Per};

/// Everything that a [`MultiState`] holds, and under which bound. Recorded omissions are not part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    batch: usize,
    kv_heads: usize,
    head_dim: usize,
    layer: usize,
    layers: usize,
    /// Policy and k; none of an unbounded state.
    bound: Option<(String, usize)>,
    /// How rows are held; none as they were computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packing: Option<Packing>,
    slots: usize,
    seen: Vec<usize>,
    held: Vec<usize>,
    max_rows: usize,
    first_omission: Vec<Option<usize>>,
    keys: TensorData,
    values: TensorData,
    /// Packed keys and values. Then `keys` and `values` are the whole ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packed: Option<[SavedCodes; 2]>,
    positions: TensorData,
    memory: Option<TensorData>,
    latest: Option<TensorData>,
    /// Of thresholds that move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thresholds: Option<TensorData>,
    free: TensorData,
    /// Of heads that are states of their own.
    heads: Vec<Snapshot>,
}

/// Packed keys, or values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedCodes {
    words: TensorData,
    scales: TensorData,
    lows: TensorData,
    whole_from: Vec<usize>,
}

impl SavedCodes {
    fn of(packed: &Packed, of: Of) -> Self {
        let Codes { words, scales, lows } = packed.codes(of);
        Self {
            words: words.to_data().convert::<i32>(),
            scales: scales.to_data(),
            lows: lows.to_data(),
            whole_from: packed.whole_from(of).to_vec(),
        }
    }
}

impl MultiState {
    /// Reads the state from its device.
    pub fn snapshot(&self) -> Snapshot {
        let StateShape { batch, kv_heads, head_dim, layer, layers, .. } = self.shape;
        Snapshot {
            batch,
            kv_heads,
            head_dim,
            layer,
            layers,
            bound: self.bound.as_ref().map(|bound| (bound.policy.clone(), bound.states)),
            packing: self.packing,
            slots: self.slots,
            seen: self.seen.clone(),
            held: self.held.clone(),
            max_rows: self.max_rows,
            first_omission: self.first_omission.clone(),
            keys: self.keys.to_data(),
            values: self.values.to_data(),
            packed: self.packed.as_ref().map(|packed| Of::BOTH.map(|of| SavedCodes::of(packed, of))),
            positions: self.positions.to_data().convert::<i64>(),
            memory: self.memory.as_ref().map(Tensor::to_data),
            latest: self.latest.as_ref().map(Tensor::to_data),
            thresholds: self.thresholds.as_ref().map(Tensor::to_data),
            free: self.free.to_data().convert::<i64>(),
            heads: self.heads.iter().map(Self::snapshot).collect(),
        }
    }

    /// Puts a saved state on a device, under the compression that it was saved under.
    ///
    /// # Errors
    ///
    /// When it was saved under another one, or its parts do not fit each other, as in a damaged file.
    pub fn restore(snapshot: Snapshot, compression: &Compression, device: &Device) -> Result<Self, Error> {
        let Snapshot { batch, kv_heads, head_dim, layer, layers, .. } = snapshot;
        let dtype = snapshot.keys.dtype();
        let shape = StateShape { batch, kv_heads, head_dim, layer, layers, dtype };
        let mut state = MultiState::new(shape, compression, device);
        let bound = state.bound.as_ref().map(|bound| (bound.policy.clone(), bound.states));
        if bound != snapshot.bound {
            let name = |bound: &Option<(String, usize)>| {
                bound.as_ref().map_or_else(|| "full".into(), |(policy, states)| format!("{policy}@{states}"))
            };
            let (saved, given) = (name(&snapshot.bound), name(&bound));
            return Err(Error::Snapshot(format!("it was saved under {saved}, not under {given}")));
        }
        if state.packing != snapshot.packing {
            let how = |packing: Option<Packing>| packing.map_or("not packed".into(), |packing| packing.to_string());
            let (saved, given) = (how(snapshot.packing), how(state.packing));
            return Err(Error::Snapshot(format!("its rows were saved {saved}, not {given}")));
        }
        if state.is_by_head() && snapshot.heads.is_empty() {
            return Err(Error::Snapshot("its heads are missing".into()));
        }
        if !snapshot.heads.is_empty() {
            if snapshot.heads.len() != batch * kv_heads || snapshot.seen.len() != batch || snapshot.held.len() != batch
            {
                return Err(Error::Snapshot("its heads contradict its shape".into()));
            }
            if !state.is_by_head() {
                state.split();
            }
            for (index, saved) in snapshot.heads.iter().enumerate() {
                if state.heads[index].packing != saved.packing {
                    return Err(Error::Snapshot("one of its heads holds its rows otherwise".into()));
                }
                state.heads[index].take_over(saved.clone())?;
            }
            state.next = counters(&snapshot.seen, state.groups(), device);
            (state.seen, state.held, state.max_rows) = (snapshot.seen, snapshot.held, snapshot.max_rows);
            state.first_omission = snapshot.first_omission;
            return Ok(state);
        }
        state.take_over(snapshot)?;
        Ok(state)
    }

    /// Takes over a snapshot of a state under the same bound.
    fn take_over(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        let Snapshot { batch, kv_heads, head_dim, slots, .. } = snapshot;
        let device = &self.device();
        if [batch, kv_heads, head_dim] != [self.shape.batch, self.shape.kv_heads, self.shape.head_dim] {
            return Err(Error::Snapshot("its heads contradict its shape".into()));
        }
        let groups = batch * self.groups();
        let fits = |what: &str, data: &TensorData, dims: &[usize]| match data.shape().as_slice() == dims {
            true => Ok(()),
            false => Err(Error::Snapshot(format!("{what} have shape {:?} instead of {dims:?}", data.shape()))),
        };
        let places = |of: Of| self.packed.as_ref().map_or(slots, |packed| packed.side(of).whole());
        fits("keys", &snapshot.keys, &[batch * kv_heads * places(Of::Keys), head_dim])?;
        fits("values", &snapshot.values, &[batch * kv_heads * places(Of::Values), head_dim])?;
        if self.packed.is_some() != snapshot.packed.is_some() {
            return Err(Error::Snapshot("its packed rows are missing".into()));
        }
        if let (Some(packed), Some(saved)) = (&self.packed, &snapshot.packed) {
            for (of, saved) in Of::BOTH.into_iter().zip(saved) {
                let grid = packed.grid(of, head_dim);
                let [lines, each] = grid.scales(slots);
                fits("packed rows", &saved.words, &[batch * kv_heads * slots, grid.bits.words(head_dim)])?;
                fits("scales", &saved.scales, &[batch * kv_heads * lines, each])?;
                fits("lows of packed rows", &saved.lows, &[batch * kv_heads * lines, each])?;
                let side = packed.side(of);
                let came = if side.per == Per::Token { &snapshot.seen } else { &snapshot.held };
                let due: Vec<usize> = came.iter().map(|&came| side.packed(came)).collect();
                if saved.whole_from != due {
                    return Err(Error::Snapshot("its packed rows contradict its counters".into()));
                }
            }
        }
        fits("positions", &snapshot.positions, &[groups, slots])?;
        fits("free slots", &snapshot.free, &[groups, 1])?;
        let channels = self.channels().len();
        match &snapshot.memory {
            Some(memory) => fits("remembered values", memory, &[channels, groups, slots])?,
            None if channels == 0 => {}
            None => return Err(Error::Snapshot("what the policy remembers is missing".into())),
        }
        match (&snapshot.thresholds, &self.thresholds) {
            (Some(saved), Some(own)) => fits("thresholds", saved, &own.dims())?,
            (None, None) => {}
            _ => return Err(Error::Snapshot("its thresholds are missing, or there should be none".into())),
        }
        let counted = [snapshot.seen.len(), snapshot.held.len(), snapshot.first_omission.len()];
        let limit = self.bound.as_ref().and_then(|bound| bound.limit());
        let holds = snapshot.held.iter().zip(&snapshot.seen).all(|(held, seen)| held <= seen && *held <= slots);
        if counted != [batch; 3] || !holds || limit.is_some_and(|limit| slots != limit) {
            return Err(Error::Snapshot("its counters contradict its shape".into()));
        }
        fn float<const D: usize>(data: TensorData, device: &Device) -> Tensor<D> {
            let dtype: DType = data.dtype();
            Tensor::from_data(data, (device, dtype))
        }
        self.slots = slots;
        self.keys = float(snapshot.keys, device);
        self.values = float(snapshot.values, device);
        if let (Some(packed), Some(saved)) = (&mut self.packed, snapshot.packed) {
            for (of, saved) in Of::BOTH.into_iter().zip(saved) {
                *packed.codes_mut(of) = Codes {
                    words: Tensor::from_data(saved.words, (device, DType::I32)),
                    scales: float(saved.scales, device),
                    lows: float(saved.lows, device),
                };
                packed.whole_from[of as usize] = saved.whole_from;
            }
        }
        self.positions = Tensor::<2, Int>::from_data(snapshot.positions, device);
        self.memory = snapshot.memory.map(|memory| float(memory, device));
        self.latest = snapshot.latest.map(|latest| float(latest, device));
        self.thresholds = snapshot.thresholds.map(|thresholds| float(thresholds, device));
        self.free = Tensor::<2, Int>::from_data(snapshot.free, device);
        self.next = counters(&snapshot.seen, groups / batch.max(1), device);
        self.seen = snapshot.seen;
        self.held = snapshot.held;
        self.max_rows = snapshot.max_rows;
        self.first_omission = snapshot.first_omission;
        Ok(())
    }
}

/// Tokens seen, for every batch row and group: `[batch · groups, 1]`.
fn counters(seen: &[usize], groups: usize, device: &Device) -> Tensor<2, Int> {
    let next: Vec<i64> = seen.iter().flat_map(|&seen| std::iter::repeat_n(seen as i64, groups)).collect();
    let n = next.len();
    Tensor::from_data(TensorData::new(next, [n, 1]), device)
}
