//! How much attention goes to rows that are omitted, or no longer held.
//!
//! From a layer's inputs its queries and all its keys are computed once more. Two softmaxes are taken
//! of every query: over the rows that took part in its step, which is what the bounded layer
//! attended with; and over all rows so far, which is what the same query would have attended with
//! had this layer kept everything. The state cost is that of full attention over the context, a
//! block of queries at a time.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use msrnn_core::precision::softmax;
use msrnn_core::vanilla;
use msrnn_models::decoder::Decoder;
use msrnn_models::rotary::{Rotary, Rotation};

use super::history::Group;

/// Queries that are attended at once.
const QUERIES: usize = 128;

/// Attention that one deciding group lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Losses {
    /// By omission: the weight that the current query gave the row that went, of all rows in the
    /// step, the mean over the query heads of the group.
    pub omitted: Vec<f64>,
    /// By step: the share of the query's attention to all rows so far that falls on rows no longer
    /// held in the step, the mean over the query heads of the group.
    pub missing: Vec<f64>,
}

/// Weights of a block of queries, by query and row; the mean over the query heads of a group.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    /// Over the rows in the step.
    pub(super) bounded: Vec<Vec<f64>>,
    /// Over all rows so far.
    pub(super) full: Vec<Vec<f64>>,
}

/// Attention of a decoder over a context.
#[derive(Debug)]
pub(crate) struct Attended<'m> {
    decoder: &'m Decoder,
    rotation: Rotation,
    device: Device,
    n: usize,
}

impl<'m> Attended<'m> {
    /// For contexts of `n` tokens.
    pub(crate) fn new(decoder: &'m Decoder, n: usize, device: &Device) -> Self {
        let rotary = Rotary::new(decoder.config(), wide(decoder), device);
        let positions = Tensor::<1, Int>::arange(0..n as i64, device).reshape([1, n]);
        Self { decoder, rotation: rotary.at(positions), device: device.clone(), n }
    }

    /// What the groups of a layer lost, given its inputs `[1, n, d]`.
    pub(crate) fn losses(&self, layer: usize, x: Tensor<3>, groups: &[Group]) -> Vec<Losses> {
        let omissions: Vec<_> = groups.iter().map(Group::omissions).collect();
        let mut losses = vec![Losses::default(); groups.len()];
        for first in (0..self.n).step_by(QUERIES) {
            let m = QUERIES.min(self.n - first);
            let weights = self.weights(layer, x.clone(), groups, first, m);
            for (((group, losses), omissions), weights) in groups.iter().zip(&mut losses).zip(&omissions).zip(weights) {
                for (i, full) in weights.full.iter().enumerate() {
                    let step = first + i;
                    let gone = full.iter().enumerate().filter(|&(position, _)| !group.in_step(position, step));
                    losses.missing.push(gone.map(|(_, weight)| weight).sum());
                }
                let from = omissions.partition_point(|&(step, _)| step < first);
                let here = omissions[from..].iter().take_while(|&&(step, _)| step < first + m);
                losses.omitted.extend(here.map(|&(step, position)| weights.bounded[step - first][position]));
            }
        }
        losses
    }

