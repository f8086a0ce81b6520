//! What a route does, as it is written, to [`Route`]: names to ids, texts to templates.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::label::{label, tell_apart};
use super::{
    Action, FilterId, Forward, Guard, Redirect, Respond, Route, RouteId, Step, ToWorkload, UpstreamId,
    filters,
};
use crate::config::{self, Config, Diagnostic, Written};
use crate::http::h1::changes::is_fixed;
use crate::http::status::Status;
use crate::http::target::is_authority;
use crate::middleware::auth;
use crate::route::{FieldChanges, PathChange, PathCondition, Rule, Template};
#[cfg(feature = "wasm")]
use crate::wasm;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// As many names are listed where one was expected.
const NAMES_SHOWN_MAX: usize = 8;

/// Without the routes that are not whole: what is wrong with them is reported. `rules` are those
/// of the routes.
pub fn routes(config: &Config, rules: &[Rule<RouteId>], diagnostics: &mut Vec<Diagnostic>) -> Vec<Route> {
    let names = config.upstreams.iter().map(|one| one.name.value.as_str());
    let upstreams: HashMap<&str, UpstreamId> = names.zip((0..).map(UpstreamId)).collect();
    let token = config.auth.admin_token.as_ref();
    let auth = token.map(|token| Arc::new(auth::Settings::new(token.value.reveal())));
    let mut rules = rules.iter().peekable();
    let mut routes = Vec::with_capacity(config.routes.len());
    for (route, id) in config.routes.iter().zip(0..) {
        let steps = steps(config, route, auth.as_ref(), diagnostics);
        let filters = filters::of_route(config, route, diagnostics);
        let rule = rules.next_if(|rule| rule.target == RouteId(id));
        let mut compiler =
            Compiler { config, upstreams: &upstreams, path: rule.map(|rule| &rule.path), diagnostics };
        let action = compiler.action(&route.action);
        let response = compiler.fields(&route.response_fields, "response");
        let (Some(action), Some(response)) = (action, response) else { continue };
        let mut route = Route {
            place: route.place.file_and_line(),
            label: label(route),
            guards: guards(&steps, &filters),
            steps,
            filters,
            action,
            response,
            is_logged: route.log.unwrap_or(true),
            captured: None,
        };
        let needs_captures = route.templates().any(Template::needs_captures);
        route.captured = rule.filter(|_| needs_captures).map(|rule| rule.path.clone());
        routes.push(route);
    }
    tell_apart(&mut routes, &config.routes);
    routes
}

