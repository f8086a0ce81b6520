//! Numbers as Prometheus reads them: its text format 0.0.4, or OpenMetrics 1.0.
//!
//! Pure: who writes knows what the numbers are of.

use std::fmt::{Display, Write};

use super::counters::{BOUNDS_US, Histogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// By a field `Accept`: OpenMetrics if it is named and not refused. All who read it read the
    /// other format as well.
    pub fn accepted(accept: &str) -> Format {
        let is_open = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named =
                parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
            is_named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        };
        if accept.split(',').any(is_open) { Format::OpenMetrics } else { Format::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family's numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    Gauge,
    Histogram,
    /// A sum, and of how many.
    Summary,
}

type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

/// A page of families, one after the other.
pub struct Exposition {
    format: Format,
    text: String,
    /// The name of the family that is written, without `_total`.
    family: String,
    kind: Kind,
}

impl Exposition {
    pub fn new(format: Format) -> Exposition {
        Exposition { format, text: String::new(), family: String::new(), kind: Kind::Gauge }
    }

    /// Begins a family. The name of a counter is without its `_total`.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        name.clone_into(&mut self.family);
        self.kind = kind;
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        let suffix = match self.format {
            Format::Prometheus => self.suffix(),
            Format::OpenMetrics => "",
        };
        let family = &self.family;
        self.text += &format!("# HELP {family}{suffix} {help}\n# TYPE {family}{suffix} {word}\n");
    }

    fn suffix(&self) -> &'static str {
        if self.kind == Kind::Counter { "_total" } else { "" }
    }

    /// One number of the family.
    pub fn number(&mut self, labels: Labels<'_>, value: impl Display) {
        let suffix = self.suffix();
        self.sample(suffix, labels, None, value);
    }

    /// The sum of several histograms, in seconds.
    pub fn histogram<'a>(&mut self, labels: Labels<'_>, histograms: impl Iterator<Item = &'a Histogram>) {
        let mut counts = [0; BOUNDS_US.len() + 1];
        let mut sum_ns = 0;
        for histogram in histograms {
            counts.iter_mut().zip(histogram.counts()).for_each(|(all, one)| *all += one);
            sum_ns += histogram.sum_ns();
        }
        let mut below = 0;
        for (at, count) in counts.into_iter().enumerate() {
            below += count;
            let bound = BOUNDS_US.get(at).map(|us| f64::from(*us) / 1e6);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |seconds| format!("{seconds:?}"));
            self.sample("_bucket", labels, Some(&bound), below);
        }
        self.sample("_sum", labels, None, Seconds(sum_ns));
        self.sample("_count", labels, None, below);
    }

    pub fn summary(&mut self, labels: Labels<'_>, sum: impl Display, count: u64) {
        self.sample("_sum", labels, None, sum);
        self.sample("_count", labels, None, count);
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        self.text += &self.family;
        self.text += suffix;
        let mut separator = '{';
        let bound = bound.as_ref().map(|bound| ("le", bound as &dyn Display));
        for (name, value) in labels.iter().copied().chain(bound) {
            self.text.push(separator);
            self.text += name;
            self.text += "=\"";
            // Nothing that is written to a String fails.
            let _ = write!(Escaping(&mut self.text), "{value}");
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text += "# EOF\n";
        }
        self.text
    }
}

/// Nanoseconds, shown as seconds.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Writes the value of a label.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let cases = [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3", Format::OpenMetrics),
            ("text/plain, application/openmetrics-text; q=0", Format::Prometheus),
        ];
        for (accept, expected) in cases {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }

    fn page(format: Format) -> String {
        let mut page = Exposition::new(format);
        page.family("w_requests", Kind::Counter, "Requests.");
        page.number(&[("route", &"a\\b\"c\nd"), ("worker", &1)], 7);
        page.family("w_open", Kind::Gauge, "Open.");
        page.number(&[], Seconds(1_500_000_000));
        page.finish()
    }

    #[test]
    fn counters_are_called_as_each_format_wants_it() {
        let samples = "w_requests_total{route=\"a\\\\b\\\"c\\nd\",worker=\"1\"} 7\n";
        let gauge = "# HELP w_open Open.\n# TYPE w_open gauge\nw_open 1.500000000\n";
        let head = "# HELP w_requests_total Requests.\n# TYPE w_requests_total counter\n";
        assert_eq!(page(Format::Prometheus), format!("{head}{samples}{gauge}"));
        let head = "# HELP w_requests Requests.\n# TYPE w_requests counter\n";
        assert_eq!(page(Format::OpenMetrics), format!("{head}{samples}{gauge}# EOF\n"));
    }

    #[test]
    fn histograms_are_summed_and_cumulative() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.observe(Duration::from_millis(1));
        other.observe(Duration::from_micros(1500));
        other.observe(Duration::from_secs(60));
        let mut page = Exposition::new(Format::Prometheus);
        page.family("w_seconds", Kind::Histogram, "Time.");
        page.histogram(&[("a", &"b")], [&one, &other].into_iter());
        let text = page.finish();
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
        assert_eq!(line("w_seconds_bucket{a=\"b\",le=\"0.0005\"} "), "0");
        assert_eq!(line("w_seconds_bucket{a=\"b\",le=\"0.001\"} "), "1");
        assert_eq!(line("w_seconds_bucket{a=\"b\",le=\"0.0025\"} "), "2");
        assert_eq!(line("w_seconds_bucket{a=\"b\",le=\"30.0\"} "), "2");
        assert_eq!(line("w_seconds_bucket{a=\"b\",le=\"+Inf\"} "), "3");
        assert_eq!(line("w_seconds_sum{a=\"b\"} "), "60.002500000");
        assert_eq!(line("w_seconds_count{a=\"b\"} "), "3");
    }
}