    /// Weights of `m` queries from the `first` on, by group.
    pub(super) fn weights(&self, layer: usize, x: Tensor<3>, groups: &[Group], first: usize, m: usize) -> Vec<Weights> {
        let config = self.decoder.config();
        let (kv_heads, head_dim) = (config.kv_heads, config.head_dim);
        let (group, rows) = (config.heads / kv_heads, first + m);
        let (rotated, window) = (config.rotated.has(layer), config.window(layer));
        let layer = &self.decoder.layers[layer];
        let x = layer.attention_norm.forward(x.narrow(1, 0, rows));
        let mut query = layer.query_heads(layer.query.forward(x.clone().narrow(1, first, m)), config);
        let mut key = layer.key_heads(layer.key.forward(x), config);
        if rotated {
            query = self.rotation.narrow(first, m).apply(query);
            key = self.rotation.narrow(0, rows).apply(key);
        }
        let logits = query
            .mul_scalar(config.attention_scale())
            .reshape([kv_heads, group * m, head_dim])
            .matmul(key.reshape([kv_heads, rows, head_dim]).swap_dims(1, 2))
            .reshape([kv_heads, group, m, rows]);
        let steps = Tensor::<1, Int>::arange(first as i64..rows as i64, &self.device);
        let later = vanilla::hidden(steps, Tensor::arange(0..rows as i64, &self.device), window);
        let later = later.reshape([1, 1, m, rows]).expand([kv_heads, group, m, rows]);
        let logits = logits.mask_fill(later, f32::NEG_INFINITY);
        let held: Vec<bool> = groups
            .iter()
            .flat_map(|group| (first..rows).flat_map(move |step| (0..rows).map(move |row| group.in_step(row, step))))
            .collect();
        let held = Tensor::<3, Bool>::from_data(TensorData::new(held, [groups.len(), m, rows]), &self.device);
        let gone = held.bool_not().reshape([groups.len(), 1, m, rows]).expand([kv_heads, group, m, rows]);
        let full = by_group(softmax(logits.clone()), groups.len());
        let bounded = by_group(softmax(logits.mask_fill(gone, f32::NEG_INFINITY)), groups.len());
        bounded.into_iter().zip(full).map(|(bounded, full)| Weights { bounded, full }).collect()
    }
}

/// dtype of the rotary tables.
fn wide(decoder: &Decoder) -> burn::tensor::DType {
    decoder.storage().computes_in().into()
}

