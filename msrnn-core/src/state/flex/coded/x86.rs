//! Codes in registers of x86.

#![allow(clippy::needless_range_loop, reason = "loops over constants, which are unrolled into registers")]

use std::arch::x86_64::*;

use super::Coded;
use crate::kernels::flex::tile::At;
use crate::packing::Bits;

/// Bytes of a line of memory.
const LINE: usize = 64;

/// Queries that are handled side by side.
const QUERIES: usize = 4;

/// What one kind of instructions does. A row must be whole registers of it, as [`kinds`] sees to.
#[derive(Clone, Copy)]
pub(super) struct Functions {
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
}

/// The kinds of instructions that the processor has, and that rows like these fill registers of: the fastest first.
pub(super) fn kinds(rows: &Coded<'_, f32>) -> impl Iterator<Item = (&'static str, Functions)> {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let wide = avx2 && is_x86_feature_detected!("avx512f");
    let bytes = rows.bytes();
    let group = rows.group.filter(|&group| group < rows.head_dim);
    let fill = move |lanes: usize| {
        let parts = group.is_none_or(|group| group.is_power_of_two() && group >= lanes);
        parts && bytes.is_multiple_of(lanes)
    };
    let whole = rows.head_dim == bytes * 8 / rows.bits.number();
    let avx512 = Functions { unpack: unpack_avx512, products: products_avx512, add_weighted: add_weighted_avx512 };
    let avx2_functions = Functions { unpack: unpack_avx2, products: products_avx2, add_weighted: add_weighted_avx2 };
    let kinds = [("AVX-512", wide && fill(Sixteen::N), avx512), ("AVX2", avx2 && fill(Eight::N), avx2_functions)];
    kinds.into_iter().filter(move |(_, here, _)| whole && *here).map(|(name, _, functions)| (name, functions))
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

    /// # Safety
    ///
    /// There must be so many rows and bytes, and the processor must have the instructions.
    #[inline(always)]
    unsafe fn load<L: Lanes>(&self, row: usize, byte: usize) -> L::Bytes {
        // SAFETY: who calls says so.
        unsafe { L::bytes(self.codes.as_ptr().add(row * self.bytes + byte)) }
    }

    /// Asks for the line of memory that lies as far behind these rows as this one behind the first: rows are read in order.
    #[inline(always)]
    fn ask_ahead(&self, row: usize, byte: usize) {
        let ahead = self.codes.as_ptr().wrapping_add((self.n + row) * self.bytes + byte);
        // SAFETY: every processor of this architecture has the instruction, and it reads no memory that is not there.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.cast()) };
    }

    /// Scales and lows of a row from that channel on.
    ///
    /// # Safety
    ///
    /// There must be such a row and such channels, scales as `PARTS` says, and the processor must have the instructions.
    #[inline(always)]
    unsafe fn scales<L: Lanes, const PARTS: bool>(&self, row: usize, channel: usize) -> [L; 2] {
        // SAFETY: who calls says so.
        unsafe {
            if PARTS {
                let at = row * self.parts + (channel >> self.group.unwrap_unchecked());
                [L::all(*self.scales.get_unchecked(at)), L::all(*self.lows.get_unchecked(at))]
            } else {
                [L::load(self.scales.as_ptr().add(channel)), L::load(self.lows.as_ptr().add(channel))]
            }
        }
    }
}

/// Numbers side by side in a register.
///
/// # Safety
///
/// Of all functions: the processor must have the instructions, and what is loaded and stored must be there.
trait Lanes: Copy {
    const N: usize;
    type Bytes: Copy;

