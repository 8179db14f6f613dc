//! Codes in registers.

#![allow(clippy::needless_range_loop, reason = "loops over constants, which are unrolled into registers")]

use super::Coded;
use crate::kernels::flex::lanes::{self, Lanes, for_registers};
use crate::kernels::flex::tile::At;
use crate::kernels::flex::{LINE, ask_for};
use crate::packing::Bits;

/// Queries that are handled side by side.
const QUERIES: usize = 4;

/// What one kind of registers does. A row must be whole registers of it, as [`kinds`] sees to.
#[derive(Clone, Copy)]
pub(super) struct Functions {
    lanes: usize,
    unpack: unsafe fn(&Rows, &mut [f32]),
    products: unsafe fn(&[f32], &Rows, &mut [f32], At),
    add_weighted: unsafe fn(&[f32], At, &Rows, &mut [f32]),
}

impl Functions {
    /// numbers: `[n, head_dim]`
    pub(super) fn unpack(&self, rows: &Coded<'_, f32>, numbers: &mut [f32]) {
        let rows = Rows::of(rows);
        assert!(numbers.len() >= rows.n * rows.d, "rows have fewer numbers");
        // SAFETY: the processor has the instructions.
        unsafe { (self.unpack)(&rows, numbers) }
    }

    /// query: `[queries, head_dim]`
    pub(super) fn products(&self, query: &[f32], rows: &Coded<'_, f32>, weights: &mut [f32], at: At) {
        let rows = Rows::of(rows);
        rows.check(query.len(), weights.len(), at);
        // SAFETY: the processor has the instructions.
        unsafe { (self.products)(query, &rows, weights, at) }
    }

    /// sums: `[queries, head_dim]`
    pub(super) fn add_weighted(&self, weights: &[f32], at: At, rows: &Coded<'_, f32>, sums: &mut [f32]) {
        let rows = Rows::of(rows);
        rows.check(sums.len(), weights.len(), at);
        // SAFETY: the processor has the instructions.
        unsafe { (self.add_weighted)(weights, at, &rows, sums) }
    }

    /// Whether rows like these are whole registers.
    fn take(&self, rows: &Coded<'_, f32>) -> bool {
        let bytes = rows.bytes();
        let group = rows.group.filter(|&group| group < rows.head_dim);
        let parts = group.is_none_or(|group| group.is_power_of_two() && group >= self.lanes);
        parts && bytes.is_multiple_of(self.lanes) && rows.head_dim == bytes * 8 / rows.bits.number()
    }
}

/// The kinds of registers that the processor has, and that rows like these fill: the widest first.
pub(super) fn kinds(rows: &Coded<'_, f32>) -> impl Iterator<Item = (&'static str, Functions)> {
    for_registers!(Functions: FUNCTIONS).filter(|(_, functions)| functions.take(rows))
}

/// Whether the processor has instructions for it; the numbers, if it has.
pub(super) fn unpack(rows: &Coded<'_, f32>, numbers: &mut [f32]) -> bool {
    kinds(rows).next().map(|(_, functions)| functions.unpack(rows, numbers)).is_some()
}

/// The products, likewise.
pub(super) fn products(query: &[f32], rows: &Coded<'_, f32>, weights: &mut [f32], at: At) -> bool {
    kinds(rows).next().map(|(_, functions)| functions.products(query, rows, weights, at)).is_some()
}

/// The sums, likewise.
pub(super) fn add_weighted(weights: &[f32], at: At, rows: &Coded<'_, f32>, sums: &mut [f32]) -> bool {
    kinds(rows).next().map(|(_, functions)| functions.add_weighted(weights, at, rows, sums)).is_some()
}

/// Rows that were looked at: so many bytes and scales there are.
struct Rows<'a> {
    codes: &'a [u8],
    bits: Bits,
    scales: &'a [f32],
    lows: &'a [f32],
    /// Which power of two of neighbours in a row share a scale, if they do.
    group: Option<u32>,
    /// Scales of a row.
    parts: usize,
    bytes: usize,
    n: usize,
    d: usize,
}

