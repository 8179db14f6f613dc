//! Which row was omitted when: one JSON line per omission.

use msrnn_core::state::MultiState;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::evaluate::{Block, Observer};
use crate::output::OutputFile;

/// One omission. Steps and positions count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Omission {
    /// Index of the context.
    pub row: usize,
    /// Position of the token at whose step it went.
    pub step: usize,
    /// Layer, from 0.
    pub layer: usize,
    /// KV head that omitted it, none when the whole layer did.
    pub head: Option<usize>,
    /// Position of the row that went.
    pub position: usize,
}

/// Omissions of one block of tokens of all layers, in the order of row, step, layer, head, position.
///
/// The states must record omissions; `contexts` are the indices of their batch rows, `start` is
/// the position of the block's first token.
pub fn omissions(states: &mut [MultiState], contexts: &std::ops::Range<usize>, start: usize) -> Vec<Omission> {
    let mut all = Vec::new();
    for (layer, state) in states.iter_mut().enumerate() {
        let groups = state.groups();
        for (token, gone) in state.take_omitted().into_iter().enumerate() {
            let Some(gone) = gone else { continue };
            let per_group = gone.dims()[2];
            let data = gone.into_data().convert::<i64>();
            let positions: &[i64] = data.as_slice().expect("positions are integers");
            for (i, &position) in positions.iter().enumerate() {
                let Ok(position) = usize::try_from(position) else { continue };
                let (row, group) = (i / (groups * per_group), i / per_group % groups);
                all.push(Omission {
                    row: contexts.start + row,
                    step: start + token,
                    layer,
                    head: (groups > 1).then_some(group),
                    position,
                });
            }
        }
    }
    all.sort_unstable();
    all
}

/// Writes every omission as a line of JSON.
#[derive(Debug)]
pub struct TraceWriter {
    file: OutputFile,
    lines: usize,
}

impl TraceWriter {
    /// A trace into `file`.
    pub fn new(file: OutputFile) -> Self {
        Self { file, lines: 0 }
    }

    /// Lines written.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// The file, with all lines in it.
    pub fn into_file(self) -> OutputFile {
        self.file
    }
}

impl Observer for TraceWriter {
    fn start(&mut self, states: &mut [MultiState]) {
        states.iter_mut().for_each(MultiState::record_omissions);
    }

    fn block(&mut self, block: Block<'_>) -> Result<(), BenchError> {
        for omission in omissions(block.states, &block.contexts, block.start) {
            let line = serde_json::to_string(&omission).expect("an omission is JSON");
            self.file.put(format!("{line}\n").as_bytes())?;
            self.lines += 1;
        }
        Ok(())
    }
}
