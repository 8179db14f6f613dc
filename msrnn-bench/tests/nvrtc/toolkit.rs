//! What of CUDA's toolkit is at hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;

/// NVRTC, the headers that kernels include, and ptxas if it is there.
#[derive(Clone)]
pub(crate) struct Toolkit {
    /// The folder with `include`.
    pub(crate) root: PathBuf,
    /// The folder with NVRTC.
    pub(crate) libraries: PathBuf,
    /// Says registers, shared memory and spills of a kernel.
    pub(crate) ptxas: Option<PathBuf>,
}

impl Toolkit {
    /// That in `CUDA_PATH`, as NVIDIA installs it or as its packages on PyPI do (`nvidia/cu13`).
    pub(crate) fn find() -> Result<Self, String> {
        let root = std::env::var_os("CUDA_PATH").map_or_else(|| PathBuf::from("/usr/local/cuda"), PathBuf::from);
        let told = root.display();
        if !root.join("include/cuda_fp16.h").exists() {
            return Err(format!("no CUDA headers in {told}/include; set CUDA_PATH, or use runs/nvrtc-check"));
        }
        let libraries = ["lib64", "lib"].map(|folder| root.join(folder)).into_iter().find(|folder| has_nvrtc(folder));
        let Some(libraries) = libraries else { return Err(format!("no libnvrtc in {told}/lib64 or {told}/lib")) };
        if Command::new("cc").arg("--version").output().is_err() {
            return Err("no C compiler called cc".into());
        }
        let ptxas = root.join("bin/ptxas");
        Ok(Self { ptxas: ptxas.exists().then_some(ptxas), root, libraries })
    }

    /// Builds the driver without a card in a folder; the folder to look for it in.
    pub(crate) fn driver(&self, folder: &Path) -> Result<PathBuf, Failed> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvrtc/driver.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(folder.join("libcuda.so"))
            .arg(source)
            .output()?;
        match built.status.success() {
            true => Ok(folder.to_path_buf()),
            false => Err(String::from_utf8_lossy(&built.stderr).into_owned().into()),
        }
    }
}

fn has_nvrtc(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libnvrtc.so"))
}
