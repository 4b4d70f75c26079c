//! Prometheus' text format (version 0.0.4), written by hand where the registry has no way to say it.

use crate::ring::Histogram;
use std::fmt::{self, Display, Write};

/// The label of a sample: a name of ours and any value.
pub(super) type Label<'a> = (&'static str, &'a str);

/// A page that is being written.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn push_str(&mut self, text: &str) {
        self.0.push_str(text);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// A metric with all its samples; nothing when there are none.
    pub(super) fn family<'a, V: Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        samples: impl IntoIterator<Item = (Vec<Label<'a>>, V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(name, kind, help);
        }
        for (labels, value) in samples {
            self.line(format_args!("{name}{} {value}", Labels(&labels)));
        }
    }

    /// A histogram with one series for each set of labels. `unit`: how much of what is counted makes one of the
    /// metric's unit.
    pub(super) fn histogram<'a>(
        &mut self,
        name: &str,
        help: &str,
        unit: f64,
        series: impl IntoIterator<Item = (Vec<Label<'a>>, Histogram)>,
    ) {
        let mut series = series.into_iter().peekable();
        if series.peek().is_some() {
            self.head(name, "histogram", help);
        }
        for (labels, histogram) in series {
            let count = histogram.count();
            let bounds = histogram.buckets().map(|(bound, count)| ((bound as f64 / unit).to_string(), count));
            for (bound, count) in bounds.chain([("+Inf".to_owned(), count)]) {
                let mut labels = labels.clone();
                labels.push(("le", &bound));
                self.line(format_args!("{name}_bucket{} {count}", Labels(&labels)));
            }
            let sum = histogram.sum() as f64 / unit;
            self.line(format_args!("{name}_sum{} {sum}", Labels(&labels)));
            self.line(format_args!("{name}_count{} {count}", Labels(&labels)));
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a string takes it all");
    }
}

struct Labels<'a>(&'a [Label<'a>]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            write!(f, "{}{name}=\"{}\"", if at == 0 { '{' } else { ',' }, Escaped(value))?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

/// A label's value as the format wants it. What others call themselves can be anything: control characters other than
/// the line feed, which the format can say, are not passed on.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str(r"\\"),
            '"' => f.write_str(r#"\""#),
            '\n' => f.write_str(r"\n"),
            c if c.is_control() => f.write_char('?'),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_cannot_break_out() {
        let mut page = Page::default();
        let hostile = "a\"} 1\nevil{x=\"\\\r\x1b";
        page.family(("m", "gauge", "Help."), [(vec![("a", hostile), ("b", "µ")], 1), (vec![], 2)]);
        let expected =
            "# HELP m Help.\n# TYPE m gauge\nm{a=\"a\\\"} 1\\nevil{x=\\\"\\\\??\",b=\"µ\"} 1\nm 2\n";
        assert_eq!(page.into_string(), expected);
    }

    #[test]
    fn a_metric_without_samples_is_left_out() {
        let mut page = Page::default();
        page.family(("m", "gauge", "Help."), std::iter::empty::<(Vec<Label<'_>>, u8)>());
        page.histogram("h", "Help.", 1.0, []);
        assert_eq!(page.into_string(), "");
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_its_unit() {
        let mut times = Histogram::of_times();
        [60_000, 2_000_000, 9_000_000_000].into_iter().for_each(|nanos| times.observe(nanos));
        let mut page = Page::default();
        page.histogram("h_seconds", "Help.", 1e9, [(vec![("op", "read")], times)]);
        let text = page.into_string();
        for line in [
            "# TYPE h_seconds histogram",
            "h_seconds_bucket{op=\"read\",le=\"0.00005\"} 0",
            "h_seconds_bucket{op=\"read\",le=\"0.0001\"} 1",
            "h_seconds_bucket{op=\"read\",le=\"2.5\"} 2",
            "h_seconds_bucket{op=\"read\",le=\"+Inf\"} 3",
            "h_seconds_sum{op=\"read\"} 9.00206",
            "h_seconds_count{op=\"read\"} 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }
}
