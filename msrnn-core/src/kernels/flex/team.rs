//! Cores that wait for parts of what one of them computes.
//!
//! A token is some hundred products of a few microseconds each, with little between them. Rayon's pool shares one of them
//! at the cost of a microsecond or two a part, so that parts are few and cores wait for the last one. Here threads look for
//! parts all the while that a token is computed, and take one for the price of a few atomic operations.
//!
//! They are threads of their own, and do nothing else: whoever computes a part waits for nobody's work but what that part
//! shares with rayon. There is one team, led by one thread at a time; who finds it led goes without.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::is_worth_cores;

/// Bytes that are worth handing to a core that waits for them.
const WORTH_A_PART: usize = 1 << 16;

/// How often a thread looks for parts before it looks at the clock.
const PATIENCE: usize = 64;

/// After how long without a part a thread lets others have its core, and after how long it sleeps where nobody leads.
const YIELDS_AFTER: Duration = Duration::from_micros(20);
const SLEEPS_AFTER: Duration = Duration::from_millis(1);

/// How long it rests at a time where somebody leads who shares nothing for so long.
const REST: Duration = Duration::from_micros(50);

/// The work that is shared.
struct Work<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    parts: usize,
}

/// What the threads of the team know of each other.
struct Team {
    /// How many threads beside the leader may take parts.
    wanted: AtomicUsize,
    /// The number of the work, counted up, and how many parts of it nobody has taken.
    open: AtomicU64,
    work: AtomicPtr<Work<'static>>,
    /// Parts that are done.
    done: AtomicUsize,
    /// What the first part that panicked since then said.
    panicked: Mutex<Option<Box<dyn Any + Send>>>,
    /// Threads that sleep, or are about to.
    asleep: AtomicUsize,
    gate: Mutex<()>,
    woken: Condvar,
}

static TEAM: Team = Team {
    wanted: AtomicUsize::new(0),
    open: AtomicU64::new(0),
    work: AtomicPtr::new(ptr::null_mut()),
    done: AtomicUsize::new(0),
    panicked: Mutex::new(None),
    asleep: AtomicUsize::new(0),
    gate: Mutex::new(()),
    woken: Condvar::new(),
};

/// Held by who leads: how many threads there are beside it.
static THREADS: Mutex<usize> = Mutex::new(0);

