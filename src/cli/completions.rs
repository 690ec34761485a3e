//! `eyekern completions`: prints the completion script of a shell.

use super::Cli;
use super::terminal::Terminal;
use crate::error::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

pub const HELP: &str = "\
Examples:
  eyekern completions bash > ~/.local/share/bash-completion/completions/eyekern
  eyekern completions zsh > \"${fpath[1]}/_eyekern\"
  eyekern completions fish > ~/.config/fish/completions/eyekern.fish";

/// Arguments of `eyekern completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs, out: &mut Terminal) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "eyekern", &mut script);
    out.print(&String::from_utf8_lossy(&script));
    Ok(())
}
