//! The kernels that a driver was given, and what `ptxas` says of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use libtest_mimic::Failed;
use walkdir::WalkDir;

use crate::toolkit::Toolkit;
use crate::walk;

/// A kernel as it was loaded.
pub(crate) struct Kernel {
    /// Its entry point.
    name: String,
    /// Policy, dtype, head size.
    case: [String; 3],
    /// Where its PTX is.
    path: PathBuf,
    /// Whether an empty kernel stands in its place (`compiler.c`).
    left_out: bool,
}

/// msrnn's own kernels, as its sources name them, that one excepted which takes burn's products' place where there is no
/// card.
static OURS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let sources = WalkDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../msrnn-core/src")).into_iter();
    let files = sources.map(|entry| entry.expect("the sources can be read").into_path());
    let mut ours = Vec::new();
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let text = std::fs::read_to_string(file).expect("the sources can be read");
        let functions = text.lines().filter_map(|line| line.strip_prefix("fn ")?.split(['<', '(']).next());
        let kernels = functions.filter_map(|name| name.strip_suffix("_kernel"));
        ours.extend(kernels.filter(|&name| name != "product").map(str::to_string));
    }
    ours
});

impl Kernel {
    /// Which of msrnn's own it is.
    fn ours(&self) -> Option<&'static str> {
        let (name, _) = self.name.split_once("_kernel")?;
        OURS.iter().find(|own| *own == name).map(String::as_str)
    }
}

/// Largest numbers over the variants of a kernel.
#[derive(Default)]
struct Row {
    variants: usize,
    registers: u64,
    shared: u64,
    spilled: u64,
}

/// What is in the driver's folder.
pub(crate) fn read(folder: &Path) -> Result<Vec<Kernel>, Failed> {
    let mut kernels = Vec::new();
    for n in 0.. {
        let path = folder.join(format!("{n}.ptx"));
        if !path.exists() {
            break;
        }
        let ptx = std::fs::read_to_string(&path)?;
        let entry = ptx.lines().find_map(|line| line.trim().strip_prefix(".visible .entry "));
        let Some(name) = entry else { return Err(format!("{} has no entry point", path.display()).into()) };
        let name = name.trim_end_matches('(').to_string();
        let case = std::fs::read_to_string(folder.join(format!("{n}.case"))).unwrap_or_default();
        let mut words = case.trim().split('\t').map(str::to_string);
        let case = [(); 3].map(|()| words.next().unwrap_or_default());
        kernels.push(Kernel { name, case, path, left_out: ptx.starts_with("// left out") });
    }
    Ok(kernels)
}

/// Fails with the first kernel that NVRTC did not take, and what it said.
pub(crate) fn none_was_refused(folder: &Path) -> Result<(), Failed> {
    match std::fs::read_to_string(folder.join("0.refused")) {
        Err(_) => Ok(()),
        Ok(first) => Err(format!("NVRTC refuses a kernel:\n{first}").into()),
    }
}

/// Fails where kernels that every state needs were not seen: the walk has not gone where it should.
pub(crate) fn cover(kernels: &[Kernel]) -> Result<(), Failed> {
    for name in OURS.iter() {
        if !kernels.iter().any(|kernel| kernel.ours() == Some(name.as_str())) {
            return Err(format!("no kernel called {name} was compiled").into());
        }
    }
    // What states in f16 beside weights in f32 need was compiled when both were in f16.
    for (dtype, _) in walk::storages().into_iter().filter(|(dtype, _)| !dtype.contains('/')) {
        let of = |kernel: &&Kernel| kernel.case[1] == dtype && kernel.ours() == Some("attend");
        if kernels.iter().find(of).is_none() {
            return Err(format!("no attention was compiled for {dtype}").into());
        }
    }
    Ok(())
}

/// A row per kernel, dtype and head size: how many variants there are, and the largest numbers among them.
pub(crate) fn table(kernels: &[Kernel], toolkit: &Toolkit, sm: &str) -> Result<String, Failed> {
    let mut rows: BTreeMap<[&str; 3], Row> = BTreeMap::new();
    for kernel in kernels {
        let Some(name) = kernel.ours() else { continue };
        let [_, dtype, head_size] = &kernel.case;
        let row = rows.entry([name, dtype, head_size]).or_default();
        row.variants += 1;
        if let Some(ptxas) = &toolkit.ptxas {
            let used = used(ptxas, &kernel.path, sm)?;
            row.registers = row.registers.max(used[0]);
            row.shared = row.shared.max(used[1]);
            row.spilled = row.spilled.max(used[2]);
        }
    }
    let ours: usize = rows.values().map(|row| row.variants).sum();
    let left_out = kernels.iter().filter(|kernel| kernel.left_out).count();
    let of_burn = kernels.len() - ours - left_out;
    let mut text = format!(
        "\n### sm_{sm}\n\n{ours} kernels of msrnn, {of_burn} of burn; {left_out} of its tiled products were not compiled.\n\n"
    );
    text.push_str("| kernel | dtype | head size | variants | registers | shared bytes | spilled bytes |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|\n");
    for ([name, dtype, head_size], row) in rows {
        let Row { variants, registers, shared, spilled } = row;
        let _ = match toolkit.ptxas {
            Some(_) => {
                writeln!(text, "| `{name}` | {dtype} | {head_size} | {variants} | {registers} | {shared} | {spilled} |")
            }
            None => writeln!(text, "| `{name}` | {dtype} | {head_size} | {variants} | | | |"),
        };
    }
    Ok(text)
}

/// Registers of a thread, static shared memory of a block and bytes that registers spill.
fn used(ptxas: &Path, ptx: &Path, sm: &str) -> Result<[u64; 3], Failed> {
    let arch = match sm {
        "90" => "sm_90a".to_string(),
        _ => format!("sm_{sm}"),
    };
    let output = Command::new(ptxas).args(["-v", "-arch", &arch, "-o", "/dev/null"]).arg(ptx).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("ptxas refuses {}: {said}", ptx.display()).into());
    }
    let before = |unit: &str| {
        let words: Vec<&str> = said.split([' ', ',', '\n']).filter(|word| !word.is_empty()).collect();
        let unit: Vec<&str> = unit.split(' ').collect();
        let at = (1..words.len()).find(|&i| words[i..].starts_with(&unit));
        at.and_then(|i| words[i - 1].parse().ok()).unwrap_or(0)
    };
    Ok([before("registers"), before("bytes smem"), before("bytes spill stores")])
}
