//! The compression policies, one file each, policies made of others, and policies as text.
//!
//! | policy | file | omits |
//! |---|---|---|
//! | `window`, `window+i` | [`Window`] | the oldest row (but the first i) |
//! | `h2o`, `h2o-layer` | [`H2o`] | the lowest accumulated attention outside the recent half |
//! | `tova`, `tova-head`, `tova+i` | [`Tova`] | the lowest attention of the current query |
//! | `random` | [`Random`] | any row |
//! | `knorm` | [`Knorm`] | the longest key |
//! | `keydiff` | [`KeyDiff`] | the key most like the mean of all |
//! | `snapkv` | [`SnapKv`] | after the prompt, what its last queries attend to least |
//! | `lagkv` | [`LagKv`] | every n tokens, what stands out least against what follows |
//! | `rkv` | [`Rkv`] | every n tokens, what is unimportant or redundant |
//! | `oracle`, `oracle-head` | [`Oracle`] | what the rest of the text attends to least: a ceiling, no policy |
//! | `score(...)` | [`Scored`] | the lowest value of an expression |
//! | `protect(p, first=i, newest=n)` | [`Protect`] | as p, but never these |
//! | `layers(0-1: full, *: p)` | [`PerLayer`] | in each layer as its policy |
//! | `heads(0: full, *: p)` | [`PerHead`] | in each KV head as its policy |
//! | `pyramid(p, beta=b)` | [`Pyramid`] | as p, with more states in the lower layers |
//! | `every(n, p)` | [`Every`] | as p, every n tokens |
//! | `after-prompt(p)` | [`AfterPrompt`] | as p, once after the prompt |
//! | `pooled(p, floor=0.2)` | [`Pooled`] | as p, heads competing for their layer's budget |
//! | `merge(p, threshold=0.5, weight=mean)` | [`Merge`] | as p, merged into the most similar row that stays |
//! | `in-state(p)`, `gap-compressed(p)`, `original(p)` | [`Renumbered`] | as p, rows numbered so; `streaming(first=4)` is `in-state(window+4)` |
//! | `int8(p)`, `int4(p)`, `int2(p)` | [`Packed`] | as p, with rows in fewer bits; `int4(full)`: nothing |
//! | `kivi(bits=2, group=32, recent=128)` | [`Packed`] | nothing, rows in fewer bits |
//!
//! To add one: write a file like [`tova.rs`](Tova) with its entries, put them into
//! [`Registry::default`](registry::Registry), add a hand-worked case to `testdata/policies/`, and put it through
//! `msrnn_core::laws` as the tests of this crate do. A policy outside this crate needs none of
//! that: any [`Policy`](msrnn_core::policy::Policy) can be run, and a [`Registry`](registry::Registry) that holds it
//! gives it a name in the whole command. `docs/policy-guide.md` shows both.

mod combine;
mod error;
mod field;
mod h2o;
mod needs;
mod random;
pub mod registry;
mod scored;
mod spec;
mod text;
mod tova;
mod window;

pub use combine::{AfterPrompt, Every, Merge, Packed, PerHead, PerLayer, Pooled, Protect, Pyramid, Renumbered};
pub use error::SpecError;
pub use field::{KeyDiff, Knorm, LagKv, Oracle, Pool, Rkv, SnapKv};
pub use h2o::H2o;
pub use random::Random;
pub use scored::Scored;
pub use spec::PolicySpec;
pub use text::{Arguments, Place, split, without_budget};
pub use tova::Tova;
pub use window::Window;
