//! The command line: a file per command. Only this module prints.

use std::ffi::OsString;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};

use crate::choices::Choice;
use crate::data::template::Task;
use crate::error::{Error, Result};
use terminal::{Colour, Terminal};

mod ablate;
mod attention;
mod bench;
mod cgroup;
mod compare;
mod completions;
mod demo;
mod device;
mod doctor;
mod dry_run;
mod eval;
mod export;
mod generate;
mod heat;
mod inspect;
mod kernels;
mod label;
mod machine;
mod overrides;
mod peaks;
mod priors;
mod progress;
mod proof;
mod quantize;
mod report;
mod rows;
mod runs;
mod score;
mod signals;
pub mod terminal;
mod train;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  training failed: a loss or gradient is not finite
  2  the command line or the recipe is invalid
  3  data or a model cannot be read or used, or a file cannot be written
  4  the compute device is missing or out of memory
  129, 130, 143  training was interrupted by SIGHUP, SIGINT or SIGTERM, and a checkpoint was written";

const MAIN_HELP: &str = "\
Examples:
  eyekern demo
  eyekern train recipe.toml --set train.learning_rate=2e-4";

#[derive(Parser)]
#[command(name = "eyekern", version, about, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = format!("{EXIT_CODES}\n\n{MAIN_HELP}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fine-tune a model with a recipe.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", train::HELP))]
    Train(train::TrainArgs),
    /// Write an HTML report of a run: losses, learning rate, gradient norm, speed, evaluations, recipe.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", report::HELP))]
    Report(report::ReportArgs),
    /// Generate text from a prompt, or rows from a file of prompts.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", generate::HELP))]
    Generate(generate::GenerateArgs),
    /// Generate texts for rows with references, and score them.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", eval::HELP))]
    Eval(eval::EvalArgs),
    /// Score predictions against references: text and code metrics, and what trivial predictors reach by them.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", score::HELP))]
    Score(score::ScoreArgs),
    /// Train and evaluate a recipe with several arms and seeds: the grid of a controlled comparison.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", ablate::HELP))]
    Ablate(ablate::AblateArgs),
    /// List the runs below a folder, with their state and key figures.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", runs::HELP))]
    Runs(runs::RunsArgs),
    /// Compare arms of a grid, or evaluations, with a baseline: differences with intervals, and whether they are fair.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", compare::HELP))]
    Compare(compare::CompareArgs),
    /// Measure where a model looks while it writes, beside a baseline: per layer and head, with heat-maps.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", attention::HELP))]
    Attention(attention::AttentionArgs),
    /// Merge an adapter into its model and save the result as a Hugging Face directory.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", export::HELP))]
    Export(export::ExportArgs),
    /// Print the semantic label of every code token: the labels of the eye-tracking priors.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", label::HELP))]
    Label(label::LabelArgs),
    /// Show the priors of human attention, or build priors from eye-tracking recordings.
    #[command(subcommand)]
    Priors(priors::PriorsCommand),
    /// Inspect data as training sees them: possible defects, the weight of every token, scan paths.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", inspect::HELP))]
    Inspect(inspect::InspectArgs),
    /// Train a tiny built-in model on built-in examples, in about a minute and without a network.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", demo::HELP))]
    Demo(demo::DemoArgs),
    /// Check what this machine can train on and what is missing for CUDA.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", doctor::HELP))]
    Doctor(doctor::DoctorArgs),
    /// List the compiled CUDA kernels: registers, shared memory, spills, tensor-core instructions.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", kernels::HELP))]
    Kernels(kernels::KernelsArgs),
    /// Compare the kernels for one architecture with those for all GPUs: started by commands that open a GPU.
    #[command(hide = true)]
    ProveKernels(proof::ProveArgs),
    /// Benchmark kernels, training steps and generation on this machine.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print the completion script of a shell.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", completions::HELP))]
    Completions(completions::CompletionsArgs),
}

/// The output format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// The compute device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The first GPU if it can run the model, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU; CUDA_VISIBLE_DEVICES selects another.
    Cuda,
    /// The CUDA kernels on the emulator: slow, for testing kernels.
    #[cfg(feature = "emulator")]
    Emulated,
}

/// Parses `args` (the program's name first), runs the command and returns its exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let mut out = Terminal::stdio();
    let result = match Cli::try_parse_from(args) {
        Ok(cli) => run(cli.command, &mut out),
        Err(error) => answer(&error, &mut out),
    };
    out.finish(result)
}

