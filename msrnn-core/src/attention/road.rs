//! Which way the tokens take at which rows go, chosen in one place.

use super::{Attention, step};
use crate::state::MultiState;

/// How tokens at which rows go are seen to. Tokens between them run as whole blocks on every road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Nothing ever goes.
    Free,
    /// Decisions are made inside blocks of tokens, in one pass over scalars on the host.
    InBlocks,
    /// The same in kernels of the device; nothing is read back.
    InKernels,
    /// Every n tokens, or once after the prompt, one step ends with a cut.
    AtCuts,
    /// Token by token, since the rule is tensor code and a row goes at every token.
    ByToken,
    /// Token by token within each layer, by a kernel of the host: rows are merged or numbered anew at every token.
    BySteps,
    /// The same in tensor operations, where rows are numbered anew.
    ByTokenRenumbered,
    /// The same in tensor operations, where rows are merged.
    ByTokenMerged,
    /// Token by token, since a row is packed at every token.
    ByTokenPacked,
    /// Whole rows are made of packed ones for every block, since the device has no kernel that reads them packed, but for one
    /// token alone.
    Unpacked,
}

impl Road {
    /// That of a layer.
    pub(crate) fn of(attention: &Attention, state: &MultiState) -> Self {
        if state.is_by_head() {
            let single = Attention { heads: attention.heads / attention.kv_heads, kv_heads: 1, ..attention.clone() };
            let roads = state.heads.iter().map(|head| Self::of(&single, head));
            return roads.max_by_key(|road| road.cost()).unwrap_or(Self::Free);
        }
        match state.packing() {
            _ if attention.placement.is_some() => Self::deciding(attention, state),
            Some(packing) if packing.every() == 1 => Self::ByTokenPacked,
            Some(_) if !state.is_read_packed() => Self::Unpacked,
            _ => Self::deciding(attention, state),
        }
    }

    /// How rows that go are decided on, however rows are held.
    pub(crate) fn deciding(attention: &Attention, state: &MultiState) -> Self {
        let by_steps = step::on_host(attention, state);
        let Some(bound) = &state.bound else {
            return match attention.placement.is_some() {
                true if by_steps => Self::BySteps,
                true => Self::ByTokenRenumbered,
                false => Self::Free,
            };
        };
        match (bound.program(), bound.is_strict()) {
            _ if attention.shifted(state).is_some() => Self::InBlocks,
            // What a kernel attends, tensor code may still have to decide at every token.
            (program, strict) if attention.placement.is_some() => match by_steps && (program.is_some() || !strict) {
                true => Self::BySteps,
                false => Self::ByTokenRenumbered,
            },
            (_, false) => Self::AtCuts,
            (None, true) => Self::ByToken,
            (Some(_), true) if bound.merges() && by_steps && state.packing().is_none() => Self::BySteps,
            (Some(_), true) if bound.merges() => Self::ByTokenMerged,
            (Some(_), true) if step::decides(attention, state) => Self::InKernels,
            (Some(_), true) => Self::InBlocks,
        }
    }

    /// Of several ways of one layer the one that is said: that which takes longest.
    fn cost(self) -> usize {
        match self {
            Self::Free => 0,
            Self::AtCuts => 1,
            Self::InBlocks | Self::InKernels => 2,
            Self::Unpacked | Self::BySteps => 3,
            Self::ByToken | Self::ByTokenRenumbered | Self::ByTokenMerged | Self::ByTokenPacked => 4,
        }
    }

    /// Whether it takes a text token by token.
    pub fn is_slow(self) -> bool {
        matches!(self, Self::ByToken | Self::ByTokenRenumbered | Self::ByTokenMerged | Self::ByTokenPacked)
    }
}

impl std::fmt::Display for Road {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Free => "whole blocks; nothing ever goes",
            Self::InBlocks => "decided inside blocks of tokens, on the host",
            Self::InKernels => "decided inside blocks of tokens, in kernels on the device",
            Self::AtCuts => "whole blocks between cuts",
            Self::ByToken => {
                "token by token, since the rule is tensor code and a row goes at every token; write it as a score, or cut \
                 less often with every(n, ..)"
            }
            Self::BySteps => {
                "token by token within each layer, by a kernel on the host, since rows are merged or numbered anew at every token"
            }
            Self::ByTokenRenumbered => "token by token, since rows are numbered anew at every step",
            Self::ByTokenMerged => {
                "token by token, since a row is merged at every token; merge less often with merge(every(n, ..))"
            }
            Self::ByTokenPacked => {
                "token by token behind the prompt, since a row is packed at every token; int4(full, keys=channel) packs some \
                 at once"
            }
            Self::Unpacked => {
                "whole blocks, over rows that are unpacked for each: held packed, and on this device only steps of one token read \
                 them so"
            }
        })
    }
}
