//! What holds of every multi-state RNN, whatever its state is made of: a plain network, a layer under any policy, a stack
//! of them.

use burn::tensor::Tensor;

use crate::rnn::MultiStateRnn;

/// A scan, in chunks of any size, gives what steps give: `[batch, n, d]` inputs, outputs equal to `bound` of their size.
///
/// # Panics
///
/// When it does not hold.
pub fn a_scan_of_any_chunks_equals_steps<R: MultiStateRnn + ?Sized>(rnn: &R, xs: &Tensor<3>, bound: f64) {
    let [batch, n, d] = xs.dims();
    let mut state = rnn.initial_state(batch, &xs.device());
    let steps = (0..n).map(|t| rnn.step(token(xs, t), &mut state)).collect();
    let expected: Tensor<3> = Tensor::stack(steps, 1);
    for chunk in [n, 1, 2, n / 2 + 1] {
        let mut state = rnn.initial_state(batch, &xs.device());
        let parts = (0..n).step_by(chunk).map(|first| {
            let part = xs.clone().narrow(1, first, chunk.min(n - first));
            rnn.scan(part, &mut state)
        });
        let found = Tensor::cat(parts.collect(), 1);
        assert_eq!(found.dims(), [batch, n, d]);
        assert_close(
            "a_scan_of_any_chunks_equals_steps",
            &format!("chunks of {chunk}"),
            found,
            expected.clone(),
            bound,
        );
    }
}

/// The first outputs of a text are the same whatever follows in the same scan.
///
/// # Panics
///
/// When it does not hold.
pub fn later_tokens_change_no_earlier_output<R: MultiStateRnn + ?Sized>(rnn: &R, xs: &Tensor<3>, bound: f64) {
    let [batch, n, _] = xs.dims();
    let first = n / 2;
    let scan = |xs: &Tensor<3>| {
        let mut state = rnn.initial_state(batch, &xs.device());
        rnn.scan(xs.clone(), &mut state).narrow(1, 0, first)
    };
    let other = Tensor::cat(vec![xs.clone().narrow(1, 0, first), -xs.clone().narrow(1, first, n - first)], 1);
    assert_close("later_tokens_change_no_earlier_output", "another text behind", scan(&other), scan(xs), bound);
}

/// A batch is its rows, each by itself.
///
/// # Panics
///
/// When it does not hold.
pub fn a_batch_of_states_equals_its_rows_alone<R: MultiStateRnn + ?Sized>(rnn: &R, xs: &Tensor<3>, bound: f64) {
    let scan = |xs: Tensor<3>| {
        let mut state = rnn.initial_state(xs.dims()[0], &xs.device());
        rnn.scan(xs, &mut state)
    };
    let all = scan(xs.clone());
    for row in 0..xs.dims()[0] {
        let (found, alone) = (all.clone().narrow(0, row, 1), scan(xs.clone().narrow(0, row, 1)));
        assert_close("a_batch_of_states_equals_its_rows_alone", &format!("row {row}"), found, alone, bound);
    }
}

/// A state that was cloned goes on by itself, and neither copy knows of the other.
///
/// # Panics
///
/// When it does not hold.
pub fn a_fork_goes_on_by_itself<R: MultiStateRnn + ?Sized>(rnn: &R, xs: &Tensor<3>, bound: f64)
where
    R::State: Clone,
{
    let [batch, n, _] = xs.dims();
    let (first, rest) = (xs.clone().narrow(1, 0, n / 2), xs.clone().narrow(1, n / 2, n - n / 2));
    let mut state = rnn.initial_state(batch, &xs.device());
    rnn.scan(first, &mut state);
    let (mut fork, mut kept) = (state.clone(), state.clone());
    let expected = rnn.scan(rest.clone(), &mut state);
    rnn.scan(-rest.clone(), &mut fork);
    let found = rnn.scan(rest, &mut kept);
    assert_close("a_fork_goes_on_by_itself", "beside another text", found, expected, bound);
}

fn token(xs: &Tensor<3>, t: usize) -> Tensor<2> {
    let [batch, _, d] = xs.dims();
    xs.clone().narrow(1, t, 1).reshape([batch, d])
}

fn assert_close(law: &str, what: &str, found: Tensor<3>, expected: Tensor<3>, bound: f64) {
    let values = |x: Tensor<3>| -> Vec<f64> { x.into_data().convert::<f64>().try_into_vec().expect("numbers") };
    for (i, (found, expected)) in values(found).into_iter().zip(values(expected)).enumerate() {
        let close = (found - expected).abs() <= bound * expected.abs().max(1.0);
        assert!(close, "{law}: {what}: output {i} is {found} and not {expected}");
    }
}
