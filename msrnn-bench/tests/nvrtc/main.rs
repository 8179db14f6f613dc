//! Every kernel that a model under a policy runs on CUDA, compiled by NVRTC where there is no card.
//!
//! ```sh
//! cargo test --release --workspace --features cuda --test nvrtc
//! ```
//!
//! The whole road of production is walked, on a driver that keeps memory, launches nothing and writes down the
//! kernels that it is given (`driver.c`), through an NVRTC that keeps what it refuses (`compiler.c`): a model of two
//! layers under every policy of the registry, in every dtype and head size in use. That NVRTC takes a kernel is all
//! that is shown; its numbers are the cross-device suite's affair. Wants NVRTC and CUDA's headers (`CUDA_PATH`) and a C compiler, else it counts as ignored;
//! `runs/nvrtc-check` gets them from PyPI, and `ptxas`, which says how many registers a kernel takes.

mod kernels;
mod toolkit;
mod walk;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

use toolkit::Toolkit;

/// In which folder the kernels go that the driver is given; set for the process that walks.
const OUT: &str = "MSRNN_DRIVER_OUT";

/// Compute capabilities that kernels are compiled for: A100, H100 and H200.
const ARCHITECTURES: [&str; 2] = ["80", "90"];

fn main() -> ExitCode {
    if let Some(out) = std::env::var_os(OUT) {
        return walk::walk(Path::new(&out));
    }
    let arguments = Arguments::from_args();
    let toolkit = Toolkit::find();
    if let Err(reason) = &toolkit {
        eprintln!("ignoring the compilation by NVRTC: {reason}");
    }
    let trials = ARCHITECTURES.map(|sm| {
        let (there, toolkit) = (toolkit.is_ok(), toolkit.clone());
        let run = move || compile(&toolkit.expect("an ignored test does not run"), sm);
        Trial::test(format!("nvrtc_compiles_every_kernel_of_every_policy_for_sm_{sm}"), run).with_ignored_flag(!there)
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// Walks in a process of its own, since a driver is looked for once, and reads what was compiled.
fn compile(toolkit: &Toolkit, sm: &'static str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    toolkit.build(folder.path())?;
    let out = kept(sm).unwrap_or_else(|| folder.path().join("kernels"));
    std::fs::create_dir_all(&out)?;
    let walked = Command::new(std::env::current_exe()?)
        .env(OUT, &out)
        .env("MSRNN_DRIVER_SM", sm)
        .env("MSRNN_NVRTC", &toolkit.nvrtc)
        .env("LD_LIBRARY_PATH", folder.path())
        .env("CUDA_PATH", &toolkit.root)
        // Every kernel is compiled anew, and burn does not try variants of its own against each other.
        .env("CUBECL_AUTOTUNE_LEVEL", "minimal")
        .env("XDG_CACHE_HOME", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .status()?;
    if !walked.success() {
        return Err(format!("the walk for sm_{sm} ended early; see above").into());
    }
    kernels::none_was_refused(&out)?;
    let kernels = kernels::read(&out)?;
    kernels::cover(&kernels)?;
    let table = kernels::table(&kernels, toolkit, sm)?;
    println!("{table}");
    if kept(sm).is_some() {
        std::fs::write(out.join("table.md"), table)?;
    }
    Ok(())
}

/// Where kernels and table are to be kept, if they are.
fn kept(sm: &str) -> Option<PathBuf> {
    std::env::var_os("MSRNN_NVRTC_OUT").map(|folder| Path::new(&folder).join(format!("sm_{sm}")))
}
