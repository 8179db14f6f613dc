//! When each row was omitted, and what follows from that by counting.

use std::ops::Range;

use burn::tensor::{Int, Tensor};
use msrnn_core::rnn::MultiStateRnn;
use msrnn_core::state::MultiState;
use msrnn_models::Model;
use msrnn_models::recurrent::Recurrent;
use msrnn_models::trouble::reason;

use super::attention::{Attended, Losses};
use crate::contexts::BLOCK;
use crate::error::BenchError;
use crate::evaluate::Observed;
use crate::experiment::Watch;

/// The rows of one layer, as far as one decision omits them: all of the layer, or those of one KV head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// From 0.
    pub layer: usize,
    /// KV head, none when the layer decides as a whole.
    pub head: Option<usize>,
    /// By position: the step at which it was omitted, none when it was held to the end.
    pub omitted_at: Vec<Option<usize>>,
}

impl Group {
    /// Nothing omitted yet of `n` tokens.
    pub(crate) fn new(layer: usize, head: Option<usize>, n: usize) -> Self {
        Self { layer, head, omitted_at: vec![None; n] }
    }

    /// Tokens seen.
    pub(crate) fn tokens(&self) -> usize {
        self.omitted_at.len()
    }

    /// Steps in which a row took part: from its own to the one that omitted it, both included, or
    /// to the last.
    pub(crate) fn steps_kept(&self, position: usize) -> usize {
        match self.omitted_at[position] {
            Some(step) => step - position + 1,
            None => self.tokens() - position,
        }
    }

    /// Whether a row is carried on after a step.
    pub(crate) fn held_after(&self, position: usize, step: usize) -> bool {
        position <= step && self.omitted_at[position].is_none_or(|omitted| omitted > step)
    }

    /// Whether a row takes part in a step.
    pub(crate) fn in_step(&self, position: usize, step: usize) -> bool {
        position <= step && self.omitted_at[position].is_none_or(|omitted| omitted >= step)
    }

    /// Steps with an omission, each with the position that went, by step.
    pub(crate) fn omissions(&self) -> Vec<(usize, usize)> {
        let gone = |(position, step): (usize, &Option<usize>)| step.map(|step| (step, position));
        let mut all: Vec<(usize, usize)> = self.omitted_at.iter().enumerate().filter_map(gone).collect();
        all.sort_unstable();
        all
    }

    /// Over all steps after which the state is full by `states` rows and something was omitted: how
    /// many rows were held, and how many of these were among the `states` newest tokens.
    pub(crate) fn recent(&self, states: usize) -> Share {
        let n = self.tokens();
        let mut share = Share::default();
        for position in 0..n {
            // After these steps the row is held, and full the state.
            let held = position.max(states)..self.omitted_at[position].unwrap_or(n);
            let recent = held.start..held.end.min(position + states);
            share.of += held.len() as u64;
            share.part += recent.len() as u64;
        }
        share
    }
}

/// A part of a whole, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Share {
    /// Counted.
    pub part: u64,
    /// Of so many.
    pub of: u64,
}

impl Share {
    /// Both counts of both.
    pub fn add(&mut self, other: Self) {
        self.part += other.part;
        self.of += other.of;
    }

    /// As a number; none of nothing.
    pub fn value(&self) -> Option<f64> {
        (self.of > 0).then(|| self.part as f64 / self.of as f64)
    }
}

/// Σ min(t, k + 1) over t = 1..n: steps that all rows of a bounded state are kept, together. In every
/// step that many rows take part, whatever the policy.
pub(crate) fn steps_kept_by_all(tokens: usize, states: usize) -> u64 {
    let filling = tokens.min(states + 1) as u64;
    filling * (filling + 1) / 2 + (tokens as u64 - filling) * (states as u64 + 1)
}

/// What was seen of a context.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// By layer, then head.
    pub groups: Vec<Group>,
    /// By group, where it was asked for.
    pub losses: Option<Vec<Losses>>,
    /// What the states held.
    pub observed: Observed,
}

