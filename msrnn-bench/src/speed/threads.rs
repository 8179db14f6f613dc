//! How many threads compute.

use crate::error::BenchError;

/// Threads that are more than a slip of the keyboard.
const MOST: usize = 4096;

/// Lets this process compute on `threads` threads. To be called before anything computes.
///
/// # Errors
///
/// When there are none, or the threads were started before.
pub(crate) fn limit(threads: usize) -> Result<(), BenchError> {
    if threads == 0 {
        return Err(BenchError::Input("‘threads’ 0 computes nothing; give at least 1".into()));
    }
    if threads > MOST {
        return Err(BenchError::Input(format!(
            "‘threads’ {threads} are more than any machine has; give at most {MOST}"
        )));
    }
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    built.map_err(|e| BenchError::Input(format!("‘threads’ {threads}: {e}; start the command anew")))
}
