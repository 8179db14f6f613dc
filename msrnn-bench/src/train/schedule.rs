//! What a step is made of: how long its sequences are, how many, which, and how far it goes.
//!
//! A run begins with short sequences. Looking back is learnt there first: among 512 tokens an earlier
//! mention of a word is found sooner than among 1,024, and a step costs less. Long ones follow as soon
//! as there is something to extend.

use std::ops::Range;

use super::config::TrainConfig;

/// The sequences of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Tokens in a sequence.
    pub(super) context: usize,
    /// Sequences.
    pub(super) sequences: usize,
    /// Sequences of all steps before.
    pub(super) first: usize,
}

impl TrainConfig {
    /// Tokens of these steps.
    pub(super) fn tokens(&self, steps: Range<usize>) -> usize {
        let tokens = |step| self.batch_at(step).sequences.saturating_mul(self.batch_at(step).context);
        let (first, last) = (steps.start, steps.end.max(steps.start));
        let change = self.short_steps.clamp(first, last);
        let (short, long) =
            (tokens(first).saturating_mul(change - first), tokens(change).saturating_mul(last - change));
        short.saturating_add(long)
    }

    /// The sequences of a step; short ones hold as many tokens together as long ones.
    pub(super) fn batch_at(&self, step: usize) -> Batch {
        let context = self.short_context.min(self.context);
        let short = self.batch * (self.context / context);
        let long_steps = step.saturating_sub(self.short_steps);
        let first = short * (step - long_steps) + self.batch * long_steps;
        match step < self.short_steps {
            true => Batch { context, sequences: short, first },
            false => Batch { context: self.context, sequences: self.batch, first },
        }
    }

    /// Linear warm-up, then a cosine down to a tenth.
    pub(super) fn learning_rate_at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / self.warmup as f64;
        }
        let progress = (step - self.warmup) as f64 / (self.steps - self.warmup).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.learning_rate * (0.1 + 0.9 * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_take_sequence_after_sequence_and_as_many_tokens() {
        let config = TrainConfig { context: 1000, batch: 4, short_context: 250, short_steps: 3, ..Default::default() };
        let mut next = 0;
        for step in 0..6 {
            let batch = config.batch_at(step);
            assert_eq!(batch.first, next);
            assert_eq!(batch.context, if step < 3 { 250 } else { 1000 });
            assert_eq!(batch.sequences * batch.context, 4000);
            next += batch.sequences;
        }
        // A context that is shorter than the short one is used throughout.
        let config = TrainConfig { context: 200, ..config };
        assert_eq!(config.batch_at(1), Batch { context: 200, sequences: 4, first: 4 });
    }

    #[test]
    fn the_learning_rate_rises_to_its_height_and_falls_to_a_tenth() {
        let config = TrainConfig { steps: 1000, warmup: 100, learning_rate: 1.0, ..Default::default() };
        assert_eq!(config.learning_rate_at(99), 1.0);
        assert_eq!(config.learning_rate_at(100), 1.0);
        assert!((config.learning_rate_at(1000) - 0.1).abs() < 1e-12);
        assert!((100..1000).all(|step| config.learning_rate_at(step + 1) < config.learning_rate_at(step)));
    }
}