fn run(command: Command, out: &mut Terminal) -> Result {
    match command {
        Command::Train(args) => train::run(&args, out),
        Command::Report(args) => report::run(&args, out),
        Command::Generate(args) => generate::run(&args, out),
        Command::Eval(args) => eval::run(&args, out),
        Command::Score(args) => score::run(&args, out),
        Command::Ablate(args) => ablate::run(&args, out),
        Command::Runs(args) => runs::run(&args, out),
        Command::Compare(args) => compare::run(&args, out),
        Command::Attention(args) => attention::run(&args, out),
        Command::Export(args) => export::run(&args, out),
        Command::Label(args) => label::run(&args, out),
        Command::Priors(command) => priors::run(&command, out),
        Command::Inspect(args) => inspect::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Kernels(args) => kernels::run(&args, out),
        Command::ProveKernels(args) => proof::run(&args, out),
        Command::Bench(command) => bench::run(&command, out),
        Command::Completions(args) => completions::run(&args, out),
    }
}

/// Prints help and the version on standard output; turns every other error of clap into our usage error.
fn answer(error: &clap::Error, out: &mut Terminal) -> Result {
    let styled = error.render();
    if !error.use_stderr() {
        out.print(&if out.colour() == Colour::None { styled.to_string() } else { styled.ansi().to_string() });
        return Ok(());
    }
    let text = styled.to_string();
    Err(Error::Usage(match text.strip_prefix("error: ") {
        Some(sentence) => sentence.trim_end().to_string(),
        None => format!("a command is missing\n\n{}", text.trim_end()),
    }))
}

/// Parses a member of a closed set by its name.
fn choice<C: Choice + Send + Sync>() -> impl TypedValueParser<Value = C> {
    let names = PossibleValuesParser::new(C::ALL.iter().map(|choice| choice.name()));
    names.map(|name| C::from_name(&name).unwrap_or(C::ALL[0]))
}

/// A task by its name.
fn task(name: &str) -> std::result::Result<Task, String> {
    Task::from_name(name).ok_or_else(|| format!("choose one of {}", Task::names()))
}

/// A command line, split at its spaces.
#[cfg(test)]
fn parse(line: &str) -> std::result::Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Standard output and result of a command line that clap itself answers.
    fn answered(line: &str) -> (String, Result) {
        let (mut out, stdout, _) = Terminal::captured(Colour::None);
        let result = answer(&parse(line).err().expect(line), &mut out);
        (stdout.text(), result)
    }

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_exit_codes_and_two_examples() {
        for (line, example) in [
            ("eyekern --help", "\n  eyekern demo\n  eyekern train recipe.toml"),
            ("eyekern train --help", "\n  eyekern train recipe.toml --print-config\n  eyekern train recipe.toml --set"),
            ("eyekern demo --help", "\n  eyekern demo\n  eyekern demo --steps"),
            (
                "eyekern inspect --help",
                "\n  eyekern inspect rows.jsonl --tokenizer model/tokenizer.json\n  eyekern inspect",
            ),
            (
                "eyekern generate --help",
                "\n  eyekern generate --model DIR --adapter out --prompt 'int add(int a, int b) {'\n  eyekern generate",
            ),
            (
                "eyekern export --help",
                "\n  eyekern export --model DIR --adapter out --merge -o merged\n  eyekern export",
            ),
            (
                "eyekern eval --help",
                "\n  eyekern eval --model DIR --data test.java test.cs --task translation -o base\n  eyekern eval",
            ),
            ("eyekern runs --help", "\n  eyekern runs\n  eyekern runs grid --format json"),
            ("eyekern compare --help", "\n  eyekern compare grid --baseline uniform --primary chrf,strict_exact\n"),
            (
                "eyekern ablate --help",
                "\n  eyekern ablate recipe.toml --arms uniform,shuffled,data --seeds 5 -o grid\n",
            ),
            (
                "eyekern attention --help",
                "\n  eyekern attention --model DIR --data valid.java valid.cs --task translation -o looks\n  eyekern",
            ),
            (
                "eyekern score --help",
                "\n  eyekern score --hyp generated.jsonl --ref generated.jsonl --task completion --lang java\n",
            ),
            ("eyekern report --help", "\n  eyekern report out\n  eyekern report out -o"),
            ("eyekern completions --help", "\n  eyekern completions bash >"),
            ("eyekern doctor --help", "\n  eyekern doctor\n  eyekern doctor --format json"),
            ("eyekern kernels --help", "\n  eyekern kernels\n  eyekern kernels --format json"),
        ] {
            let (text, result) = answered(line);
            assert!(result.is_ok());
            for part in [EXIT_CODES, example] {
                assert!(text.contains(part), "{line}: {part}\n{text}");
            }
        }
        assert!(answered("eyekern --version").0.starts_with("eyekern "));
    }

    #[test]
    fn a_wrong_command_line_is_usage() {
        for (line, start) in [
            ("eyekern", "a command is missing\n"),
            ("eyekern trian", "unrecognized subcommand 'trian'"),
            ("eyekern train --nope", "unexpected argument '--nope' found"),
            ("eyekern train --device tpu", "invalid value 'tpu' for '--device <DEVICE>'"),
        ] {
            let (text, result) = answered(line);
            let error = result.expect_err(line);
            assert!(text.is_empty() && error.to_string().starts_with(start), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
