//! Quantities of Kubernetes (`100Gi`, `500m`): compared by what they stand for, since the API server writes them anew.

use std::cmp::Ordering;

/// A quantity in thousandths. Suffixes are those of the API's documentation; exact up to 2^53.
fn thousandths(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let power = |base: f64, exponent: i32| base.powi(exponent);
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => power(1024.0, 1),
        "Mi" => power(1024.0, 2),
        "Gi" => power(1024.0, 3),
        "Ti" => power(1024.0, 4),
        "Pi" => power(1024.0, 5),
        "Ei" => power(1024.0, 6),
        exponent => {
            let exponent = exponent.strip_prefix(['e', 'E'])?;
            power(10.0, exponent.parse().ok()?)
        }
    };
    Some(number * factor * 1000.0)
}

/// How two quantities compare; `None` when one of them is none.
pub fn compare(a: &str, b: &str) -> Option<Ordering> {
    thousandths(a)?.partial_cmp(&thousandths(b)?)
}

/// Whether two texts stand for the same quantity.
pub fn same(a: &str, b: &str) -> bool {
    a == b || compare(a, b) == Some(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_by_what_they_stand_for() {
        for (a, b, expected) in [
            ("1Gi", "1024Mi", Some(Ordering::Equal)),
            ("1", "1000m", Some(Ordering::Equal)),
            ("0.5", "500m", Some(Ordering::Equal)),
            ("2Gi", "1Gi", Some(Ordering::Greater)),
            ("1G", "1Gi", Some(Ordering::Less)),
            ("1e3", "1k", Some(Ordering::Equal)),
            ("12e6", "12M", Some(Ordering::Equal)),
            ("1E", "1e18", Some(Ordering::Equal)),
            ("x", "1", None),
            ("1Xi", "1", None),
        ] {
            assert_eq!(compare(a, b), expected, "{a} {b}");
        }
    }
}