impl<'a> Rows<'a> {
    fn of(rows: &Coded<'a, f32>) -> Self {
        let Coded { codes, bits, scales, lows, group, head_dim: d } = *rows;
        let bytes = rows.bytes();
        let n = codes.len() / bytes;
        let parts = group.map_or(0, |group| d.div_ceil(group));
        let tables = if group.is_some() { n * parts } else { d };
        assert!(scales.len() >= tables && lows.len() >= tables, "rows have scales");
        // All of a row, where it is one group.
        let group = group.map(|group| if group < d { group.ilog2() } else { usize::BITS - 1 });
        Self { codes, bits, scales, lows, group, parts, bytes, n, d }
    }

    fn check(&self, of_queries: usize, weights: usize, at: At) {
        let queries = of_queries / self.d;
        assert!(at.first + self.n <= at.stride && queries * at.stride <= weights, "rows have weights");
    }

    /// Whether registers of neighbours share scales two by two.
    #[inline(always)]
    fn pairs<L: Lanes>(&self) -> bool {
        self.bytes.is_multiple_of(2 * L::LANES) && self.group.is_none_or(|group| 1 << group >= 2 * L::LANES)
    }

    /// # Safety
    ///
    /// There must be so many rows and bytes, and the processor must have the instructions.
    #[inline(always)]
    unsafe fn load<L: Lanes>(&self, row: usize, byte: usize) -> L::Ints {
        // SAFETY: who calls says so.
        unsafe { L::widened(self.codes.as_ptr().add(row * self.bytes + byte)) }
    }

    /// Asks for the line of memory that lies as far behind these rows as this one behind the first: rows are read in order.
    #[inline(always)]
    fn ask_ahead(&self, row: usize, byte: usize) {
        ask_for(self.codes.as_ptr().wrapping_add((self.n + row) * self.bytes + byte));
    }

    /// Scales and lows of a row from that channel on.
    ///
    /// # Safety
    ///
    /// There must be such a row and such channels, scales as `PARTS` says, and the processor must have the instructions.
    #[inline(always)]
    unsafe fn scales<L: Lanes, const PARTS: bool>(&self, row: usize, channel: usize) -> [L::Floats; 2] {
        // SAFETY: who calls says so.
        unsafe {
            if PARTS {
                let at = row * self.parts + (channel >> self.group.unwrap_unchecked());
                [L::floats(*self.scales.get_unchecked(at)), L::floats(*self.lows.get_unchecked(at))]
            } else {
                [L::load(self.scales.as_ptr().add(channel)), L::load(self.lows.as_ptr().add(channel))]
            }
        }
    }
}

/// Instances for how rows are packed: by the runs of codes that their bytes hold, and by what shares a scale.
macro_rules! by_packing {
    ($rows:expr, $function:ident::<$lanes:ty $(, $constant:literal)*>($($argument:expr),*)) => {
        match ($rows.bits, $rows.group) {
            (Bits::Eight, Some(_)) => $function::<$lanes $(, $constant)*, 1, true>($($argument),*),
            (Bits::Four, Some(_)) => $function::<$lanes $(, $constant)*, 2, true>($($argument),*),
            (Bits::Two, Some(_)) => $function::<$lanes $(, $constant)*, 4, true>($($argument),*),
            (Bits::Eight, None) => $function::<$lanes $(, $constant)*, 1, false>($($argument),*),
            (Bits::Four, None) => $function::<$lanes $(, $constant)*, 2, false>($($argument),*),
            (Bits::Two, None) => $function::<$lanes $(, $constant)*, 4, false>($($argument),*),
        }
    };
}

/// All codes of so many bits, again and again: what bits behind a code are does not matter to a table of these.
const fn steps(bits: usize) -> [f32; 16] {
    let (mut steps, mut at) = ([0.0; 16], 0);
    while at < 16 {
        steps[at] = (at % (1 << bits)) as f32;
        at += 1;
    }
    steps
}

static OF_TWO: [f32; 16] = steps(2);
static OF_FOUR: [f32; 16] = steps(4);

