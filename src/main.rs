use std::process::ExitCode;

fn main() -> ExitCode {
    warpdrive::cli::main()
}
