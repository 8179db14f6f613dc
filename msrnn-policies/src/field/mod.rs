//! Policies of the field beside those of the paper; `docs/policies-of-the-field.md` has their exact rules.

mod keydiff;
mod knorm;
mod lagkv;
mod oracle;
mod pool;
mod rkv;
mod snapkv;

pub use keydiff::KeyDiff;
pub use knorm::Knorm;
pub use lagkv::LagKv;
pub use oracle::Oracle;
pub use pool::Pool;
pub use rkv::Rkv;
pub use snapkv::SnapKv;

use crate::registry::Entry;

pub(crate) fn entries() -> Vec<Entry> {
    [knorm::entries(), keydiff::entries(), snapkv::entries(), lagkv::entries(), rkv::entries(), oracle::entries()]
        .concat()
}
