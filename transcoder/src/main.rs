//! The command line: arguments go to the library, and one line comes back when something is wrong.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use transcoder::{encode, gc, keygen, lint, retry, rollback, serve, sign};

/// Turns videos into HLS that plays from a bucket behind the Reelgate edge.
#[derive(Debug, Parser)]
#[command(name = "transcoder", version, propagate_version = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Encode(Box<encode::Arguments>),
    Serve(Box<serve::Arguments>),
    Doctor(Box<serve::doctor::Arguments>),
    Retry(retry::Arguments),
    Lint(lint::Arguments),
    Sign(sign::Arguments),
    Keygen(keygen::Arguments),
    Rollback(rollback::Arguments),
    Gc(gc::Arguments),
}

fn main() -> ExitCode {
    let mut is_well = true;
    let judged = |(text, verdict)| {
        is_well = verdict;
        text
    };
    let outcome = match Arguments::parse().command {
        Command::Encode(arguments) => arguments.run().map_err(|error| error.to_string()),
        // It ends when it is told to; then there is nothing to say.
        Command::Serve(arguments) => match arguments.run() {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => Err(error.to_string()),
        },
        Command::Doctor(arguments) => arguments.run().map_err(|error| error.to_string()).map(judged),
        Command::Retry(arguments) => arguments.run().map_err(|error| error.to_string()),
        Command::Lint(arguments) => arguments.run().map_err(|error| error.to_string()).map(judged),
        Command::Sign(arguments) => arguments.run().map_err(|error| error.to_string()),
        Command::Keygen(arguments) => arguments.run().map_err(|error| error.to_string()),
        Command::Rollback(arguments) => arguments.run().map_err(|error| error.to_string()),
        Command::Gc(arguments) => arguments.run().map_err(|error| error.to_string()),
    };
    // Not `println!`, which panics where nobody reads what it prints, or the disk is full.
    let printed = outcome.and_then(|line| {
        writeln!(std::io::stdout(), "{line}")
            .map_err(|error| format!("cannot write to standard output: {error}"))
    });
    match printed {
        Ok(()) if is_well => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("transcoder: {error}");
            ExitCode::FAILURE
        }
    }
}
