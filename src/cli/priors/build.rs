//! `eyekern priors build`: makes a file of priors, a report and pictures from recordings.

use super::scene;
use crate::cli::terminal::Terminal;
use crate::error::{Error, Result};
use crate::files;
use crate::salience::Label;
use crate::salience::gaze::boxes::Snippets;
use crate::salience::gaze::build::{Method, Study, Tally, build};
use crate::salience::gaze::fixations::Thresholds;
use crate::salience::gaze::mapping::Mapping;
use crate::salience::gaze::screens::Screens;
use crate::salience::gaze::source;
use crate::salience::labels::Calls;
use crate::salience::priors::Priors;
use clap::Args;
use std::path::PathBuf;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern priors build --gaze gaze/*.csv.gz --boxes boxes.csv --snippets code -o priors.json
  eyekern priors build --gaze P01.tsv --mapping tobii.toml --boxes boxes.csv --snippets code -o priors.json --svg \
  pictures
  eyekern priors build --gaze P01.xml --mapping codegrits.toml --snippets src -o priors.json

Without --mapping, a recording has the columns time_ms, x_px, y_px and snippet, and its file is named after the
participant. docs/priors.md explains the tables and has mappings for Tobii, Gazepoint, EyeLink, SMI, BIDS, CodeGRITS,
iTrace and files of fixations.";

/// Arguments of `eyekern priors build`.
#[derive(Args, Debug)]
pub struct BuildArgs {
    /// Recordings: text with a header line, XML or BIDS, plain or gzipped; samples or fixations.
    #[arg(long, value_name = "G.csv[.gz]", num_args = 1.., required = true)]
    pub gaze: Vec<PathBuf>,
    /// Position of each token on the screen: columns snippet, token, byte_start, x_px, y_px, w_px, h_px and optionally
    /// screen_h. Not needed where the recordings give lines and columns of source files.
    #[arg(long, value_name = "B.csv")]
    pub boxes: Option<PathBuf>,
    /// Folder with the code of each snippet in a file named like the snippet; with lines and columns, the source files.
    #[arg(long, value_name = "DIR")]
    pub snippets: PathBuf,
    /// Output file for the priors.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Column names and units of the recordings.
    #[arg(long, value_name = "M.toml")]
    pub mapping: Option<PathBuf>,
    /// Screen of each participant: columns id, screen_w and screen_h, in pixels.
    #[arg(long, value_name = "P.csv")]
    pub participants: Option<PathBuf>,
    /// Name of the condition in the output file.
    #[arg(long, value_name = "NAME", default_value = "reading")]
    pub condition: String,
    /// Origin and licence of the recordings, for the output file.
    #[arg(long, value_name = "TEXT", default_value = "own recordings")]
    pub source: String,
    /// Maximum dispersion of a fixation, (max x - min x) + (max y - min y), in pixels.
    #[arg(long, value_name = "PX", default_value_t = 60.0)]
    pub dispersion_px: f64,
    /// Minimum duration of a fixation, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    pub min_ms: f64,
    /// Maximum time between two samples of a fixation, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60.0)]
    pub gap_ms: f64,
    /// Maximum distance of a fixation from the box of its token, in pixels. Default: 25; 0 for lines and columns.
    #[arg(long, value_name = "PX")]
    pub radius_px: Option<f64>,
    /// Also draw the fixations of each participant over each snippet, as SVG files in this folder.
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
    /// Draw only this participant.
    #[arg(long, value_name = "ID", requires = "svg")]
    pub svg_participant: Option<String>,
}

/// Reads, counts, writes, reports.
pub fn run(args: &BuildArgs, out: &mut Terminal) -> Result {
    let mapping = args.mapping.as_deref().map_or_else(|| Ok(Mapping::default()), Mapping::load)?;
    let method = method(args, &mapping)?;
    let screens = Screens::load(args.participants.as_deref(), mapping.screen)?;
    let snippets = match (&args.boxes, mapping.in_source()) {
        (Some(boxes), false) => Snippets::load(boxes, &args.snippets, Calls::Syntax)?,
        (None, true) => source::load(&args.snippets, mapping.tab.into(), Calls::Syntax)?,
        (None, false) => {
            let why = "--boxes is missing: positions on the screen need a table of token boxes; lines and columns of \
                       source files (`line` and `column` in the mapping) need none";
            return Err(Error::Usage(why.into()));
        }
        (Some(boxes), true) => {
            let why = "the mapping has lines and columns of source files, which need no boxes; leave out one of them";
            return Err(Error::Usage(format!("--boxes {}: {why}", boxes.display())));
        }
    };
    let tables = [args.boxes.as_ref(), args.mapping.as_ref(), args.participants.as_ref()].into_iter().flatten();
    let inputs = args.gaze.iter().chain(tables).map(PathBuf::as_path);
    let code = snippets.iter().map(|snippet| snippet.file.as_path());
    files::refuse_input("-o", &args.output, inputs.chain(code))?;
    let priors = Priors::new(&args.condition, &args.source);
    let study = build(&args.gaze, &mapping, &screens, snippets, &method, priors)?;
    if let Some(who) = &args.svg_participant
        && !study.tallies.contains_key(who)
    {
        let known = study.tallies.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(Error::Usage(format!("--svg-participant: no participant {who:?}; the participants are {known}")));
    }
    study.priors.save(&args.output)?;
    let pictures = draw(args, &study)?;
    report(&study, &method, out);
    out.line("");
    let [bigrams, trigrams] = [2, 3].map(|n| study.priors.ranking(n).len());
    let aggregate = study.priors.aggregate();
    let [low, high] = aggregate.interval();
    out.line(&format!(
        "aggregate Beta({}, {}): a token is fixated with probability {:.4} (95 %: {low:.4} to {high:.4})",
        aggregate.alpha,
        aggregate.beta,
        aggregate.mean()
    ));
    out.line(&format!(
        "wrote {}: condition {}, {bigrams} different bigrams, {trigrams} trigrams",
        args.output.display(),
        args.condition
    ));
    if let (Some(folder), true) = (&args.svg, pictures > 0) {
        out.line(&format!("drew {pictures} pictures into {}", folder.display()));
    }
    Ok(())
}

fn method(args: &BuildArgs, mapping: &Mapping) -> Result<Method> {
    let radius_px = args.radius_px.unwrap_or(if mapping.in_source() { 0.0 } else { Method::default().radius_px });
    for (flag, value) in [
        ("--dispersion-px", args.dispersion_px),
        ("--min-ms", args.min_ms),
        ("--gap-ms", args.gap_ms),
        ("--radius-px", radius_px),
    ] {
        if !(value.is_finite() && value >= 0.0) {
            return Err(Error::Usage(format!("{flag} is {value}, but must be at least 0")));
        }
    }
    let thresholds = Thresholds { dispersion_px: args.dispersion_px, min_ms: args.min_ms, gap_ms: args.gap_ms };
    Ok(Method { thresholds, radius_px })
}

/// Draws the selected viewings; returns their number.
fn draw(args: &BuildArgs, study: &Study) -> Result<usize> {
    let Some(folder) = &args.svg else { return Ok(0) };
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let wanted = |who: &str| args.svg_participant.as_deref().is_none_or(|only| only == who);
    let mut count = 0;
    for viewing in study.viewings.iter().filter(|v| wanted(&v.participant)) {
        let Some(picture) = scene::draw(study, viewing) else { continue };
        let file = folder.join(format!("{}-{}.svg", plain(&viewing.participant), plain(&viewing.snippet)));
        files::write(&file, picture)?;
        count += 1;
    }
    Ok(count)
}

/// The name without characters that are unsafe in a file name.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "._ ".contains(c) { c } else { '_' }).collect()
}

fn report(study: &Study, method: &Method, out: &mut Terminal) {
    let within = format!("within {} px", method.radius_px);
    let width = study.tallies.keys().map(|who| who.chars().count()).max().unwrap_or(0).max(11);
    let head = format!(
        "{:width$} {:>8} {:>8} {:>9} {:>8} {within:>12} {:>8} {:>8} {:>8}",
        "participant", "samples", "lost", "fixations", "on token", "unmapped", "labelled", "mean ms"
    );
    out.line(&out.dim(&head));
    let line = |who: &str, t: &Tally| {
        let mean = t.mean_ms().map_or("-".to_string(), |ms| format!("{ms:.1}"));
        format!(
            "{who:width$} {:>8} {:>8} {:>9} {:>8} {:>w$} {:>8} {:>8} {mean:>8}",
            t.samples,
            t.lost,
            t.fixations,
            t.on_token,
            t.within,
            t.unmapped(),
            t.labelled,
            w = within.len().max(12)
        )
    };
    let mut all = Tally::default();
    for (who, tally) in &study.tallies {
        out.line(&line(who, tally));
        all.add(tally);
    }
    out.line(&out.bold(&line("all", &all)));
    out.line("");
    let head = format!("{:39} {:>9} {:>8} {:>8} {:>9}", "label", "fixations", "c1", "ntok", "E[theta]");
    out.line(&out.dim(&head));
    for label in Label::ALL {
        let counts = study.priors.counts(label);
        if let Some(mean) = study.priors.expectation(label) {
            let fixations = all.labels[usize::from(label.id())];
            out.line(&format!("{:39} {fixations:>9} {:>8} {:>8} {mean:>9.4}", label.name(), counts.c1, counts.ntok));
        }
    }
    for (who, tally) in &study.tallies {
        if 2 * tally.unmapped() > tally.fixations {
            let (n, of) = (tally.unmapped(), tally.fixations);
            let remedy = "are the boxes, the code and the screen those of the recording?";
            out.note(&format!("note: {n} of {of} fixations of {who} are on no token; {remedy}"));
        }
    }
    for snippet in study.snippets.iter() {
        let layouts: Vec<_> = snippet.layouts.values().map(|layout| snippet.shown(layout)).collect();
        let unshown = |at: &usize| snippet.spans[*at].label.is_some() && layouts.iter().any(|shown| !shown[*at]);
        let missing = (0..snippet.spans.len()).filter(unshown).count();
        if missing > 0 {
            let name = &snippet.name;
            out.note(&format!("note: {missing} labelled tokens of {name} have no box and count as not shown"));
        }
    }
}
