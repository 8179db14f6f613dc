//! Vanilla causal attention as plain tensor code: the reference that the laws compare with.

use burn::tensor::{Bool, Int, Tensor};

use crate::kernels::product;
use crate::precision::{narrow, softmax};

/// Queries that are computed at once; bounds the memory of the weights to `BLOCK · tokens`.
const BLOCK: usize = 128;

/// Causal attention of a whole text at once.
///
/// out_t = Σ_{j ≤ t} softmax_j(scale · q_t · k_j) v_j, and with a sliding window only the rows with
/// t − j < window take part.
///
/// # Shapes
///
/// - query: `[batch, heads, tokens, head_dim]`, `heads` a multiple of `kv_heads`; the query heads
///   `h·group .. (h+1)·group` read the KV head `h`
/// - key, value: `[batch, kv_heads, tokens, head_dim]`
/// - output: `[batch, heads, tokens, head_dim]`
pub fn causal_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    scale: f64,
    window: Option<usize>,
) -> Tensor<4> {
    let [_, _, tokens, _] = query.dims();
    let position = Tensor::<1, Int>::arange(0..tokens as i64, &query.device());
    let blocks = (0..tokens).step_by(BLOCK).map(|start| {
        let (n, end) = (BLOCK.min(tokens - start), tokens.min(start + BLOCK));
        let hidden = hidden(position.clone().narrow(0, start, n), position.clone().narrow(0, 0, end), window);
        attend(
            query.clone().narrow(2, start, n),
            key.clone().narrow(2, 0, end),
            value.clone().narrow(2, 0, end),
            scale,
            hidden,
        )
    });
    Tensor::cat(blocks.collect(), 2)
}

/// Attention of some queries to some rows, but those that are `hidden`: `[queries, rows]`.
fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, scale: f64, hidden: Tensor<2, Bool>) -> Tensor<4> {
    let [batch, heads, n, head_dim] = query.dims();
    let [_, kv_heads, rows, _] = key.dims();
    let (group, dtype) = (heads / kv_heads, query.dtype());
    let query = query.mul_scalar(scale).reshape([batch, kv_heads, group * n, head_dim]);
    let logits = product(query, key.swap_dims(2, 3)).reshape([batch, heads, n, rows]);
    let hidden = hidden.reshape([1, 1, n, rows]).expand([batch, heads, n, rows]);
    let weights = softmax(logits.mask_fill(hidden, f32::NEG_INFINITY));
    let weights = narrow(weights, dtype).reshape([batch, kv_heads, group * n, rows]);
    product(weights, value).reshape([batch, heads, n, head_dim])
}

/// Which rows a query does not see: later ones, and with a sliding window those that are
/// `window` or more tokens old. `[queries, rows]`, true where hidden.
pub fn hidden(queries: Tensor<1, Int>, rows: Tensor<1, Int>, window: Option<usize>) -> Tensor<2, Bool> {
    let (n, m) = (queries.dims()[0], rows.dims()[0]);
    let age = queries.reshape([n, 1]).expand([n, m]) - rows.reshape([1, m]).expand([n, m]);
    let later = age.clone().lower_elem(0);
    match window {
        Some(window) => later.bool_or(age.greater_equal_elem(window as i64)),
        None => later,
    }
}
