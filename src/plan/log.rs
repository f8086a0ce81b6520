//! `[log]` to the settings of the access log, and `[tracing]` to our part in traces.

use super::{Export, Tracing};
use crate::config::{self, Config, Diagnostic};
use crate::http::trace_context::Continued;
use crate::telemetry::access_log::{Destination, Fault, Format, Redaction, Settings, Template, names};
use crate::telemetry::share::Share;

/// Parameters that nearly always hold what opens something to whoever has it.
const REDACT_QUERY: [&str; 16] = [
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "client_secret",
    "id_token",
    "jwt",
    "passwd",
    "password",
    "refresh_token",
    "secret",
    "sig",
    "signature",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
];

/// As whom we tell of spans.
const SERVICE_NAME: &str = "warpdrive";

/// `None`: the template is wrong, which is reported.
pub fn log(config: &Config, diagnostics: &mut Vec<Diagnostic>) -> Option<Settings> {
    let written = &config.log;
    let format = match (written.format, &written.template) {
        (Some(config::LogFormat::Custom), Some(template)) => match Template::parse(&template.value) {
            Ok(template) => Format::Custom(template),
            Err(fault) => {
                diagnostics.push(faulty(template, &fault));
                return None;
            }
        },
        (Some(config::LogFormat::Combined), _) => Format::Combined,
        // That a template is missing was said by whoever read it.
        (None | Some(config::LogFormat::Json | config::LogFormat::Custom), _) => Format::Json,
    };
    Some(Settings {
        enabled: config.middleware.log_requests.unwrap_or(true),
        format,
        destination: match &written.output {
            None | Some(config::LogOutput::Stdout) => Destination::Stdout,
            Some(config::LogOutput::Stderr) => Destination::Stderr,
            Some(config::LogOutput::File(path)) => Destination::File(path.clone()),
            Some(config::LogOutput::Journald(socket)) => Destination::Journald(socket.clone()),
        },
        sample: Share::of(written.sample.unwrap_or(1.0)),
        redaction: match &written.redact_query {
            Some(names) => Redaction::of(names.iter().map(String::as_str)),
            None => Redaction::of(REDACT_QUERY.into_iter()),
        },
    })
}

fn faulty(template: &config::Written<String>, fault: &Fault) -> Diagnostic {
    let message = format!("template cannot be put together: {fault}");
    let wrong = Diagnostic::error(template.place.clone(), message);
    match fault {
        Fault::Unknown(name) => match config::nearest(name, names()) {
            Some(meant) => wrong.with_help(format!("did you mean `${{{meant}}}`?")),
            None => wrong,
        },
        Fault::Dollar | Fault::Control => wrong,
    }
}

pub fn tracing(written: &config::Tracing) -> Tracing {
    Tracing {
        continued: match written.traceparent {
            // Spans that are told of are those of traces that we have a part in.
            None if written.export.is_some() => Continued::OfTrusted,
            None | Some(config::Traceparent::Pass) => Continued::Untouched,
            Some(config::Traceparent::Trusted) => Continued::OfTrusted,
            Some(config::Traceparent::Any) => Continued::OfAnyone,
        },
        sample: Share::of(written.sample.unwrap_or(1.0)),
        export: written.export.as_ref().map(|export| Export {
            host: export.host.clone(),
            port: export.port,
            path: export.path.clone(),
            service_name: written.service_name.clone().unwrap_or_else(|| SERVICE_NAME.to_owned()),
        }),
    }
}