/// What a thread has to do with the team.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    None,
    Leads,
    /// Computes a part.
    Shares,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::None) };
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f`, during which as many cores as the pool of threads has wait for parts of what [`each`] shares, unless they already
/// wait for somebody.
pub(crate) fn together<R>(f: impl FnOnce() -> R) -> R {
    let others = rayon::current_num_threads() - 1;
    if others == 0 || ROLE.get() != Role::None {
        return f();
    }
    let mut threads = match THREADS.try_lock() {
        Ok(threads) => threads,
        // Who led before panicked.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return f(),
    };
    while *threads < others {
        let number = *threads;
        let helper = thread::Builder::new().name(format!("msrnn part {number}"));
        // A thread fewer where the system gives no more.
        if helper.spawn(move || TEAM.help(number)).is_err() {
            break;
        }
        *threads += 1;
    }
    let _leading = Leading::of(&TEAM, others.min(*threads));
    f()
}

/// Whether this thread leads others that wait.
pub(crate) fn leads() -> bool {
    ROLE.get() == Role::Leads
}

/// Whether [`each`] is worth it for items that read so many bytes.
pub(crate) fn is_worth_parts(bytes: usize) -> bool {
    if leads() { bytes >= WORTH_A_PART } else { is_worth_cores(bytes) }
}

/// `f` of every item, on the cores that wait for it, else on those of rayon's pool.
pub(crate) fn each<T: Send>(items: &mut [T], f: impl Fn(&mut T) + Sync) {
    if !leads() {
        return items.par_iter_mut().for_each(&f);
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
    // SAFETY: an index below `parts` is taken once.
    TEAM.share(parts, &|index| f(unsafe { &mut *first.item(index) }));
}

/// A thread that leads the team, until this is dropped.
struct Leading<'a>(&'a Team);

impl<'a> Leading<'a> {
    fn of(team: &'a Team, helpers: usize) -> Self {
        ROLE.set(Role::Leads);
        team.wanted.store(helpers, Ordering::SeqCst);
        if team.asleep.load(Ordering::SeqCst) > 0 {
            drop(locked(&team.gate));
            team.woken.notify_all();
        }
        Self(team)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.wanted.store(0, Ordering::SeqCst);
        ROLE.set(Role::None);
    }
}

impl Team {
    /// `f` of every number below `parts`, once each. Called by who leads.
    fn share(&self, parts: usize, f: &(dyn Fn(usize) + Sync)) {
        assert!(u32::try_from(parts).is_ok(), "{parts} parts");
        let work = Work { f, parts };
        self.done.store(0, Ordering::Relaxed);
        self.work.store(ptr::from_ref(&work).cast_mut().cast(), Ordering::Relaxed);
        let number = (self.open.load(Ordering::Relaxed) >> 32) + 1;
        self.open.store(number << 32 | parts as u64, Ordering::Release);
        while self.take_part() {}
        // All parts are taken, and nobody unwinds from here on before they are done.
        let mut waited = 0;
        while self.done.load(Ordering::Acquire) < parts {
            waited += 1;
            std::hint::spin_loop();
            if waited % (PATIENCE * PATIENCE) == 0 {
                thread::yield_now();
            }
        }
        if let Some(panic) = locked(&self.panicked).take() {
            resume_unwind(panic);
        }
    }

    /// Computes a part of what is open, if anything is. Never panics.
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
        // SAFETY: a part was taken of the work that this was read of: the number says that it is the same. Whoever shares it
        // waits until the part is done.
        let Work { f, parts } = unsafe { &*work };
        let before = ROLE.replace(Role::Shares);
        let result = catch_unwind(AssertUnwindSafe(|| f(parts - left as usize)));
        ROLE.set(before);
        if let Err(panic) = result {
            locked(&self.panicked).get_or_insert(panic);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    /// What the thread of that number does, forever.
    fn help(&self, number: usize) {
        let is_wanted = || self.wanted.load(Ordering::SeqCst) > number;
        let mut idle = 0;
        let mut since = Instant::now();
        loop {
            let wanted = is_wanted();
            if wanted && self.take_part() {
                idle = 0;
                continue;
            }
            idle += 1;
            std::hint::spin_loop();
            if idle == 1 {
                since = Instant::now();
            }
            if idle % PATIENCE != 0 || since.elapsed() < YIELDS_AFTER {
                continue;
            }
            match (since.elapsed() < SLEEPS_AFTER, wanted) {
                (true, _) => thread::yield_now(),
                (false, true) => thread::sleep(REST),
                (false, false) => {
                    let mut gate = locked(&self.gate);
                    self.asleep.fetch_add(1, Ordering::SeqCst);
                    while !is_wanted() {
                        gate = self.woken.wait(gate).unwrap_or_else(PoisonError::into_inner);
                    }
                    self.asleep.fetch_sub(1, Ordering::SeqCst);
                    idle = 0;
                }
            }
        }
    }
}

/// Held by a test that leads: tests run side by side.
#[cfg(test)]
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    locked(&ONE)
}

/// As [`together`], for tests: waits until no other test leads, so that `f` is led.
#[cfg(test)]
pub(crate) fn surely_together<R>(f: impl FnOnce() -> R) -> R {
    let _one = alone();
    together(|| {
        assert!(leads() || rayon::current_num_threads() == 1, "somebody leads beside a test");
        f()
    })
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
                surely_together(|| {
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

    /// What is shared within a part, with rayon, and by several at once, where a thread of the pool has other things to do.
    #[test]
    fn work_within_work_and_leaders_beside_leaders_come_to_an_end() {
        let _one = alone();
        for threads in [2, 3, 4] {
            let sum = AtomicUsize::new(0);
            let add = || _ = sum.fetch_add(1, Ordering::Relaxed);
            let team = || {
                together(|| {
                    for _ in 0..50 {
                        each(&mut [(); 5], |()| {
                            each(&mut [(); 3], |()| add());
                            rayon::join(add, add);
                            together(|| each(&mut [(); 2], |()| add()));
                        });
                        (0..7).into_par_iter().for_each(|_| add());
                    }
                });
            };
            let pool = pool(threads);
            pool.spawn(|| thread::sleep(Duration::from_millis(2)));
            pool.install(|| rayon::join(team, || rayon::join(team, team)));
            thread::scope(|scope| (0..3).for_each(|_| _ = scope.spawn(team)));
            assert_eq!(sum.into_inner(), 6 * 50 * (5 * (3 + 2 + 2) + 7), "{threads} threads");
        }
    }

    #[test]
    fn a_part_that_panics_does_so_where_it_was_shared_and_nothing_goes_on_behind_it() {
        let _one = alone();
        let pool = pool(3);
        for at in 0..48 {
            let broken = || {
                together(|| {
                    let mut items: Vec<usize> = (0..48).collect();
                    each(&mut items, |item| assert_ne!(*item, at, "part {at}"));
                    unreachable!("what is behind parts that panicked");
                })
            };
            let result = catch_unwind(AssertUnwindSafe(|| pool.install(broken)));
            let said = result.unwrap_err().downcast::<String>().expect("what the part said");
            assert!(said.contains(&format!("part {at}")), "{said}");
        }
        assert_eq!(pool.install(|| together(|| 3)), 3);
    }
}
