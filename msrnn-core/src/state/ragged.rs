//! Heads that hold different numbers of rows: where they have plans of their own, and once heads that compete for a
//! layer's budget were cut, each is a state of its own, of one batch row and one head, with memory for what it holds.

use burn::tensor::{Int, Tensor, TensorData};

use std::sync::Arc;

use super::{EMPTY, MultiState, Omitted, StateShape};
use crate::policy::Plan;

/// What every head of a layer does by itself.
#[derive(Debug)]
pub(super) struct ByHead {
    /// Whose plans they are.
    policy: String,
    plans: Vec<Plan>,
}

impl MultiState {
    /// Whether every head is a state of its own.
    pub(crate) fn is_ragged(&self) -> bool {
        !self.heads.is_empty()
    }

    /// Whether heads have plans of their own.
    pub(crate) fn is_by_head(&self) -> bool {
        self.by_head.is_some()
    }

    /// Gives an empty state the heads of a plan that has some.
    pub(super) fn set_heads(&mut self, policy: &str, plan: &Plan) {
        if plan.heads.is_empty() {
            return;
        }
        self.by_head = Some(Arc::new(ByHead { policy: policy.to_owned(), plans: plan.heads.clone() }));
        let heads = self.shape.batch * self.shape.kv_heads;
        self.heads = (0..heads).map(|index| self.of_one_head(index)).collect();
        let device = self.device();
        (self.next, self.free) = (Tensor::zeros([heads, 1], &device), Tensor::zeros([heads, 1], &device));
        self.hold_nothing();
    }

    /// An empty state of one head of a batch row beside this one's.
    fn of_one_head(&self, index: usize) -> Self {
        let shape = StateShape { batch: 1, kv_heads: 1, ..self.shape.clone() };
        let mut head = match &self.by_head {
            Some(by_head) => {
                let plan = &by_head.plans[index % self.shape.kv_heads];
                Self::under(&by_head.policy, plan, shape, &self.device())
            }
            None => {
                let mut head = Self::bounded(shape, None, None, &self.device());
                let channels = self.channels().len();
                let wide: burn::tensor::DType = crate::precision::accumulation(self.shape.dtype).into();
                let memory = || Tensor::zeros([channels, 1, head.slots], (&self.device(), wide));
                head.memory = (channels > 0).then(memory);
                head.bound = self.bound.as_ref().map(|bound| bound.of_head());
                head.thresholds = Self::unset_thresholds(&head.shape, head.bound.as_deref(), &self.device());
                head.holding(self.packing)
            }
        };
        head.first_head = index % self.shape.kv_heads;
        if self.omitted.is_some() {
            head.record_omissions();
        }
        head
    }

    /// Lets go of what the heads hold now.
    fn hold_nothing(&mut self) {
        let (device, groups) = (self.device(), self.shape.batch * self.groups());
        let nothing = || Tensor::zeros([1, self.shape.head_dim], (&device, self.shape.dtype));
        (self.keys, self.values) = (nothing(), nothing());
        self.positions = Tensor::full([groups, 1], EMPTY, &device);
        (self.memory, self.latest, self.thresholds) = (None, None, None);
        (self.packed, self.slots) = (None, 1);
    }

    /// Makes every head a state of its own. All rows stay; the rows must be in the first slots.
    pub(crate) fn split(&mut self) {
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        let (slots, groups) = (self.slots, self.groups());
        let heads = (0..batch * kv_heads).map(|index| {
            let (row, mut head) = (index / kv_heads, self.of_one_head(index));
            let group = row * groups + if groups == 1 { 0 } else { index % kv_heads };
            let held = self.held[row];
            head.slots = slots;
            let rows = |x: &Tensor<2>| x.clone().slice([index * slots..(index + 1) * slots, 0..head_dim]);
            match self.packed_head(index) {
                Some((keys, values, packed)) => (head.keys, head.values, head.packed) = (keys, values, Some(packed)),
                None => (head.keys, head.values, head.packed) = (rows(&self.keys), rows(&self.values), None),
            }
            head.positions = self.positions.clone().narrow(0, group, 1);
            head.memory = self.memory.as_ref().map(|memory| memory.clone().narrow(1, group, 1));
            // Heads that compete have a threshold each.
            head.thresholds =
                self.thresholds.as_ref().map(|x| x.clone().narrow(0, row, 1).narrow(1, index % kv_heads, 1));
            head.next = self.next.clone().narrow(0, group, 1);
            head.free = self.free.clone().narrow(0, group, 1);
            (head.seen, head.held) = (vec![self.seen[row]], vec![held]);
            head.max_rows = held;
            head.first_omission = vec![self.first_omission[row]];
            head.latest = self.latest.as_ref().map(|latest| {
                let group = latest.dims()[1] / kv_heads;
                let first = index % kv_heads * group;
                Tensor::cat(vec![latest.clone().narrow(0, row, 1).narrow(1, first, group)], 1)
            });
            head
        });
        self.heads = heads.collect();
        self.hold_nothing();
    }

