//! Colours that people with any kind of colour vision can tell apart, by Paul Tol
//! (<https://sronpersonalpages.nl/~pault/>).

use msrnn_policies::registry;

/// Red, green and blue.
pub(crate) type Rgb = [u8; 3];

/// The muted scheme for lines and bars, in an order in which neighbours differ in hue and lightness.
pub(crate) const LINES: [Rgb; 9] = [
    [0x33, 0x22, 0x88],
    [0xcc, 0x66, 0x77],
    [0x11, 0x77, 0x33],
    [0xaa, 0x44, 0x99],
    [0x44, 0xaa, 0x99],
    [0x99, 0x99, 0x33],
    [0x88, 0x22, 0x55],
    [0x88, 0xcc, 0xee],
    [0xdd, 0xcc, 0x77],
];

/// The iridescent scheme for values: its lightness falls evenly.
pub(crate) const VALUES: [Rgb; 23] = [
    [0xfe, 0xfb, 0xe9],
    [0xfc, 0xf7, 0xd5],
    [0xf5, 0xf3, 0xc1],
    [0xea, 0xf0, 0xb5],
    [0xdd, 0xec, 0xbf],
    [0xd0, 0xe7, 0xca],
    [0xc2, 0xe3, 0xd2],
    [0xb5, 0xdd, 0xd8],
    [0xa8, 0xd8, 0xdc],
    [0x9b, 0xd2, 0xe1],
    [0x8d, 0xcb, 0xe4],
    [0x81, 0xc4, 0xe7],
    [0x7b, 0xbc, 0xe7],
    [0x7e, 0xb2, 0xe4],
    [0x88, 0xa5, 0xdd],
    [0x93, 0x98, 0xd2],
    [0x9b, 0x8a, 0xc4],
    [0x9d, 0x7d, 0xb2],
    [0x9a, 0x70, 0x9e],
    [0x90, 0x63, 0x88],
    [0x80, 0x57, 0x70],
    [0x68, 0x49, 0x57],
    [0x46, 0x35, 0x3a],
];

/// Of a cell without a value.
pub(crate) const NO_VALUE: Rgb = [0xe0, 0xe0, 0xdc];

/// Of a reference line, and of a name that stands for no policy.
pub(crate) const REFERENCE: Rgb = [0x55, 0x55, 0x55];

/// Which of [`LINES`], and which mark, lines and bars of these names have. A policy that has a name of its own has the same
/// one in every figure, whatever stands beside it and in whatever order, unless two in a figure would have the same: then
/// the one that comes later among all policies has the next that is free. Other names have what is left, in their order.
pub(crate) fn places<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
    let names: Vec<&str> = names.into_iter().collect();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&index| match rank(names[index]) {
        Some(rank) => (rank, names[index], index),
        None => (usize::MAX, "", index),
    });
    let mut places = vec![0; names.len()];
    let mut taken = Vec::new();
    for index in order {
        let wished = rank(names[index]).map_or(0, |rank| rank % LINES.len());
        let around = (0..LINES.len()).map(|step| (wished + step) % LINES.len());
        let free = around.chain(LINES.len()..).find(|place| !taken.contains(place)).unwrap_or(wished);
        taken.push(free);
        places[index] = free;
    }
    places
}

/// Where among all policies one stands by name, with or without its budget and a model's name before it.
fn rank(name: &str) -> Option<usize> {
    let bare = |name: &str| -> String {
        let name = name.split_once('@').map_or(name, |(policy, _)| policy);
        name.chars().filter(|c| !c.is_ascii_digit()).collect()
    };
    let among = |name: &str| registry::entries().position(|entry| bare(entry.example) == bare(name));
    among(name).or_else(|| name.split_once(", ").and_then(|(_, policy)| among(policy)))
}

/// The colour of a share from 0 to 1, between its neighbours in [`VALUES`].
pub(crate) fn of_share(share: f64) -> Rgb {
    let at = share.clamp(0.0, 1.0) * (VALUES.len() - 1) as f64;
    let below = (at.floor() as usize).min(VALUES.len() - 2);
    let part = at - below as f64;
    std::array::from_fn(|channel| {
        let (low, high) = (f64::from(VALUES[below][channel]), f64::from(VALUES[below + 1][channel]));
        (low + (high - low) * part).round() as u8
    })
}

/// The span of colours for values: from the lowest to the highest, and from zero where the lowest
/// is small beside the highest.
pub(crate) fn span(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        lowest = lowest.min(value);
        highest = highest.max(value);
    }
    match () {
        () if lowest > highest => (0.0, 1.0),
        () if lowest == highest && lowest == 0.0 => (0.0, 1.0),
        () if lowest >= 0.0 && (lowest < highest / 4.0 || lowest == highest) => (0.0, highest),
        () if lowest == highest => (lowest, 0.0),
        () => (lowest, highest),
    }
}

/// Where a value is in a span of colours.
pub(crate) fn share(value: f64, (lowest, highest): (f64, f64)) -> f64 {
    let share = (value / 2.0 - lowest / 2.0) / (highest / 2.0 - lowest / 2.0);
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

/// `#33aa99`.
pub(crate) fn hex([red, green, blue]: Rgb) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_its_colour_whatever_stands_beside_it() {
        let all = ["window", "window+4", "h2o", "tova", "tova-head", "random"];
        let together = places(all);
        let mut backwards = all;
        backwards.reverse();
        let mut found = places(backwards);
        found.reverse();
        assert_eq!(found, together);
        for (name, place) in all.iter().zip(&together) {
            let (with_budget, of_a_model) = (format!("{name}@512"), format!("SmolLM2, {name}"));
            assert_eq!(places([*name]), [*place]);
            assert_eq!(places([with_budget.as_str()]), [*place]);
            assert_eq!(places([of_a_model.as_str()]), [*place]);
        }
    }

    #[test]
    fn no_two_have_the_same_place_and_other_names_come_in_their_order() {
        assert_eq!(places(["win", "tie", "loss"]), [0, 1, 2]);
        let names: Vec<String> = registry::entries().map(|entry| entry.example.to_owned()).collect();
        let mut found = places(names.iter().map(String::as_str).chain(["x"; 3]));
        found.sort_unstable();
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        let left = places(["layer 3", "tova"]);
        assert_eq!(left[1], places(["tova"])[0]);
        assert_ne!(left[0], left[1]);
    }

    #[test]
    fn lightness_falls_with_the_value() {
        let lightness =
            |[red, green, blue]: Rgb| 0.2126 * f64::from(red) + 0.7152 * f64::from(green) + 0.0722 * f64::from(blue);
        let all: Vec<f64> = (0..=100).map(|percent| lightness(of_share(f64::from(percent) / 100.0))).collect();
        // Rounding to whole channels may hide a fall of less than one.
        assert!(all.windows(2).all(|pair| pair[1] <= pair[0] + 1.0), "{all:?}");
        assert_eq!((of_share(0.0), of_share(1.0)), (VALUES[0], VALUES[22]));
    }

    #[test]
    fn spans() {
        assert_eq!(span([]), (0.0, 1.0));
        assert_eq!(span([0.1, 1.0]), (0.0, 1.0));
        assert_eq!(span([0.5, 1.0]), (0.5, 1.0));
        assert_eq!(span([3.0]), (0.0, 3.0));
        assert_eq!(span([-2.0]), (-2.0, 0.0));
        assert_eq!(share(0.75, (0.5, 1.0)), 0.5);
    }
}
