//! What the machine allows: bytes read and operations done per second, measured here and now.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor};
use msrnn_core::kernels::largest_buffer;

use crate::error::BenchError;

/// Bytes that are read, or copied, to measure the bandwidth, where a device has them in one piece: far more than a cache holds.
const BYTES: usize = 256 << 20;

/// Rows and columns of the matrices whose product is timed.
const SIDE: usize = 1024;

/// Times that a device reads and writes them before it is waited for, which would else be a part of what is measured.
const PASSES: usize = 8;

/// Tries per measurement, of which the best counts: a limit is what is possible.
const TRIES: usize = 5;

/// What is read and multiplied to learn the limits.
#[derive(Debug)]
pub(crate) struct Limits {
    memory: Memory,
    device: Device,
    threads: usize,
}

#[derive(Debug)]
enum Memory {
    /// The host's, read by as many threads as compute.
    Host(Vec<u64>),
    /// A device's, copied by its own kernel.
    Device(Box<Tensor<1>>),
}

impl Memory {
    /// As large as the device has a buffer for: to ask for more is no error at once, and nothing after it is right.
    fn of_device(device: &Device) -> Self {
        let most = largest_buffer(device).map_or(BYTES, |most| most.min(BYTES as u64) as usize);
        Self::Device(Box::new(Tensor::ones([most / size_of::<f32>()], (device, DType::F32))))
    }

    /// Bytes that one measurement reads, and on a device writes too.
    fn bytes(&self) -> usize {
        match self {
            Self::Host(words) => words.len() * size_of::<u64>(),
            Self::Device(values) => 2 * PASSES * values.dims()[0] * size_of::<f32>(),
        }
    }
}

impl Limits {
    /// Allocates what is read. `on_host`: whether the device computes in the host's memory.
    pub(crate) fn new(device: &Device, on_host: bool, threads: usize) -> Self {
        let memory = match on_host {
            // Not zero: untouched pages of zeros are all the same page.
            true => Memory::Host(vec![1; BYTES / size_of::<u64>()]),
            false => Memory::of_device(device),
        };
        Self { memory, device: device.clone(), threads: threads.max(1) }
    }

    /// Bytes per second: read, by all threads together; on a device read and written, since it has no sum that is right on every
    /// adapter.
    ///
    /// # Errors
    ///
    /// When what the device has written is not what it should be.
    pub(crate) fn bandwidth(&self) -> Result<f64, BenchError> {
        let mut result = Ok(());
        let seconds = fastest(|| match &self.memory {
            Memory::Host(words) => read(words, self.threads),
            Memory::Device(values) => result = std::mem::replace(&mut result, Ok(())).and(copy(values)),
        });
        result.map(|()| self.memory.bytes() as f64 / seconds)
    }

    /// Floating-point operations per second of a square matrix product in `dtype`.
    pub(crate) fn matrix_rate(&self, dtype: DType) -> f64 {
        let matrix = || Tensor::<2>::random([SIDE, SIDE], Distribution::Default, (&self.device, dtype));
        let (a, b) = (matrix(), matrix());
        // Both are there before the clock starts.
        let _ = self.device.sync();
        let seconds = fastest(|| {
            let product = black_box(a.clone().matmul(b.clone()));
            let _ = self.device.sync();
            drop(product);
        });
        2.0 * (SIDE as f64).powi(3) / seconds
    }
}

/// Adds one to every one of the ones on their device, several times in a row.
fn copy(ones: &Tensor<1>) -> Result<(), BenchError> {
    let n = ones.dims()[0];
    let added = (0..PASSES).fold(ones.clone(), |values, _| values.add_scalar(1.0));
    // What is launched in a row ends in a row. A device whose buffers are smaller may say that all went well.
    let value = |at: usize| {
        let data = added.clone().narrow(0, at, 1).try_into_data().ok()?;
        data.as_slice::<f32>().ok()?.first().copied()
    };
    let (found, expected) = ([value(n - 1), value(0), value(n / 2)], (1 + PASSES) as f32);
    match found.iter().all(|&found| found == Some(expected)) {
        true => Ok(()),
        false => Err(BenchError::Input(format!(
            "the device writes {found:?} where {expected} is right, so that its bandwidth is not known; take another ‘device’"
        ))),
    }
}

/// Seconds of the fastest try.
fn fastest(mut f: impl FnMut()) -> f64 {
    let tries = (0..TRIES).map(|_| {
        let started = Instant::now();
        f();
        started.elapsed().as_secs_f64()
    });
    tries.fold(f64::INFINITY, f64::min)
}

/// Reads all words, each thread its part.
fn read(words: &[u64], threads: usize) {
    std::thread::scope(|scope| {
        for part in words.chunks(words.len().div_ceil(threads)) {
            scope.spawn(|| black_box(part.iter().fold(0u64, |sum, &word| sum.wrapping_add(word))));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_read_what_it_was_given_has_no_bandwidth() {
        let device = Device::flex();
        let of = |value: f32| {
            let values = Tensor::full([1 << 20], value, (&device, DType::F32));
            Limits { memory: Memory::Device(Box::new(values)), device: device.clone(), threads: 1 }
        };
        assert!(of(1.0).bandwidth().expect("it is right") > 0.0);
        assert!(
            of(0.0)
                .bandwidth()
                .unwrap_err()
                .to_string()
                .contains("the device writes [Some(8.0), Some(8.0), Some(8.0)] where 9 is right")
        );
    }
}
