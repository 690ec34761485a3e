//! Reading data files: JSONL in six row forms, or two parallel text files.
//!
//! A JSONL row has one of these forms, told apart by its keys; a file may mix them, other keys are ignored:
//!
//! - `prompt`, `completion`: two strings.
//! - `code`, `content`: two strings; the [`Task`](super::template::Task) makes the prompt. For completion `content` may
//!   be left out.
//! - `messages`: a list of `{"role", "content", "weight" = 1, "train" = true}`, written by the model's chat template;
//!   the assistant's answers are learned.
//! - `instruction`, optionally `input`, `output`: strings, with Alpaca's prompt.
//! - `segments`: a list of `{"text", "weight" = 1, "train" = true, "path" = false}`, each tokenised on its own.
//! - `input_ids`, optionally `labels` (-100: not supervised), `weights`, `path` (0 or 1), one entry per token.
//!
//! Rows with a completion take `weights`, a list of `[start, end, weight]` or `[start, end, weight, on_path]`, and
//! `path`, a list of `[start, end]`. Offsets count characters of the completion, as Python slices do.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Example;
pub use super::counts::Counts;
use super::lines::{Lines, Raw, utf8};
use super::reader::RowReader;
use super::row::Row;
pub use super::source::{DataSource, Reading};
use super::tokenizer::Tokenizer;
use super::weights::drawn::{Drawing, Look};
use crate::error::{Error, Result};
use crate::salience::{Label, Span};

/// A data file, tokenised.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// The file (of two parallel ones the source), for messages.
    pub file: PathBuf,
    /// The rows that can be trained on, in the order of the file. [`Example::row`] is the line, counted from 0.
    pub examples: Vec<Example>,
    /// What is looked at for the weights of each example; empty where weights are the data's own.
    pub looks: Vec<Look>,
    /// What was seen, kept and left out.
    pub counts: Counts,
}

/// Reads and tokenises a source for a model of `vocab` ids. Rows of `input_ids` need no tokenizer.
///
/// Errors name the line (the first one that cannot be used) or the file, and the remedy.
pub fn read(source: &DataSource, tokenizer: Option<&Tokenizer>, vocab: usize, reading: &Reading) -> Result<Corpus> {
    let reader = RowReader { tokenizer, vocab, reading, keep_texts: false, open: false };
    let mut corpus = Corpus { file: source.file().to_path_buf(), ..Corpus::default() };
    scan(source, &reader, |_, row| row, |row| corpus.add(row, tokenizer))?;
    corpus.finish(reading)
}

/// As [`read`], for JSONL in memory; `name` stands for the file in messages.
pub fn read_str(
    jsonl: &str, name: &Path, tokenizer: Option<&Tokenizer>, vocab: usize, reading: &Reading,
) -> Result<Corpus> {
    let reader = RowReader { tokenizer, vocab, reading, keep_texts: false, open: false };
    let mut corpus = Corpus { file: name.to_path_buf(), ..Corpus::default() };
    let rows = Lines::new(jsonl.as_bytes(), name).jsonl();
    each(rows, name, name, &reader, |_, row| row, |row| corpus.add(row, tokenizer))?;
    corpus.finish(reading)
}

/// Rows and bytes that are tokenised at a time: enough to keep every core busy, little beside the examples.
const CHUNK_ROWS: usize = 512;
const CHUNK_BYTES: usize = 4 << 20;

/// Every row of a source. `map` is given its index among the rows and the row, on any thread; `take` what comes of it,
/// in the order of the file. The first row that cannot be used ends it.
pub(crate) fn scan<T: Send>(
    source: &DataSource, reader: &RowReader, map: impl Fn(usize, Row) -> T + Sync, take: impl FnMut(T),
) -> Result {
    match source {
        DataSource::Jsonl(file) => each(Lines::open(file)?.jsonl(), file, file, reader, map, take),
        DataSource::Parallel(source, target) => {
            each(Lines::open(source)?.beside(Lines::open(target)?), source, target, reader, map, take)
        }
    }
}

