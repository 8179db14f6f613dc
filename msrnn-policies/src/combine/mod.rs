//! Policies made of other policies: each maps the plan of the one inside it, and knows nothing of its rule.

mod cuts;
mod merge;
mod packed;
mod per_head;
mod per_layer;
mod pooled;
mod protect;
mod pyramid;
mod ranges;
mod renumbered;

pub use cuts::{AfterPrompt, Every};
pub use merge::Merge;
pub use packed::Packed;
pub use per_head::PerHead;
pub use per_layer::PerLayer;
pub use pooled::Pooled;
pub use protect::Protect;
pub use pyramid::Pyramid;
pub use renumbered::Renumbered;
