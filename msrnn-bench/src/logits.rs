//! Logits of every token as a NumPy array, for checks against other implementations.

use npyz::WriterBuilder;

use crate::contexts::Contexts;
use crate::error::BenchError;
use crate::evaluate::{Block, Observer};
use crate::output::OutputFile;

/// Writes float32 `[tokens, vocab]`, one row for every token of every context, prefix included.
/// Contexts must be scored one at a time.
#[derive(Debug)]
pub struct LogitsWriter {
    file: OutputFile,
}

impl LogitsWriter {
    /// Writes the array's header into `file`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn new(mut file: OutputFile, contexts: &Contexts, vocab: usize) -> Result<Self, BenchError> {
        let mut header = Vec::new();
        let shape = [contexts.tokens() as u64, vocab as u64];
        let begun = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape).writer(&mut header).begin_nd();
        begun.map_err(|e| BenchError::Input(format!("the logits cannot be described: {e}")))?;
        file.put(&header)?;
        Ok(Self { file })
    }

    /// The file, with all rows in it.
    pub fn into_file(self) -> OutputFile {
        self.file
    }
}

impl Observer for LogitsWriter {
    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        let data = block.logits.to_data().convert::<f32>();
        let values: &[f32] = data.as_slice().expect("logits are numbers");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.file.put(&bytes)
    }
}
