//! How many threads compute.

use crate::error::BenchError;

/// Lets this process compute on `threads` threads. To be called before anything computes.
///
/// # Errors
///
/// When there are none, or the threads were started before.
pub fn limit(threads: usize) -> Result<(), BenchError> {
    if threads == 0 {
        return Err(BenchError::Input("--threads 0 computes nothing; give at least 1".into()));
    }
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    built.map_err(|e| BenchError::Input(format!("--threads {threads}: {e}; start the command anew")))
}
