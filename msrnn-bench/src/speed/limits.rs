//! What the machine allows: bytes read and operations done per second, measured here and now.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor};
use msrnn_core::kernels::largest_buffer;

use crate::error::BenchError;

/// Bytes that are read to measure the bandwidth, where a device has them in one piece: far more than a cache holds.
const BYTES: usize = 256 << 20;

/// Rows and columns of the matrices whose product is timed.
const SIDE: usize = 1024;

/// Times that a device reads them before it is waited for, which would else be a part of what is measured.
const READS: usize = 8;

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
    /// A device's, summed by its own kernel.
    Device(Box<Tensor<1>>),
}

impl Memory {
    /// The largest that the device has a buffer for and adds up: to ask for a larger buffer is no error at once, and nothing
    /// after it is right; and burn's sum leaves out what is beyond the launches that some adapters allow.
    fn of_device(device: &Device) -> Result<Self, BenchError> {
        let most = largest_buffer(device).map_or(BYTES, |most| most.min(BYTES as u64) as usize);
        let ones = |bytes: usize| Tensor::ones([bytes / size_of::<f32>()], (device, DType::F32));
        let tries = [4, 16, 64].map(|part| most / part);
        let all = ones(most);
        sum(&all, 1)
            .map(|()| all)
            .or_else(|error| tries.into_iter().map(ones).find(|values| sum(values, 1).is_ok()).ok_or(error))
            .map(|values| Self::Device(Box::new(values)))
    }

    /// Bytes that one measurement reads.
    fn bytes(&self) -> usize {
        match self {
            Self::Host(words) => words.len() * size_of::<u64>(),
            Self::Device(values) => READS * values.dims()[0] * size_of::<f32>(),
        }
    }
}

impl Limits {
    /// Allocates what is read. `on_host`: whether the device computes in the host's memory.
    ///
    /// # Errors
    ///
    /// When the device does not read what it was given.
    pub(crate) fn new(device: &Device, on_host: bool, threads: usize) -> Result<Self, BenchError> {
        let memory = match on_host {
            // Not zero: untouched pages of zeros are all the same page.
            true => Memory::Host(vec![1; BYTES / size_of::<u64>()]),
            false => Memory::of_device(device)?,
        };
        Ok(Self { memory, device: device.clone(), threads: threads.max(1) })
    }

    /// Bytes read per second, by all threads together.
    ///
    /// # Errors
    ///
    /// When the device says another sum than that of what it was given.
    pub(crate) fn bandwidth(&self) -> Result<f64, BenchError> {
        let mut result = Ok(());
        let seconds = fastest(|| match &self.memory {
            Memory::Host(words) => read(words, self.threads),
            Memory::Device(values) => result = std::mem::replace(&mut result, Ok(())).and(sum(values, READS)),
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

/// Adds ones up on their device, several times in a row.
fn sum(ones: &Tensor<1>, times: usize) -> Result<(), BenchError> {
    let sums: Vec<_> = (0..times).map(|_| ones.clone().sum()).collect();
    let expected = ones.dims()[0] as f32;
    // What is launched in a row ends in a row. A device whose buffers are smaller may say that all went well.
    let found =
        sums[times - 1].clone().try_into_data().ok().and_then(|data| data.as_slice::<f32>().ok()?.first().copied());
    match found {
        // Millions of ones in f32.
        Some(found) if (found - expected).abs() <= 1e-3 * expected => Ok(()),
        found => Err(BenchError::Input(format!(
            "the device adds {expected} ones up to {found:?}, so that its bandwidth is not known; give a smaller shape, or \
             another ‘device’"
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
        assert!(of(1.0).bandwidth().expect("it adds up") > 0.0);
        assert!(of(0.0).bandwidth().unwrap_err().to_string().contains("the device adds 1048576 ones up to Some(0.0)"));
    }
}
