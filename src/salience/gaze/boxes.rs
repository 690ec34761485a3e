//! The positions of each snippet's tokens on the screen, and the mapping from fixations to tokens.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::screens::Size;
use super::table::{Dialect, Table};
use super::text::clip;
use crate::error::{Error, Result};
use crate::files;
use crate::salience::labels::{self, Calls};
use crate::salience::syntax::Language;
use crate::salience::{Label, Span};

/// The position of a token on the screen.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBox {
    /// Left edge, upper edge, width, height in pixels. A point on the right or lower edge is outside.
    pub area: [f64; 4],
    /// First byte in the snippet.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// The labelled token that the box shows, or shows the largest part of: an index into [`Snippet::spans`]. `None`
    /// for brackets and separators.
    pub span: Option<usize>,
    /// The box's line in the table.
    pub line: usize,
}

/// The box that a fixation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// The fixation lies inside this box.
    On(usize),
    /// The fixation lies inside no box, and this is the nearest box within the radius.
    Near(usize),
}

impl Hit {
    /// The box.
    pub fn index(self) -> usize {
        match self {
            Hit::On(at) | Hit::Near(at) => at,
        }
    }
}

/// The boxes of a snippet on screens of one height, from top to bottom.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The boxes, by their upper edge.
    pub boxes: Vec<TokenBox>,
    tallest: f64,
}

impl Layout {
    /// The box that contains a point, otherwise the nearest box within `radius` pixels (of equally near boxes, the
    /// first in the table). Only boxes of about the right height are searched.
    pub fn hit(&self, x: f64, y: f64, radius: f64) -> Option<Hit> {
        if !(x.is_finite() && y.is_finite()) {
            return None;
        }
        let reach = radius.max(0.0);
        let first = self.boxes.partition_point(|b| b.area[1] < y - reach - self.tallest);
        let mut best: Option<(f64, usize, usize)> = None;
        for (at, token) in self.boxes.iter().enumerate().skip(first) {
            let [left, top, width, height] = token.area;
            if top > y + reach {
                break;
            }
            let inside = left <= x && x < left + width && top <= y && y < top + height;
            let outside = |v: f64, low: f64, extent: f64| (low - v).max(v - low - extent).max(0.0);
            let distance = if inside { -1.0 } else { outside(x, left, width).hypot(outside(y, top, height)) };
            let nearer = best.is_none_or(|(d, line, _)| (distance, token.line) < (d, line));
            if distance <= radius && nearer {
                best = Some((distance, token.line, at));
            }
        }
        best.map(|(distance, _, at)| if distance < 0.0 { Hit::On(at) } else { Hit::Near(at) })
    }

    /// The layout of boxes that cannot overlap.
    pub(super) fn of(mut boxes: Vec<TokenBox>) -> Layout {
        boxes.sort_by(|a, b| a.area[1].total_cmp(&b.area[1]).then(a.line.cmp(&b.line)));
        let tallest = boxes.iter().map(|b| b.area[3]).fold(0.0, f64::max);
        Layout { boxes, tallest }
    }

    /// Sorts the boxes and refuses two that overlap by more than rounding, which is one pixel in both directions.
    fn arrange(&mut self, file: &Path) -> Result {
        *self = Layout::of(std::mem::take(&mut self.boxes));
        let mut open: Vec<&TokenBox> = Vec::new();
        for token in &self.boxes {
            let [x, y, w, _] = token.area;
            open.retain(|o| o.area[1] + o.area[3] > y + 1.0);
            let crosses = |o: &&&TokenBox| o.area[0] + 1.0 < x + w && x + 1.0 < o.area[0] + o.area[2];
            if let Some(other) = open.iter().find(crosses) {
                let (line, before) = (token.line.max(other.line), token.line.min(other.line));
                let why = format!("this box overlaps that of line {before}; each token needs a place of its own");
                return Err(Error::row(file, line, why));
            }
            if token.area[3] > 1.0 {
                open.push(token);
            }
        }
        Ok(())
    }
}

