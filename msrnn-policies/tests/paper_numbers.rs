//! Numbers of Oren et al. 2024 (arXiv 2401.06104) that need no model.

use burn::tensor::{DType, Device, Distribution, Tensor};
use msrnn_core::attention::Attention;
use msrnn_policies::registry;

/// Tokens of the paper's texts.
const TOKENS: usize = 4096;

/// States, the mean number of steps that a token is kept, and the same as printed (the average over
/// all parts of speech). The paper's runs used TOVA; the mean is the same for every policy.
const MEANS: [(usize, f64, &str); 4] =
    [(256, 248.968_75, "249"), (512, 480.937_5, "481"), (1024, 896.875, "897"), (2048, 1536.75, "1537")];

/// Steps that tokens took part in, all together.
fn steps_kept(policy: &str, states: usize) -> usize {
    let device = Device::default();
    let compression = registry::compression(policy, states).expect("enough states");
    let layer = Attention { heads: 1, kv_heads: 1, head_dim: 2, scale: 1.0, window: None, placement: None };
    let mut state = layer.initial_state(1, 0, 1, &compression, DType::F32, &device);
    state.record_omissions();
    let random = || Tensor::<4>::random([1, 1, TOKENS, 2], Distribution::Default, &device);
    layer.scan(random(), random(), random(), &mut state);
    let mut last = vec![TOKENS - 1; TOKENS];
    for (step, omitted) in state.take_omitted().into_iter().enumerate() {
        let Some(position) = omitted else { continue };
        let position: i64 = position.into_scalar::<i64>();
        last[position as usize] = step;
    }
    last.iter().enumerate().map(|(position, last)| last + 1 - position).sum()
}

fn mean_steps_kept_is_the_papers(policy: &str) {
    for (states, mean, printed) in MEANS {
        let kept = steps_kept(policy, states) as f64 / TOKENS as f64;
        assert_eq!(kept, mean, "{policy}@{states}");
        assert_eq!(format!("{kept:.0}"), printed, "{policy}@{states}");
    }
}

#[test]
fn mean_steps_kept_under_window_is_the_papers() {
    mean_steps_kept_is_the_papers("window");
}

#[test]
fn mean_steps_kept_under_tova_is_the_papers() {
    mean_steps_kept_is_the_papers("tova");
}
