//! Window and Window+i: the newest rows stay, with or without the first i.
//!
//! Window is the FIFO baseline of every cache paper. Window+i keeps the first i tokens beside it:
//! StreamingLLM's observation (Xiao et al. 2023, arXiv 2309.17453) that the first tokens draw
//! attention as sinks, in the form of Oren et al. 2024 (arXiv 2401.06104, section 3.2), with i
//! counted inside k and original positions kept.

use burn::tensor::Tensor;
use msrnn_core::device_score::{DeviceScore, ScoreRule};
use msrnn_core::policy::{Granularity, HostMemory, HostView, Memory, Policy, ScoreOnHost, View};
use serde::{Deserialize, Serialize};

use crate::registry::{Entry, number_after};

/// Omits the oldest row but the first `first` tokens of the text.
///
/// ```
/// use msrnn_core::policy::Policy;
/// use msrnn_policies::Window;
///
/// assert_eq!(Window { first: 0 }.name(), "window");
/// assert_eq!(Window { first: 4 }.name(), "window+4");
/// assert_eq!(Window { first: 4 }.min_states(), 5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// i: how many of the first tokens stay for ever. They count inside k.
    pub first: usize,
}

impl Policy for Window {
    fn name(&self) -> String {
        match self.first {
            0 => "window".into(),
            first => format!("window+{first}"),
        }
    }

    fn granularity(&self) -> Granularity {
        Granularity::Layer
    }

    fn min_states(&self) -> usize {
        self.first.saturating_add(1)
    }

    fn score(&self, view: &View, _memory: &mut Memory) -> Tensor<3> {
        let newer_is_higher = view.age().neg().float();
        match self.first {
            0 => newer_is_higher,
            first => newer_is_higher.mask_fill(view.first(first), f32::INFINITY),
        }
    }

    fn on_host(&self) -> Option<&dyn ScoreOnHost> {
        Some(self)
    }

    fn on_device(&self, _states: usize, _layer: usize) -> Option<DeviceScore> {
        Some(DeviceScore { rule: ScoreRule::Age, first: self.first, newest: 0 })
    }
}

impl ScoreOnHost for Window {
    fn score(&self, view: &HostView<'_>, _memory: &mut HostMemory, scores: &mut [f64]) {
        for (score, &position) in scores.iter_mut().zip(view.positions) {
            *score = if position < self.first as i64 { f64::INFINITY } else { (position - view.now) as f64 };
        }
    }
}

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        name: "window",
        example: "window",
        idea: "Only the recent past matters.",
        rule: "Omit the oldest row (FIFO): after step t the states are the k newest.",
        cost: "O(k) comparisons of positions; no attention weights",
        citation: "Baseline of Oren et al. 2024, arXiv 2401.06104, section 3.2",
        differences: "None.",
        parse: |text| (text == "window").then(|| Ok(std::sync::Arc::new(Window { first: 0 }) as _)),
    },
    Entry {
        name: "window+i",
        example: "window+4",
        idea: "The recent past, and the first i tokens, on which models park attention they do not need (sinks).",
        rule: "Omit the oldest row whose position is at least i: the first i and the k − i newest stay. Needs k > i.",
        cost: "O(k) comparisons of positions; no attention weights",
        citation: "Xiao et al. 2023 (StreamingLLM), arXiv 2309.17453; Window+i of Oren et al. 2024, arXiv 2401.06104, section 3.2",
        differences: "As in the paper's language-modelling runs, positions stay the original ones. StreamingLLM itself numbers positions inside the cache.",
        parse: |text| {
            number_after(text, "window+").map(|first| first.map(|first| std::sync::Arc::new(Window { first }) as _))
        },
    },
];
