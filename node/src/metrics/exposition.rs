//! The text format of Prometheus.

use std::fmt::{Display, Write};

use super::measures::{BOUNDS_MICROS, Histogram};

/// A page of metrics being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A gauge.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, help, "gauge", [("", value)].map(|(labels, value)| (labels.to_owned(), value)));
    }

    /// Several gauges, each with its labels.
    pub(super) fn gauges<V: Display>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (String, V)>) {
        self.family(name, help, "gauge", values);
    }

    /// Counters.
    pub(super) fn counters<V: Display>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (String, V)>,
    ) {
        self.family(name, help, "counter", values);
    }

    /// A duration histogram, in seconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        let (cumulative, sum_ns) = histogram.read();
        let bounds = BOUNDS_MICROS.iter().map(|micros| (*micros as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
        let total = cumulative.last().copied().unwrap_or(0);
        self.head(name, help, "histogram");
        for (bound, count) in bounds.zip(cumulative) {
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        self.line(format_args!("{name}_sum {}", sum_ns as f64 / 1e9));
        self.line(format_args!("{name}_count {total}"));
    }

    fn family<V: Display>(
        &mut self,
        name: &str,
        help: &str,
        kind: &str,
        values: impl IntoIterator<Item = (String, V)>,
    ) {
        self.head(name, help, kind);
        for (labels, value) in values {
            self.line(format_args!("{name}{labels} {value}"));
        }
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// The finished text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// One label. Its value must need no escaping.
pub(super) fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{value}\"}}")
}
