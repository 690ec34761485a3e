//! Prepared corpora on disk: rows that were parsed, labelled and tokenised once are not again.
//!
//! An entry is one file, named by a hash of everything that it depends on: the bytes of the data files, tokenizer.json,
//! the settings of reading, and the program itself. So an entry is never out of date, and the folder may be deleted at
//! any time. Weights of scan paths are not in it, since they are drawn in no time: other priors, another w_base or seed
//! use the same entry.
//!
//! The file is a hash of the rest, then a safetensors file. An entry that the disk changed is made again.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::corpus::{self, Corpus, DataSource, Reading};
use super::tokenizer::Tokenizer;
use super::weights::drawn::{Look, Weighs};
use super::{Example, IGNORE};
use crate::error::{Error, Result};
use crate::files;
use crate::salience::artifact::Recorded;
use crate::salience::{Label, Span};

/// Data files below this many bytes together are not worth an entry.
const SMALLEST: u64 = 1 << 20;

/// `$XDG_CACHE_HOME/eyekern`, else `~/.cache/eyekern`; `None` where neither is known.
pub fn default_dir(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let given = |key| env(key).filter(|path| Path::new(path).is_absolute()).map(PathBuf::from);
    Some(given("XDG_CACHE_HOME").or(given("HOME").map(|home| home.join(".cache")))?.join("eyekern"))
}

/// A corpus, and what became of the cache.
pub struct Cached {
    /// The corpus, as [`corpus::read`] gives it.
    pub corpus: Corpus,
    /// Whether it came from the cache.
    pub hit: bool,
    /// Why it could not be kept, where it should have been.
    pub trouble: Option<Error>,
}

/// [`corpus::read`] by way of `dir`. An entry that cannot be used is made again; one that cannot be written is told in
/// [`Cached::trouble`] and does no harm.
pub fn read(
    dir: &Path, source: &DataSource, tokenizer: Option<&Tokenizer>, vocab: usize, reading: &Reading,
) -> Result<Cached> {
    let afresh = || corpus::read(source, tokenizer, vocab, reading);
    let Some(before) = state(source).filter(|state| state.iter().map(|(len, _)| len).sum::<u64>() >= SMALLEST) else {
        return Ok(Cached { corpus: afresh()?, hit: false, trouble: None });
    };
    let key = key(source, tokenizer, vocab, reading)?;
    let entry = dir.join(format!("{key}.rows"));
    if let Some(corpus) = fs::read(&entry).ok().and_then(|bytes| decode(&bytes, source, vocab)) {
        return Ok(Cached { corpus, hit: true, trouble: None });
    }
    let corpus = afresh()?;
    let keep = || {
        fs::create_dir_all(dir).map_err(Error::io(dir, "create"))?;
        files::write(&entry, encode(&corpus).map_err(|e| Error::file(&entry, e.to_string()))?)
    };
    // a file that changed while it was read has another key
    let trouble = if state(source).as_ref() == Some(&before) { keep().err() } else { None };
    Ok(Cached { corpus, hit: false, trouble })
}

/// Size and time of change of the data files; `None` where one is no ordinary file (a pipe cannot be read twice).
fn state(source: &DataSource) -> Option<Vec<(u64, std::time::SystemTime)>> {
    let one = |file: &Path| {
        let metadata = fs::metadata(file).ok().filter(|m| m.is_file())?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    source.files().into_iter().map(one).collect()
}

/// Of everything that a prepared corpus depends on.
fn key(source: &DataSource, tokenizer: Option<&Tokenizer>, vocab: usize, reading: &Reading) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    let mut add_file = |file: &Path| {
        hash.update(files::hash(file)?.as_bytes());
        Ok::<_, Error>(())
    };
    // the rules of labelling are code: another build may have others
    let program = std::env::current_exe().map_err(Error::io(Path::new("the program"), "find"))?;
    add_file(&program)?;
    for file in source.files() {
        add_file(file)?;
    }
    let inputs = tokenizer.map(|t| (t.inputs(), t.bos(), t.eos()));
    hash.update(format!("{inputs:?} {vocab} {reading:?}").as_bytes());
    Ok(hash.finalize().to_hex().to_string())
}

/// One column of an entry.
struct Column {
    name: &'static str,
    dtype: Dtype,
    bytes: Vec<u8>,
}

fn column<T: bytemuck::NoUninit>(name: &'static str, dtype: Dtype, values: impl Iterator<Item = T>) -> Column {
    Column { name, dtype, bytes: bytemuck::allocation::pod_collect_to_vec(&values.collect::<Vec<T>>()) }
}

