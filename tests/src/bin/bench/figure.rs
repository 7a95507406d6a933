//! The printed form of a measurement: the median of several runs, the extremes, and whether it meets its target.

use std::fmt;

/// One figure.
pub struct Figure {
    /// The name of the measurement.
    pub name: String,
    /// The result of each run.
    pub runs: Vec<f64>,
    /// The unit, such as `events/s`.
    pub unit: &'static str,
    /// The target for the median.
    pub target: Target,
    /// How it was measured.
    pub how: String,
}

/// The target of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Higher is better.
    AtLeast(f64),
    /// Lower is better.
    AtMost(f64),
    /// Without a target, to show how cost grows.
    Shown,
}

impl Figure {
    /// The median of the runs.
    pub fn median(&self) -> f64 {
        let mut runs = self.runs.clone();
        runs.sort_by(f64::total_cmp);
        match runs.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => runs[odd / 2],
            even => f64::midpoint(runs[even / 2 - 1], runs[even / 2]),
        }
    }

    fn verdict(&self) -> String {
        let word = |met: bool| if met { "met" } else { "MISSED" };
        match self.target {
            Target::AtLeast(bound) => format!("target >= {}: {}", number(bound), word(self.median() >= bound)),
            Target::AtMost(bound) => format!("target <= {}: {}", number(bound), word(self.median() <= bound)),
            Target::Shown => "no target".to_owned(),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let min = self.runs.iter().copied().fold(f64::INFINITY, f64::min);
        let max = self.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (median, unit) = (number(self.median()), self.unit);
        writeln!(f, "{:<44} {median:>12} {unit:<12} {}", self.name, self.verdict())?;
        write!(f, "    {} to {} in {} runs; {}", number(min), number(max), self.runs.len(), self.how)
    }
}

/// Large numbers in groups of three digits, small ones with one decimal.
fn number(value: f64) -> String {
    if value.abs() < 1_000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(runs: &[f64], target: Target) -> Figure {
        Figure { name: "x".to_owned(), runs: runs.to_vec(), unit: "s", target, how: String::new() }
    }

    #[test]
    fn one_odd_run_does_not_move_the_median() {
        assert_eq!(figure(&[3.0, 1_000.0, 1.0], Target::Shown).median(), 3.0);
        assert_eq!(figure(&[4.0, 2.0], Target::Shown).median(), 3.0);
    }

    #[test]
    fn the_verdict_looks_at_the_median_and_at_the_direction() {
        assert!(figure(&[9.0, 11.0, 12.0], Target::AtLeast(10.0)).verdict().ends_with(": met"));
        assert!(figure(&[9.0, 11.0, 12.0], Target::AtMost(10.0)).verdict().ends_with(": MISSED"));
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!([number(12.34), number(1_234_567.0), number(-1_234.0)], ["12.3", "1,234,567", "-1,234"]);
    }
}
