//! The `msrnn` command. Everything it does is in the library; here it is named and printed.

// Comments on options are help texts, in which brackets and addresses stand for themselves.
#[allow(rustdoc::bare_urls, rustdoc::broken_intra_doc_links)]
mod cli;

use std::process::ExitCode;

// Tensors of a few megabytes come and go with every operation. The system's allocator returns
// them to the kernel each time; keeping them makes training more than twice as fast.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
