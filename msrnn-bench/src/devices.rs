//! What this build and this machine offer to run on, and why something is missing.

use std::fmt::Write as _;

use burn::tensor::Device;
use msrnn_core::precision::computes_in;
use serde::Serialize;

use crate::device::DeviceName;
use crate::precision::Float;

/// One line of `msrnn devices`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Offer {
    /// As `--device` takes it.
    pub device: DeviceName,
    /// What can be said about it, or why it is not there.
    #[serde(flatten)]
    pub found: Found,
}

/// A device that is there, or the reason why it is not.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Found {
    /// It can be used.
    Available(Properties),
    /// Why not, and what to do about it.
    Missing(String),
}

/// What is known about a device.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Properties {
    /// As the device names itself.
    pub name: String,
    /// None where the backend does not say.
    pub memory: Option<DeviceMemory>,
    /// What `--dtype` may be.
    pub dtypes: Vec<Float>,
}

/// Bytes of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DeviceMemory {
    /// Not in use.
    pub free: u64,
    /// All.
    pub total: u64,
}

/// Every device there is, and for every kind of which there is none the reason.
pub(crate) fn offers() -> Vec<Offer> {
    let mut offers = Vec::new();
    for kind in [DeviceName::Cpu, DeviceName::Wgpu(Some(0)), DeviceName::Cuda(0)] {
        let mut n = 0;
        loop {
            let device = numbered(kind, n);
            match device.open() {
                Ok(opened) => {
                    offers.push(Offer { device, found: Found::Available(Properties::of(device, &opened)) });
                }
                // Behind the last one there is none: a reason only where there is not even one.
                Err(_) if n > 0 => break,
                Err(error) => {
                    offers.push(Offer { device: unnumbered(kind), found: Found::Missing(error.to_string()) });
                    break;
                }
            }
            n += 1;
            if kind == DeviceName::Cpu {
                break;
            }
        }
    }
    offers
}

fn numbered(kind: DeviceName, n: usize) -> DeviceName {
    match kind {
        DeviceName::Cpu => DeviceName::Cpu,
        DeviceName::Wgpu(_) => DeviceName::Wgpu(Some(n)),
        DeviceName::Cuda(_) => DeviceName::Cuda(n),
    }
}

/// The kind itself, where there is none to number.
fn unnumbered(kind: DeviceName) -> DeviceName {
    match kind {
        DeviceName::Wgpu(_) => DeviceName::Wgpu(None),
        other => other,
    }
}

impl Properties {
    /// What is known about a device that is open.
    pub(crate) fn of(name: DeviceName, device: &Device) -> Self {
        Self {
            name: named(name, device),
            memory: DeviceMemory::of(name, device),
            dtypes: Float::ALL.into_iter().filter(|dtype| computes_in(device, dtype.dtype())).collect(),
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn named(name: DeviceName, device: &Device) -> String {
    match (name, device.identity()) {
        (DeviceName::Cpu, _) => cpu(),
        (_, Some(identity)) => identity.name,
        (_, None) => "a device without a name".into(),
    }
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn named(_name: DeviceName, _device: &Device) -> String {
    cpu()
}

fn cpu() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} with {cores} cores, burn's Flex", std::env::consts::ARCH)
}

impl DeviceMemory {
    /// A device's memory, where it can be asked for: of the machine (Linux), of an NVIDIA GPU, and of
    /// an adapter that computes on the machine's processor. Other adapters do not tell.
    pub(crate) fn of(name: DeviceName, device: &Device) -> Option<Self> {
        match name {
            DeviceName::Cpu => machine(),
            DeviceName::Wgpu(_) if is_software(device) => machine(),
            DeviceName::Wgpu(_) => None,
            DeviceName::Cuda(index) => cuda(index),
        }
    }
}

/// Whether the adapter is a program: there is no card behind it.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn is_software(device: &Device) -> bool {
    device.identity().is_some_and(|identity| identity.physical.is_none())
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn is_software(_device: &Device) -> bool {
    false
}

/// The machine's memory, as Linux tells it.
fn machine() -> Option<DeviceMemory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some(DeviceMemory { free: kibibytes("MemAvailable:")? << 10, total: kibibytes("MemTotal:")? << 10 })
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Option<DeviceMemory> {
    let (free, total) = cudarc::driver::CudaContext::new(index).ok()?.mem_get_info().ok()?;
    Some(DeviceMemory { free: free as u64, total: total as u64 })
}

#[cfg(not(feature = "cuda"))]
fn cuda(_index: usize) -> Option<DeviceMemory> {
    None
}

/// The offers as a table.
pub(crate) fn table(offers: &[Offer]) -> String {
    let mut text = String::new();
    for Offer { device, found } in offers {
        let device = device.to_string();
        match found {
            Found::Missing(reason) => {
                let _ = writeln!(text, "{device:<8} missing: {reason}");
            }
            Found::Available(Properties { name, memory, dtypes }) => {
                let memory = match memory {
                    Some(DeviceMemory { free, total }) => format!("{} of {} free", gib(*free), gib(*total)),
                    None => "memory not known".into(),
                };
                let dtypes: Vec<String> = dtypes.iter().map(ToString::to_string).collect();
                let _ = writeln!(text, "{device:<8} {name}; {memory}; {}", dtypes.join(" "));
            }
        }
    }
    text
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_there_or_says_why_not() {
        let offers = offers();
        for kind in ["cpu", "wgpu", "cuda"] {
            assert!(offers.iter().any(|offer| offer.device.to_string().starts_with(kind)), "{kind} is not mentioned");
        }
        for Offer { device, found } in &offers {
            match found {
                Found::Available(properties) => assert!(properties.dtypes.contains(&Float::F32), "{device}"),
                Found::Missing(reason) => {
                    let remedy = match device.is_compiled_in() {
                        true => "found",
                        false => "cargo build",
                    };
                    assert!(reason.contains(remedy), "{device}: {reason}");
                }
            }
        }
    }
}
