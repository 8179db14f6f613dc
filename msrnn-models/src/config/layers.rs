//! What differs from layer to layer, and from one architecture to another, as data.

use serde::{Deserialize, Serialize};

/// Some of the layers of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layers {
    /// Every one.
    #[default]
    All,
    /// Those whose place says so, from the first layer to the last.
    These(Vec<bool>),
}

impl Layers {
    /// Those of a list, from the first layer to the last.
    pub fn of(list: Vec<bool>) -> Self {
        if list.iter().all(|is| *is) { Self::All } else { Self::These(list) }
    }

    /// Whether a layer is one of them.
    pub fn has(&self, layer: usize) -> bool {
        match self {
            Self::All => true,
            Self::These(list) => list.get(layer).copied().unwrap_or(false),
        }
    }

    /// Layer by layer, of so many.
    pub fn list(&self, layers: usize) -> Vec<bool> {
        (0..layers).map(|layer| self.has(layer)).collect()
    }
}

/// Factors of a model (Granite's). Those of a Llama leave everything as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// What embeddings are multiplied with.
    pub embedding: f64,
    /// What logits of attention are multiplied with; none: 1/√head_dim.
    pub attention: Option<f64>,
    /// What attention and feed-forward are multiplied with before they are added to their input.
    pub residual: f64,
    /// What logits are divided by.
    pub logits: f64,
}

impl Default for Scales {
    fn default() -> Self {
        Self { embedding: 1.0, attention: None, residual: 1.0, logits: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_those_of_their_list() {
        for list in [vec![true, true], vec![true, false, true], vec![false, false]] {
            assert_eq!(Layers::of(list.clone()).list(list.len()), list);
        }
        assert_eq!(Layers::of(vec![true; 3]), Layers::All);
    }
}
