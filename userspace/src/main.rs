//! The binary `understudy`.
//!
//! Everything it does is in the library.

fn main() -> std::process::ExitCode {
    understudy::cli::main()
}