    unsafe fn zero() -> Self;
    unsafe fn all(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    /// self · by + to
    unsafe fn mul_add(self, by: Self, to: Self) -> Self;
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// The codes of a run.
    unsafe fn codes(bytes: Self::Bytes, by: u32, mask: i32) -> Self;
    /// The sum over the lanes of each, by four.
    unsafe fn totals(of: [[Self; 4]; 4]) -> [[f32; 4]; 4];
}

#[derive(Clone, Copy)]
struct Sixteen(__m512);

impl Lanes for Sixteen {
    const N: usize = 16;
    type Bytes = __m512i;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn all(x: f32) -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: who calls says so.
        unsafe { _mm512_storeu_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, by: Self, to: Self) -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm512_fmadd_ps(self.0, by.0, to.0) })
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        // SAFETY: who calls says so.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn codes(bytes: Self::Bytes, by: u32, mask: i32) -> Self {
        // SAFETY: who calls says so.
        unsafe {
            let shifted = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(by.cast_signed()));
            Self(_mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(mask))))
        }
    }

    #[inline(always)]
    unsafe fn totals(of: [[Self; 4]; 4]) -> [[f32; 4]; 4] {
        let mut totals = [[0.0; 4]; 4];
        // SAFETY: who calls says so; there are sixteen totals.
        unsafe {
            let mut quarters = [_mm512_setzero_ps(); 4];
            for i in 0..4 {
                let [a, b, c, d] = of[i];
                let ab = _mm512_add_ps(_mm512_unpacklo_ps(a.0, b.0), _mm512_unpackhi_ps(a.0, b.0));
                let cd = _mm512_add_ps(_mm512_unpacklo_ps(c.0, d.0), _mm512_unpackhi_ps(c.0, d.0));
                // Of every 128 bits the lanes of a, b, c and d.
                let (low, high) = (_mm512_shuffle_ps(ab, cd, 0b01_00_01_00), _mm512_shuffle_ps(ab, cd, 0b11_10_11_10));
                quarters[i] = _mm512_add_ps(low, high);
            }
            let [a, b, c, d] = quarters;
            let ab =
                _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0b10_00_10_00), _mm512_shuffle_f32x4(a, b, 0b11_01_11_01));
            let cd =
                _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0b10_00_10_00), _mm512_shuffle_f32x4(c, d, 0b11_01_11_01));
            let (low, high) =
                (_mm512_shuffle_f32x4(ab, cd, 0b10_00_10_00), _mm512_shuffle_f32x4(ab, cd, 0b11_01_11_01));
            _mm512_storeu_ps(totals.as_mut_ptr().cast(), _mm512_add_ps(low, high));
        }
        totals
    }
}

#[derive(Clone, Copy)]
struct Eight(__m256);

