//! What the process was started for: to operate, or one of the subcommands.
//!
//! A subcommand is a file beside this one, with its flags as a type that implements [`Command`], and a line in
//! [`SUBCOMMANDS`].

mod run;
mod self_test;

use std::ffi::OsString;
use std::future::Future;
use std::pin::Pin;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, CommandFactory, Parser};

use crate::args::{Args, LoggingArgs};
use crate::logging::LineLimit;
use self_test::SelfTest;

/// Every subcommand. Without one, the process is the operator ([`Args`]).
const SUBCOMMANDS: &[Subcommand] = &[Subcommand::of::<SelfTest>()];

/// A command with its flags; its name and its help are those that clap derives.
pub(crate) trait Command: Parser + 'static {
    /// What is wrong with flags that are right by themselves.
    ///
    /// # Errors
    /// With what would be right.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// What it logs.
    fn logging(&self) -> &LoggingArgs;

    /// Does what it is there for.
    ///
    /// # Errors
    /// Whatever the process fails with.
    async fn run(self, line_limit: LineLimit) -> anyhow::Result<()>;
}

/// A command line that was understood.
pub(crate) struct Invocation {
    pub(crate) logging: LoggingArgs,
    run: Box<dyn FnOnce(LineLimit) -> Running>,
}

type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

impl Invocation {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// What is wrong, as clap says it: with exit code 2. Help and version, too.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut definition = definition();
        let matches = match definition.try_get_matches_from_mut(args) {
            Ok(matches) => matches,
            Err(error) => return Err(with_subcommands_named(error, &mut definition)),
        };
        let called = matches.subcommand().and_then(|(name, matches)| {
            let subcommand =
                SUBCOMMANDS.iter().find(|subcommand| (subcommand.define)().get_name() == name)?;
            Some((subcommand, matches, definition.find_subcommand_mut(name)?))
        });
        match called {
            Some((subcommand, matches, definition)) => (subcommand.invoke)(matches, definition),
            None => invoke::<Args>(&matches, &mut definition),
        }
    }

    /// Runs what was asked for.
    ///
    /// # Errors
    /// Whatever that fails with.
    pub(crate) async fn run(self, line_limit: LineLimit) -> anyhow::Result<()> {
        (self.run)(line_limit).await
    }
}

/// One of the [`SUBCOMMANDS`].
struct Subcommand {
    define: fn() -> clap::Command,
    invoke: fn(&ArgMatches, &mut clap::Command) -> Result<Invocation, clap::Error>,
}

impl Subcommand {
    const fn of<C: Command>() -> Self {
        Self { define: C::command, invoke: invoke::<C> }
    }
}

fn definition() -> clap::Command {
    let operator = Args::command()
        .override_usage("pod-reloader [OPTIONS]\n       pod-reloader <COMMAND> [OPTIONS]")
        .args_conflicts_with_subcommands(true);
    SUBCOMMANDS.iter().fold(operator, |operator, subcommand| operator.subcommand((subcommand.define)()))
}

fn invoke<C: Command>(
    matches: &ArgMatches,
    definition: &mut clap::Command,
) -> Result<Invocation, clap::Error> {
    let command = C::from_arg_matches(matches).map_err(|error| error.format(definition))?;
    command.validate().map_err(|text| definition.error(ErrorKind::ArgumentConflict, text))?;
    Ok(Invocation {
        logging: command.logging().clone(),
        run: Box::new(|line_limit| Box::pin(command.run(line_limit))),
    })
}

/// Says which subcommands there are, and where they belong, if a word is not one or not there.
fn with_subcommands_named(error: clap::Error, definition: &mut clap::Command) -> clap::Error {
    let context = match error.kind() {
        // The latter if flags precede it.
        ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return error,
    };
    let Some(ContextValue::String(word)) = error.get(context) else { return error };
    if word.starts_with('-') {
        return error;
    }
    let names = SUBCOMMANDS.iter().map(|subcommand| (subcommand.define)().get_name().to_owned());
    let names = names.collect::<Vec<_>>().join(", ");
    let text = format!(
        "unexpected argument '{word}': expected flags alone, or a subcommand ({names}) and then its flags"
    );
    definition.error(error.kind(), text)
}

#[cfg(test)]
pub(crate) mod tests;
