//! `[upstreams.NAME.process]`: the command behind an upstream.

use std::path::PathBuf;

use super::diagnostic::Diagnostic;
use super::table::Table;
use super::value::{self, Wanted, wanted};
use super::{Process, Restart};

pub fn read(table: &mut Table<'_>) -> Option<Process> {
    let is_there = table.has("process");
    let mut table = table.table("process")?;
    let restarts =
        [("always", Restart::Always), ("on_failure", Restart::OnFailure), ("never", Restart::Never)];
    let process = Process {
        place: table.place().clone(),
        command: table.parsed("command", command),
        args: table.list("args", without_nul).unwrap_or_default(),
        before: table.commands("before", command),
        env: table.variables("env"),
        directory: table.parsed("directory", path),
        user: table.parsed("user", user),
        depends_on: table.list("depends_on", |text| Ok(text.to_owned())).unwrap_or_default(),
        restart: table.choice("restart", &restarts, &[]),
        start_timeout: table.duration("start_timeout"),
        stop_timeout: table.duration("stop_timeout"),
    };
    if is_there && !table.has("command") {
        let message = format!("{} has no command", table.title());
        let help = "such as command = \"bundle\" and args = [\"exec\", \"puma\"]";
        let missing = Diagnostic::error(table.place().clone(), message).with_help(help);
        table.report().push_unless_torn(missing);
    }
    table.finish(&[]);
    is_there.then_some(process)
}

fn command(text: &str) -> Result<String, Wanted> {
    match text {
        "" => Err(wanted("a program, by name or path")),
        text if text.contains(' ') && !text.contains('/') => {
            let help = "what follows the program goes into args";
            Err(wanted("a program alone, without its arguments").with_help(help))
        }
        text => Ok(text.to_owned()),
    }
}

fn without_nul(text: &str) -> Result<String, Wanted> {
    match text.contains('\0') {
        true => Err(wanted("without a NUL character")),
        false => Ok(text.to_owned()),
    }
}

fn path(text: &str) -> Result<PathBuf, Wanted> {
    match text {
        "" => Err(wanted("a path")),
        path => Ok(path.into()),
    }
}

fn user(text: &str) -> Result<String, Wanted> {
    match text {
        "" => Err(wanted("the name of a user")),
        name if value::digits(name).is_some() => Err(wanted("the name of a user, not a number")),
        name => Ok(name.to_owned()),
    }
}
