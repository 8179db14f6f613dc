//! Likelihoods of tokens: one pass over the logits, none of which is written.

use burn::tensor::{DType, Int, Tensor};
use rayon::prelude::*;

use super::access::{Dense, tensor};
use super::is_worth_cores;
use super::number::Stored;
use crate::simd::Real;

pub(crate) fn log_likelihood(logits: Tensor<2>, tokens: Tensor<1, Int>) -> Tensor<1> {
    match logits.dtype() {
        DType::F64 => in_dtype::<f64>(logits, tokens),
        _ => in_dtype::<f32>(logits, tokens),
    }
}

fn in_dtype<T: Real + Stored<T>>(logits: Tensor<2>, tokens: Tensor<1, Int>) -> Tensor<1> {
    let [rows, vocab] = logits.dims();
    let tokens = tokens.into_data().convert::<i64>();
    let tokens: &[i64] = tokens.as_slice().expect("ids are integers");
    let logits = Dense::of(logits);
    let logits: &[T] = logits.values();
    let of = |(logits, &token): (&[T], &i64)| logits[token as usize] - T::log_sum_exp(logits);
    let found: Vec<T> = match is_worth_cores(size_of_val(logits)) {
        true => logits.par_chunks_exact(vocab).zip(tokens).map(of).collect(),
        false => logits.chunks_exact(vocab).zip(tokens).map(of).collect(),
    };
    tensor(found, [rows])
}
