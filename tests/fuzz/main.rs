//! The bodies of the fuzzers (fuzz/) on the kept inputs and on random mutations of them. An input that once failed is
//! kept in tests/fuzz/corpus.
//!
//! `EYEKERN_FUZZ_SECONDS=600 cargo test --release --test fuzz -- --nocapture` mutates for so long per target, from
//! `EYEKERN_FUZZ_SEED` (0), and says which input was slowest. A failing input is written to target/fuzz.

mod checkpoint;
mod config;
mod labels;
mod priors;
mod recipe;
mod rows;
mod sentence;
#[path = "../labels/snippets/mod.rs"]
mod snippets;
mod tokenizer;

use eyekern::random::{Purpose, Stream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mutations per target when no time is given.
const MUTATIONS: usize = 400;
/// The longest input that is made, but for copies of longer seeds.
const LONGEST: usize = 4096;

/// What stands for any number of an input.
const NUMBERS: [&str; 20] = [
    "0",
    "-1",
    "1",
    "3",
    "0.5",
    "-0.0",
    "255",
    "4096",
    "65537",
    "16777216",
    "2147483648",
    "4294967295",
    "1099511627776",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999999",
    "1e-320",
    "1e38",
    "1e308",
    "-1e308",
];

/// What parsers look for.
const WORDS: [&str; 56] = [
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "<",
    ">",
    ";",
    ",",
    ".",
    ":",
    "=",
    "\"",
    "'",
    "`",
    "${",
    "$\"",
    "/*",
    "*/",
    "//",
    "\n",
    "    ",
    "#if x\n",
    "@",
    "if ",
    "else ",
    "for ",
    "while ",
    "return ",
    "class A ",
    "def f",
    "fn f",
    "func f",
    "x",
    "1",
    "->",
    "=>",
    "default",
    "template<",
    "é",
    "\0",
    "\u{feff}",
    "-1",
    "null",
    "1e999",
    "\\u0000",
    "<a>",
    "true",
    "[]",
    "{}",
    "\"\":",
    "\n[",
    "\n#+ ",
    "\n#! ",
    "=",
];

struct Random(Stream);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0.word() as usize % n.max(1)
    }

    /// A piece of at most `longest` bytes: where it begins and ends.
    fn piece(&mut self, of: &[u8], longest: usize) -> (usize, usize) {
        let start = self.below(of.len() + 1);
        (start, (start + self.below(longest)).min(of.len()))
    }

    fn mutate(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let longest = input.len().max(LONGEST);
        let at = self.below(input.len() + 1);
        match self.below(8) {
            0 if at < input.len() => input[at] = self.below(256) as u8,
            1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 => {
                let word = WORDS[self.below(WORDS.len())].as_bytes();
                let times = if self.below(8) == 0 { self.below(200) } else { 1 };
                drop(input.splice(at..at, word.repeat(times)));
            }
            3 => {
                let (start, end) = self.piece(input, 64);
                drop(input.drain(start..end));
            }
            4 => {
                let (start, end) = self.piece(input, 64);
                let times = if self.below(4) == 0 { self.below(60) } else { 1 };
                let copy = input[start..end].repeat(times);
                drop(input.splice(at..at, copy));
            }
            5 => {
                let (start, end) = self.piece(other, 200);
                drop(input.splice(at..at, other[start..end].iter().copied()));
            }
            6 => {
                let Some(start) = (at..input.len()).find(|&i| input[i].is_ascii_digit()) else { return };
                let end = (start..input.len()).find(|&i| !input[i].is_ascii_digit()).unwrap_or(input.len());
                drop(input.splice(start..end, NUMBERS[self.below(NUMBERS.len())].bytes()));
            }
            _ => input.truncate(at),
        }
        input.truncate(longest);
    }
}

fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&dir).expect("a corpus").map(|e| e.expect("an entry").path());
    let mut list: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect();
    list.sort();
    assert!(!list.is_empty(), "{}: no inputs", dir.display());
    list
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs the body on the seeds, then on mutations of them.
fn fuzz(target: &str, body: fn(&[u8]), mut seeds: Vec<Vec<u8>>) {
    seeds.extend(kept(target).into_iter().map(|(_, input)| input));
    let seconds = number("EYEKERN_FUZZ_SECONDS");
    let seed = number("EYEKERN_FUZZ_SEED").unwrap_or(0);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    std::fs::create_dir_all(&dir).expect("a folder");
    // written before each run, so that it is there whatever the input does
    let current = dir.join(format!("{target}.{seed}.current"));
    let start = Instant::now();
    let mut slowest = (Duration::ZERO, Vec::new());
    let mut n = 0;
    let mut random = Random(Stream::new(seed, Purpose::Shuffle, 0));
    while seconds.map_or(n < seeds.len() + MUTATIONS, |s| start.elapsed().as_secs() < s) {
        let mut input = seeds[if n < seeds.len() { n } else { random.below(seeds.len()) }].clone();
        if n >= seeds.len() {
            for _ in 0..1 + random.below(6) {
                let other = random.below(seeds.len());
                random.mutate(&mut input, &seeds[other]);
            }
        }
        std::fs::write(&current, &input).expect("writes");
        let begin = Instant::now();
        body(&input);
        if begin.elapsed() > slowest.0 {
            slowest = (begin.elapsed(), input);
        }
        n += 1;
    }
    std::fs::remove_file(&current).expect("removes");
    if seconds.is_some() {
        std::fs::write(dir.join(format!("{target}.{seed}.slowest")), &slowest.1).expect("writes");
    }
    println!("{target}: {n} inputs in {:.0?}, the slowest {:.0?}", start.elapsed(), slowest.0);
}

#[test]
fn labels_of_anything() {
    let code = snippets::ALL
        .iter()
        .enumerate()
        .flat_map(|(i, (_, list))| list.iter().map(move |(code, _)| [&[i as u8], code.as_bytes()].concat()));
    fuzz("labels", labels::run, code.collect());
}

#[test]
fn any_file_of_priors() {
    fuzz("priors", priors::run, Vec::new());
}

#[test]
fn any_row_of_data() {
    let page = include_str!("../../docs/data.md");
    let rows = page.lines().filter(|line| line.starts_with('{')).map(|line| line.as_bytes().to_vec());
    fuzz("rows", rows::run, rows.collect());
}

#[test]
fn any_recipe() {
    fuzz("recipe", recipe::run, vec![eyekern::train::recipe::Recipe::default().to_toml_commented().into_bytes()]);
}

#[test]
fn any_config() {
    fuzz("config", config::run, Vec::new());
}

#[test]
fn any_checkpoint() {
    fuzz("checkpoint", checkpoint::run, Vec::new());
}

#[test]
fn any_tokenizer() {
    fuzz("tokenizer", tokenizer::run, Vec::new());
}