/// Takes a context through the layers, one after the other, and notes what is omitted. `attention`:
/// also how much attention goes to the rows that are omitted or no longer held, for which every layer
/// attends to all rows a second time. None when interrupted.
///
/// # Errors
///
/// When keys, values or a policy's scores are not numbers.
///
/// Strict, layer by layer: exact, since the state of a layer depends on that layer's inputs alone.
pub(crate) fn history(
    model: &Model,
    recurrent: &Recurrent<'_>,
    ids: &[u32],
    attention: bool,
    watch: &Watch<'_>,
) -> Result<Option<History>, BenchError> {
    let n = ids.len();
    let device = model.decoder.device();
    let tokens: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let mut x = model.decoder.embed(Tensor::<1, Int>::from_data(&tokens[..], &device).reshape([1, n]));
    let mut states = recurrent.initial_states(1);
    let attended = attention.then(|| Attended::new(&model.decoder, n, &device));
    let mut groups = Vec::new();
    let mut losses = Vec::new();
    let layers = recurrent.layers();
    for (index, (layer, state)) in layers.iter().zip(&mut states).enumerate() {
        state.record_omissions();
        let mut outputs = Vec::new();
        for block in blocks(n) {
            if watch.interrupted() {
                return Ok(None);
            }
            outputs.push(layer.scan(x.clone().narrow(1, block.start, block.len()), state));
            // The last layer counts, so that a context counts once.
            if index + 1 == layers.len() {
                (watch.advance)(block.len());
            }
        }
        let of_layer = take(state, index, n);
        if let Some(attended) = &attended {
            losses.extend(attended.losses(index, x, &of_layer));
        }
        groups.extend(of_layer);
        x = Tensor::cat(outputs, 1);
    }
    if states.iter().any(|state| state.trouble(0).is_some()) {
        let reason = reason(model.decoder.storage(), recurrent.compression(), &states, 0);
        return Err(BenchError::Input(format!("what is kept by numbers that are none says nothing; {reason}")));
    }
    Ok(Some(History { groups, losses: attention.then_some(losses), observed: Observed::of(&states) }))
}

/// Tokens that go through a layer at once.
fn blocks(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(BLOCK).map(move |start| start..n.min(start + BLOCK))
}

