//! Rows of an evaluation that the model was trained on.

use super::EvalArgs;
use crate::cli::terminal::{Terminal, counted};
use crate::data::corpus::{DataSource, Reading};
use crate::data::requests::Prompt;
use crate::data::survey::Ask;
use crate::data::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// Rows that a note names.
const NAMED: usize = 10;

/// Lists the rows whose source occurs in the data of `--against`, and drops them where that is asked for.
pub fn check(
    args: &EvalArgs, (source, prompts): (&DataSource, &mut Vec<Prompt>), reading: &Reading, tokenizer: &Tokenizer,
    vocab: usize, out: &mut Terminal,
) -> Result {
    if args.against.len() > 2 {
        let why = "--against is given more than twice: once for a JSONL file, twice for two parallel files";
        return Err(Error::Usage(why.into()));
    }
    let Some(others) = DataSource::of(&args.against) else { return Ok(()) };
    let ask = Ask { tokenizer: Some(tokenizer), vocab, reading, drawing: None, armed: None };
    let mut leaks = ask.leaks(source, &ask.others(&others)?)?;
    leaks.retain(|leak| prompts.binary_search_by_key(&leak.row, |prompt| prompt.row).is_ok());
    if leaks.is_empty() {
        return Ok(());
    }
    let pairs = leaks.iter().filter(|leak| leak.pair).count();
    let named: Vec<String> =
        leaks.iter().take(NAMED).map(|leak| format!("{} (line {})", leak.row + 1, leak.like)).collect();
    let more = if leaks.len() > NAMED { ", ..." } else { "" };
    let what = if args.drop_leaks { "left out" } else { "evaluated all the same; --drop-leaks leaves them out" };
    out.note(&format!(
        "note: {} of {} with a source that occurs in {}, {pairs} of them with the same target: rows {}{more}; {what}",
        counted(leaks.len(), "row"),
        source.file().display(),
        others.file().display(),
        named.join(", ")
    ));
    if args.drop_leaks {
        prompts.retain(|prompt| leaks.binary_search_by_key(&prompt.row, |leak| leak.row).is_err());
        if prompts.is_empty() {
            return Err(Error::file(source.file(), "every row occurs in the data of --against, so none is left"));
        }
    }
    Ok(())
}