/// Tokenises rows in parallel, chunk by chunk, and takes them in order.
fn each<T: Send>(
    mut rows: impl Iterator<Item = Result<Raw>>, file: &Path, target: &Path, reader: &RowReader,
    map: impl Fn(usize, Row) -> T + Sync, mut take: impl FnMut(T),
) -> Result {
    let mut done = 0;
    loop {
        let (mut chunk, mut bytes, mut end) = (Vec::new(), 0, None);
        while chunk.len() < CHUNK_ROWS && bytes < CHUNK_BYTES && end.is_none() {
            match rows.next() {
                Some(Ok(raw)) => {
                    bytes += raw.line.len();
                    chunk.push(raw);
                }
                Some(Err(e)) => end = Some(Err(e)),
                None => end = Some(Ok(())),
            }
        }
        let numbered = chunk.par_iter().enumerate();
        let read: Vec<Result<T>> =
            numbered.map(|(i, raw)| parse(raw, file, target, reader).map(|row| map(done + i, row))).collect();
        done += chunk.len();
        for row in read {
            take(row?);
        }
        match end {
            Some(Ok(())) if done == 0 => {
                return Err(Error::file(file, "the file holds no rows; write one example per line"));
            }
            Some(end) => return end,
            None => {}
        }
    }
}

fn parse(raw: &Raw, file: &Path, target: &Path, reader: &RowReader) -> Result<Row> {
    let line = raw.text(file)?;
    let row = match &raw.target {
        None => reader.json(line),
        Some(other) => {
            let other = utf8(other, target, raw.number)?;
            for (text, file) in [(line, file), (other, target)] {
                if text.trim().is_empty() {
                    let why = "the line is empty; each line must hold one example, remove it from both files";
                    return Err(Error::row(file, raw.number, why));
                }
                if text.contains('\r') {
                    let why = "a carriage return stands inside the line; end each line in \\n or \\r\\n";
                    return Err(Error::row(file, raw.number, why));
                }
            }
            reader.lines(line, other)
        }
    };
    let mut row = row.map_err(|why| Error::row(file, raw.number, why))?;
    let index = u32::try_from(raw.number - 1);
    row.example.row = index.map_err(|_| Error::row(file, raw.number, "too many lines; split the file"))?;
    Ok(row)
}

impl Corpus {
    /// Keeps the examples of these rows (counted from 0).
    pub fn keep(&mut self, row: impl Fn(u32) -> bool) {
        let kept: Vec<bool> = self.examples.iter().map(|example| row(example.row)).collect();
        let mut each = kept.iter();
        self.examples.retain(|_| each.next() == Some(&true));
        let mut each = kept.iter();
        self.looks.retain(|_| each.next() == Some(&true));
    }

    /// A hash of all rows: ids, labels, weights, and what weights are drawn from.
    pub fn digest(&self) -> blake3::Hash {
        let mut hash = blake3::Hasher::new();
        let mut list = |length: usize, bytes: &[u8]| {
            hash.update(&(length as u64).to_le_bytes());
            hash.update(bytes);
        };
        for example in &self.examples {
            list(example.ids.len(), &example.row.to_le_bytes());
            list(example.ids.len(), bytemuck::cast_slice(&example.ids));
            list(example.labels.len(), bytemuck::cast_slice(&example.labels));
            list(example.weights.len(), bytemuck::cast_slice(&example.weights));
            list(1, &example.prompt.to_le_bytes());
            list(example.path.len(), &example.path.iter().map(|&on| u8::from(on)).collect::<Vec<_>>());
        }
        for look in &self.looks {
            let span = |span: &Span| {
                [span.start as u64, span.end as u64, span.label.map_or(0, Label::id).into(), span.line.into()]
            };
            let spans: Vec<[u64; 4]> = look.spans.iter().map(span).collect();
            list(spans.len(), bytemuck::cast_slice(&spans));
            let by: Vec<u32> = look.by.iter().map(|by| by.code()).collect();
            list(by.len(), bytemuck::cast_slice(&by));
            if let Some(recorded) = &look.recorded {
                let numbers: Vec<u32> = recorded.iter().flat_map(|entry| entry.numbers()).collect();
                list(numbers.len(), bytemuck::cast_slice(&numbers));
            }
        }
        hash.finalize()
    }

