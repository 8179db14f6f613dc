//! A kernel gives the same bits on any number of cores.

#![cfg(feature = "flex")]

use std::sync::Mutex;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use msrnn_core::kernels::{self, Activations, Blocks, Format, Map, Values, Weight};

/// What `f` computes on so many threads.
fn on<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[track_caller]
fn same_on_any_number_of_cores<R: PartialEq + Send>(what: &str, f: impl Fn() -> R + Send + Sync) {
    // Cores wait for one thread at a time.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    let one = on(1, &f);
    for threads in [2, 3, 4, 8, 13] {
        assert!(on(threads, &f) == one, "{what} on {threads} threads");
        assert!(on(threads, || kernels::together(&Device::flex(), &f)) == one, "{what} on {threads} that wait");
    }
}

/// Values of no pattern, the same at every call.
fn values(n: usize) -> Vec<f64> {
    (0..n).map(|i| ((i as f64 * 12.9898).sin() * 43_758.545_3).fract()).collect()
}

fn matrix(rows: usize, columns: usize, dtype: DType) -> Tensor<2> {
    let data = TensorData::new(values(rows * columns), [rows, columns]);
    Tensor::<2>::from_data(data, (&Device::flex(), DType::F64)).cast(dtype)
}

/// The bits of every value.
fn bits<const D: usize>(x: Tensor<D>) -> Vec<u64> {
    let values = x.into_data().convert::<f64>().try_into_vec::<f64>().unwrap();
    values.into_iter().map(f64::to_bits).collect()
}

#[test]
fn a_linear_map_has_the_same_bits_on_any_number_of_cores() {
    for rows in [1, 8, 9, 12, 20, 64, 130] {
        for (input, outputs) in [(128, [128, 64]), (576, [576, 192]), (1536, [333, 12]), (64, [1201, 1])] {
            let floats = |dtype: DType, activations| {
                outputs.map(|outputs| {
                    let values = Values::Float(matrix(outputs, input, dtype));
                    Map { weight: Weight { values, activations }, bias: None }
                })
            };
            let blocks = |activations| {
                outputs.map(|outputs| {
                    let values: Vec<f32> = values(outputs * input).iter().map(|&x| x as f32).collect();
                    let blocks = Blocks::quantize(&values, [outputs, input], Format::Int8, &Device::flex());
                    Map { weight: Weight { values: Values::Blocks(blocks), activations }, bias: None }
                })
            };
            for (case, (x, maps)) in [
                (DType::F32, floats(DType::F32, Activations::Float)),
                (DType::F32, floats(DType::BF16, Activations::Float)),
                (DType::F32, floats(DType::BF16, Activations::Bf16)),
                (DType::F32, floats(DType::F16, Activations::Float)),
                (DType::F32, blocks(Activations::Float)),
                (DType::F32, blocks(Activations::Int8)),
                (DType::F64, floats(DType::F64, Activations::Float)),
            ]
            .into_iter()
            .enumerate()
            {
                let x = matrix(rows, input, x);
                let what = format!("{rows} rows of {input} to {outputs:?} , case {case}");
                same_on_any_number_of_cores(&what, || kernels::linear(x.clone(), maps.clone()).map(bits).concat());
            }
        }
    }
}

#[test]
fn norms_gates_and_likelihoods_have_the_same_bits_on_any_number_of_cores() {
    let (rows, d) = (97, 1003);
    for dtype in [DType::F32, DType::F64] {
        let (x, y) = (matrix(rows, d, dtype), matrix(rows, d, dtype).mul_scalar(3.0));
        let weight = matrix(1, d, dtype).reshape([d]);
        let tokens: Vec<i64> = (0..rows as i64).map(|i| i * 10).collect();
        let tokens = Tensor::<1, Int>::from_data(TensorData::new(tokens, [rows]), &Device::flex());
        same_on_any_number_of_cores("a norm", || bits(kernels::rms_norm(x.clone(), weight.clone(), 1e-5)));
        same_on_any_number_of_cores("a gate", || bits(kernels::swiglu(x.clone(), y.clone())));
        same_on_any_number_of_cores("likelihoods", || bits(kernels::log_likelihood(y.clone(), tokens.clone())));
    }
}