/// A piece of code that was shown.
#[derive(Clone, Debug)]
pub struct Snippet {
    /// The name as the table of boxes spells it.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// The file's bytes.
    pub code: Vec<u8>,
    /// Its labelled tokens.
    pub spans: Vec<Span>,
    /// Its layouts by screen height in pixels; 0 where the table has no column `screen_h`.
    pub layouts: BTreeMap<u32, Layout>,
}

impl Snippet {
    /// The label of the token that a box shows.
    pub fn label(&self, token: &TokenBox) -> Option<Label> {
        self.spans.get(token.span?)?.label
    }

    /// For each span, whether a box of the layout shows it.
    pub fn shown(&self, layout: &Layout) -> Vec<bool> {
        let mut shown = vec![false; self.spans.len()];
        layout.boxes.iter().filter_map(|b| b.span).for_each(|at| shown[at] = true);
        shown
    }
}

/// All snippets of a table of boxes.
pub struct Snippets {
    file: PathBuf,
    /// Whether they are source files, named by their paths, without a table of boxes.
    files: bool,
    list: BTreeMap<String, Snippet>,
}

const REMEDY: &str =
    "a table of token boxes needs snippet, token, byte_start, x_px, y_px, w_px, h_px, and may have screen_h";

impl Snippets {
    /// Reads the table of boxes (`snippet`, `token`, `byte_start`, `x_px`, `y_px`, `w_px`, `h_px`, optionally
    /// `screen_h`), reads each snippet's file from the folder and labels it. Refuses boxes that do not show the bytes
    /// that they claim, lie outside the screen, or overlap.
    pub fn load(boxes: &Path, folder: &Path, calls: Calls) -> Result<Snippets> {
        let mut table = Table::open(boxes, Dialect::CSV)?;
        let names = ["snippet", "token", "byte_start", "x_px", "y_px", "w_px", "h_px"];
        let mut columns = [0; 7];
        for (at, name) in columns.iter_mut().zip(names) {
            *at = table.column(name, REMEDY)?;
        }
        let [snippet, token, start, area @ ..] = columns;
        let screen = table.find("screen_h")?;
        let files = Files::list(folder)?;
        let mut list: BTreeMap<String, Snippet> = BTreeMap::new();
        while let Some(line) = table.advance()? {
            let fail = |why: String| Error::row(boxes, line, why);
            let name = table.text(snippet, line)?;
            if !list.contains_key(&name) {
                let file = files.of(&name).map_err(fail)?;
                list.insert(name.clone(), open(&name, file, calls)?);
            }
            let Some(own) = list.get_mut(&name) else { continue };
            let mut place = [0.0; 4];
            for (slot, at) in place.iter_mut().zip(area) {
                *slot = table.number(at, line)?;
            }
            let height = screen.map(|at| table.number(at, line)).transpose()?;
            check_area(place, height).map_err(fail)?;
            let (first, text) = (table.number(start, line)?, table.field(token, line)?);
            let end = check_text(own, first, text).map_err(fail)?;
            let first = end - text.len();
            let placed = TokenBox { area: place, start: first, end, span: covering(&own.spans, first, end), line };
            own.layouts.entry(height.map_or(0, |h| h as u32)).or_default().boxes.push(placed);
        }
        if list.is_empty() {
            return Err(Error::file(boxes, "has a header but no rows; it must hold a row per token"));
        }
        for layout in list.values_mut().flat_map(|s| s.layouts.values_mut()) {
            layout.arrange(boxes)?;
        }
        Ok(Snippets { file: boxes.to_path_buf(), files: false, list })
    }

    /// Source files of a folder, by their paths below it.
    pub(super) fn of_files(folder: &Path, list: BTreeMap<String, Snippet>) -> Snippets {
        Snippets { file: folder.to_path_buf(), files: true, list }
    }

    /// The table of boxes, or the folder of source files.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The snippets by name.
    pub fn iter(&self) -> impl Iterator<Item = &Snippet> {
        self.list.values()
    }

