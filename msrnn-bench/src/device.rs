//! Where a model runs, chosen at run time among what was compiled in.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use serde::Serialize;

use crate::error::BenchError;

/// A device by name: `cpu`, `wgpu[:n]` or `cuda[:n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum DeviceName {
    /// burn's Flex backend.
    Cpu,
    /// The n-th adapter that wgpu finds, as `msrnn devices` counts them; none lets it choose.
    Wgpu(Option<usize>),
    /// The n-th NVIDIA GPU.
    Cuda(usize),
}

impl DeviceName {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// When its backend was not compiled in, or the machine has no such device.
    pub fn open(self) -> Result<Device, BenchError> {
        match self {
            #[cfg(feature = "flex")]
            DeviceName::Cpu => Ok(Device::flex()),
            #[cfg(feature = "wgpu")]
            DeviceName::Wgpu(index) => {
                use burn::tensor::{DeviceKind, DeviceType};
                let adapters = Device::enumerate(DeviceType::Wgpu).into_vec();
                match index {
                    None if !adapters.is_empty() => Ok(Device::wgpu(DeviceKind::DefaultDevice)),
                    _ => pick(self, adapters, index.unwrap_or(0), NO_ADAPTER),
                }
            }
            #[cfg(feature = "cuda")]
            DeviceName::Cuda(index) => {
                use burn::tensor::DeviceType;
                pick(self, Device::enumerate(DeviceType::Cuda).into_vec(), index, NO_CUDA)
            }
            #[allow(unreachable_patterns)]
            other => Err(BenchError::Input(format!(
                "this msrnn was built without {0}; build it with `cargo build --release --features {0}`",
                other.feature()
            ))),
        }
    }

    /// What kind of device it is, whichever of its kind.
    pub fn kind(self) -> &'static str {
        match self {
            DeviceName::Cpu => "cpu",
            DeviceName::Wgpu(_) => "wgpu",
            DeviceName::Cuda(_) => "cuda",
        }
    }

    /// The feature of this crate that compiles its backend in.
    pub fn feature(self) -> &'static str {
        match self {
            DeviceName::Cpu => "flex",
            DeviceName::Wgpu(_) => "wgpu",
            DeviceName::Cuda(_) => "cuda",
        }
    }

    /// Whether its backend was compiled in.
    pub fn is_compiled_in(self) -> bool {
        match self {
            DeviceName::Cpu => cfg!(feature = "flex"),
            DeviceName::Wgpu(_) => cfg!(feature = "wgpu"),
            DeviceName::Cuda(_) => cfg!(feature = "cuda"),
        }
    }
}

/// What to do where there is no adapter for wgpu.
#[cfg(feature = "wgpu")]
const NO_ADAPTER: &str = "no graphics adapter was found; install the GPU's Vulkan driver, or Mesa's software \
    one (Debian: apt-get install mesa-vulkan-drivers libvulkan1)";

/// What to do where there is no NVIDIA GPU.
#[cfg(feature = "cuda")]
const NO_CUDA: &str = "no NVIDIA GPU was found; check `nvidia-smi`, and that the driver's libcuda can be loaded";

/// The device with that number, if it is there.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn pick(name: DeviceName, mut devices: Vec<Device>, index: usize, none: &str) -> Result<Device, BenchError> {
    match devices.len() {
        0 => Err(BenchError::Input(format!("{name}: {none}"))),
        found if index >= found => {
            Err(BenchError::Input(format!("{name}: there are {found}, counted from 0; `msrnn devices` lists them")))
        }
        _ => Ok(devices.swap_remove(index)),
    }
}

/// Whether a device computes in the host's memory.
pub fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return *device == Device::flex();
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

impl DeviceName {
    /// Whether it computes in the host's memory.
    pub fn is_host(self) -> bool {
        self == DeviceName::Cpu
    }

    /// Threads that compute: on a CPU as many as were asked for, one per core as a rule; one elsewhere.
    pub fn threads(self) -> usize {
        match self {
            DeviceName::Cpu => rayon::current_num_threads(),
            DeviceName::Wgpu(_) | DeviceName::Cuda(_) => 1,
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Wgpu(None) => f.write_str("wgpu"),
            DeviceName::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
            DeviceName::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl FromStr for DeviceName {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        let wrong = || BenchError::Input(format!("no device is called {text:?}; there are cpu, wgpu[:n] and cuda[:n]"));
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse::<usize>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match (name, index) {
            ("cpu", None) => Ok(DeviceName::Cpu),
            ("wgpu", index) => Ok(DeviceName::Wgpu(index)),
            ("cuda", index) => Ok(DeviceName::Cuda(index.unwrap_or(0))),
            _ => Err(wrong()),
        }
    }
}