    /// Counts `n` tokens that every head has seen, after which `rows` are held by all heads of each batch row.
    pub(crate) fn count_in_heads(&mut self, n: usize) {
        self.next.inplace(|next| next.add_scalar(n as i64));
        let kv_heads = self.shape.kv_heads;
        for (row, heads) in self.heads.chunks(kv_heads).enumerate() {
            self.seen[row] += n;
            self.held[row] = heads.iter().map(|head| head.held[0]).sum::<usize>() / kv_heads;
            // Heads that cut themselves may have held more on the way.
            let most = heads.iter().map(|head| head.max_rows).sum::<usize>() / kv_heads;
            self.max_rows = self.max_rows.max(if self.by_head.is_none() { self.held[row] } else { most });
            let first = heads.iter().filter_map(|head| head.first_omission[0]).min();
            self.first_omission[row] = self.first_omission[row].or(first);
        }
    }

    /// Lets the heads of a batch row begin anew.
    pub(crate) fn reset_heads(&mut self, row: usize) {
        let kv_heads = self.shape.kv_heads;
        for index in row * kv_heads..(row + 1) * kv_heads {
            let head = self.of_one_head(index);
            // What was omitted before is not yet told.
            let omitted = self.heads[index].omitted.take();
            self.heads[index] = MultiState { omitted, ..head };
        }
    }

    /// What the heads omitted, token by token, as one.
    pub(crate) fn take_omitted_by_heads(&mut self) -> Vec<Omitted> {
        let (batch, kv_heads) = (self.shape.batch, self.shape.kv_heads);
        let mut by_head: Vec<_> = self.heads.iter_mut().map(|head| head.take_omitted().into_iter()).collect();
        let tokens = by_head.first().map_or(0, |head| head.len());
        let device = self.device();
        let one = |_| {
            let token: Vec<Vec<i64>> = by_head
                .iter_mut()
                .map(|head| {
                    let positions = head.next().flatten().map(|positions| positions.into_data().convert::<i64>());
                    positions.map_or_else(Vec::new, |data| data.try_into_vec().expect("positions are integers"))
                })
                .collect();
            let most = token.iter().map(Vec::len).max().unwrap_or(0);
            let all = token.into_iter().flat_map(|mut of_head| {
                of_head.resize(most, EMPTY);
                of_head
            });
            let data = TensorData::new(all.collect::<Vec<i64>>(), [batch, kv_heads, most]);
            (most > 0).then(|| Tensor::<3, Int>::from_data(data, &device))
        };
        (0..tokens).map(one).collect()
    }

    pub(crate) fn padded_positions(&self) -> Tensor<3, Int> {
        let (batch, kv_heads, slots) = (self.shape.batch, self.shape.kv_heads, self.slots());
        let pad = |head: &MultiState| {
            let empty = Tensor::full([1, 1, slots], EMPTY, &self.device());
            empty.slice_assign([0..1, 0..1, 0..head.slots], head.positions())
        };
        Tensor::cat(self.heads.iter().map(pad).collect(), 1).reshape([batch, kv_heads, slots])
    }

    /// Keys or values, filled up with zeros.
    pub(crate) fn padded(&self, of: impl Fn(&Self) -> Tensor<4>) -> Tensor<4> {
        let StateShape { batch, kv_heads, head_dim, .. } = self.shape;
        let slots = self.slots();
        let pad = |head: &MultiState| {
            let rows = of(head);
            let empty = Tensor::zeros([1, 1, slots, head_dim], (&self.device(), rows.dtype()));
            empty.slice_assign([0..1, 0..1, 0..head.slots, 0..head_dim], rows)
        };
        Tensor::cat(self.heads.iter().map(pad).collect(), 1).reshape([batch, kv_heads, slots, head_dim])
    }
}