    /// The snippet with this name, with or without a file extension (`Sum`, `Sum.java`, `Sum.png`). For source files,
    /// the file whose path is the longest end of the name.
    pub fn find(&self, name: &str) -> Option<&Snippet> {
        if self.files {
            let path = name.replace('\\', "/");
            let ends = std::iter::successors(Some(path.as_str()), |end| Some(end.split_once('/')?.1));
            return ends.into_iter().find_map(|end| self.list.get(end));
        }
        self.list.get(name).or_else(|| self.list.get(name.rsplit_once('.')?.0))
    }

    /// A sentence about a snippet that has no boxes.
    pub fn unknown(&self, name: &str) -> String {
        let known: Vec<String> = self.list.keys().take(12).map(|n| clip(n)).collect();
        let more = if self.list.len() > 12 { ", ..." } else { "" };
        let has = format!("{} has {}{more}", self.file.display(), known.join(", "));
        if self.files {
            let name = clip(name);
            return format!(
                "`{name}` is no source file of --snippets ({has}); add it, or list it under `ignore` in the mapping"
            );
        }
        format!("snippet `{}` has no boxes ({has}); add them, or list it under `ignore` in the mapping", clip(name))
    }

    /// The layout that a participant saw: the layout for the height of their screen. `place` is the row of the
    /// recording that names the participant, for errors.
    pub fn layout<'s>(
        &self, snippet: &'s Snippet, who: &str, screen: Option<Size>, place: (&Path, usize),
    ) -> Result<(u32, &'s Layout)> {
        let (name, who) = (clip(&snippet.name), clip(who));
        let heights = snippet.layouts.keys().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let fail = |why: String| Error::row(place.0, place.1, why);
        let (height, layout) = match (snippet.layouts.first_key_value(), screen) {
            (Some((0, layout)), _) => (0, layout),
            (_, Some([_, height])) => {
                let height = height as u32;
                let layout = snippet.layouts.get(&height).ok_or_else(|| {
                    let has = format!("{} has boxes of `{name}` for {heights}", self.file.display());
                    fail(format!(
                        "the screen of participant `{who}` is {height} pixels high but {has}; add those for {height}"
                    ))
                })?;
                (height, layout)
            }
            (Some((&height, layout)), None) if snippet.layouts.len() == 1 => (height, layout),
            _ => {
                let why =
                    format!("boxes of `{name}` differ by screen_h ({heights}) and participant `{who}` has no screen");
                return Err(fail(format!("{why}; list it in --participants or set screen in the mapping")));
            }
        };
        if let Some([w, h]) = screen {
            let beyond = |b: &&TokenBox| b.area[0] + b.area[2] > w + 1.0 || b.area[1] + b.area[3] > h + 1.0;
            if let Some(token) = layout.boxes.iter().find(beyond) {
                let [x, y] = [token.area[0] + token.area[2], token.area[1] + token.area[3]];
                let why = format!("this box ends at ({x}, {y}), outside the screen of participant `{who}` ({w} x {h})");
                return Err(Error::row(&self.file, token.line, format!("{why}; correct the box or the screen")));
            }
        }
        Ok((height, layout))
    }
}

fn open(name: &str, file: &Path, calls: Calls) -> Result<Snippet> {
    let (code, spans) = label_file(file, calls)?;
    if spans.is_empty() {
        return Err(Error::file(file, "has no token to look at; put the code that was shown there"));
    }
    Ok(Snippet { name: name.into(), file: file.into(), code, spans, layouts: BTreeMap::new() })
}

/// A source file and its labelled tokens.
pub(super) fn label_file(file: &Path, calls: Calls) -> Result<(Vec<u8>, Vec<Span>)> {
    let code = files::read(file).map_err(Error::io(file, "read"))?;
    let spans =
        labels::label(&code, Language::from_path(file)?, calls).map_err(|e| Error::file(file, e.to_string()))?;
    Ok((code, spans))
}

