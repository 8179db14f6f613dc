//! Linear maps: one pass over the weights for few rows, matrix products for many.
//!
//! Either way work is cut by outputs, never by rows: so every weight is read, widened and put into
//! the order of a product once, on one core.

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use super::access::{Dense, tensor};
use super::number::Stored;
use super::product::{Columns, Product};
use super::team;
use super::weight::{Arranged, Form, Reads, Rows, Weight};
use crate::kernels::{Map, plain};
use crate::precision::narrow;

/// Bytes of weights that one task reads, for few rows: the least where cores wait for tasks.
const TASK: usize = 1 << 17;
const LEAST: usize = 1 << 15;

/// Outputs of one task, for many rows: twice those of the widest kernel, or once where that leaves few tasks.
const PANEL: [usize; 2] = [128, 64];

/// Tasks that are few.
const TASKS: usize = 4;

/// Outputs of one task, for many rows. It decides in which order a product adds up, so that it follows from the
/// shape of the maps and from nothing else: any number of cores shares the same tasks, and gets the same bits.
fn panel(outputs: usize) -> usize {
    if outputs > TASKS * PANEL[0] { PANEL[0] } else { PANEL[1] }
}

pub(crate) fn linear<const N: usize>(x: Tensor<2>, maps: [Map; N]) -> [Tensor<2>; N] {
    match x.dtype() {
        DType::F64 => linear_in::<f64, N>(x, maps),
        _ => linear_in::<f32, N>(x, maps),
    }
}

fn linear_in<T: Reads + Product + Stored<T>, const N: usize>(x: Tensor<2>, maps: [Map; N]) -> [Tensor<2>; N] {
    if x.dims().contains(&0) || !maps.iter().all(|map| T::reads(&map.weight)) {
        return plain::linear(x, maps);
    }
    let mut weights = Vec::with_capacity(N);
    let biases = maps.map(|Map { weight, bias }| {
        weights.push(T::open(weight));
        bias
    });
    let [rows, input] = x.dims();
    let (dtype, x) = (x.dtype(), Dense::of(x));
    let few_at_most = weights.iter().map(|weight| weight.few_at_most()).min().unwrap_or_default();
    let products = match rows <= few_at_most {
        true => few::<T>(x.values(), rows, &weights),
        false => many::<T>(x.values(), input, &weights),
    };
    let mut products = products.into_iter();
    biases.map(|bias| {
        let y = products.next().expect("a product for every map");
        match bias {
            Some(bias) => y + narrow(bias, dtype).unsqueeze(),
            None => y,
        }
    })
}

/// One pass over the weights of all maps, so that cores are called once.
fn few<T: Reads + Stored<T>>(x: &[T], rows: usize, weights: &[Box<dyn Weight<T>>]) -> Vec<Tensor<2>> {
    let arranged: Vec<Arranged<T>> = weights.iter().map(|weight| weight.arranged(x)).collect();
    // By output, by row of x.
    let mut products: Vec<Vec<T>> = weights.iter().map(|weight| vec![T::ZERO; weight.dims()[0] * rows]).collect();
    let all = weights.iter().zip(&arranged).zip(&mut products);
    let bytes: usize = weights.iter().map(|weight| weight.bytes()).sum();
    if team::is_worth_parts(bytes) {
        let mut sizes = Sizes::of(bytes);
        let mut tasks = Vec::with_capacity(bytes / TASK + weights.len());
        for ((weight, x), mut y) in all.map(|(all, y)| (all, &mut y[..])) {
            let of_output = (weight.bytes() / weight.dims()[0].max(1)).max(1);
            let mut first = 0;
            while !y.is_empty() {
                let outputs = sizes.next(of_output, y.len() / rows);
                let (part, rest) = y.split_at_mut(outputs * rows);
                tasks.push((weight, first, x, part));
                (first, y) = (first + outputs, rest);
            }
        }
        team::each(&mut tasks, |(weight, first, x, y)| weight.few(*first..*first + y.len() / rows, x, y));
    } else {
        all.for_each(|((weight, x), y)| weight.few(0..weight.dims()[0], x, y));
    }
    let products = products.into_iter().zip(weights).map(|(y, weight)| match (rows, weight.dims()[0]) {
        (1, output) => tensor(y, [1, output]),
        (_, output) => tensor::<T, 2>(y, [output, rows]).transpose(),
    });
    products.collect()
}

/// How large tasks of few rows are. Where cores wait for tasks they become smaller towards the end: a core reads the faster
/// the more it reads in a row, and should not wait long for the last.
struct Sizes {
    /// Bytes that are left.
    left: usize,
    /// Cores, where they wait.
    cores: Option<usize>,
}

impl Sizes {
    fn of(bytes: usize) -> Self {
        Self { left: bytes, cores: team::leads().then(rayon::current_num_threads) }
    }

    /// Of the next task in outputs, `most` at most, which are so many bytes each.
    fn next(&mut self, of_output: usize, most: usize) -> usize {
        let size = self.cores.map_or(TASK, |cores| (self.left / cores).max(LEAST));
        let outputs = (size / of_output).clamp(1, most);
        self.left = self.left.saturating_sub(outputs * of_output);
        outputs
    }
}

/// Products of matrices, a panel of outputs at a time.
fn many<T: Reads + Product>(x: &[T], input: usize, weights: &[Box<dyn Weight<T>>]) -> Vec<Tensor<2>> {
    let rows = x.len() / input.max(1);
    let outputs: usize = weights.iter().map(|weight| weight.dims()[0]).sum();
    let panel = panel(outputs);
    let mut products: Vec<Vec<T>> = weights.iter().map(|weight| Vec::with_capacity(weight.dims()[0] * rows)).collect();
    // In each form once.
    let mut seen: Vec<(Form, Rows<'_, T>)> = Vec::new();
    for weight in weights {
        if !seen.iter().any(|(form, _)| *form == weight.form()) {
            seen.push((weight.form(), weight.rows(x)));
        }
    }
    let mut tasks = Vec::with_capacity(outputs / panel + weights.len());
    for (weight, y) in weights.iter().zip(&mut products) {
        let (_, x) = seen.iter().find(|(form, _)| *form == weight.form()).expect("every form was made");
        let outputs = weight.dims()[0];
        let y = Columns::all(&mut y.spare_capacity_mut()[..outputs * rows], outputs);
        tasks.extend(y.split(panel).into_iter().map(|y| (weight, x, y)));
    }
    tasks.into_par_iter().for_each(|(weight, x, mut y)| weight.many(x, &mut y));
    for (weight, y) in weights.iter().zip(&mut products) {
        // SAFETY: there is room for these, and all of their columns were written.
        unsafe { y.set_len(weight.dims()[0] * rows) };
    }
    let products = products.into_iter().zip(weights).map(|(y, weight)| tensor(y, [rows, weight.dims()[0]]));
    products.collect()
}
