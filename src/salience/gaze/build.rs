//! Counts which labelled tokens each participant fixated, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::boxes::{Hit, Layout, Snippet, Snippets};
use super::fixations::{Detector, Fixation, Sample, Thresholds};
use super::mapping::Mapping;
use super::recording::Recording;
use super::screens::{Screens, Size};
use super::source;
use super::text::clip;
use crate::error::{Error, Result};
use crate::files;
use crate::salience::Label;
use crate::salience::priors::Priors;

/// Settings that turn gaze into counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// Definition of a fixation.
    pub thresholds: Thresholds,
    /// Largest distance in pixels between a box and a fixation that is still assigned to it.
    pub radius_px: f64,
}

impl Default for Method {
    fn default() -> Self {
        Method { thresholds: Thresholds::default(), radius_px: 25.0 }
    }
}

/// Counts of the samples and fixations of a participant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Samples while a snippet was shown; rows, where rows are fixations.
    pub samples: u64,
    /// Samples without coordinates, not valid, or off the screen.
    pub lost: u64,
    /// Fixations.
    pub fixations: u64,
    /// Fixations inside a token's box.
    pub on_token: u64,
    /// Fixations inside a box or within the radius of a box; all others are unmapped.
    pub within: u64,
    /// Those of them whose token has a label.
    pub labelled: u64,
    /// Total duration of all fixations, milliseconds.
    pub ms: f64,
    /// Fixations by label id.
    pub labels: [u64; 21],
}

impl Tally {
    /// Fixations too far from every token.
    pub fn unmapped(&self) -> u64 {
        self.fixations - self.within
    }

    /// Mean duration of a fixation, milliseconds; `None` without fixations.
    pub fn mean_ms(&self) -> Option<f64> {
        (self.fixations > 0).then(|| self.ms / self.fixations as f64)
    }

    /// Adds the counts of another participant.
    pub fn add(&mut self, other: &Tally) {
        self.samples += other.samples;
        self.lost += other.lost;
        self.fixations += other.fixations;
        self.on_token += other.on_token;
        self.within += other.within;
        self.labelled += other.labelled;
        self.ms += other.ms;
        self.labels.iter_mut().zip(other.labels).for_each(|(a, b)| *a += b);
    }

    fn json(&self, participant: &str) -> Value {
        json!({
            "participant": participant, "samples": self.samples, "lost": self.lost, "fixations": self.fixations,
            "on_token": self.on_token, "within_radius": self.within, "unmapped": self.unmapped(),
            "labelled": self.labelled, "mean_ms": self.mean_ms().map(|ms| (10.0 * ms).round() / 10.0),
        })
    }
}

/// One participant's viewing of one snippet.
#[derive(Clone, Debug)]
pub struct Viewing {
    /// The participant.
    pub participant: String,
    /// The snippet, as the table of boxes spells it.
    pub snippet: String,
    /// The layout of the snippet.
    pub layout: u32,
    /// Fixations in order of time, each with its box.
    pub fixations: Vec<(Fixation, Option<Hit>)>,
    /// Which spans were fixated.
    fixated: Vec<bool>,
}

/// Results of the recordings.
pub struct Study {
    /// The counts.
    pub priors: Priors,
    /// Counts per participant, by name.
    pub tallies: BTreeMap<String, Tally>,
    /// The viewings of each snippet by each participant.
    pub viewings: Vec<Viewing>,
    /// The snippets.
    pub snippets: Snippets,
}

