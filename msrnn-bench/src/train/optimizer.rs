//! Muon for the matrices of the layers, AdamW for everything else, under one learning rate.
//!
//! Muon (Jordan et al. 2024) takes steps in which every direction of a matrix is as long as any other,
//! which matters in a run of few steps: directions of weak gradients are learnt with the strong. Its
//! steps are scaled to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), which is why one
//! learning rate serves both.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamWConfig, AdjustLrFn, ModuleOptimizer, MuonConfig};
use burn::tensor::Tensor;
use msrnn_models::decoder::Decoder;

use super::config::TrainConfig;

/// The optimiser of a run before its first step.
pub(super) fn new(config: &TrainConfig, decoder: &Decoder) -> ModuleOptimizer {
    let clipping = GradientClippingConfig::Norm(1.0);
    let muon = MuonConfig::new()
        .with_weight_decay(Some(WeightDecayConfig::new(config.weight_decay)))
        .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
        .build();
    AdamWConfig::new()
        .with_beta_2(0.95)
        .with_weight_decay(0.0)
        .with_grad_clipping(Some(clipping))
        .init()
        // Orthogonal steps do not depend on the length of a gradient, so that there is nothing to clip.
        .with_group(ParamGroup::from_ids(matrices(decoder)), muon, None)
}

/// The weight matrices of the layers.
fn matrices(decoder: &Decoder) -> Vec<ParamId> {
    struct Collect(Vec<ParamId>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D == 2 {
                self.0.push(param.id);
            }
        }
    }
    let mut collect = Collect(Vec::new());
    decoder.layers.iter().for_each(|layer| layer.visit(&mut collect));
    collect.0
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};
    use msrnn_models::matrix::Values;
    use msrnn_models::weights;

    use super::*;

    #[test]
    fn seven_matrices_of_every_layer_are_muons() {
        let config = TrainConfig::default();
        let decoder = weights::random(&config.model(), 0, DType::F32, &Device::flex());
        let matrices = matrices(&decoder);
        assert_eq!(matrices.len(), 7 * config.layers);
        let Values::Float(embedding) = &decoder.embedding.values else { panic!("a model in f32") };
        assert!(!matrices.contains(&embedding.id));
    }
}