/// What codes that share a scale are made numbers with: their scale and their low, or, where all codes fit a register, what
/// each of them is.
#[derive(Clone, Copy)]
enum Book<L: Lanes> {
    Scaled([L::Floats; 2]),
    Table(L::Floats),
}

impl<L: Lanes> Book<L> {
    /// Of a row from that channel on.
    ///
    /// # Safety
    ///
    /// As of [`Rows::scales`].
    #[inline(always)]
    unsafe fn of<const RUNS: usize, const PARTS: bool>(rows: &Rows, row: usize, channel: usize) -> Self {
        // SAFETY: who calls says so.
        unsafe {
            let [scales, lows] = rows.scales::<L, PARTS>(row, channel);
            match 8 / RUNS {
                bits if !PARTS || 1 << bits > L::LANES => Self::Scaled([scales, lows]),
                2 => Self::Table(L::mul_add(L::load(OF_TWO.as_ptr()), scales, lows)),
                _ => Self::Table(L::mul_add(L::load(OF_FOUR.as_ptr()), scales, lows)),
            }
        }
    }

    /// The numbers of a run, of bytes that hold so many.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions of L.
    #[inline(always)]
    unsafe fn numbers<const RUNS: usize>(self, bytes: L::Ints, run: usize) -> L::Floats {
        let bits = 8 / RUNS;
        // SAFETY: who calls says so.
        unsafe {
            match self {
                Self::Table(table) => L::of_table(table, L::down(bytes, (run * bits) as i32)),
                Self::Scaled([scales, lows]) => {
                    let codes = L::float(L::within(bytes, (run * bits) as i32, (1 << bits) - 1));
                    L::mul_add(codes, scales, lows)
                }
            }
        }
    }
}