/// Reads the recordings one after another and counts.
///
/// * A token (labelled span) counts in `ntok` once for every participant to whom it was shown, and in `c1` if that
///   participant fixated it at least once. Only tokens with a box were shown.
/// * n-grams are sequences of one to three labels among the fixated tokens of one uninterrupted viewing, in order.
///   Consecutive fixations on one token are one visit: the path moves from token to token, and the point where a long
///   fixation is split is an artefact of the threshold. Two consecutive tokens with the same label form an n-gram with
///   a repeated label. Fixations on unlabelled text (brackets, separators) or on no token are left out of the sequence,
///   as in the published counts, whose tokens are the labelled ones.
pub fn build(
    recordings: &[PathBuf], mapping: &Mapping, screens: &Screens, snippets: Snippets, method: &Method,
    mut priors: Priors,
) -> Result<Study> {
    if recordings.is_empty() {
        return Err(Error::Usage("no recording given: name one or more with --gaze G.csv".into()));
    }
    let mut seen = BTreeSet::new();
    let mut counter = Counter::new(&snippets, method);
    for file in recordings {
        // a missing file is refused when it is opened
        if files::identity(file).is_some_and(|file| !seen.insert(file)) {
            let why = format!("--gaze {} is given twice; its fixations would count twice", file.display());
            return Err(Error::Usage(why));
        }
        counter.read(file, mapping, screens, &mut priors)?;
    }
    let Counter { viewings, tallies, first_file, .. } = counter;
    let file = |who: &str| first_file.get(who).map_or(Path::new(""), PathBuf::as_path);
    for (who, tally) in &tallies {
        if tally.lost == tally.samples {
            let why = format!("all {} samples of participant `{}` are lost", tally.samples, clip(who));
            let check = if mapping.in_source() { "`line`, `column`" } else { "`x`, `y`, `screen`" };
            let remedy = format!("check {check}, `missing`, `validity` and `valid` in the mapping");
            let causes = if mapping.in_source() { "empty or not valid" } else { "empty, not valid, or off the screen" };
            return Err(Error::file(file(who), format!("{why} ({causes}); {remedy}")));
        }
        if tally.fixations == 0 {
            let (kept, who) = (tally.samples - tally.lost, clip(who));
            let why = format!("participant `{who}` has no fixation in {kept} samples, and {} lost ones", tally.lost);
            let remedy = "check the thresholds (--dispersion-px, --min-ms, --gap-ms), and `missing`, `x`, `y` and \
                          `time_unit` in the mapping";
            return Err(Error::file(file(who.as_str()), format!("{why}; {remedy}")));
        }
    }
    for viewing in &viewings {
        let Some(snippet) = snippets.find(&viewing.snippet) else { continue };
        let Some(layout) = snippet.layouts.get(&viewing.layout) else { continue };
        for (at, shown) in snippet.shown(layout).into_iter().enumerate() {
            if let (true, Some(label)) = (shown, snippet.spans[at].label) {
                priors.add_token(label, viewing.fixated[at]);
            }
        }
    }
    if Label::ALL.iter().all(|&label| priors.counts(label).ntok == 0) {
        let why = "the snippets that were shown have boxes for brackets and separators only; add those of the tokens";
        return Err(Error::file(snippets.file(), why));
    }
    priors.set_built(describe(method, mapping, &tallies));
    Ok(Study { priors, tallies, viewings, snippets })
}

/// Describes the method, for the file of priors.
fn describe(method: &Method, mapping: &Mapping, tallies: &BTreeMap<String, Tally>) -> Map<String, Value> {
    let Method { thresholds: t, radius_px } = method;
    let people: Vec<Value> = tallies.iter().map(|(who, tally)| tally.json(who)).collect();
    let mut built = Map::new();
    built.insert("by".into(), concat!("eyekern ", env!("CARGO_PKG_VERSION")).into());
    let mut how = match mapping.has_fixations() {
        true => json!({ "fixations": "of the recordings" }),
        false => json!({
            "fixations": "I-DT", "dispersion_px": t.dispersion_px, "min_ms": t.min_ms, "gap_ms": t.gap_ms,
        }),
    };
    how["radius_px"] = (*radius_px).into();
    if mapping.in_source() {
        how["source_positions"] = true.into();
        how["character_px"] = source::CELL.to_vec().into();
    }
    built.insert("method".into(), how);
    built.insert("participants".into(), people.into());
    built
}

/// The state between rows.
struct Counter<'s> {
    snippets: &'s Snippets,
    method: &'s Method,
    viewings: Vec<Viewing>,
    places: BTreeMap<(String, String), usize>,
    tallies: BTreeMap<String, Tally>,
    first_file: BTreeMap<String, PathBuf>,
    detector: Detector,
}

/// The current stretch of rows.
struct Stretch<'s> {
    viewing: usize,
    snippet: &'s Snippet,
    layout: &'s Layout,
    tally: Tally,
    /// The last tokens of the path: their spans and labels.
    path: Vec<(usize, Label)>,
}