/// What a layer's state has recorded since its first token.
fn take(state: &mut MultiState, layer: usize, n: usize) -> Vec<Group> {
    let heads = state.groups();
    let mut groups: Vec<Group> = (0..heads).map(|head| Group::new(layer, (heads > 1).then_some(head), n)).collect();
    for (step, gone) in state.take_omitted().into_iter().enumerate() {
        let Some(gone) = gone else { continue };
        let data = gone.into_data().convert::<i64>();
        let positions: &[i64] = data.as_slice().expect("positions are integers");
        for (group, &position) in groups.iter_mut().zip(positions) {
            if let Ok(position) = usize::try_from(position) {
                group.omitted_at[position] = Some(step);
            }
        }
    }
    groups
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::AtomicBool;

    use burn::tensor::{DType, Device};
    use msrnn_core::needs::lacking;
    use msrnn_core::policy::{Cut, Layer, Policy};
    use msrnn_models::recurrent::Positions;
    use msrnn_policies::{PolicySpec, registry};
    use proptest::prelude::*;

    use super::*;
    use crate::bundled;
    use crate::stories::story;

    /// The history of a story under a policy on the bundled model, in f64.
    pub(in crate::experiment::retention) fn of_story(policy: &str, n: usize, attention: bool) -> (Model, History) {
        let model = bundled::load(DType::F64, &Device::flex()).unwrap();
        let mut ids = model.tokenizer().unwrap().encode(&story(5, 400).text).unwrap();
        ids.truncate(n);
        let spec: PolicySpec = policy.parse().unwrap();
        let compression = spec.compression(n, |_| 1).unwrap();
        let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
        let interrupt = AtomicBool::new(false);
        let watch = Watch { advance: &|_| {}, tell: &|_| {}, interrupt: &interrupt };
        let history = history(&model, &recurrent, &ids, attention, &watch).unwrap().unwrap();
        (model, history)
    }

    /// A group in which any row goes, by choice, once there is one too many.
    fn any_group() -> impl Strategy<Value = (Group, usize)> {
        (1usize..40, 1usize..12).prop_flat_map(|(n, states)| {
            proptest::collection::vec(any::<prop::sample::Index>(), n).prop_map(move |choices| {
                let mut group = Group::new(0, None, n);
                let mut held = Vec::new();
                for (step, choice) in choices.iter().enumerate() {
                    held.push(step);
                    if held.len() > states {
                        group.omitted_at[held.remove(choice.index(held.len()))] = Some(step);
                    }
                }
                (group, states)
            })
        })
    }

    proptest! {
        /// Law: steps kept follow from counts alone, whatever goes.
        #[test]
        fn the_sum_of_steps_kept_is_the_closed_form((group, states) in any_group()) {
            let sum: usize = (0..group.tokens()).map(|position| group.steps_kept(position)).sum();
            prop_assert_eq!(sum as u64, steps_kept_by_all(group.tokens(), states));
            let brute: usize = (1..=group.tokens()).map(|t| t.min(states + 1)).sum();
            prop_assert_eq!(sum, brute);
        }

        /// Law: after every step min(t, k) rows are held, in every step min(t, k + 1) take part; steps
        /// kept and recent rows are those that one counts step by step.
        #[test]
        fn counts_agree_with_walking_through_the_steps((group, states) in any_group()) {
            let n = group.tokens();
            let mut kept = vec![0; n];
            let mut share = Share::default();
            for step in 0..n {
                let held: Vec<usize> = (0..n).filter(|&position| group.held_after(position, step)).collect();
                let within: Vec<usize> = (0..n).filter(|&position| group.in_step(position, step)).collect();
                prop_assert_eq!(held.len(), (step + 1).min(states));
                prop_assert_eq!(within.len(), (step + 1).min(states + 1));
                within.iter().for_each(|&position| kept[position] += 1);
                if step >= states {
                    share.of += held.len() as u64;
                    share.part += held.iter().filter(|&&position| step - position < states).count() as u64;
                }
            }
            let counted: Vec<usize> = (0..n).map(|position| group.steps_kept(position)).collect();
            prop_assert_eq!(counted, kept);
            prop_assert_eq!(group.recent(states), share);
            prop_assert_eq!(group.omissions().len(), n.saturating_sub(states));
        }
    }

    #[test]
    fn a_trace_worked_by_hand() {
        // k = 2, five tokens: step 2 omits position 0, step 3 position 2, step 4 position 4 itself.
        let group = Group { layer: 0, head: None, omitted_at: vec![Some(2), None, Some(3), None, Some(4)] };
        assert_eq!((0..5).map(|p| group.steps_kept(p)).collect::<Vec<_>>(), [3, 4, 2, 2, 1]);
        assert_eq!(steps_kept_by_all(5, 2), 1 + 2 + 3 + 3 + 3);
        assert_eq!(group.omissions(), [(2, 0), (3, 2), (4, 4)]);
        // Held after step 2: 1, 2; after 3: 1, 3; after 4: 1, 3. Of the two newest: 1, 2; 3; 3.
        assert_eq!(group.recent(2), Share { part: 4, of: 6 });
    }

    #[test]
    fn the_paper_average_is_the_closed_form() {
        let average = |states| (steps_kept_by_all(4096, states) as f64 / 4096.0).round();
        assert_eq!([256, 512, 1024, 2048].map(average), [249.0, 481.0, 897.0, 1537.0]);
    }

    #[test]
    fn every_policy_that_cuts_at_every_token_keeps_rows_for_as_many_steps_as_counts_say() {
        let at_every_token =
            |policy: &dyn Policy| lacking(policy, 16, 0) == 0 && policy.plan(&Layer::only(16)).cut == Cut::EVERY_TOKEN;
        for entry in registry::entries()
            .filter(|entry| at_every_token(entry.policy().as_ref()) && entry.policy().foresight().is_none())
        {
            let (_, history) = of_story(&format!("{}@16", entry.example), 150, false);
            for group in &history.groups {
                let sum: usize = (0..150).map(|position| group.steps_kept(position)).sum();
                assert_eq!(sum as u64, steps_kept_by_all(150, 16), "{}", entry.example);
            }
            let omitted: usize = history.groups.iter().map(|group| group.omissions().len()).sum();
            assert_eq!(omitted, history.observed.omitted, "{}", entry.example);
        }
    }

    #[test]
    fn a_window_holds_every_row_for_k_steps_after_its_own() {
        let (_, history) = of_story("window@16", 100, false);
        assert_eq!(history.groups.len(), 4);
        for group in &history.groups {
            for position in 0..100 {
                let omitted = (position + 16 < 100).then_some(position + 16);
                assert_eq!(group.omitted_at[position], omitted);
            }
            assert_eq!(group.recent(16).value(), Some(1.0));
        }
        let (_, sinks) = of_story("window+4@16", 100, false);
        assert!(sinks.groups.iter().all(|group| (0..4).all(|position| group.steps_kept(position) == 100 - position)));
    }

    /// Layer by layer over the whole context, or all layers over it at once: the same omissions.
    #[test]
    fn omissions_are_those_that_the_trace_records() {
        for policy in ["h2o@16", "tova@16"] {
            let (model, history) = of_story(policy, 80, false);
            let compression = policy.parse::<PolicySpec>().unwrap().compression(80, |_| 1).unwrap();
            let recurrent = Recurrent::new(&model.decoder, compression, Positions::Original);
            let mut states = recurrent.initial_states(1);
            states.iter_mut().for_each(MultiState::record_omissions);
            let ids = model.tokenizer().unwrap().encode(&story(5, 400).text).unwrap();
            let ids: Vec<i64> = ids.into_iter().take(80).map(i64::from).collect();
            recurrent.scan(Tensor::<1, Int>::from_data(&ids[..], &Device::flex()).reshape([1, 80]), &mut states);
            let expected: Vec<_> = crate::trace::omissions(&mut states, &(0..1), 0)
                .into_iter()
                .map(|omission| (omission.layer, omission.head, omission.step, omission.position))
                .collect();
            let mut found: Vec<_> = history
                .groups
                .iter()
                .flat_map(|group| group.omissions().into_iter().map(|(step, at)| (group.layer, group.head, step, at)))
                .collect();
            found.sort_by_key(|&(layer, head, step, _)| (step, layer, head));
            assert_eq!(found, expected, "{policy}");
        }
    }
}