/// What one kind of registers does, so many rows and registers of channels at a time.
macro_rules! in_registers {
    ($name:ident, $lanes:ident, $rows_at_once:literal, $vectors:literal, $features:literal) => {
        mod $name {
            use super::*;

            pub(super) const FUNCTIONS: Functions =
                Functions { lanes: lanes::$lanes::LANES, unpack, products, add_weighted };

            /// # Safety
            ///
            /// The processor must have the features, `numbers` must be `[n, head_dim]`, and rows must fill registers.
            #[target_feature(enable = $features)]
            unsafe fn unpack(rows: &Rows, numbers: &mut [f32]) {
                // SAFETY: who calls says so.
                unsafe { by_packing!(rows, unpack_all::<lanes::$lanes>(rows, numbers)) }
            }

            /// # Safety
            ///
            /// The processor must have the features, rows must have their weights and fill registers.
            #[target_feature(enable = $features)]
            unsafe fn products(query: &[f32], rows: &Rows, weights: &mut [f32], at: At) {
                let weights = weights.chunks_mut(QUERIES * at.stride);
                for (query, weights) in query.chunks(QUERIES * rows.d).zip(weights) {
                    // SAFETY: who calls says so.
                    unsafe {
                        match query.len() / rows.d {
                            4 => {
                                by_packing!(rows, all_rows::<lanes::$lanes, $rows_at_once, 4>(query, rows, weights, at))
                            }
                            3 => {
                                by_packing!(rows, all_rows::<lanes::$lanes, $rows_at_once, 3>(query, rows, weights, at))
                            }
                            2 => {
                                by_packing!(rows, all_rows::<lanes::$lanes, $rows_at_once, 2>(query, rows, weights, at))
                            }
                            _ => {
                                by_packing!(rows, all_rows::<lanes::$lanes, $rows_at_once, 1>(query, rows, weights, at))
                            }
                        }
                    }
                }
            }

            /// # Safety
            ///
            /// The processor must have the features, rows must have their weights and fill registers.
            #[target_feature(enable = $features)]
            unsafe fn add_weighted(weights: &[f32], at: At, rows: &Rows, sums: &mut [f32]) {
                let weights = weights.chunks(QUERIES * at.stride);
                for (sums, weights) in sums.chunks_mut(QUERIES * rows.d).zip(weights) {
                    // SAFETY: who calls says so.
                    unsafe {
                        match sums.len() / rows.d {
                            4 => by_packing!(rows, all_columns::<lanes::$lanes, $vectors, 4>(weights, at, rows, sums)),
                            3 => by_packing!(rows, all_columns::<lanes::$lanes, $vectors, 3>(weights, at, rows, sums)),
                            2 => by_packing!(rows, all_columns::<lanes::$lanes, $vectors, 2>(weights, at, rows, sums)),
                            _ => by_packing!(rows, all_columns::<lanes::$lanes, $vectors, 1>(weights, at, rows, sums)),
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
in_registers!(avx512, In512, 4, 4, "avx512f,avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
in_registers!(avx2, In256, 2, 2, "avx2,fma,f16c");
#[cfg(target_arch = "aarch64")]
in_registers!(neon, In128, 4, 4, "neon");

/// # Safety
///
/// See [`Functions`].
#[inline(always)]
unsafe fn unpack_all<L: Lanes, const RUNS: usize, const PARTS: bool>(rows: &Rows, numbers: &mut [f32]) {
    for row in 0..rows.n {
        for byte in (0..rows.bytes).step_by(L::LANES) {
            // SAFETY: there are so many rows, bytes and numbers.
            unsafe {
                let bytes = rows.load::<L>(row, byte);
                for run in 0..RUNS {
                    let channel = run * rows.bytes + byte;
                    let numbers_of_run = Book::<L>::of::<RUNS, PARTS>(rows, row, channel).numbers::<RUNS>(bytes, run);
                    L::store(numbers.as_mut_ptr().add(row * rows.d + channel), numbers_of_run);
                }
            }
        }
    }
}

/// Products of Q queries with all rows, `R` at a time.
///
/// # Safety
///
/// See [`Functions`].
#[inline(always)]
unsafe fn all_rows<L: Lanes, const R: usize, const Q: usize, const RUNS: usize, const PARTS: bool>(
    query: &[f32],
    rows: &Rows,
    weights: &mut [f32],
    At { stride, first }: At,
) {
    let mut row = 0;
    let pairs = rows.pairs::<L>();
    // SAFETY: who calls says so; there are so many rows.
    unsafe {
        while pairs && row + R <= rows.n {
            some_rows::<L, 2, R, Q, RUNS, PARTS>(query, rows, row, weights, At { stride, first: first + row });
            row += R;
        }
        while row + R <= rows.n {
            some_rows::<L, 1, R, Q, RUNS, PARTS>(query, rows, row, weights, At { stride, first: first + row });
            row += R;
        }
        while row < rows.n {
            some_rows::<L, 1, 1, Q, RUNS, PARTS>(query, rows, row, weights, At { stride, first: first + row });
            row += 1;
        }
    }
}

/// `H` registers of neighbours, which share scales, one after the other.
///
/// # Safety
///
/// See [`Functions`].
#[inline(always)]
unsafe fn some_rows<L: Lanes, const H: usize, const R: usize, const Q: usize, const RUNS: usize, const PARTS: bool>(
    query: &[f32],
    rows: &Rows,
    row: usize,
    weights: &mut [f32],
    At { stride, first }: At,
) {
    // SAFETY: who calls says so.
    unsafe {
        let mut sums = [[L::floats(0.0); R]; Q];
        for byte in (0..rows.bytes).step_by(H * L::LANES) {
            if byte.is_multiple_of(LINE) {
                for r in 0..R {
                    rows.ask_ahead(row + r, byte);
                }
            }
            for run in 0..RUNS {
                let mut books = [Book::<L>::Table(L::floats(0.0)); R];
                for r in 0..R {
                    books[r] = Book::of::<RUNS, PARTS>(rows, row + r, run * rows.bytes + byte);
                }
                for h in 0..H {
                    let byte = byte + h * L::LANES;
                    let channel = run * rows.bytes + byte;
                    let mut numbers = [L::floats(0.0); R];
                    for r in 0..R {
                        // Scales of channels are those of a register.
                        let book = if PARTS { books[r] } else { Book::of::<RUNS, PARTS>(rows, row + r, channel) };
                        numbers[r] = book.numbers::<RUNS>(rows.load::<L>(row + r, byte), run);
                    }
                    for q in 0..Q {
                        let x = L::load(query.as_ptr().add(q * rows.d + channel));
                        for r in 0..R {
                            sums[q][r] = L::mul_add(numbers[r], x, sums[q][r]);
                        }
                    }
                }
            }
        }
        let mut of_queries = [[L::floats(0.0); 4]; QUERIES];
        for q in 0..Q {
            for r in 0..R {
                of_queries[q][r] = sums[q][r];
            }
        }
        let totals = L::totals(of_queries);
        for q in 0..Q {
            for r in 0..R {
                *weights.get_unchecked_mut(q * stride + first + r) = totals[q][r];
            }
        }
    }
}

/// Sums of all rows by the weights of Q queries, `V` registers of channels at a time.
///
/// # Safety
///
/// See [`Functions`].
#[inline(always)]
unsafe fn all_columns<L: Lanes, const V: usize, const Q: usize, const RUNS: usize, const PARTS: bool>(
    weights: &[f32],
    At { stride, first }: At,
    rows: &Rows,
    sums: &mut [f32],
) {
    let mut of_queries = [std::ptr::null(); Q];
    for q in 0..Q {
        of_queries[q] = weights[q * stride + first..].as_ptr();
    }
    let mut byte = 0;
    let pairs = rows.pairs::<L>();
    // SAFETY: who calls says so; there are so many bytes.
    unsafe {
        while pairs && V >= 4 * RUNS && byte + 4 * L::LANES <= rows.bytes {
            columns::<L, 2, 2, Q, RUNS, PARTS>(of_queries, rows, byte, sums);
            byte += 4 * L::LANES;
        }
        while pairs && V >= 2 * RUNS && byte + 2 * L::LANES <= rows.bytes {
            columns::<L, 1, 2, Q, RUNS, PARTS>(of_queries, rows, byte, sums);
            byte += 2 * L::LANES;
        }
        while byte < rows.bytes {
            columns::<L, 1, 1, Q, RUNS, PARTS>(of_queries, rows, byte, sums);
            byte += L::LANES;
        }
    }
}

/// `C` times `H` registers of neighbours, which share scales.
///
/// # Safety
///
/// See [`Functions`].
#[inline(always)]
unsafe fn columns<L: Lanes, const C: usize, const H: usize, const Q: usize, const RUNS: usize, const PARTS: bool>(
    weights: [*const f32; Q],
    rows: &Rows,
    byte: usize,
    sums: &mut [f32],
) {
    // SAFETY: who calls says so.
    unsafe {
        let mut of_columns = [[[[L::floats(0.0); RUNS]; H]; C]; Q];
        for row in 0..rows.n {
            let mut of_row = [L::floats(0.0); Q];
            for q in 0..Q {
                of_row[q] = L::floats(*weights[q].add(row));
            }
            rows.ask_ahead(row, byte);
            for c in 0..C {
                let byte = byte + c * H * L::LANES;
                let mut bytes = [L::ints(0); H];
                for h in 0..H {
                    bytes[h] = rows.load::<L>(row, byte + h * L::LANES);
                }
                for run in 0..RUNS {
                    let channel = run * rows.bytes + byte;
                    let shared = Book::<L>::of::<RUNS, PARTS>(rows, row, channel);
                    for h in 0..H {
                        // Scales of channels are those of a register.
                        let own = !PARTS && h > 0;
                        let book =
                            if own { Book::of::<RUNS, PARTS>(rows, row, channel + h * L::LANES) } else { shared };
                        let numbers = book.numbers::<RUNS>(bytes[h], run);
                        for q in 0..Q {
                            of_columns[q][c][h][run] = L::mul_add(numbers, of_row[q], of_columns[q][c][h][run]);
                        }
                    }
                }
            }
        }
        for q in 0..Q {
            for c in 0..C {
                for h in 0..H {
                    for run in 0..RUNS {
                        let channel = run * rows.bytes + byte + (c * H + h) * L::LANES;
                        let sum = sums.as_mut_ptr().add(q * rows.d + channel);
                        L::store(sum, L::add(of_columns[q][c][h][run], L::load(sum)));
                    }
                }
            }
        }
    }
}
