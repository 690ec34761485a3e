//! The command line: one file per command, and the only place that prints.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};
use terminal::{Colour, Terminal};

mod bench;
mod completions;
mod demo;
mod device;
mod doctor;
mod dry_run;
mod export;
mod generate;
mod heat;
mod inspect;
mod kernels;
mod label;
mod machine;
mod peaks;
mod priors;
mod progress;
mod report;
mod signals;
pub mod terminal;
mod train;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  training failed: a loss or gradient is not finite
  2  the command line or the recipe is wrong
  3  data or a model cannot be read or used, or a file cannot be written
  4  the compute device is absent or out of memory
  129, 130, 143  training was interrupted (SIGHUP, SIGINT, SIGTERM) and its checkpoint written";

const MAIN_HELP: &str = "\
Examples:
  eyekern demo
  eyekern train recipe.toml --set train.learning_rate=2e-4";

const TRAIN_HELP: &str = "\
Examples:
  eyekern train recipe.toml --print-config
  eyekern train recipe.toml --set train.lr_scheduler_type=cosine --set lora.r=32
  eyekern train recipe.toml --resume auto
  eyekern train recipe.toml --dry-run --device cuda

Ctrl-C finishes the step and writes a checkpoint; a second one stops at once.
Every key can also be set in the environment: EYEKERN_TRAIN__LEARNING_RATE=2e-4.";

const LABEL_HELP: &str = "\
Examples:
  eyekern label src/Account.java
  eyekern label --jsonl rows.jsonl --field code --lang c-sharp

A row of --format jsonl has tokens, labels (1 to 20, 0 for none), label_names, starts and ends (byte offsets), lines
(from 0).";

const INSPECT_HELP: &str = "\
Examples:
  eyekern inspect rows.jsonl --tokenizer model/tokenizer.json
  eyekern inspect --recipe recipe.toml --row 3,10-12 --html rows.html
  eyekern inspect train.java train.cs --model DIR --set data.task=translation --set salience.condition=combined
  eyekern inspect train.jsonl --model DIR --against test.jsonl --format json

Counts that tell of a defect are marked with ! and name the first rows that have it; they do not change the exit code.
docs/inspect.md explains every count.";

const DEMO_HELP: &str = "\
Examples:
  eyekern demo
  eyekern demo --steps 20 --output-dir trained";

const DOCTOR_HELP: &str = "\
Examples:
  eyekern doctor
  eyekern doctor --format json

The exit code is 0 where training is possible, and that it is on any processor: CUDA is reported, not required.";

const KERNELS_HELP: &str = "\
Examples:
  eyekern kernels
  eyekern kernels --format json";

#[derive(Parser)]
#[command(name = "eyekern", version, about, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = format!("{EXIT_CODES}\n\n{MAIN_HELP}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fine-tune a model as a recipe says.
    #[command(after_help = format!("{EXIT_CODES}\n\n{TRAIN_HELP}"))]
    Train(TrainArgs),
    /// Show a run as a page: losses, learning rate, gradient norm, speed, evaluations, recipe.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", report::HELP))]
    Report(report::ReportArgs),
    /// Continue prompts: text as it comes, or a file of rows.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", generate::HELP))]
    Generate(generate::GenerateArgs),
    /// Fold an adapter into its model: a Hugging Face directory that needs no PEFT.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", export::HELP))]
    Export(export::ExportArgs),
    /// Show the semantic label of every token of code, as the eye-tracking priors know them.
    #[command(after_help = format!("{EXIT_CODES}\n\n{LABEL_HELP}"))]
    Label(LabelArgs),
    /// Show the priors of human attention, or build them from gaze recordings.
    #[command(subcommand)]
    Priors(priors::PriorsCommand),
    /// Look at data as training will see them: counts of what may be wrong, weights token by token, scan paths.
    #[command(after_help = format!("{EXIT_CODES}\n\n{INSPECT_HELP}"))]
    Inspect(InspectArgs),
    /// Train a tiny built-in model on built-in examples: about a minute, no network.
    #[command(after_help = format!("{EXIT_CODES}\n\n{DEMO_HELP}"))]
    Demo(DemoArgs),
    /// Say what this machine can train on, and what is missing for CUDA.
    #[command(after_help = format!("{EXIT_CODES}\n\n{DOCTOR_HELP}"))]
    Doctor(DoctorArgs),
    /// List the compiled CUDA kernels: registers, shared memory, spills, tensor-core instructions.
    #[command(after_help = format!("{EXIT_CODES}\n\n{KERNELS_HELP}"))]
    Kernels(KernelsArgs),
    /// Time kernels and training steps on this machine.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print what a shell needs to complete command lines.
    #[command(after_help = format!("{EXIT_CODES}\n\n{}", completions::HELP))]
    Completions(completions::CompletionsArgs),
}

/// What `eyekern train` is asked for.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The recipe; without it, defaults, environment and --set must say everything.
    #[arg(value_name = "RECIPE.toml")]
    pub recipe: Option<PathBuf>,
    /// Set one key over recipe and environment; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Draw weights from these priors; the same as --set salience.priors=FILE.
    #[arg(long, value_name = "FILE")]
    pub priors: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// Go on from a checkpoint: from the newest in train.output_dir, if there is one, or from this folder.
    #[arg(long, value_name = "auto|DIR")]
    pub resume: Option<PathBuf>,
    /// Go on although recipe, data, tokenizer or model are not those of the checkpoint.
    #[arg(long, requires = "resume")]
    pub allow_changed: bool,
    /// Print the recipe as it results from all layers, every key explained, and train nothing.
    #[arg(long)]
    pub print_config: bool,
    /// Count what the run would need (memory by what it is for, operations, steps) from the model's shapes and the data,
    /// and train nothing. The device need not be there.
    #[arg(long, conflicts_with = "print_config")]
    pub dry_run: bool,
    /// How --dry-run reports.
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "dry_run")]
    pub format: Format,
}

