//! More states in the lower layers, under any policy.
//!
//! Cai et al. 2024 (PyramidKV, arXiv 2406.02069): budgets fall linearly from the first layer to the last.

use std::sync::Arc;

use msrnn_core::policy::{Foresight, Layer, Plan, Policy};

use crate::error::SpecError;
use crate::needs::fewest_states;

/// Gives each layer what the policy needs at least, and of the rest, r = k − that, a share that falls linearly from
/// 2·r − ⌊r/β⌋ in the first layer to ⌊r/β⌋ in the last.
///
/// The mean over the layers is k, exactly: shares are rounded to whole states in pairs, one as far above r as its
/// mirror image is below. (The authors' code rounds the difference between two layers down instead, so that its
/// budgets do not add up to layers · k.) With a window of w rows that never go, the policy needs w, which is the rule
/// of the paper.
///
/// ```
/// use msrnn_core::policy::{Layer, Policy};
/// use msrnn_policies::{Pyramid, Tova};
///
/// let pyramid = Pyramid::new(std::sync::Arc::new(Tova::layer_wise()), 20)?;
/// assert_eq!(pyramid.name(), "pyramid(tova, beta=20)");
/// let states = |index| pyramid.plan(&Layer { index, layers: 5, kv_heads: 2, states: 101 }).states;
/// assert_eq!([0, 1, 2, 3, 4].map(states), [196, 149, 101, 53, 6].map(Some));
/// # Ok::<(), msrnn_policies::SpecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pyramid {
    policy: Arc<dyn Policy>,
    beta: usize,
    /// States that the policy needs at least.
    least: usize,
}

impl Pyramid {
    /// β of the authors' code.
    pub const BETA: usize = 20;

    /// A pyramid whose top layer has a β-th of what a layer has on average.
    ///
    /// # Errors
    ///
    /// When β is 0, or no number of states is enough for the policy.
    pub fn new(policy: Arc<dyn Policy>, beta: usize) -> Result<Self, SpecError> {
        if beta == 0 {
            return Err(SpecError::NoBeta);
        }
        let least = fewest_states(policy.as_ref()).ok_or_else(|| SpecError::NeverEnough(policy.name()))?;
        Ok(Self { policy, beta, least })
    }

    /// k of a layer.
    fn states(&self, layer: &Layer) -> usize {
        let Some(mean) = layer.states.checked_sub(self.least) else { return layer.states };
        let last = layer.layers.saturating_sub(1);
        if last == 0 {
            return layer.states;
        }
        let most = (mean - mean / self.beta) as u128;
        // From the middle, in half layers: as far on one side as the layer opposite on the other.
        let away = last.abs_diff(2 * layer.index.min(last)) as u128;
        let difference = ((most * away + last as u128 / 2) / last as u128) as usize;
        match 2 * layer.index < last {
            true => layer.states.saturating_add(difference),
            false => layer.states - difference,
        }
    }
}

impl Policy for Pyramid {
    fn name(&self) -> String {
        format!("pyramid({}, beta={})", self.policy.name(), self.beta)
    }

    fn plan(&self, layer: &Layer) -> Plan {
        self.policy.plan(&Layer { states: self.states(layer), ..*layer })
    }

    fn foresight(&self) -> Option<Foresight> {
        let inside = self.policy.foresight()?;
        Some(inside.map(|policy| Arc::new(Self { policy, ..self.clone() })))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Protect, Tova};

    proptest! {
        #[test]
        fn budgets_of_a_pyramid_fall_add_up_and_leave_every_layer_what_it_needs(
            layers in 1..130usize, more in 0..5000usize, newest in 1..70usize, beta in 1..60usize
        ) {
            let inner = Protect { policy: Arc::new(Tova::layer_wise()), first: 0, newest };
            let pyramid = Pyramid::new(Arc::new(inner), beta).unwrap();
            let k = newest + more;
            let states: Vec<usize> = (0..layers)
                .map(|index| pyramid.plan(&Layer { index, layers, kv_heads: 1, states: k }).states.unwrap())
                .collect();
            prop_assert_eq!(states.iter().sum::<usize>(), layers * k);
            prop_assert!(states.is_sorted_by(|lower, higher| lower >= higher), "{:?}", states);
            prop_assert!(states.iter().all(|&states| states >= newest), "{:?}", states);
            // The rule of the paper, of which ours is the nearest whole numbers.
            let (base, w) = (more as f64, newest as f64);
            let (min, last) = ((more / beta) as f64, (layers - 1).max(1) as f64);
            let max = 2.0 * base - min;
            for (index, &states) in states.iter().enumerate() {
                let ideal = if layers == 1 { base } else { max - index as f64 * (max - min) / last };
                prop_assert!((states as f64 - w - ideal).abs() <= 0.5 + 1e-9, "{} of {}: {} and {}", index, layers, states, ideal + w);
            }
        }
    }
}