impl<'s> Counter<'s> {
    fn new(snippets: &'s Snippets, method: &'s Method) -> Counter<'s> {
        Counter {
            snippets,
            method,
            viewings: Vec::new(),
            places: BTreeMap::new(),
            tallies: BTreeMap::new(),
            first_file: BTreeMap::new(),
            detector: Detector::new(method.thresholds),
        }
    }

    fn read(&mut self, file: &Path, mapping: &Mapping, screens: &Screens, priors: &mut Priors) -> Result {
        let mut recording = Recording::open(file, mapping, screens)?;
        let mut stretch: Option<Stretch> = None;
        // the spelling of each source file in this recording
        let mut paths: BTreeMap<String, String> = BTreeMap::new();
        while let Some((row, line)) = recording.advance()? {
            if row.new_stretch {
                self.end(stretch.take(), priors);
                let (who, name) = (recording.participant(), recording.snippet());
                let screen = screens.of(who).filter(|_| !mapping.in_source());
                let started = self.start(who, name, screen, (file, line))?;
                let path = paths.entry(started.snippet.name.clone()).or_insert_with(|| name.to_string());
                if mapping.in_source() && path.replace('\\', "/") != name.replace('\\', "/") {
                    let (path, name, found) = (clip(path), clip(name), clip(&started.snippet.name));
                    let why = format!("`{name}` and `{path}` are both taken for {found} of --snippets");
                    let remedy = "put the files there in the folders that tell them apart";
                    return Err(Error::row(file, line, format!("{why}; {remedy}")));
                }
                self.first_file.entry(who.to_string()).or_insert_with(|| file.to_path_buf());
                stretch = Some(started);
            }
            let Some(own) = &mut stretch else { continue };
            own.tally.samples += 1;
            match (row.point, row.end_ms) {
                (None, _) => own.tally.lost += 1,
                (Some((x, y)), Some(end_ms)) => {
                    let fixation = Fixation { start_ms: row.ms, end_ms, x, y };
                    land(own, &mut self.viewings, fixation, self.method.radius_px, priors);
                }
                (Some((x, y)), None) => {
                    if let Some(fixation) = self.detector.push(Sample { ms: row.ms, x, y }) {
                        land(own, &mut self.viewings, fixation, self.method.radius_px, priors);
                    }
                }
            }
        }
        self.end(stretch, priors);
        Ok(())
    }

    fn start(&mut self, who: &str, name: &str, screen: Option<Size>, place: (&Path, usize)) -> Result<Stretch<'s>> {
        let fail = |why: String| Error::row(place.0, place.1, why);
        if who.is_empty() {
            let remedy = "fill in the column, or set `participant` in the mapping to another";
            return Err(fail(format!("the participant is empty; {remedy}")));
        }
        let snippets = self.snippets;
        let snippet = snippets.find(name).ok_or_else(|| fail(snippets.unknown(name)))?;
        let (height, layout) = snippets.layout(snippet, who, screen, place)?;
        let viewings = &mut self.viewings;
        let viewing = *self.places.entry((who.to_string(), snippet.name.clone())).or_insert_with(|| {
            viewings.push(Viewing {
                participant: who.to_string(),
                snippet: snippet.name.clone(),
                layout: height,
                fixations: Vec::new(),
                fixated: vec![false; snippet.spans.len()],
            });
            viewings.len() - 1
        });
        Ok(Stretch { viewing, snippet, layout, tally: Tally::default(), path: Vec::new() })
    }

    fn end(&mut self, stretch: Option<Stretch>, priors: &mut Priors) {
        let Some(mut own) = stretch else { return };
        if let Some(fixation) = self.detector.finish() {
            land(&mut own, &mut self.viewings, fixation, self.method.radius_px, priors);
        }
        let who = &self.viewings[own.viewing].participant;
        self.tallies.entry(who.clone()).or_default().add(&own.tally);
    }
}

/// Counts one fixation.
fn land(own: &mut Stretch, viewings: &mut [Viewing], fixation: Fixation, radius_px: f64, priors: &mut Priors) {
    let hit = own.layout.hit(fixation.x, fixation.y, radius_px);
    let viewing = &mut viewings[own.viewing];
    viewing.fixations.push((fixation, hit));
    own.tally.fixations += 1;
    own.tally.ms += fixation.ms();
    let Some(hit) = hit else { return };
    own.tally.within += 1;
    own.tally.on_token += u64::from(matches!(hit, Hit::On(_)));
    let token = &own.layout.boxes[hit.index()];
    let (Some(span), Some(label)) = (token.span, own.snippet.label(token)) else { return };
    own.tally.labelled += 1;
    own.tally.labels[usize::from(label.id())] += 1;
    viewing.fixated[span] = true;
    if own.path.last().is_some_and(|last| last.0 == span) {
        return;
    }
    own.path.push((span, label));
    if own.path.len() > 3 {
        own.path.remove(0);
    }
    for from in 0..own.path.len() {
        let ngram: Vec<Label> = own.path[from..].iter().map(|visit| visit.1).collect();
        priors.add_ngram(&ngram);
    }
}
