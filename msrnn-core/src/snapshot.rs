//! A saved multi-state: plain data that serialises with serde.

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::policy::Granularity;
use crate::state::{MultiState, StateShape};

/// Everything that a [`MultiState`] holds. Recorded omissions are not part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    batch: usize,
    kv_heads: usize,
    head_dim: usize,
    layer: usize,
    granularity: Granularity,
    states: Option<usize>,
    slots: usize,
    seen: Vec<usize>,
    max_rows: usize,
    /// Absent in what was saved before this was kept.
    #[serde(default)]
    first_omission: Vec<Option<usize>>,
    keys: TensorData,
    values: TensorData,
    positions: TensorData,
    memory: Vec<TensorData>,
    free: TensorData,
}

impl MultiState {
    /// Reads the state from its device.
    pub fn snapshot(&self) -> Snapshot {
        let StateShape { batch, kv_heads, head_dim, layer, .. } = self.shape;
        Snapshot {
            batch,
            kv_heads,
            head_dim,
            layer,
            granularity: self.granularity,
            states: self.states,
            slots: self.slots,
            seen: self.seen.clone(),
            max_rows: self.max_rows,
            first_omission: self.first_omission.clone(),
            keys: self.keys.to_data(),
            values: self.values.to_data(),
            positions: self.positions.to_data().convert::<i64>(),
            memory: self.memory.iter().map(Tensor::to_data).collect(),
            free: self.free.to_data().convert::<i64>(),
        }
    }

    /// Puts a saved state on a device.
    ///
    /// # Errors
    ///
    /// When its parts do not fit each other, as in a damaged file.
    pub fn restore(snapshot: Snapshot, device: &Device) -> Result<Self, Error> {
        let Snapshot { batch, kv_heads, head_dim, layer, granularity, states, slots, seen, max_rows, .. } = snapshot;
        let groups = batch * granularity.groups(kv_heads);
        let check = |what: &str, data: &TensorData, dims: [usize; 2]| match data.shape().as_slice() == dims.as_slice() {
            true => Ok(()),
            false => Err(Error::Snapshot(format!("{what} have shape {:?} instead of {dims:?}", data.shape()))),
        };
        check("keys", &snapshot.keys, [batch * kv_heads * slots, head_dim])?;
        check("values", &snapshot.values, [batch * kv_heads * slots, head_dim])?;
        check("positions", &snapshot.positions, [groups, slots])?;
        check("free slots", &snapshot.free, [groups, 1])?;
        for channel in &snapshot.memory {
            check("remembered values", channel, [groups, slots])?;
        }
        if seen.len() != batch || states.is_some_and(|states| slots != states + 1) {
            return Err(Error::Snapshot("its counters contradict its shape".into()));
        }
        let dtype = snapshot.keys.dtype();
        let per_row = groups / batch.max(1);
        let next: Vec<i64> = seen.iter().flat_map(|&seen| std::iter::repeat_n(seen as i64, per_row)).collect();
        let float = |data: TensorData| {
            let dtype = data.dtype();
            Tensor::<2>::from_data(data, (device, dtype))
        };
        Ok(Self {
            shape: StateShape { batch, kv_heads, head_dim, layer, dtype },
            granularity,
            states,
            slots,
            keys: float(snapshot.keys),
            values: float(snapshot.values),
            positions: Tensor::<2, Int>::from_data(snapshot.positions, device),
            memory: snapshot.memory.into_iter().map(float).collect(),
            free: Tensor::<2, Int>::from_data(snapshot.free, device),
            next: Tensor::<2, Int>::from_data(TensorData::new(next, [groups, 1]), device),
            first_omission: match snapshot.first_omission.len() == batch {
                true => snapshot.first_omission,
                // What went went before the tokens to come.
                false => seen.iter().map(|&seen| (seen > states.unwrap_or(seen)).then(|| seen - 1)).collect(),
            },
            seen,
            max_rows,
            omitted: None,
            unscored: None,
        })
    }
}
