//! The `msrnn` command. Everything it does is in the library.

use std::process::ExitCode;

use msrnn_policies::registry::Registry;

// Tensors of a few megabytes come and go with every operation. The system's allocator returns
// them to the kernel each time; keeping them makes training more than twice as fast.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    msrnn_bench::main_with(Registry::default())
}
