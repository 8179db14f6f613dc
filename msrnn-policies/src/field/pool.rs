//! Pooling over neighbours in the order of positions.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;

/// A row is worth what its neighbourhood is: the mean or the maximum of so many neighbours, itself in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Whether it is the maximum.
    max: bool,
    /// Odd.
    width: usize,
}

impl Pool {
    /// Most neighbours.
    pub(super) const WIDEST: usize = 4095;

    /// The mean of an odd number of neighbours; places without a row count as 0.
    ///
    /// # Panics
    ///
    /// When the number is even.
    pub const fn mean(width: usize) -> Self {
        assert!(width % 2 == 1, "a pool has as many neighbours on either side");
        Self { max: false, width }
    }

    /// Their maximum.
    ///
    /// # Panics
    ///
    /// When the number is even.
    pub const fn max(width: usize) -> Self {
        assert!(width % 2 == 1, "a pool has as many neighbours on either side");
        Self { max: true, width }
    }

    /// What a place counts that is not to be looked at.
    pub(super) fn nothing(self) -> f32 {
        if self.max { f32::NEG_INFINITY } else { 0.0 }
    }

    /// Pools the last dimension.
    pub(super) fn pool(self, x: Tensor<3>) -> Tensor<3> {
        let [batch, heads, rows] = x.dims();
        let side = self.width / 2;
        let edge = Tensor::full([batch, heads, side], self.nothing(), (&x.device(), x.dtype()));
        let padded = Tensor::cat(vec![edge.clone(), x, edge], 2);
        let shifted = (0..self.width).map(|by| padded.clone().narrow(2, by, rows));
        match self.max {
            true => shifted.reduce(|a, b| a.max_pair(b)).expect("a pool is not empty"),
            false => shifted.reduce(|a, b| a + b).expect("a pool is not empty").div_scalar(self.width as f64),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.max { "max" } else { "avg" }, self.width)
    }
}

impl FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write avg5 or max7, with an odd number of neighbours up to 4095".to_string();
        let (max, width) = match (text.strip_prefix("avg"), text.strip_prefix("max")) {
            (Some(width), _) => (false, width),
            (_, Some(width)) => (true, width),
            _ => return Err(wrong()),
        };
        let width: usize = width.parse().map_err(|_| wrong())?;
        if width.is_multiple_of(2) || width > Self::WIDEST {
            return Err(wrong());
        }
        Ok(Self { max, width })
    }
}