/// Running ends of lists of these lengths.
fn ends(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = u64> {
    lengths.scan(0, |end, length| {
        *end += length as u64;
        Some(*end)
    })
}

/// Bytes of the hash that an entry begins with.
const HASH: usize = blake3::OUT_LEN;

/// An entry around these bytes.
pub(crate) fn seal(body: &[u8]) -> Vec<u8> {
    [blake3::hash(body).as_bytes(), body].concat()
}

/// The bytes of an entry; `None` where they are not those that were written.
pub(crate) fn unseal(entry: &[u8]) -> Option<&[u8]> {
    let (hash, body) = entry.split_at_checked(HASH)?;
    (blake3::hash(body).as_bytes() == hash).then_some(body)
}

fn encode(corpus: &Corpus) -> std::result::Result<Vec<u8>, SafeTensorError> {
    let tokens = || corpus.examples.iter();
    let spans = || corpus.looks.iter().flat_map(|look| &look.spans);
    let recorded = || corpus.looks.iter().map(|look| look.recorded.as_deref());
    let by = corpus.looks.iter().flat_map(|look| &look.by).map(|by| by.code());
    let columns = [
        column("row", Dtype::U32, tokens().map(|e| e.row)),
        column("end", Dtype::U64, ends(tokens().map(|e| e.ids.len()))),
        column("ids", Dtype::U32, tokens().flat_map(|e| e.ids.iter().copied())),
        column("labels", Dtype::U32, tokens().flat_map(|e| e.labels.iter().copied())),
        column("weights", Dtype::F32, tokens().flat_map(|e| e.weights.iter().copied())),
        column("path", Dtype::U8, tokens().flat_map(|e| e.path.iter().map(|&on| u8::from(on)))),
        column("prompt", Dtype::U32, tokens().map(|e| e.prompt)),
        column("span_end", Dtype::U64, ends(corpus.looks.iter().map(|look| look.spans.len()))),
        column("span_start_byte", Dtype::U64, spans().map(|s| s.start as u64)),
        column("span_end_byte", Dtype::U64, spans().map(|s| s.end as u64)),
        column("span_label", Dtype::U8, spans().map(|s| s.label.map_or(0, Label::id))),
        column("span_line", Dtype::U32, spans().map(|s| s.line)),
        column("weighs_like", Dtype::U32, by),
        column("recorded_end", Dtype::U64, ends(recorded().map(|list| list.map_or(0, <[_]>::len)))),
        column("recorded_there", Dtype::U8, recorded().map(|list| u8::from(list.is_some()))),
        column("recorded", Dtype::U32, recorded().flatten().flatten().flat_map(|entry| entry.numbers())),
    ];
    let mut views = Vec::with_capacity(columns.len());
    for c in &columns {
        let length = c.bytes.len() / (c.dtype.bitsize() / 8);
        views.push((c.name, TensorView::new(c.dtype, vec![length], &c.bytes)?));
    }
    let counts = serde_json::to_string(&corpus.counts).unwrap_or_default();
    Ok(seal(&safetensors::serialize(views, Some(HashMap::from([("report".to_string(), counts)])))?))
}

/// The corpus of an entry for a model of `vocab` ids; `None` where anything in it does not fit.
fn decode(entry: &[u8], source: &DataSource, vocab: usize) -> Option<Corpus> {
    let bytes = unseal(entry)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let counts = serde_json::from_str(metadata.metadata().as_ref()?.get("report")?).ok()?;
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    fn values<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
        tensors: &SafeTensors, name: &str, dtype: Dtype,
    ) -> Option<Vec<T>> {
        let view = tensors.tensor(name).ok().filter(|view| view.dtype() == dtype)?;
        Some(bytemuck::allocation::pod_collect_to_vec(view.data()))
    }
    let column = |name| values::<u32>(&tensors, name, Dtype::U32);
    let (rows, ends) = (column("row")?, values::<u64>(&tensors, "end", Dtype::U64)?);
    let (ids, labels, by) = (column("ids")?, column("labels")?, column("weighs_like")?);
    let weights: Vec<f32> = values(&tensors, "weights", Dtype::F32)?;
    let path: Vec<u8> = values(&tensors, "path", Dtype::U8)?;
    let prompts = column("prompt")?;
    let span_ends: Vec<u64> = values(&tensors, "span_end", Dtype::U64)?;
    let starts: Vec<u64> = values(&tensors, "span_start_byte", Dtype::U64)?;
    let stops: Vec<u64> = values(&tensors, "span_end_byte", Dtype::U64)?;
    let span_labels: Vec<u8> = values(&tensors, "span_label", Dtype::U8)?;
    let lines = column("span_line")?;
    let there: Vec<u8> = values(&tensors, "recorded_there", Dtype::U8)?;
    let recorded_ends: Vec<u64> = values(&tensors, "recorded_end", Dtype::U64)?;
    let recorded: Vec<Recorded> = column("recorded")?.chunks(3).map(Recorded::of_numbers).collect::<Option<_>>()?;
    // the hash says that these are the bytes that were written, and nothing about who wrote them
    let known = |&id: &u32| (id as usize) < vocab;
    let in_range = ids.iter().all(known)
        && labels.iter().all(|label| *label == IGNORE || known(label))
        && weights.iter().all(|weight| weight.is_finite())
        && rows.is_sorted_by(|a, b| a < b)
        && rows.last() != Some(&u32::MAX);
    if !in_range {
        return None;
    }
    let spans: Vec<Span> = starts
        .iter()
        .zip(&stops)
        .zip(span_labels.iter().zip(&lines))
        .map(|((&start, &end), (&label, &line))| Span {
            start: start as usize,
            end: end as usize,
            label: Label::from_id(label),
            line,
        })
        .collect();

    let mut corpus = Corpus { file: source.files().first()?.to_path_buf(), counts, ..Corpus::default() };
    let (mut first, mut first_span, mut first_recorded) = (0, 0, 0);
    for (i, (&row, &end)) in rows.iter().zip(&ends).enumerate() {
        let range = first..usize::try_from(end).ok()?;
        first = range.end;
        corpus.examples.push(Example {
            row,
            ids: ids.get(range.clone())?.to_vec(),
            labels: labels.get(range.clone())?.to_vec(),
            weights: weights.get(range.clone())?.to_vec(),
            path: path.get(range.clone())?.iter().map(|&on| on != 0).collect(),
            prompt: prompts.get(i).copied().filter(|&prompt| prompt as usize <= range.len())?,
        });
        if let Some(&end) = span_ends.get(i) {
            let stop = usize::try_from(end).ok()?;
            let spans = spans.get(first_span..stop)?.to_vec();
            let weighs = |&code: &u32| match Weighs::of_code(code) {
                Weighs::Like(place) if place as usize >= spans.len() => None,
                by => Some(by),
            };
            let by = by.get(range)?.iter().map(weighs).collect::<Option<_>>()?;
            let end = usize::try_from(*recorded_ends.get(i)?).ok()?;
            let entries = recorded.get(first_recorded..end)?.to_vec();
            corpus.looks.push(Look { spans, by, recorded: (*there.get(i)? != 0).then_some(entries) });
            (first_span, first_recorded) = (stop, end);
        }
    }
    let whole = rows.len() == ends.len() && first == ids.len() && [0, rows.len()].contains(&span_ends.len());
    (whole && !corpus.examples.is_empty()).then_some(corpus)
}

