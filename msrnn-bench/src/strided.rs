//! The perplexity of Hugging Face's guide on fixed-length models.
//!
//! <https://huggingface.co/docs/transformers/perplexity>: windows of a model's length advance by a stride, and only
//! the targets are scored that no window before has. Which these are is [`Cutting`](crate::contexts::Cutting)'s;
//! every one of them is scored once, and [`Evaluation::perplexity`](crate::evaluate::Evaluation::perplexity) weighs
//! all alike. The guide's loop does not quite: it takes the mean loss of a window, and weighs it by its new tokens
//! less one, on the ground that nothing predicts the first. That holds for the first window, and for windows that
//! do not overlap; every other window predicts all its new tokens, and so counts for one too few.

use crate::contexts::Context;
use crate::evaluate::ContextScore;

/// Perplexity with the weights of the guide's loop. None where these add up to nothing, as with a stride of 1 after a
/// first window without a target.
pub(crate) fn guide_perplexity(windows: &[Context], scores: &[ContextScore]) -> Option<f64> {
    let weighed = windows.iter().zip(scores).filter(|(_, score)| score.tokens > 0).map(|(window, score)| {
        let weight = (window.len() - window.overlap).saturating_sub(1) as f64;
        (weight * score.nll / score.tokens as f64, weight)
    });
    let (nll, weight) = weighed.fold((0.0, 0.0), |(nll, weights), (loss, weight)| (nll + loss, weights + weight));
    (weight > 0.0).then(|| (nll / weight).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_weighs_its_new_tokens_less_one() {
        let window = |ids: usize, overlap| Context { overlap, ..Context::from(vec![0; ids]) };
        let score = |nll, tokens| ContextScore { nll, tokens, bytes: None };
        // Four tokens, three of them predicted; two new ones, both predicted.
        let (windows, scores) = ([window(4, 0), window(4, 2)], [score(6.0, 3), score(8.0, 2)]);
        let guide = guide_perplexity(&windows, &scores).unwrap();
        assert!((guide - ((3.0 * 2.0 + 4.0) / 4.0f64).exp()).abs() < 1e-12);
        assert_eq!(guide_perplexity(&[window(4, 3)], &[score(1.0, 1)]), None);
    }
}