/// Means over the query heads of each group: `[kv_heads, group, m, rows]` to rows by group and query.
fn by_group(weights: Tensor<4>, groups: usize) -> Vec<Vec<Vec<f64>>> {
    let [kv_heads, group, m, rows] = weights.dims();
    let mean = weights.reshape([groups, kv_heads / groups * group, m * rows]).mean_dim(1);
    let data = mean.into_data().convert::<f64>();
    let values: &[f64] = data.as_slice().expect("weights are numbers");
    values.chunks(m * rows).map(|of_group| of_group.chunks(rows).map(<[f64]>::to_vec).collect()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use burn::tensor::DType;
    use msrnn_core::compression::Compression;
    use msrnn_core::rnn::MultiStateRnn;
    use msrnn_core::state::MultiState;
    use msrnn_models::recurrent::{Positions, Recurrent};

    use super::super::history::tests::of_story;
    use super::super::history::{History, history};
    use super::*;
    use crate::bundled;
    use crate::contexts::Context;
    use crate::evaluate::{Block, Observer, Scoring, evaluate};
    use crate::experiment::Watch;
    use crate::trace::{Omission, omissions};

    /// Weights of all queries of the first layer, whose inputs are the embeddings.
    fn of_first_layer(policy: &str, n: usize) -> (Vec<Group>, Vec<Weights>, History) {
        let (model, history) = of_story(policy, n, true);
        let ids = ids(&model, n);
        let device = model.decoder.device();
        let tokens = Tensor::<1, Int>::from_data(&ids[..], &device).reshape([1, n]);
        let groups: Vec<Group> = history.groups.iter().filter(|group| group.layer == 0).cloned().collect();
        let attended = Attended::new(&model.decoder, n, &device);
        let weights = attended.weights(0, model.decoder.embed(tokens), &groups, 0, n);
        (groups, weights, history)
    }

    fn ids(model: &msrnn_models::Model, n: usize) -> Vec<i64> {
        let ids = model.tokenizer().unwrap().encode(&crate::stories::story(5, 400).text).unwrap();
        ids.into_iter().take(n).map(i64::from).collect()
    }

    #[test]
    fn weights_sum_to_one_over_what_they_are_taken_over() {
        let (groups, weights, history) = of_first_layer("h2o@16", 60);
        assert_eq!(weights.len(), 2);
        for ((group, weights), losses) in groups.iter().zip(&weights).zip(history.losses.as_ref().unwrap()) {
            for step in 0..60 {
                let bounded = &weights.bounded[step];
                // A softmax in f64 is exact to some 1e-15 a term.
                assert!((bounded.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                assert!((0..60).all(|row| group.in_step(row, step) || bounded[row] == 0.0));
                let full = &weights.full[step];
                assert!((full.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                assert!(full[step + 1..].iter().all(|&weight| weight == 0.0));
                // In every head the bounded softmax is the full one, taken anew over the rows in the step,
                // so that no row has less of it, in the mean of heads either.
                let held: f64 = (0..60).filter(|&row| group.in_step(row, step)).map(|row| full[row]).sum();
                for row in (0..60).filter(|&row| group.in_step(row, step)) {
                    assert!(bounded[row] >= full[row] - 1e-12);
                }
                assert!((losses.missing[step] - (1.0 - held)).abs() < 1e-12);
            }
            let omitted: Vec<f64> =
                group.omissions().iter().map(|&(step, position)| weights.bounded[step][position]).collect();
            assert_eq!(losses.omitted, omitted);
        }
    }

    /// TOVA omits the row with the lowest weight: an independent computation of weights finds the same.
    #[test]
    fn tova_omits_where_the_least_is_lost() {
        for policy in ["tova@16", "tova-head@16"] {
            let (groups, weights, _) = of_first_layer(policy, 100);
            for (group, weights) in groups.iter().zip(&weights) {
                assert_eq!(group.omissions().len(), 84);
                for (step, position) in group.omissions() {
                    let in_step = (0..=step).filter(|&row| group.in_step(row, step));
                    let least = in_step.map(|row| weights.bounded[step][row]).fold(f64::INFINITY, f64::min);
                    // The two computations round differently in f64.
                    assert!(weights.bounded[step][position] <= least + 1e-12, "{policy}, step {step}");
                }
            }
        }
    }

    #[test]
    fn tova_omits_where_the_least_is_lost_in_layers_that_do_not_rotate_or_have_windows_norms_or_factors_too() {
        for name in ["qwen3-window", "smollm3-window", "granite"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints").join(name);
            let model = msrnn_models::Model::load(&path, DType::F64, &Device::flex()).unwrap();
            let ids: Vec<u32> = (0..30).map(|t| (t * t * 7 + 3) % 64).collect();
            let compression = msrnn_policies::registry::compression("tova", 6).unwrap();
            let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
            let interrupt = AtomicBool::new(false);
            let watch = Watch { advance: &|_| {}, tell: &|_| {}, interrupt: &interrupt };
            let history = history(&model, &recurrent, &ids, false, &watch).unwrap().unwrap();
            let device = model.decoder.device();
            let attended = Attended::new(&model.decoder, ids.len(), &device);
            let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
            let mut x = model.decoder.embed(Tensor::<1, Int>::from_data(&ids[..], &device).reshape([1, 30]));
            for (index, layer) in recurrent.layers().iter().enumerate() {
                let groups: Vec<Group> = history.groups.iter().filter(|group| group.layer == index).cloned().collect();
                let weights = attended.weights(index, x.clone(), &groups, 0, 30);
                assert_eq!(groups[0].omissions().len(), 24);
                for (step, position) in groups[0].omissions() {
                    let of_step = &weights[0].bounded[step];
                    let in_step = (0..=step).filter(|&row| groups[0].in_step(row, step));
                    let least = in_step.map(|row| of_step[row]).fold(f64::INFINITY, f64::min);
                    // A row that no later query sees goes before any other.
                    let passed =
                        model.decoder.config().window(index).is_some_and(|window| step + 1 - position >= window);
                    assert!(passed || of_step[position] <= least + 1e-12, "{name}, layer {index}, step {step}");
                }
                x = MultiStateRnn::scan(layer, x, &mut layer.initial_state(1, &device));
            }
        }
    }

    /// Keeps what was omitted.
    #[derive(Default)]
    struct Omissions(Vec<Omission>);

    impl Observer for Omissions {
        fn start(&mut self, states: &mut [MultiState]) {
            states.iter_mut().for_each(MultiState::record_omissions);
        }

        fn block(&mut self, block: Block<'_>) -> Result<(), crate::error::BenchError> {
            self.0.extend(omissions(block.states, &block.contexts, block.start));
            Ok(())
        }
    }

    /// By weights of the full model that are computed without a state.
    #[test]
    fn an_oracle_omits_the_row_that_later_queries_of_the_full_model_attend_to_least() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/checkpoints/llama-gqa");
        let model = msrnn_models::Model::load(&path, DType::F64, &Device::flex()).unwrap();
        let (n, states, device) = (30, 6, model.decoder.device());
        let texts = [(7, 3), (5, 1)].map(|(a, b)| (0..n as u32).map(|t| (t * t * a + b) % 64).collect::<Vec<u32>>());
        let contexts: Vec<Context> = texts.iter().map(|ids| ids.clone().into()).collect();
        for policy in ["oracle", "oracle-head", "layers(0: full, *: oracle)", "every(4, protect(oracle-head, first=2))"]
        {
            let spec: msrnn_policies::PolicySpec = format!("{policy}@{states}").parse().unwrap();
            let mut seen = Omissions::default();
            let scoring = Scoring { batch: 2, ..Scoring::new(spec.compression(n, |_| 1).unwrap()) };
            evaluate(&model, &contexts, &scoring, &mut seen, &AtomicBool::new(false)).unwrap();
            assert!(seen.0.iter().any(|gone| gone.row == 1 && gone.layer == 1), "{policy}");
            let full = Recurrent::new(&model.decoder, Compression::Unbounded, Positions::Original);
            let attended = Attended::new(&model.decoder, n, &device);
            for (row, ids) in texts.iter().enumerate() {
                let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
                let mut x = model.decoder.embed(Tensor::<1, Int>::from_data(&ids[..], &device).reshape([1, n]));
                for (index, layer) in full.layers().iter().enumerate() {
                    let heads = if policy.contains("head") { model.decoder.config().kv_heads } else { 1 };
                    let all: Vec<Group> =
                        (0..heads).map(|head| Group::new(index, (heads > 1).then_some(head), n)).collect();
                    let weights = attended.weights(index, x.clone(), &all, 0, n);
                    for (mut group, weights) in all.into_iter().zip(weights) {
                        let later = |position: usize, step: usize| -> f64 {
                            (step + 1..n).map(|query| weights.full[query][position]).sum()
                        };
                        let of_group = |gone: &&Omission| (gone.row, gone.layer, gone.head) == (row, index, group.head);
                        let gone: Vec<Omission> = seen.0.iter().filter(of_group).copied().collect();
                        let omitted = gone.len();
                        let (first, slack) = if policy.starts_with("every") { (2, 4) } else { (0, 1) };
                        let expected =
                            if policy.starts_with("layers") && index == 0 { 0 } else { (n - states) / slack * slack };
                        assert_eq!(omitted, expected, "{policy}, layer {index}");
                        gone.iter().for_each(|gone| group.omitted_at[gone.position] = Some(gone.step));
                        for gone in gone {
                            let stays = (first..=gone.step).filter(|&other| group.held_after(other, gone.step));
                            let least = stays.map(|other| later(other, gone.step)).fold(f64::INFINITY, f64::min);
                            // Weights are written down in f32.
                            assert!(
                                later(gone.position, gone.step) <= least + 1e-5,
                                "{policy}, layer {index}: {gone:?}"
                            );
                        }
                    }
                    x = MultiStateRnn::scan(layer, x, &mut layer.initial_state(1, &device));
                }
            }
        }
    }

    #[test]
    fn a_state_that_holds_everything_misses_nothing() {
        let model = bundled::load(DType::F64, &Device::flex()).unwrap();
        let ids: Vec<u32> = ids(&model, 200).into_iter().map(|id| id as u32).collect();
        let recurrent = Recurrent::new(&model.decoder, Compression::Unbounded, Positions::Original);
        let interrupt = AtomicBool::new(false);
        let watch = Watch { advance: &|_| {}, tell: &|_| {}, interrupt: &interrupt };
        let history = history(&model, &recurrent, &ids, true, &watch).unwrap().unwrap();
        for losses in history.losses.unwrap() {
            assert!(losses.omitted.is_empty());
            assert!(losses.missing.len() == 200 && losses.missing.iter().all(|&missing| missing == 0.0));
        }
    }
}
