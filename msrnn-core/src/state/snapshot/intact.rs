//! Whether a snapshot that came from a file is one at all: looked at before anything is allocated for it.

use burn::tensor::{DType, TensorData};

use super::{MultiState, Of, Snapshot};
use crate::error::Error;
use crate::packing::Packing;

impl Snapshot {
    /// Checks that this is a snapshot of a state such as `empty`, an initial one: that it has its shape, precision and
    /// bound, that every tensor holds as many bytes as its shape says, and that every position, slot and count is one
    /// that such a state can have. Whatever passes can be restored and stepped without a panic. `query_heads`: of the
    /// attention.
    ///
    /// # Errors
    ///
    /// Says what it contradicts.
    pub fn check(&self, empty: &MultiState, query_heads: usize) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Snapshot(what));
        let shape = empty.shape();
        let bound = empty.bound.as_ref().map(|bound| (bound.policy.clone(), bound.states));
        if bound != self.bound {
            let name = |bound: &Option<(String, usize)>| {
                bound.as_ref().map_or_else(|| "full".into(), |(policy, states)| format!("{policy}@{states}"))
            };
            return wrong(format!("it was saved under {}, not under {}", name(&self.bound), name(&bound)));
        }
        if self.packing != empty.packing {
            let how = |packing: Option<Packing>| packing.map_or("not packed".into(), |packing| packing.to_string());
            return wrong(format!("its rows were saved {}, not {}", how(self.packing), how(empty.packing)));
        }
        let found = [self.batch, self.kv_heads, self.head_dim, self.layer, self.layers];
        if found != [shape.batch, shape.kv_heads, shape.head_dim, shape.layer, shape.layers] {
            return wrong(format!("its batch, heads, head size, layer and layers are {found:?}"));
        }
        if self.seen.len() != shape.batch || self.held.len() != shape.batch {
            return wrong("its counters contradict its shape".into());
        }
        if self.seen.iter().any(|&seen| seen > MultiState::MOST_TOKENS) {
            return wrong("it has seen more tokens than a state counts".into());
        }
        let first = self.first_omission.iter().flatten().max();
        if first.is_some_and(|first| self.seen.iter().max().is_none_or(|seen| first >= seen)) {
            return wrong("it has omitted rows at a token that it has not seen".into());
        }
        if self.heads.is_empty() && !empty.is_by_head() {
            return self.check_tensors(empty, query_heads, empty.groups(), empty.cut_at());
        }
        if self.first_omission.len() != shape.batch || self.keys.dtype() != shape.dtype {
            return wrong("what all of its heads share contradicts its shape".into());
        }
        let pooled = empty.bound.as_ref().is_some_and(|bound| bound.plan.pooled.is_some());
        if !(pooled || empty.is_by_head()) || self.heads.len() != shape.batch * shape.kv_heads {
            return wrong("its heads contradict its shape".into());
        }
        for (index, head) in self.heads.iter().enumerate() {
            if [head.batch, head.kv_heads, head.head_dim] != [1, 1, shape.head_dim] || !head.heads.is_empty() {
                return wrong("one of its heads contradicts its shape".into());
            }
            if head.seen != [self.seen[index / shape.kv_heads]] {
                return wrong("one of its heads has seen another number of tokens".into());
            }
            let (of, limit) = match empty.heads.get(index) {
                Some(own) => (own, own.cut_at()),
                None => (empty, None),
            };
            head.check_tensors(of, query_heads / shape.kv_heads.max(1), 1, limit)?;
        }
        Ok(())
    }

    /// The same of tensors and counters of one state, or of one head of it. `groups`: of a batch row. `limit`: rows at
    /// which it is cut, where it is cut by itself.
    fn check_tensors(
        &self,
        empty: &MultiState,
        query_heads: usize,
        groups: usize,
        limit: Option<usize>,
    ) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Snapshot(what));
        let (dtype, head_dim, slots) = (empty.shape().dtype, self.head_dim, self.slots);
        let wide: DType = crate::precision::accumulation(dtype).into();
        let heads = self.batch.saturating_mul(self.kv_heads);
        if heads.checked_mul(slots).is_none() {
            return wrong(format!("{slots} slots are more than there can be"));
        }
        let groups = self.batch * groups;
        let places = |of: Of| empty.packed.as_ref().map_or(slots, |packed| packed.side(of).whole());
        holds("keys", &self.keys, dtype, &[heads.saturating_mul(places(Of::Keys)), head_dim])?;
        holds("values", &self.values, dtype, &[heads.saturating_mul(places(Of::Values)), head_dim])?;
        match (&empty.packed, &self.packed) {
            (None, None) => {}
            (Some(packed), Some(saved)) => {
                let scale = Packing::scales(dtype);
                for (of, saved) in Of::BOTH.into_iter().zip(saved) {
                    let grid = packed.grid(of, head_dim);
                    let [lines, each] = grid.scales(slots);
                    let lines = heads.saturating_mul(lines);
                    holds("packed rows", &saved.words, DType::I32, &[heads * slots, grid.bits.words(head_dim)])?;
                    holds("scales", &saved.scales, scale, &[lines, each])?;
                    holds("lows of packed rows", &saved.lows, scale, &[lines, each])?;
                }
            }
            _ => return wrong("its packed rows are missing, or there should be none".into()),
        }
        holds("positions", &self.positions, DType::I64, &[groups, slots])?;
        holds("free slots", &self.free, DType::I64, &[groups, 1])?;
        let channels = empty.channels().len();
        match &self.memory {
            Some(memory) => holds("remembered values", memory, wide, &[channels, groups, slots])?,
            None if channels == 0 => {}
            None => return wrong("what the policy remembers is missing".into()),
        }
        let thresholds = empty.bound.as_ref().and_then(|bound| bound.thresholds(self.batch, self.kv_heads));
        match (&self.thresholds, thresholds) {
            (Some(thresholds), Some(dims)) => holds("thresholds", thresholds, wide, &dims)?,
            (None, None) => {}
            _ => return wrong("its thresholds are missing, or there should be none".into()),
        }
        if let Some(latest) = &self.latest {
            let queries = empty.bound.as_ref().map_or(0, |bound| bound.sees().queries);
            holds("latest queries", latest, latest.dtype(), &[self.batch, query_heads, queries, head_dim])?;
            if queries == 0 || !latest.dtype().is_float() {
                return wrong("it holds queries that its policy does not look at".into());
            }
        }
        if self.first_omission.len() != self.batch || self.seen.len() != self.batch || self.held.len() != self.batch {
            return wrong("its counters contradict its shape".into());
        }
        for (row, (&seen, &held)) in self.seen.iter().zip(&self.held).enumerate() {
            // One slot is always free.
            if held > seen || held >= slots || limit.is_some_and(|limit| slots != limit) {
                return wrong(format!("it holds {held} rows in {slots} slots after {seen} tokens"));
            }
            let of = groups / self.batch;
            for group in row * of..(row + 1) * of {
                let positions = &integers(&self.positions)[group * slots..(group + 1) * slots];
                let taken = positions.iter().filter(|&&position| position >= 0).count();
                if taken != held || positions.iter().any(|&position| position < -1 || position >= seen as i64) {
                    return wrong(format!("its positions are not those of {held} of {seen} tokens"));
                }
                let free = usize::try_from(integers(&self.free)[group]).ok();
                if free.and_then(|free| positions.get(free)) != Some(&-1) {
                    return wrong("its free slot is none".into());
                }
            }
        }
        Ok(())
    }
}

/// Checks a tensor's type, shape and bytes.
fn holds(what: &str, data: &TensorData, dtype: DType, dims: &[usize]) -> Result<(), Error> {
    let elements = dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim));
    let bytes = elements.and_then(|elements| elements.checked_mul(dtype.size()));
    let fits = data.dtype() == dtype && data.shape().as_slice() == dims && bytes == Some(data.bytes().len());
    match fits {
        true => Ok(()),
        false => Err(Error::Snapshot(format!(
            "{what} are {:?} of shape {:?} in {} bytes instead of {dtype:?} of shape {dims:?}",
            data.dtype(),
            data.shape(),
            data.bytes().len()
        ))),
    }
}

/// Of a tensor that was looked at.
fn integers(data: &TensorData) -> &[i64] {
    data.as_slice().unwrap_or_default()
}
