//! What of CUDA's toolkit is at hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;

/// NVRTC, the headers that kernels include, and ptxas if it is there.
#[derive(Clone)]
pub(crate) struct Toolkit {
    /// The folder with `include`.
    pub(crate) root: PathBuf,
    /// NVRTC itself.
    pub(crate) nvrtc: PathBuf,
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
        let Some(nvrtc) = ["lib64", "lib"].into_iter().find_map(|folder| nvrtc(&root.join(folder))) else {
            return Err(format!("no libnvrtc in {told}/lib64 or {told}/lib"));
        };
        if Command::new("cc").arg("--version").output().is_err() {
            return Err("no C compiler called cc".into());
        }
        let ptxas = root.join("bin/ptxas");
        Ok(Self { ptxas: ptxas.exists().then_some(ptxas), root, nvrtc })
    }

    /// Builds the driver without a card, and what stands before NVRTC, in a folder.
    pub(crate) fn build(&self, folder: &Path) -> Result<(), Failed> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvrtc");
        for (source, library) in [("driver.c", "libcuda.so"), ("compiler.c", "libnvrtc.so")] {
            let built = Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-o"])
                .arg(folder.join(library))
                .arg(sources.join(source))
                .arg("-ldl")
                .output()?;
            if !built.status.success() {
                return Err(String::from_utf8_lossy(&built.stderr).into_owned().into());
            }
        }
        Ok(())
    }
}

/// NVRTC in a folder.
fn nvrtc(folder: &Path) -> Option<PathBuf> {
    let mut paths: Vec<PathBuf> = folder.read_dir().ok()?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libnvrtc.so")
    };
    paths.into_iter().find(is_it)
}