fn check_area([x, y, w, h]: [f64; 4], screen: Option<f64>) -> std::result::Result<(), String> {
    if !(w > 0.0 && h > 0.0) {
        return Err(format!("a box of {w} x {h} pixels; width and height must be above 0"));
    }
    if let Some(height) = screen
        && !((1.0..=1e5).contains(&height) && height.fract() == 0.0)
    {
        return Err(format!("screen_h is {height}; give the screen's height in whole pixels"));
    }
    let below = screen.is_some_and(|height| y + h > height + 1.0);
    if x < -1.0 || y < -1.0 || below {
        let of = screen.map(|height| format!(" of height {height}")).unwrap_or_default();
        let why = format!("the box from ({x}, {y}) to ({}, {}) lies outside the screen{of}", x + w, y + h);
        return Err(format!("{why}; give pixels from its upper left corner"));
    }
    Ok(())
}

/// The end of a token whose text is in the code at `start`; an error if the code has other text there.
fn check_text(snippet: &Snippet, start: f64, text: &[u8]) -> std::result::Result<usize, String> {
    if text.is_empty() {
        return Err("token is empty; a box needs the text it shows".into());
    }
    let natural = start >= 0.0 && start.fract() == 0.0 && start <= u32::MAX.into();
    let start_byte = if natural { start as usize } else { usize::MAX };
    let found = start_byte.checked_add(text.len()).and_then(|end| snippet.code.get(start_byte..end));
    if found == Some(text) {
        return Ok(start_byte + text.len());
    }
    let shown = |bytes: &[u8]| clip(&String::from_utf8_lossy(bytes));
    let has = match found {
        Some(found) => format!("has `{}` at byte {start}", shown(found)),
        None => format!("has {} bytes and nothing at byte {start}", snippet.code.len()),
    };
    let file = snippet.file.display();
    Err(format!("token is `{}` but {file} {has}; make the boxes from this version of the file", shown(text)))
}

/// The span that contains most of the bytes `start..end`; of equal spans, the first.
fn covering(spans: &[Span], start: usize, end: usize) -> Option<usize> {
    let first = spans.partition_point(|s| s.end <= start);
    let common = |s: &Span| s.end.min(end) - s.start.max(start);
    let candidates = spans.iter().enumerate().skip(first).take_while(|(_, s)| s.start < end);
    candidates.map(|(at, s)| (common(s), at)).min_by(most_then_first).map(|(_, at)| at)
}

fn most_then_first(a: &(usize, usize), b: &(usize, usize)) -> Ordering {
    b.0.cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The source files of a folder by name.
struct Files {
    folder: PathBuf,
    list: Vec<PathBuf>,
}

impl Files {
    fn list(folder: &Path) -> Result<Files> {
        let mut list = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
            list.push(entry.map_err(Error::io(folder, "read"))?.path());
        }
        list.sort();
        Ok(Files { folder: folder.to_path_buf(), list })
    }

    /// The file with this name, with or without its extension, in a language that can be labelled.
    fn of(&self, snippet: &str) -> std::result::Result<&Path, String> {
        let whole = |p: &&PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy() == snippet);
        let stem = |p: &&PathBuf| p.file_stem().is_some_and(|n| n.to_string_lossy() == snippet);
        let known = |p: &&PathBuf| Language::from_path(p).is_ok();
        if let Some(file) = self.list.iter().find(|p| whole(p) && known(p)) {
            return Ok(file);
        }
        let (name, folder) = (clip(snippet), self.folder.display());
        match &self.list.iter().filter(|p| stem(p) && known(p)).collect::<Vec<_>>()[..] {
            [file] => Ok(file),
            [] => {
                Err(format!("{folder} has no source file for snippet `{name}`; put it there, named like the snippet"))
            }
            [a, b, ..] => {
                let [a, b] = [a, b].map(|p| p.file_name().unwrap_or_default().to_string_lossy().into_owned());
                Err(format!("snippet `{name}` could be {a} or {b} in {folder}; write the extension into the table"))
            }
        }
    }
}
