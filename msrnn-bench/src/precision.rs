//! In which precision a model is held.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use burn::tensor::{DType, Device};
use msrnn_core::kernels::Activations;
use msrnn_core::precision::computes_in;
use msrnn_models::gguf::{self, EXTENSION};
use msrnn_models::storage::{Storage, Weights};
use serde::Serialize;

use crate::device::DeviceName;
use crate::error::BenchError;

/// A precision of weights and states by name: `f32`, `f64`, `f16` or `bf16` for both; `int8` for weights in
/// 8 bits and `stored` for weights as the files have them, both with states in f32; `WEIGHTS/STATES` for one each, such as
/// `f32/f16` or `int8/bf16`; and `WEIGHTS/STATES/ACTIVATIONS` where activations are rounded too, such as `stored/f32/int8` or
/// `bf16/bf16/bf16`.
///
/// Computation is in f64 for weights in f64, else in f32; GPUs multiply in the dtype of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Precision {
    weights: Weights,
    states: Float,
    activations: Activations,
}

/// What weights are multiplied with, by name: `f32` as it is, `int8` beside weights in blocks, `bf16` beside weights in bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ActivationsName(pub Activations);

impl ActivationsName {
    /// All of them.
    pub(crate) const ALL: [(&str, Activations); 3] =
        [("f32", Activations::Float), ("int8", Activations::Int8), ("bf16", Activations::Bf16)];
}

impl FromStr for ActivationsName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, activations)| Self(activations)).ok_or_else(|| "expected f32, int8 or bf16".into())
    }
}

impl fmt::Display for ActivationsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Self::ALL.into_iter().find(|(_, activations)| *activations == self.0).expect("all are there");
        f.write_str(name)
    }
}

/// A precision of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Float {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit floats, for checks.
    F64,
}

impl Float {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::F64];

    /// burn's name for it.
    pub fn dtype(self) -> DType {
        match self {
            Float::F32 => DType::F32,
            Float::F16 => DType::F16,
            Float::Bf16 => DType::BF16,
            Float::F64 => DType::F64,
        }
    }

    /// Its name.
    fn name(self) -> &'static str {
        match self {
            Float::F32 => "f32",
            Float::F16 => "f16",
            Float::Bf16 => "bf16",
            Float::F64 => "f64",
        }
    }

    /// By its name here or in Python.
    fn named(name: &str) -> Option<Self> {
        let elsewhere = |float: &Self| -> &[&str] {
            match float {
                Self::F64 => &["float64", "fp64", "double"],
                Self::F32 => &["float32", "fp32", "float"],
                Self::F16 => &["float16", "fp16", "half"],
                Self::Bf16 => &["bfloat16"],
            }
        };
        Self::ALL.into_iter().find(|float| float.name() == name || elsewhere(float).contains(&name))
    }

    fn of(dtype: DType) -> Option<Self> {
        Self::ALL.into_iter().find(|float| float.dtype() == dtype)
    }
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Precision {
    /// Weights and states in 32-bit floats, the default.
    pub const F32: Self =
        Self { weights: Weights::Float(DType::F32), states: Float::F32, activations: Activations::Float };

    /// Weights as the files have them, states in 32-bit floats.
    pub const STORED: Self = Self { weights: Weights::Stored, ..Self::F32 };

    /// The precision of models for which none was asked: as stored where there are some, all are GGUF files and the CPU
    /// runs them, else [`Precision::F32`].
    pub fn usual<'a>(models: impl IntoIterator<Item = &'a Path>, device: DeviceName) -> Self {
        let is_gguf = |path: &Path| path.extension().is_some_and(|ending| ending == EXTENSION) || gguf::is_gguf(path);
        let mut models = models.into_iter().peekable();
        match device.is_host() && models.peek().is_some() && models.all(is_gguf) {
            true => Self::STORED,
            false => Self::F32,
        }
    }

    /// The same with activations of that kind.
    ///
    /// # Errors
    ///
    /// When no weights of that kind would be multiplied with them.
    pub fn with(self, activations: Activations) -> Result<Self, BenchError> {
        let (rounded, choose) = match (self.weights, activations) {
            (Weights::Float(_), Activations::Int8) => {
                ("to 8 bits only where weights are in blocks", "‘dtype’ stored, for a GGUF file, or int8")
            }
            (Weights::Float(dtype), Activations::Bf16) if dtype != DType::BF16 => {
                ("to bf16 only where weights are in bf16", "‘dtype’ bf16")
            }
            (Weights::Int8, Activations::Bf16) => ("to bf16 only where weights are in bf16", "‘activations’ int8"),
            _ => return Ok(Self { activations, ..self }),
        };
        Err(BenchError::Input(format!("activations are rounded {rounded}, and not beside {self}; choose {choose}")))
    }

    /// The same, where a shape alone says how many bytes weights take.
    ///
    /// # Errors
    ///
    /// When they are as files have them.
    pub fn of_shape(self) -> Result<Self, BenchError> {
        match self.weights {
            Weights::Stored => Err(BenchError::Input(
                "only files say how weights are stored, and none are read here; choose ‘dtype’ int8, bf16, f16 or f32"
                    .into(),
            )),
            _ => Ok(self),
        }
    }

    /// How a decoder is then held.
    pub fn storage(self) -> Storage {
        Storage { weights: self.weights, states: self.states.dtype(), activations: self.activations }
    }

    /// The same, if the device can compute in it.
    ///
    /// # Errors
    ///
    /// When the device cannot.
    pub fn on(self, device: &Device, name: DeviceName) -> Result<Storage, BenchError> {
        let weights = match self.weights {
            Weights::Int8 | Weights::Stored if !name.is_host() => {
                return Err(BenchError::Input(format!(
                    "{name} has no kernels for weights in blocks (int8, stored), the CPU does; choose ‘dtype’ f16 or f32"
                )));
            }
            Weights::Int8 | Weights::Stored => DType::F32,
            Weights::Float(dtype) => dtype,
        };
        match [weights, self.states.dtype()].into_iter().find(|&dtype| !computes_in(device, dtype)) {
            Some(dtype) => Err(BenchError::Input(format!("{name} cannot compute in {dtype:?}; choose ‘dtype’ f32"))),
            None => Ok(self.storage()),
        }
    }
}

