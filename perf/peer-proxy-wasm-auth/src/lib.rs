//! The middleware `auth` for hosts of proxy-wasm: what decides is the same code.

use std::rc::Rc;
use std::time::UNIX_EPOCH;

use auth::Settings;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root { settings: None }) });
}}

struct Root {
    settings: Option<Rc<Settings>>,
}

struct Exchange {
    settings: Rc<Settings>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let json = self.get_plugin_configuration().unwrap_or_default();
        self.settings = Settings::parse(&String::from_utf8_lossy(&json)).ok().map(Rc::new);
        self.settings.is_some()
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        let settings = Rc::clone(self.settings.as_ref()?);
        Some(Box::new(Exchange { settings }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let now = self.get_current_time().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let authorization = self.get_http_request_header("authorization");
        match self.settings.authenticate(authorization.as_deref(), now) {
            Ok(user) => {
                self.set_http_request_header("x-user", Some(&user));
                Action::Continue
            }
            Err(denial) => {
                let challenge = denial.challenge();
                self.send_http_response(401, vec![("www-authenticate", &challenge)], None);
                Action::Pause
            }
        }
    }
}
