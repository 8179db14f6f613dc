//! A layer as a policy is told of it, and who decides in it.

use serde::{Deserialize, Serialize};

/// The layer that a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Which of the stack, counted from 0.
    pub index: usize,
    /// How many there are.
    pub layers: usize,
    /// KV heads of the layer.
    pub kv_heads: usize,
    /// k as it was asked for: the mean over the layers.
    pub states: usize,
}

impl Layer {
    /// The only layer of a stack of one.
    pub fn only(states: usize) -> Self {
        Self { index: 0, layers: 1, kv_heads: 1, states }
    }
}

/// How many independent decisions a layer makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decides {
    /// One for the whole layer: the same position leaves every KV head.
    Layer,
    /// One for each KV head.
    KvHead,
}

impl Decides {
    /// Decisions of a layer with that many KV heads.
    pub fn groups(self, kv_heads: usize) -> usize {
        match self {
            Self::Layer => 1,
            Self::KvHead => kv_heads,
        }
    }
}