impl Default for Precision {
    fn default() -> Self {
        Self::F32
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (weights, usual) = match self.weights {
            Weights::Int8 => ("int8", Float::F32),
            Weights::Stored => ("stored", Float::F32),
            Weights::Float(dtype) => {
                let float = Float::of(dtype).expect("a precision is made of these");
                (float.name(), float)
            }
        };
        f.write_str(weights)?;
        match self.activations {
            Activations::Float if self.states == usual => Ok(()),
            Activations::Float => write!(f, "/{}", self.states),
            activations => write!(f, "/{}/{}", self.states, ActivationsName(activations)),
        }
    }
}

impl From<Precision> for String {
    fn from(precision: Precision) -> Self {
        precision.to_string()
    }
}

impl FromStr for Precision {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, BenchError> {
        let wrong = |why: &str| {
            BenchError::Input(format!(
                "{text:?} {why}; there are f32, f16, bf16, f64, int8 and stored, one for the weights and one for the \
                 states, such as f32/f16, or one for activations too, such as stored/f32/int8"
            ))
        };
        let mut parts = text.splitn(3, '/');
        let (weights, states, activations) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let (weights, usual) = match (weights, Float::named(weights)) {
            ("int8", _) => (Weights::Int8, Float::F32),
            ("stored", _) => (Weights::Stored, Float::F32),
            (_, Some(float)) => (Weights::Float(float.dtype()), float),
            (_, None) => return Err(wrong("is no precision")),
        };
        let states = match states {
            None => usual,
            Some(states) => Float::named(states).ok_or_else(|| wrong("names no precision of states"))?,
        };
        if states == Float::F64 && weights != Weights::Float(DType::F64) {
            return Err(wrong("would hold states wider than what is computed"));
        }
        let activations = match activations {
            None => Activations::Float,
            Some(name) => {
                let wrong = |expected| wrong(&format!("names no precision of activations, {expected}"));
                name.parse::<ActivationsName>().map_err(wrong)?.0
            }
        };
        Self { weights, states, activations: Activations::Float }.with(activations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_read_is_the_one_that_is_written() {
        for (name, written) in [
            ("f32", "f32"),
            ("bf16", "bf16"),
            ("bf16/bf16/bf16", "bf16/bf16/bf16"),
            ("bfloat16/f32/bf16", "bf16/f32/bf16"),
            ("f64", "f64"),
            ("int8", "int8"),
            ("int8/f16", "int8/f16"),
            ("f32/bf16", "f32/bf16"),
            ("f16/f16", "f16"),
            ("int8/f32", "int8"),
            ("f64/f32", "f64/f32"),
            ("float16", "f16"),
            ("bfloat16", "bf16"),
            ("float32/fp16", "f32/f16"),
            ("double", "f64"),
            ("stored", "stored"),
            ("stored/f16", "stored/f16"),
            ("stored/f32/int8", "stored/f32/int8"),
            ("int8/f16/int8", "int8/f16/int8"),
        ] {
            let precision: Precision = name.parse().unwrap();
            assert_eq!(precision.to_string(), written);
            assert_eq!(written.parse::<Precision>().unwrap(), precision);
        }
        assert_eq!(Precision::default().to_string(), "f32");
    }

    #[test]
    fn gguf_files_alone_are_held_as_stored_and_on_the_cpu_alone() {
        let usual = |models: &[&str], device| Precision::usual(models.iter().map(Path::new), device);
        let file = "org/name/model.gguf";
        assert_eq!(usual(&[file, "b.gguf"], DeviceName::Cpu), Precision::STORED);
        assert_eq!(usual(&[file, "bundled"], DeviceName::Cpu), Precision::F32);
        assert_eq!(usual(&[file], DeviceName::Wgpu(None)), Precision::F32);
        assert_eq!(usual(&[], DeviceName::Cpu), Precision::F32);
    }

    #[test]
    fn what_is_no_precision_is_refused_with_those_there_are() {
        for name in [
            "",
            "f8",
            "f32/",
            "f32/int8",
            "f32/f64",
            "int8/f64",
            "F32",
            "stored/",
            "stored/int8",
            "f32/stored",
            "stored/f32/",
            "int8/f32/f16",
        ] {
            let error = name.parse::<Precision>().unwrap_err().to_string();
            assert!(error.contains("f32/f16") && error.contains("int8"), "{error}");
        }
        let error = "f32/f16/int8".parse::<Precision>().unwrap_err().to_string();
        assert!(error.contains("not beside f32/f16") && error.contains("stored"), "{error}");
        for (name, remedy) in [("f32/f32/bf16", "‘dtype’ bf16"), ("int8/f32/bf16", "‘activations’ int8")] {
            let error = name.parse::<Precision>().unwrap_err().to_string();
            assert!(error.contains("only where weights are in bf16") && error.contains(remedy), "{error}");
        }
    }
}