#[cfg(test)]
mod inputs;

#[cfg(test)]
mod tests {
    use super::super::samples::plain;
    use super::super::weights::drawn::{PathReading, Writing};
    use super::*;
    use crate::salience::align::Align;
    use crate::salience::labels::Calls;
    use crate::salience::syntax::Language;

    fn reading(align: Option<Align>) -> Reading {
        let target = Some(Writing::Code(Language::CSharp));
        let paths =
            align.map(|align| PathReading { align, calls: Calls::Syntax, source: None, target, recorded: false });
        Reading { max_length: 64, paths, ..Reading::default() }
    }

    /// A JSONL file of `rows` rows in a folder of its own.
    fn data(rows: usize) -> (tempfile::TempDir, DataSource) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.jsonl");
        let row = |n: usize| format!("{{\"code\": \"int x{n} = 1;\", \"content\": \"int x{n} = {n};\"}}\n");
        std::fs::write(&file, (0..rows).map(row).collect::<String>()).unwrap();
        (dir, DataSource::Jsonl(file))
    }

    fn same(a: &Corpus, b: &Corpus) -> bool {
        (&a.file, &a.examples, &a.looks, &a.counts) == (&b.file, &b.examples, &b.looks, &b.counts)
    }

    #[test]
    fn an_entry_gives_the_same_corpus_and_nothing_else_does() {
        let (dir, source) = data(25_000);
        let cache = dir.path().join("cache");
        let tokenizer = plain();
        let go = |reading: &Reading| read(&cache, &source, Some(&tokenizer), 512, reading).unwrap();
        for align in [None, Some(Align::TargetAst), Some(Align::Lexical), Some(Align::BroadcastMax)] {
            let reading = reading(align);
            let (first, second) = (go(&reading), go(&reading));
            assert!(!first.hit && second.hit && first.trouble.is_none(), "{align:?}");
            assert!(same(&first.corpus, &second.corpus) && first.corpus.examples.len() == 25_000, "{align:?}");
            assert_eq!(first.corpus.looks.len(), if align.is_some() { 25_000 } else { 0 });
        }
        assert!(!go(&Reading { max_length: 63, ..reading(None) }).hit);
        let entries = || fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path());
        assert_eq!(entries().count(), 5);
        // half an entry, and one that is none: made again
        for (i, entry) in entries().enumerate() {
            let bytes = fs::read(&entry).unwrap();
            fs::write(&entry, if i % 2 == 0 { &bytes[..bytes.len() / 2] } else { b"x" }).unwrap();
        }
        assert!(!go(&reading(None)).hit);
        assert!(go(&reading(None)).hit);
        let DataSource::Jsonl(file) = &source else { return };
        let mut text = fs::read_to_string(file).unwrap();
        text = text.replace("x17 ", "y17 ");
        fs::write(file, text).unwrap();
        assert!(!go(&reading(None)).hit, "other data");
    }

    #[test]
    fn every_cut_and_flip_of_an_entry_is_noticed() {
        let (_dir, source) = data(2);
        let corpus = corpus::read(&source, Some(&plain()), 512, &reading(Some(Align::TargetAst))).unwrap();
        let bytes = encode(&corpus).unwrap();
        assert!(same(&decode(&bytes, &source, 512).unwrap(), &corpus));
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at], &source, 512).is_none());
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(decode(&flipped, &source, 512).is_none(), "bit {bit} of byte {at}");
            }
        }
    }

    /// Entries with the right hash around wrong values: whatever is read can be trained on.
    #[test]
    fn no_value_of_an_entry_is_beyond_what_it_counts() {
        let (_dir, source) = data(2);
        let corpus = corpus::read(&source, Some(&plain()), 512, &reading(Some(Align::TargetAst))).unwrap();
        let body = encode(&corpus).unwrap().split_off(HASH);
        for at in 0..body.len() {
            for bit in 0..8 {
                let mut flipped = body.clone();
                flipped[at] ^= 1 << bit;
                let Some(corpus) = decode(&seal(&flipped), &source, 512) else { continue };
                for (i, e) in corpus.examples.iter().enumerate() {
                    let n = e.ids.len();
                    assert!(e.row < u32::MAX, "bit {bit} of byte {at}");
                    assert!([e.labels.len(), e.weights.len(), e.path.len()] == [n; 3], "bit {bit} of byte {at}");
                    let known = |id: &u32| *id < 512;
                    assert!(e.ids.iter().all(known), "bit {bit} of byte {at}");
                    assert!(e.labels.iter().all(|l| *l == IGNORE || known(l)), "bit {bit} of byte {at}");
                    assert!(e.weights.iter().all(|w| w.is_finite()), "bit {bit} of byte {at}");
                    let Some(look) = corpus.looks.get(i) else { continue };
                    assert_eq!(look.by.len(), n);
                    let within =
                        |by: &Weighs| !matches!(by, Weighs::Like(place) if *place as usize >= look.spans.len());
                    assert!(look.by.iter().all(within), "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn small_data_and_folders_that_cannot_be_written_do_no_harm() {
        let (dir, source) = data(3);
        let cache = dir.path().join("cache");
        let small = read(&cache, &source, Some(&plain()), 512, &reading(None)).unwrap();
        assert!(!small.hit && small.trouble.is_none() && !cache.exists());
        let (dir, source) = data(25_000);
        let file = dir.path().join("no-folder");
        fs::write(&file, "").unwrap();
        let blocked = read(&file, &source, Some(&plain()), 512, &reading(None)).unwrap();
        assert!(blocked.trouble.unwrap().to_string().contains("no-folder: cannot create"));
        assert_eq!(blocked.corpus.examples.len(), 25_000);
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let dir = |vars: &'static [(&str, &str)]| {
            default_dir(|key| vars.iter().find(|(k, _)| *k == key).map(|(_, v)| v.to_string()))
        };
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/eyekern".into()));
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_CACHE_HOME", "")]), Some("/h/.cache/eyekern".into()));
        assert_eq!(dir(&[]), None);
    }
}