/// What `eyekern label` is asked for.
#[derive(Args, Debug)]
pub struct LabelArgs {
    /// Source files.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Rows of code, one JSON object a line.
    #[arg(long, value_name = "ROWS.jsonl")]
    pub jsonl: Option<PathBuf>,
    /// The key of a row that holds its code.
    #[arg(long, value_name = "KEY", default_value = "code")]
    pub field: String,
    /// auto, or one of java, c-sharp, python, javascript, typescript, go, c, cpp, rust. auto goes by the file's
    /// extension; for rows by their `lang`, else Java.
    #[arg(long, value_name = "LANGUAGE", default_value = "auto")]
    pub lang: String,
    /// text for files and jsonl for rows, unless said otherwise.
    #[arg(long, value_enum)]
    pub format: Option<label::LabelFormat>,
    /// How called functions are recognised among free words.
    #[arg(long, value_enum, default_value_t = label::CallRule::Syntax)]
    pub calls: label::CallRule,
    /// List tokens as the published examples do.
    #[arg(long, value_enum)]
    pub compat: Option<label::Compat>,
}

/// What `eyekern inspect` is asked for.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// A JSONL file, or two parallel text files; without it, data.train_file of the recipe.
    #[arg(value_name = "DATA", num_args = 0..=2)]
    pub data: Vec<PathBuf>,
    /// The model that the data are for: a directory, or the id of a cached one. Only its tokenizer is used.
    #[arg(long, value_name = "DIR")]
    pub model: Option<String>,
    /// A tokenizer.json, or a directory that has one, in place of the model's.
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// A recipe, of which the sections data and salience, objective.arm and train.seed count here. It need not be
    /// complete.
    #[arg(long, value_name = "RECIPE.toml")]
    pub recipe: Option<PathBuf>,
    /// Set one key over recipe and environment; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Draw weights from these priors; the same as --set salience.priors=FILE.
    #[arg(long, value_name = "FILE")]
    pub priors: Option<PathBuf>,
    /// Lines of the rows to show, from 1; may be repeated. Else the terminal shows the first row, a page the first 20.
    #[arg(long = "row", value_name = "N,A-B", value_delimiter = ',', value_parser = inspect::lines)]
    pub rows: Vec<inspect::Lines>,
    /// Write a page with summary and rows to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Other data to look for the same rows in; given twice, the two parallel files. Without DATA,
    /// data.validation_file of the recipe.
    #[arg(long, value_name = "DATA")]
    pub against: Vec<PathBuf>,
    /// How the summary is printed; json leaves the rows out.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// What `eyekern demo` is asked for.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Where the trained model goes.
    #[arg(long, value_name = "DIR", default_value = "eyekern-demo")]
    pub output_dir: PathBuf,
    /// Seed of initial values and data order.
    #[arg(long, value_name = "N", default_value_t = 42, value_parser = clap::value_parser!(u64).range(..1 << 63))]
    pub seed: u64,
    /// Optimiser steps, instead of the number that learns the examples.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub steps: Option<u64>,
}

/// What `eyekern doctor` is asked for.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// What `eyekern kernels` is asked for.
#[derive(Args, Debug)]
pub struct KernelsArgs {
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Which device computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The first GPU if there is one that works, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The first NVIDIA GPU; CUDA_VISIBLE_DEVICES chooses another.
    Cuda,
    /// The CUDA kernels, run by the emulator: slow, for tests of kernels.
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
        Command::Export(args) => export::run(&args, out),
        Command::Label(args) => label::run(&args, out),
        Command::Priors(command) => priors::run(&command, out),
        Command::Inspect(args) => inspect::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::Doctor(args) => doctor::run(&args, out),
        Command::Kernels(args) => kernels::run(&args, out),
        Command::Bench(command) => bench::run(&command, out),
        Command::Completions(args) => completions::run(&args, out),
    }
}

/// Help and version go to standard output; everything else is a usage error in our own form.
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> std::result::Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    /// Standard output and the result of a command line that runs no command.
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
    fn train_takes_its_flags() {
        let Ok(Command::Train(args)) = parse("eyekern train r.toml --set a.b=1 --set c.d=-2 --device cpu") else {
            panic!("not train")
        };
        assert_eq!((args.recipe, args.sets), (Some("r.toml".into()), vec!["a.b=1".to_string(), "c.d=-2".into()]));
        assert_eq!((args.device, args.print_config), (Device::Cpu, false));
        let Ok(Command::Train(args)) = parse("eyekern train --print-config") else { panic!("not train") };
        assert_eq!((args.recipe, args.device, args.print_config), (None, Device::Auto, true));
        let Ok(Command::Train(args)) = parse("eyekern train r.toml --dry-run --format json") else {
            panic!("not train")
        };
        assert_eq!((args.dry_run, args.format), (true, Format::Json));
    }

    #[test]
    fn demo_takes_its_flags() {
        let Ok(Command::Demo(args)) = parse("eyekern demo --output-dir d --seed 7 --steps 3") else {
            panic!("not demo")
        };
        assert_eq!((args.output_dir, args.seed, args.steps), ("d".into(), 7, Some(3)));
        let Ok(Command::Demo(args)) = parse("eyekern demo") else { panic!("not demo") };
        assert_eq!((args.output_dir, args.seed, args.steps), ("eyekern-demo".into(), 42, None));
        assert!(parse("eyekern demo --steps 0").is_err());
        assert!(parse("eyekern demo --seed 9223372036854775808").is_err(), "a recipe could not hold it");
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
