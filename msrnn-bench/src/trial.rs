//! How long work takes, judged by a second of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a trial goes on, and how long it waits for its first tokens.
const TRIAL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(15);

/// Work that is given whom to tell of tokens that it went through, and what is set when it shall end; it may end before
/// that, when there is no more of it.
pub(crate) type Work<'w> = dyn Fn(&(dyn Fn(usize) + Sync), &AtomicBool) + Sync + 'w;

/// How long so many tokens take, judged by what `work`, done by so many side by side, goes through in a second; none where
/// that is nothing.
pub(crate) fn estimate(
    tokens: usize,
    side_by_side: usize,
    work: &Work<'_>,
    interrupt: &AtomicBool,
) -> Option<Duration> {
    let (enough, gone) = (AtomicBool::new(false), AtomicUsize::new(0));
    let started = Instant::now();
    let advance = |tokens: usize| {
        gone.fetch_add(tokens, Ordering::Relaxed);
        if started.elapsed() >= TRIAL {
            enough.store(true, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..side_by_side.max(1)).map(|_| scope.spawn(|| work(&advance, &enough))).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            let waits = gone.load(Ordering::Relaxed) == 0 && started.elapsed() < PATIENCE;
            if interrupt.load(Ordering::Relaxed) || (started.elapsed() >= TRIAL && !waits) {
                enough.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Work that panics says nothing about time.
        workers.into_iter().for_each(|worker| drop(worker.join()));
    });
    let gone = gone.into_inner();
    (gone > 0).then(|| started.elapsed().mul_f64(tokens as f64 / gone as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_in_proportion_to_tokens_and_unknown_where_none_were_gone_through() {
        let work = |advance: &(dyn Fn(usize) + Sync), _: &AtomicBool| {
            std::thread::sleep(Duration::from_millis(50));
            advance(10);
        };
        let never = AtomicBool::new(false);
        let found = estimate(1000, 2, &work, &never).unwrap().as_secs_f64();
        // Twenty tokens in a twentieth of a second, or somewhat more where the machine is busy.
        assert!((2.5..60.0).contains(&found), "{found}");
        assert_eq!(estimate(1000, 1, &|_, _| (), &never), None);
    }
}
