//! What the machine allows: bytes read and operations done per second, measured here and now.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor};

/// Bytes that are read to measure the bandwidth, where a device has them in one piece: far more than a cache holds.
const BYTES: usize = 256 << 20;

/// Rows and columns of the matrices whose product is timed.
const SIDE: usize = 1024;

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
    /// The largest of a device's that is summed without a failure, since adapters have buffers of different sizes at most.
    fn of_device(device: &Device) -> Self {
        let ones = |bytes: usize| Tensor::ones([bytes / size_of::<f32>()], (device, DType::F32));
        let sums = |values: &Tensor<1>| values.clone().sum().try_into_data().is_ok();
        let fits = [BYTES, BYTES / 4].into_iter().map(ones).find(sums);
        Self::Device(Box::new(fits.unwrap_or_else(|| ones(BYTES / 16))))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Host(words) => words.len() * size_of::<u64>(),
            Self::Device(values) => values.dims()[0] * size_of::<f32>(),
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

    /// Bytes read per second, by all threads together.
    pub(crate) fn bandwidth(&self) -> f64 {
        self.memory.bytes() as f64
            / fastest(|| match &self.memory {
                Memory::Host(words) => read(words, self.threads),
                Memory::Device(values) => drop(black_box(values.as_ref().clone().sum().into_data())),
            })
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