struct Compiler<'a> {
    config: &'a Config,
    upstreams: &'a HashMap<&'a str, UpstreamId>,
    /// What the templates of the route may have captures of; `None` if that is wrong itself.
    path: Option<&'a PathCondition>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Compiler<'_> {
    fn action(&mut self, action: &config::Action) -> Option<Action> {
        match action {
            config::Action::Forward(forward) => self.forward(forward).map(Action::Forward),
            config::Action::Workload(to) => self.workload(to).map(Action::Workload),
            config::Action::Redirect(redirect) => self.redirect(redirect).map(Action::Redirect),
            config::Action::Respond(respond) => Some(Action::Respond(Respond {
                status: Status(respond.status),
                body: respond.body.as_bytes().into(),
            })),
        }
    }

    /// Looks at everything before it gives up.
    fn forward(&mut self, forward: &config::Forward) -> Option<Forward> {
        let path = self.path_change(&forward.path);
        let fields = self.fields(&forward.fields, "request");
        let Some(id) = self.upstreams.get(forward.upstream.value.as_str()) else {
            let names = self.config.upstreams.iter().map(|one| &one.name);
            self.diagnostics.push(undefined("upstream", "upstreams", names, &forward.upstream));
            return None;
        };
        let plain = Forward::unchanged(*id, &self.config.upstreams[id.0 as usize]);
        Some(Forward {
            path: path?,
            fields: fields?,
            connect_timeout: forward.connect_timeout.unwrap_or(plain.connect_timeout),
            read_timeout: forward.read_timeout.unwrap_or(plain.read_timeout),
            ..plain
        })
    }

    #[cfg(feature = "wasm")]
    fn workload(&mut self, to: &config::ToWorkload) -> Option<ToWorkload> {
        let path = self.path_change(&to.path);
        let fields = self.fields(&to.fields, "request");
        let mut names = self.config.wasm.workloads.iter().map(|one| one.name.value.as_str()).zip(0..);
        let Some((_, id)) = names.find(|(name, _)| *name == to.workload.value) else {
            let names = self.config.wasm.workloads.iter().map(|one| &one.name);
            self.diagnostics.push(undefined("workload", "wasm.workloads", names, &to.workload));
            return None;
        };
        Some(ToWorkload { workload: wasm::WorkloadId(id), path: path?, fields: fields? })
    }

    #[cfg(not(feature = "wasm"))]
    fn workload(&mut self, to: &config::ToWorkload) -> Option<ToWorkload> {
        self.diagnostics.push(super::workloads::absent(&to.workload.place));
        None
    }

    fn path_change(&mut self, change: &config::PathChange) -> Option<PathChange> {
        let prefix = match self.path {
            Some(PathCondition::Prefix(prefix)) => Some(prefix.matches('/').count()),
            _ => None,
        };
        match (change, prefix) {
            (config::PathChange::Keep, _) | (config::PathChange::Strip, None | Some(0)) => {
                Some(PathChange::Keep)
            }
            (config::PathChange::Strip, Some(segments)) => Some(PathChange::Strip(segments)),
            (config::PathChange::Rewrite(text), prefix) => {
                let template = self.template("rewrite", text)?;
                if template.has_query() {
                    let message = "rewrite is a path: the query is kept beside it";
                    let help = "leave out `$query`, and write `$path` for `$uri`";
                    self.diagnostics.push(Diagnostic::error(text.place.clone(), message).with_help(help));
                    return None;
                }
                Some(match prefix {
                    Some(segments) => PathChange::Prefix(segments, template),
                    None => PathChange::Whole(template),
                })
            }
        }
    }

    fn redirect(&mut self, redirect: &config::Redirect) -> Option<Redirect> {
        let to = self.template("to", &redirect.to)?;
        if !to.is_location() {
            let message = "to must be a place on a host that the client does not choose";
            let help = "begin with `/`, `$path`, `$uri`, or a scheme and a host such as `https://${host}`";
            self.diagnostics.push(Diagnostic::error(redirect.to.place.clone(), message).with_help(help));
            return None;
        }
        Some(Redirect { status: Status(redirect.status), to })
    }

    /// `None` if any of them is wrong.
    fn fields(&mut self, changes: &config::FieldChanges, of: &str) -> Option<FieldChanges> {
        let mut is_whole = true;
        let names = changes.set.iter().map(|(name, _)| name).chain(&changes.removed);
        for name in names {
            if is_fixed(&name.value) {
                let message =
                    format!("{} says how a message is framed, or belongs to one connection", name.value);
                let wrong = Diagnostic::error(name.place.clone(), message)
                    .with_help("it is always written as it has to be");
                self.diagnostics.push(wrong);
                is_whole = false;
            }
        }
        let is_host = |name: &&Written<String>| of == "request" && name.value.eq_ignore_ascii_case("host");
        if let Some(host) = changes.removed.iter().find(is_host) {
            let message = "every request has a Host: it can be set, and not removed";
            let wrong = Diagnostic::error(host.place.clone(), message);
            self.diagnostics.push(wrong.with_help("set it in add_headers, or leave it as it is"));
            is_whole = false;
        }
        let mut set = Vec::with_capacity(changes.set.len());
        for (name, value) in &changes.set {
            let Some(template) = self.template(&name.value, value) else {
                is_whole = false;
                continue;
            };
            if is_host(&name) && template.constant().is_none_or(|host| !is_authority(host.as_bytes())) {
                let message =
                    "Host must be a host, with a port or without, that is the same for all requests";
                self.diagnostics.push(Diagnostic::error(value.place.clone(), message));
                is_whole = false;
            }
            set.push((name.value.clone(), template));
        }
        let names = changes.removed.iter().chain(changes.set.iter().map(|(name, _)| name));
        let removed = names.map(|name| name.value.clone()).collect();
        is_whole.then(|| FieldChanges { removed, set: set.into() })
    }

    /// `None` if it is wrong, or if that cannot be told.
    fn template(&mut self, key: &str, text: &Written<String>) -> Option<Template> {
        match Template::parse(&text.value, self.path?) {
            Ok(template) => Some(template),
            Err(fault) => {
                let message = format!("{key} cannot be put together: {fault}");
                self.diagnostics.push(Diagnostic::error(text.place.clone(), message));
                None
            }
        }
    }
}

