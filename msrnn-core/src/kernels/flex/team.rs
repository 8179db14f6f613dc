//! Cores that wait for parts of what one of them computes.
//!
//! A token is some hundred products of a few microseconds each, with little between them. Rayon's pool shares one of them
//! at the cost of a microsecond or two a part, so that parts are few and cores wait for the last one. Here cores look for
//! parts all the while that a token is computed, and take one for the price of a few atomic operations. They still take
//! what rayon has to do, so that a kernel that shares its work there finds them too.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

/// How often a core that waits looks for parts before it looks for what rayon has to do.
const PATIENCE: usize = 64;

/// The work that is shared.
struct Work<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    parts: usize,
}

#[derive(Default)]
struct Team {
    /// The number of the work, counted up, and how many parts of it nobody has taken.
    open: AtomicU64,
    work: AtomicPtr<Work<'static>>,
    /// Parts that are done.
    done: AtomicUsize,
    is_over: AtomicBool,
}

thread_local! {
    /// The team that this thread leads.
    static LED: Cell<*const Team> = const { Cell::new(ptr::null()) };
    /// Whether it computes parts of shared work.
    static IS_SHARING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`, during which the pool's other cores wait for parts of what [`each`] shares.
pub(crate) fn together<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let others = rayon::current_num_threads() - 1;
    if others == 0 || leads() {
        return f();
    }
    let team = Team::default();
    rayon::scope(|scope| {
        (0..others).for_each(|_| scope.spawn(|_| team.help()));
        let _leading = Leading::of(&team);
        f()
    })
}

/// Whether this thread leads others that wait.
pub(crate) fn leads() -> bool {
    !LED.get().is_null() && !IS_SHARING.get()
}

/// `f` of every item, on the cores that wait for it, else on those of rayon's pool.
pub(crate) fn each<T: Send>(items: &mut [T], f: impl Fn(&mut T) + Sync) {
    if !leads() {
        return items.par_iter_mut().for_each(|item| f(item));
    }
    /// Of items that are handed out one by one.
    struct First<T>(*mut T);
    // SAFETY: an item goes to one thread.
    unsafe impl<T: Send> Sync for First<T> {}
    impl<T> First<T> {
        fn item(&self, index: usize) -> *mut T {
            self.0.wrapping_add(index)
        }
    }

    let (first, parts) = (First(items.as_mut_ptr()), items.len());
    // SAFETY: the team lives as long as it is led, and an index below `parts` is taken once.
    unsafe { (*LED.get()).share(parts, &|index| f(&mut *first.item(index))) };
}

/// A thread that leads a team, until this is dropped.
struct Leading<'a> {
    team: &'a Team,
    before: *const Team,
    was_sharing: bool,
}

impl<'a> Leading<'a> {
    fn of(team: &'a Team) -> Self {
        Self { team, before: LED.replace(team), was_sharing: IS_SHARING.replace(false) }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        LED.set(self.before);
        IS_SHARING.set(self.was_sharing);
        self.team.is_over.store(true, Ordering::Release);
    }
}

impl Team {
    /// `f` of every number below `parts`, once each.
    fn share(&self, parts: usize, f: &(dyn Fn(usize) + Sync)) {
        assert!(u32::try_from(parts).is_ok(), "{parts} parts");
        let work = Work { f, parts };
        self.done.store(0, Ordering::Relaxed);
        self.work.store(ptr::from_ref(&work).cast_mut().cast(), Ordering::Relaxed);
        let number = (self.open.load(Ordering::Relaxed) >> 32) + 1;
        self.open.store(number << 32 | parts as u64, Ordering::Release);
        let _closing = Closing { team: self, parts, was_sharing: IS_SHARING.replace(true) };
        while self.take_part() {}
    }

    /// Computes a part of what is open, if anything is.
    fn take_part(&self) -> bool {
        let open = self.open.load(Ordering::Acquire);
        let left = open as u32;
        if left == 0 {
            return false;
        }
        let work = self.work.load(Ordering::Relaxed);
        if self.open.compare_exchange(open, open - 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return true;
        }
        let _done = Done(&self.done);
        // SAFETY: a part was taken of the work that this was read of: the number says that it is the same. Whoever shares it
        // waits for the part.
        let Work { f, parts } = unsafe { &*work };
        f(parts - left as usize);
        true
    }

    /// Computes parts until the team is over.
    fn help(&self) {
        // Who leads would wait for itself, or for who waits for it.
        if !LED.get().is_null() {
            return;
        }
        let mut idle = 0;
        while !self.is_over.load(Ordering::Acquire) {
            if self.take_part() {
                idle = 0;
            } else {
                idle += 1;
                std::hint::spin_loop();
                if idle % PATIENCE == 0 && rayon::yield_now() == Some(rayon::Yield::Idle) {
                    std::thread::yield_now();
                }
            }
        }
    }
}

/// A part that counts as done even where it panicked, of which rayon's scope tells.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Work that ends when this is dropped, even by a panic: nobody takes a part of it any more, and who took one is waited for.
struct Closing<'a> {
    team: &'a Team,
    parts: usize,
    was_sharing: bool,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let left = self.team.open.fetch_and(!u64::from(u32::MAX), Ordering::AcqRel) as u32;
        let (taken, mut waited) = (self.parts - left as usize, 0);
        while self.team.done.load(Ordering::Acquire) < taken {
            waited += 1;
            std::hint::spin_loop();
            if waited % (PATIENCE * PATIENCE) == 0 {
                std::thread::yield_now();
            }
        }
        IS_SHARING.set(self.was_sharing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_part_of_everything_shared_is_computed_once() {
        for threads in [1, 2, 3, 8] {
            let counts = pool(threads).install(|| {
                together(|| {
                    let mut counts = Vec::new();
                    for parts in (0..400).map(|i| i % 37) {
                        let mut items = vec![0; parts];
                        each(&mut items, |item| *item += 1);
                        counts.extend(items);
                    }
                    counts
                })
            });
            assert_eq!(counts, vec![1; counts.len()], "{threads} threads");
        }
    }

    /// What is shared within a part, with rayon, and among teams that a pool has at once.
    #[test]
    fn work_within_work_and_teams_beside_teams_come_to_an_end() {
        for threads in [2, 3] {
            let sum = AtomicUsize::new(0);
            let add = || _ = sum.fetch_add(1, Ordering::Relaxed);
            let team = || {
                together(|| {
                    for _ in 0..50 {
                        each(&mut [(); 5], |()| {
                            each(&mut [(); 3], |()| add());
                            together(|| each(&mut [(); 2], |()| add()));
                        });
                        (0..7).into_par_iter().for_each(|_| add());
                    }
                });
            };
            pool(threads).install(|| rayon::join(team, || rayon::join(team, team)));
            std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(team))));
            assert_eq!(sum.into_inner(), 6 * 50 * (5 * (3 + 2) + 7), "{threads} threads");
        }
    }

    #[test]
    fn a_part_that_panics_ends_the_work_and_not_the_pool() {
        let pool = pool(3);
        for at in [0, 7, 15] {
            let broken = || {
                together(|| {
                    let mut items: Vec<usize> = (0..16).collect();
                    each(&mut items, |item| assert_ne!(*item, at));
                });
            };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.install(broken)));
            assert!(result.is_err(), "part {at}");
        }
        assert_eq!(pool.install(|| together(|| 3)), 3);
    }
}