    /// Draws the weights of an epoch: a pure function of the rows, the drawing and the epoch, whatever the threads.
    /// Without effect where weights are the data's own. The caller counts the weights.
    pub fn draw(&mut self, drawing: &Drawing, epoch: u32) {
        let pairs = self.examples.par_iter_mut().zip(&self.looks);
        pairs.for_each(|(example, look)| drawing.apply(example, look, epoch));
    }

    fn add(&mut self, row: Row, tokenizer: Option<&Tokenizer>) {
        if self.counts.count(&row, tokenizer.map(Tokenizer::eos)) {
            self.examples.push(row.example);
            self.looks.extend(row.look);
        }
    }

    /// Counts the weights; refuses a corpus that cannot be trained on.
    fn finish(mut self, reading: &Reading) -> Result<Corpus> {
        self.counts.weigh(&self.examples);
        let counts = &self.counts;
        if counts.kept > 0 {
            return Ok(self);
        }
        let why = format!(
            "no row has a supervised token (rows: {}, of them cut at max_length {}: {}); {}",
            counts.rows,
            reading.max_length,
            counts.truncated,
            if counts.truncated > 0 { "raise max_length" } else { "check `labels` and `train`" }
        );
        Err(Error::file(&self.file, why))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::super::template::Task;
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn reading() -> Reading {
        Reading { max_length: 6, ..Reading::default() }
    }

    fn read_text(jsonl: &str) -> Result<Corpus> {
        read_str(jsonl, Path::new("d.jsonl"), Some(&plain()), 512, &reading())
    }

    fn why(jsonl: &str) -> String {
        read_text(jsonl).unwrap_err().to_string()
    }

    #[test]
    fn rows_are_counted() {
        let jsonl = concat!(
            "\u{feff}{\"prompt\": \"a\", \"completion\": \"xy\", \"weights\": [[0, 1, 3, true], [1, 2, -2]]}\r\n",
            "\n  \n",
            "{\"prompt\": \"abcd\", \"completion\": \"xyz\"}\n",
            "{\"prompt\": \"abcdef\", \"completion\": \"x\"}\n",
            "{\"input_ids\": [1, 2, 3], \"labels\": [1, -100, 3], \"weights\": [9, 9, 0.5]}\n",
            "{\"segments\": [{\"text\": \"x\", \"train\": false}]}",
        );
        let corpus = read_text(jsonl).unwrap();
        assert_eq!(corpus.file, Path::new("d.jsonl"));
        // Lines 1, 4 and 6, counted from 0; lines 5 and 7 have no supervised token.
        assert_eq!(corpus.examples.iter().map(|e| e.row).collect::<Vec<_>>(), [0, 3, 5]);
        assert_eq!(corpus.examples[1].ids, [97, 98, 99, 100, 120, 121]);
        let counts = corpus.counts;
        let expected = Counts {
            rows: 5,
            kept: 3,
            tokens: 4 + 6 + 3,
            supervised: 3 + 2 + 1,
            on_path: 1,
            eos_rows: 1,
            truncated: 2,
            without_supervision: 2,
            split_copies: 0,
            rewritten: 0,
            code: Default::default(),
            weight_min: -2.0,
            weight_mean: (3.0 - 2.0 + 1.0 + 1.0 + 1.0 + 0.5) / 6.0,
            weight_max: 3.0,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.share_supervised(), 6.0 / 13.0);
        assert_eq!(counts.share_on_path(), 1.0 / 6.0);
        assert_eq!(counts.share_eos(), 1.0 / 3.0);
        assert_eq!(Counts::default().share_eos(), 0.0);
        let counts = read_text("{\"input_ids\": [1, 2, 3], \"weights\": [9, 2, 3]}").unwrap().counts;
        assert_eq!((counts.weight_min, counts.weight_mean, counts.weight_max), (2.0, 2.5, 3.0));
    }

    #[test]
    fn split_rows_are_counted() {
        let completion = Reading { task: Task::Completion, max_length: 200, ..reading() };
        let rows =
            [r#"{"code": "a\nb"}"#, r#"{"code": "a\nb", "content": "a\nb"}"#, r#"{"code": "a", "content": "b"}"#];
        let jsonl = rows.join("\n");
        let corpus = read_str(&jsonl, Path::new("d"), Some(&plain()), 512, &completion).unwrap();
        assert_eq!(corpus.counts.split_copies, 2);
        assert!(corpus.examples.iter().all(|e| e.ids.ends_with(&[98, EOS])));
    }

    #[test]
    fn rows_stay_in_order_and_the_first_error_counts() {
        let mut rows: Vec<String> = (0..1500).map(|n| format!("{{\"input_ids\": [7, {}]}}", n % 500)).collect();
        let corpus = read_text(&rows.join("\n")).unwrap();
        assert!(corpus.examples.iter().enumerate().all(|(n, e)| e.row as usize == n && e.ids[1] as usize == n % 500));
        rows[1400] = "{".into();
        rows[1301] = "{\"input_ids\": [7, 512]}".into();
        rows[1302] = "{".into();
        assert!(why(&rows.join("\n")).starts_with("d.jsonl:1302: id 512 at position 1 is outside"));
    }

    #[test]
    fn rows_that_cannot_be_used_are_named() {
        let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
        assert_eq!(
            why(&format!("{good}\n{{\"prompt\": \"a\" \"completion\"")),
            "d.jsonl:3: not valid JSON (expected `,` or `}` at column 16); each line must hold one whole object {...}"
        );
        assert_eq!(
            why(&format!("{good}{{\"prompt\": \"a\", \"completion\": \"b\", \"weights\": [[0, 1, NaN]]}}")),
            "d.jsonl:2: `weights`[0]: the weight NaN is not a finite number"
        );
        assert_eq!(why(" \n\n"), "d.jsonl: the file holds no rows; write one example per line");
        assert_eq!(
            why("{\"input_ids\": [1]}\n{\"input_ids\": [1, 2], \"labels\": [1, -100]}"),
            "d.jsonl: no row has a supervised token (rows: 2, of them cut at max_length 6: 0); check `labels` \
             and `train`"
        );
        assert_eq!(
            why("{\"prompt\": \"abcdefg\", \"completion\": \"b\"}"),
            "d.jsonl: no row has a supervised token (rows: 1, of them cut at max_length 6: 1); raise max_length"
        );
    }

    /// Reads two files as parallel text; the error without the directory.
    fn parallel(source: &[u8], target: &[u8]) -> std::result::Result<Corpus, String> {
        let dir = tempfile::tempdir().unwrap();
        let (java, cs) = (dir.path().join("a.java"), dir.path().join("a.cs"));
        fs::write(&java, source).unwrap();
        fs::write(&cs, target).unwrap();
        read(&DataSource::Parallel(java, cs), Some(&plain()), 512, &reading())
            .map_err(|e| e.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn parallel_files_go_line_by_line() {
        let corpus = parallel(b"a\nb\r\n", b"x\ny").unwrap();
        assert_eq!(corpus.examples.iter().map(|e| e.ids.clone()).collect::<Vec<_>>(), [[97, 120, EOS], [98, 121, EOS]]);
        assert_eq!(corpus.examples[1].row, 1);
        for (source, target, why) in [
            (
                &b"a\nb\nc\n"[..],
                &b"x\ny\n"[..],
                "a.java: line counts differ, 3 here and 2 in a.cs; line n of one file must belong to line n of the \
                 other",
            ),
            (
                b"a",
                b"x\n\n\ny",
                "a.java: line counts differ, 1 here and 4 in a.cs; line n of one file must belong to line n of the \
                 other",
            ),
            (
                b"a\nb\n",
                b"x\n \n",
                "a.cs:2: the line is empty; each line must hold one example, remove it from both files",
            ),
            (
                b"\nb\n",
                b"x\ny\n",
                "a.java:1: the line is empty; each line must hold one example, remove it from both files",
            ),
            (
                b"a\rb\r",
                b"x\ry\r",
                "a.java:1: a carriage return stands inside the line; end each line in \\n or \\r\\n",
            ),
            (b"a\n", b"x\r\r\n", "a.cs:1: a carriage return stands inside the line; end each line in \\n or \\r\\n"),
            (b"a\n", b"x\xff\n", "a.cs:1: not UTF-8 (at byte 2 of the line); save the file as UTF-8"),
        ] {
            assert_eq!(parallel(source, target).unwrap_err(), why);
        }
    }

    #[test]
    fn files_are_streamed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d.jsonl");
        let read = || read(&DataSource::Jsonl(file.clone()), Some(&plain()), 512, &reading());
        assert_eq!(
            read().unwrap_err().to_string(),
            format!(
                "{}: there is no such file; give the path of a JSONL file, or of two parallel text files",
                file.display()
            )
        );
        // One line of 8 MB, longer than a chunk, between two short ones.
        let ids = "1,".repeat(4 << 20);
        fs::write(
            &file,
            format!("{{\"input_ids\": [2, 3]}}\n{{\"input_ids\": [{ids}1]}}\n{{\"input_ids\": [4, 5]}}\n"),
        )
        .unwrap();
        let corpus = read().unwrap();
        assert_eq!(corpus.examples.iter().map(|e| e.ids.len()).collect::<Vec<_>>(), [2, 6, 2]);
        fs::write(&file, b"{\"input_ids\": [2, 3]}\n{\"prompt\": \"\xe9\"}\n").unwrap();
        assert_eq!(
            read().unwrap_err().to_string(),
            format!("{}:2: not UTF-8 (at byte 13 of the line); save the file as UTF-8", file.display())
        );
    }

    proptest! {
        /// Rows with good and bad values under the known keys, cut anywhere: an answer, never a panic.
        #[test]
        fn no_row_panics(
            keys in prop::collection::vec(("prompt|completion|code|content|weights|path|segments|input_ids|labels",
                concat!(r#""é🙂 int\\n"|""|-1|1e999|NaN|null|[[0,1,2,true],[1,3,0.5]]|[[0,9]]|[1,0]|[-100,7]|"#,
                    r#"[{"text":"x"}]|\{"#)), 0..6),
            cut in 0usize..200,
            task in 0usize..3,
        ) {
            let row = keys.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect::<Vec<_>>().join(",");
            let row = format!("{{{row}}}");
            let cut: String = row.chars().take(cut).collect();
            let task = [Task::None, Task::Completion, Task::Copy][task];
            let reading = Reading { task, max_length: 50, prompt_weight: Some(0.5), ..Reading::default() };
            let (tokenizer, name) = (with_bos(), Path::new("d"));
            for text in [row, cut] {
                if let Ok(corpus) = read_str(&text, name, Some(&tokenizer), 512, &reading) {
                    for e in &corpus.examples {
                        let n = e.ids.len();
                        prop_assert!(n <= 50 && e.labels.len() == n && e.weights.len() == n && e.path.len() == n);
                        prop_assert!(e.supervised() > 0 && e.weights.iter().all(|w| w.is_finite()));
                    }
                }
            }
        }
    }
}
