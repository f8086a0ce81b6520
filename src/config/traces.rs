//! `[tracing]`.

use super::diagnostic::Diagnostic;
use super::table::Table;
use super::{Traceparent, Tracing};

pub fn read(mut table: Table<'_>) -> Tracing {
    let words = [("pass", Traceparent::Pass), ("trusted", Traceparent::Trusted), ("any", Traceparent::Any)];
    let traceparent = table.choice("traceparent", &words, &[]);
    let sample = table.fraction("sample");
    let begins_none = match traceparent {
        Some(Traceparent::Pass) => true,
        Some(Traceparent::Trusted | Traceparent::Any) => false,
        None => !table.has("traceparent"),
    };
    if let (true, Some(_), Some(place)) = (begins_none, sample, table.key_place("sample")) {
        let unused = Diagnostic::error(place, "sample is of traces that begin here, and none does");
        table.report().push(unused.with_help("write traceparent = \"trusted\" in [tracing]"));
    }
    table.finish(&[]);
    Tracing { traceparent, sample }
}
