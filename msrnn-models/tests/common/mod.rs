//! Checkpoints of `testdata/` in a place where they can be changed.

// Every test file uses its own part of these.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

pub(crate) fn golden<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(testdata().join("goldens").join(name)).unwrap()).unwrap()
}

pub(crate) fn tokens(ids: &[u32]) -> Tensor<2, Int> {
    let data: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    Tensor::from_data(TensorData::new(data, [1, ids.len()]), &Device::default())
}

pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().as_slice::<f64>().unwrap().to_vec()
}

/// dtype, shape, bytes.
pub(crate) type Stored = (Dtype, Vec<usize>, Vec<u8>);
/// By name.
pub(crate) type Tensors = BTreeMap<String, Stored>;

/// A copy of a checkpoint.
pub(crate) struct Copy(pub(crate) TempDir);

impl Copy {
    pub(crate) fn of(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(testdata().join("checkpoints").join(name)).unwrap() {
            let entry = entry.unwrap();
            std::fs::write(directory.path().join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
        }
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Sets keys of `config.json`; the value "absent" removes one.
    pub(crate) fn configure(&self, changes: &Value) {
        let path = self.path().join("config.json");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            match value.as_str() {
                Some("absent") => drop(config.as_object_mut().unwrap().remove(key)),
                _ => config[key] = value.clone(),
            }
        }
        std::fs::write(path, config.to_string()).unwrap();
    }

    /// Puts the tensors of a file back after `change`.
    pub(crate) fn change(&self, file: &str, change: impl FnOnce(&mut Tensors)) {
        let mut tensors = read(&self.path().join(file));
        change(&mut tensors);
        write(&self.path().join(file), &tensors);
    }
}

pub(crate) fn read(path: &Path) -> Tensors {
    let file = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let stored = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    tensors.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect()
}

pub(crate) fn write(path: &Path, tensors: &Tensors) {
    let view = |(dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).unwrap();
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| (name, view((*dtype, shape.clone(), bytes))));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