fn steps(
    config: &Config,
    route: &config::Route,
    auth: Option<&Arc<auth::Settings>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Box<[Step]> {
    let Some(place) = &route.require_auth else {
        return Box::default();
    };
    if auth.is_none() && !config.auth.is_wrong {
        let message = "this route requires a token, and none is configured";
        let help = "set admin_token_file in [auth], or the variable WARPDRIVE_ADMIN_TOKEN";
        diagnostics.push(Diagnostic::error(place.clone(), message).with_help(help));
    }
    auth.cloned().map(Step::Auth).into_iter().collect()
}

fn guards(steps: &[Step], filters: &[FilterId]) -> Box<[Guard]> {
    let steps = steps.iter().map(|step| match step {
        Step::Auth(_) => Guard::Token,
    });
    steps.chain(filters.iter().copied().map(Guard::Middleware)).collect()
}

impl Forward {
    /// To an upstream as it is, with the timeouts that it says itself.
    fn unchanged(id: UpstreamId, upstream: &config::Upstream) -> Forward {
        Forward {
            upstream: id,
            path: PathChange::Keep,
            fields: FieldChanges::default(),
            connect_timeout: upstream.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            read_timeout: upstream.read_timeout.unwrap_or(READ_TIMEOUT),
        }
    }
}

/// To the upstream with this name as it is; if there is none, that is reported.
pub(super) fn forward_to(
    config: &Config,
    name: &Written<String>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Forward> {
    let mut upstreams = config.upstreams.iter().zip(0..);
    let Some((upstream, id)) = upstreams.find(|(upstream, _)| upstream.name.value == name.value) else {
        let names = config.upstreams.iter().map(|one| &one.name);
        diagnostics.push(undefined("upstream", "upstreams", names, name));
        return None;
    };
    Some(Forward::unchanged(UpstreamId(id), upstream))
}

/// `what` it is that has none of the `defined` names, and the table that would define it.
pub(super) fn undefined<'a>(
    what: &str,
    table: &str,
    defined: impl Iterator<Item = &'a Written<String>> + Clone,
    name: &Written<String>,
) -> Diagnostic {
    let message = format!("{what} `{}` is not defined", name.value);
    let undefined = Diagnostic::error(name.place.clone(), message);
    if let Some(meant) = config::nearest(&name.value, defined.clone().map(|one| one.value.as_str())) {
        let help = format!("did you mean `{meant}`?");
        let near = defined.clone().find(|one| one.value == meant);
        let undefined = undefined.with_help(help);
        return match near {
            Some(near) => undefined.with_related(near.place.clone(), format!("`{meant}` is defined here")),
            None => undefined,
        };
    }
    let first: Vec<&str> = defined.clone().take(NAMES_SHOWN_MAX).map(|one| one.value.as_str()).collect();
    undefined.with_help(match (first.as_slice(), defined.count() - first.len()) {
        ([], _) => format!("no {what} is defined: write [{table}.{}]", name.value),
        (names, 0) => format!("defined: `{}`", names.join("`, `")),
        (names, more) => format!("defined: `{}` and {more} more", names.join("`, `")),
    })
}
