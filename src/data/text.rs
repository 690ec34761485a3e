//! Text as it is generated: characters of several tokens are held back until they are whole, and so is what may become
//! a stop string or what the next token may change.

use super::tokenizer::Tokenizer;
use crate::error::Result;

/// The text of one continuation.
pub struct Growing<'a> {
    tokenizer: &'a Tokenizer,
    stops: &'a [String],
    prompt: &'a [u32],
    ids: Vec<u32>,
    /// What the ids decode to, up to the stop string.
    text: String,
    /// How much of it no later token changes, in bytes.
    settled: usize,
    /// How much of it was handed out, in bytes.
    shown: usize,
    stopped: bool,
}

impl<'a> Growing<'a> {
    /// Empty, behind the tokens of `prompt`. The text ends before the first of `stops` (none empty) that occurs in it.
    pub fn new(tokenizer: &'a Tokenizer, stops: &'a [String], prompt: &'a [u32]) -> Growing<'a> {
        let (ids, text) = (Vec::new(), String::new());
        Growing { tokenizer, stops, prompt, ids, text, settled: 0, shown: 0, stopped: false }
    }

    /// Adds a token; returns the text that is sure now.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        // As a whole, since a decoder may write a token differently at the beginning.
        self.text = self.tokenizer.decode_behind(self.prompt, &self.ids)?;
        let whole = self.text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if let Some(at) = self.stops.iter().filter_map(|stop| whole.find(stop.as_str())).min() {
            self.stopped = true;
            self.text.truncate(at);
            return Ok(self.hand_out(at));
        }
        // Of a run of bytes that do not make up characters, the decoder writes every byte as U+FFFD, so that the last
        // one may change the first.
        if !self.tokenizer.may_change(id) {
            self.settled = self.text.len();
        }
        let sure = whole.len() - self.begun(whole.get(self.shown..).unwrap_or_default());
        Ok(self.hand_out(sure.min(self.settled)))
    }

    /// Whether a stop string has ended the text.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Returns what was held back: no more tokens come.
    pub fn finish(&mut self) -> String {
        self.hand_out(self.text.len())
    }

    /// What the tokens so far decode to, up to the stop string.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The longest end of `text`, in bytes, that a stop string begins with.
    fn begun(&self, text: &str) -> usize {
        let ends = text.char_indices().map(|(at, _)| &text[at..]);
        ends.filter(|end| self.stops.iter().any(|stop| stop.starts_with(end))).map(str::len).max().unwrap_or(0)
    }

    /// The text up to the byte `to`, without what was handed out before.
    fn hand_out(&mut self, to: usize) -> String {
        let Some(new) = self.text.get(self.shown..to) else { return String::new() };
        self.shown = to;
        new.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;

    /// What is handed out after each token and at the end, and whether a stop string ended it.
    fn grown(tokenizer: &Tokenizer, stops: &[&str], ids: &[u32]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut growing = Growing::new(tokenizer, &stops, &[]);
        let mut parts = Vec::new();
        for &id in ids {
            parts.push(growing.push(id).unwrap());
            if growing.stopped() {
                break;
            }
        }
        parts.push(growing.finish());
        assert_eq!(parts.concat(), growing.text());
        (parts, growing.stopped())
    }

    #[test]
    fn characters_come_whole() {
        let plain = plain();
        // x, then é of two tokens, 🙂 of three (its first two bytes are one), y
        assert_eq!(grown(&plain, &[], &[120, 201, 202, 260, 208, 209, 121]).0, ["x", "", "é", "", "", "🙂", "y", ""]);
        // what never becomes a character comes at the end, as decoding writes it
        assert_eq!(grown(&plain, &[], &[120, 201]).0, ["x", "", "\u{fffd}"]);
        assert_eq!(grown(&plain, &[], &[201, 120]).0, ["", "\u{fffd}x", ""]);
        // special tokens have no text
        assert_eq!(grown(&plain, &[], &[120, EOS]).0, ["x", "", ""]);
        // bytes as tokens of their own, the word mark of the first word dropped
        let marks = metaspace();
        assert_eq!(grown(&marks, &[], &[5, 5, 7, 8, 9, 6]).0, ["x", " x", "", "", "", "漢y", ""]);
        assert_eq!(grown(&marks, &[], &[7, 8, 9, 7, 8, 9]).0, ["", "", "", "", "", "", "漢漢"]);
    }

    /// The space of a first word is the row's own behind a prompt, and a mark without a prompt.
    #[test]
    fn a_space_behind_a_prompt_is_kept() {
        let marks = metaspace();
        for (prompt, expected) in [(&[1, 5][..], " x x"), (&[6], " x x"), (&[1], "x x"), (&[], "x x")] {
            let mut growing = Growing::new(&marks, &[], prompt);
            assert_eq!([5, 5].map(|id| growing.push(id).unwrap()).concat(), expected, "{prompt:?}");
            assert_eq!(marks.decode_behind(prompt, &[5, 5]).unwrap(), expected);
        }
    }

    #[test]
    fn a_run_of_bytes_may_change_until_it_ends() {
        let marks = metaspace();
        // 漢 and one byte more, for which the decoder takes the whole run as broken
        let ids = [5, 7, 8, 9, 7, 6, 5];
        let broken = "\u{fffd}".repeat(4);
        let parts = ["x", "", "", "", "", &format!("{broken}y"), " x", ""].map(String::from).to_vec();
        assert_eq!(grown(&marks, &[], &ids), (parts, false));
        assert_eq!(marks.decode(&ids).unwrap(), format!("x{broken}y x"));
        // behind such a run and in it stop strings are still seen
        assert_eq!(grown(&marks, &["y"], &ids).0.concat(), format!("x{broken}"));
        assert!(grown(&marks, &["y"], &ids).1);
        assert_eq!(grown(&marks, &["漢"], &ids), (["x", "", "", "", ""].map(String::from).to_vec(), true));
        // a special token has no text and does not end a run
        assert_eq!(grown(&marks, &[], &[7, 2, 8, 9, 6]).0, ["", "", "", "", "漢y", ""]);
    }

    #[test]
    fn a_stop_string_is_seen_across_tokens() {
        let plain = plain();
        // "x int y" as x, " int", " ", y
        let ids = [120, 258, 32, 121];
        assert_eq!(
            grown(&plain, &["t y"], &ids),
            (vec!["x".into(), " in".into(), "".into(), "".into(), "".into()], true)
        );
        assert_eq!(grown(&plain, &["nt", "i"], &ids), (vec!["x".into(), " ".into(), "".into()], true));
        // what only begins one is handed out after all
        let parts = |stop| grown(&plain, &[stop], &ids);
        assert_eq!(parts("t yz"), (["x", " in", "", "", "t y"].map(String::from).to_vec(), false));
        assert_eq!(parts("t z"), (["x", " in", "", "t y", ""].map(String::from).to_vec(), false));
        assert_eq!(parts("x"), (vec!["".into(), "".into()], true));
    }
}