impl Lanes for Eight {
    const N: usize = 8;
    type Bytes = __m256i;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm256_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn all(x: f32) -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm256_set1_ps(x) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: who calls says so.
        unsafe { _mm256_storeu_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, by: Self, to: Self) -> Self {
        // SAFETY: who calls says so.
        Self(unsafe { _mm256_fmadd_ps(self.0, by.0, to.0) })
    }

    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        // SAFETY: who calls says so.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
    }

    #[inline(always)]
    unsafe fn codes(bytes: Self::Bytes, by: u32, mask: i32) -> Self {
        // SAFETY: who calls says so.
        unsafe {
            let shifted = _mm256_srl_epi32(bytes, _mm_cvtsi32_si128(by.cast_signed()));
            Self(_mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(mask))))
        }
    }

    #[inline(always)]
    unsafe fn totals(of: [[Self; 4]; 4]) -> [[f32; 4]; 4] {
        let mut totals = [[0.0; 4]; 4];
        for i in 0..4 {
            let [a, b, c, d] = of[i];
            // SAFETY: who calls says so; there are four totals.
            unsafe {
                let ab = _mm256_add_ps(_mm256_unpacklo_ps(a.0, b.0), _mm256_unpackhi_ps(a.0, b.0));
                let cd = _mm256_add_ps(_mm256_unpacklo_ps(c.0, d.0), _mm256_unpackhi_ps(c.0, d.0));
                // Of every 128 bits the lanes of a, b, c and d.
                let (low, high) = (_mm256_shuffle_ps(ab, cd, 0b01_00_01_00), _mm256_shuffle_ps(ab, cd, 0b11_10_11_10));
                let sums = _mm256_add_ps(low, high);
                let four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
                _mm_storeu_ps(totals[i].as_mut_ptr(), four);
            }
        }
        totals
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

/// Bits of a code of which a byte holds so many, and those that it has.
const fn of_runs(runs: usize) -> (u32, i32) {
    let bits = 8 / runs as u32;
    (bits, (1 << bits) - 1)
}

macro_rules! functions {
    ($lanes:ty, $features:literal, $rows_at_once:literal, $vectors:literal, $unpack:ident, $products:ident, $add_weighted:ident) => {
        /// # Safety
        ///
        /// The processor must have the features, `numbers` must be `[n, head_dim]`, and rows must fill registers.
        #[target_feature(enable = $features)]
        unsafe fn $unpack(rows: &Rows, numbers: &mut [f32]) {
            // SAFETY: who calls says so.
            unsafe { by_packing!(rows, unpack_all::<$lanes>(rows, numbers)) }
        }

        /// # Safety
        ///
        /// The processor must have the features, rows must have their weights and fill registers.
        #[target_feature(enable = $features)]
        unsafe fn $products(query: &[f32], rows: &Rows, weights: &mut [f32], at: At) {
            let weights = weights.chunks_mut(QUERIES * at.stride);
            for (query, weights) in query.chunks(QUERIES * rows.d).zip(weights) {
                // SAFETY: who calls says so.
                unsafe {
                    match query.len() / rows.d {
                        4 => by_packing!(rows, all_rows::<$lanes, $rows_at_once, 4>(query, rows, weights, at)),
                        3 => by_packing!(rows, all_rows::<$lanes, $rows_at_once, 3>(query, rows, weights, at)),
                        2 => by_packing!(rows, all_rows::<$lanes, $rows_at_once, 2>(query, rows, weights, at)),
                        _ => by_packing!(rows, all_rows::<$lanes, $rows_at_once, 1>(query, rows, weights, at)),
                    }
                }
            }
        }

        /// # Safety
        ///
        /// The processor must have the features, rows must have their weights and fill registers.
        #[target_feature(enable = $features)]
        unsafe fn $add_weighted(weights: &[f32], at: At, rows: &Rows, sums: &mut [f32]) {
            let weights = weights.chunks(QUERIES * at.stride);
            for (sums, weights) in sums.chunks_mut(QUERIES * rows.d).zip(weights) {
                // SAFETY: who calls says so.
                unsafe {
                    match sums.len() / rows.d {
                        4 => by_packing!(rows, all_columns::<$lanes, $vectors, 4>(weights, at, rows, sums)),
                        3 => by_packing!(rows, all_columns::<$lanes, $vectors, 3>(weights, at, rows, sums)),
                        2 => by_packing!(rows, all_columns::<$lanes, $vectors, 2>(weights, at, rows, sums)),
                        _ => by_packing!(rows, all_columns::<$lanes, $vectors, 1>(weights, at, rows, sums)),
                    }
                }
            }
        }
    };
}

functions!(Sixteen, "avx512f,avx2,fma", 4, 4, unpack_avx512, products_avx512, add_weighted_avx512);
functions!(Eight, "avx2,fma", 2, 2, unpack_avx2, products_avx2, add_weighted_avx2);

/// # Safety
///
/// See [`Functions`].
#[inline(always)]
unsafe fn unpack_all<L: Lanes, const RUNS: usize, const PARTS: bool>(rows: &Rows, numbers: &mut [f32]) {
    let (bits, mask) = of_runs(RUNS);
    for row in 0..rows.n {
        for byte in (0..rows.bytes).step_by(L::N) {
            // SAFETY: there are so many rows, bytes and numbers.
            unsafe {
                let bytes = rows.load::<L>(row, byte);
                for run in 0..RUNS {
                    let channel = run * rows.bytes + byte;
                    let codes = L::codes(bytes, run as u32 * bits, mask);
                    let [scales, lows] = rows.scales::<L, PARTS>(row, channel);
                    codes.mul_add(scales, lows).store(numbers.as_mut_ptr().add(row * rows.d + channel));
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
    let pairs = rows.bytes.is_multiple_of(2 * L::N) && rows.group.is_none_or(|group| 1 << group >= 2 * L::N);
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
    let (bits, mask) = of_runs(RUNS);
    // SAFETY: who calls says so.
    unsafe {
        let mut sums = [[L::zero(); R]; Q];
        for byte in (0..rows.bytes).step_by(H * L::N) {
            if byte.is_multiple_of(LINE) {
                for r in 0..R {
                    rows.ask_ahead(row + r, byte);
                }
            }
            for run in 0..RUNS {
                let mut scales = [[L::zero(); 2]; R];
                for r in 0..R {
                    scales[r] = rows.scales::<L, PARTS>(row + r, run * rows.bytes + byte);
                }
                for h in 0..H {
                    let byte = byte + h * L::N;
                    let channel = run * rows.bytes + byte;
                    let mut numbers = [L::zero(); R];
                    for r in 0..R {
                        let codes = L::codes(rows.load::<L>(row + r, byte), run as u32 * bits, mask);
                        let [scales, lows] = if PARTS { scales[r] } else { rows.scales::<L, PARTS>(row + r, channel) };
                        numbers[r] = codes.mul_add(scales, lows);
                    }
                    for q in 0..Q {
                        let x = L::load(query.as_ptr().add(q * rows.d + channel));
                        for r in 0..R {
                            sums[q][r] = numbers[r].mul_add(x, sums[q][r]);
                        }
                    }
                }
            }
        }
        let mut of_queries = [[L::zero(); 4]; QUERIES];
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
    // SAFETY: who calls says so; there are so many bytes.
    unsafe {
        while V >= 4 * RUNS && byte + 4 * L::N <= rows.bytes {
            columns::<L, 4, Q, RUNS, PARTS>(of_queries, rows, byte, sums);
            byte += 4 * L::N;
        }
        while V >= 2 * RUNS && byte + 2 * L::N <= rows.bytes {
            columns::<L, 2, Q, RUNS, PARTS>(of_queries, rows, byte, sums);
            byte += 2 * L::N;
        }
        while byte < rows.bytes {
            columns::<L, 1, Q, RUNS, PARTS>(of_queries, rows, byte, sums);
            byte += L::N;
        }
    }
}

/// # Safety
///
/// See [`Functions`].
#[inline(always)]
unsafe fn columns<L: Lanes, const C: usize, const Q: usize, const RUNS: usize, const PARTS: bool>(
    weights: [*const f32; Q],
    rows: &Rows,
    byte: usize,
    sums: &mut [f32],
) {
    let (bits, mask) = of_runs(RUNS);
    // SAFETY: who calls says so.
    unsafe {
        let mut of_columns = [[[L::zero(); RUNS]; C]; Q];
        for row in 0..rows.n {
            let mut of_row = [L::zero(); Q];
            for q in 0..Q {
                of_row[q] = L::all(*weights[q].add(row));
            }
            for c in 0..C {
                let byte = byte + c * L::N;
                let bytes = rows.load::<L>(row, byte);
                if c == 0 {
                    rows.ask_ahead(row, byte);
                }
                for run in 0..RUNS {
                    let codes = L::codes(bytes, run as u32 * bits, mask);
                    let [scales, lows] = rows.scales::<L, PARTS>(row, run * rows.bytes + byte);
                    let numbers = codes.mul_add(scales, lows);
                    for q in 0..Q {
                        of_columns[q][c][run] = numbers.mul_add(of_row[q], of_columns[q][c][run]);
                    }
                }
            }
        }
        for q in 0..Q {
            for c in 0..C {
                for run in 0..RUNS {
                    let channel = run * rows.bytes + byte + c * L::N;
                    let sum = sums.as_mut_ptr().add(q * rows.d + channel);
                    of_columns[q][c][run].add(L::load(sum)).store(sum);
                }
            }
        }
    }
}
