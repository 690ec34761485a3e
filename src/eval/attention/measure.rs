//! The figures of one example: its answer and its reference go through the model in one batch, with attention looked
//! at.

use super::figures::{HEADS, Means, WHOLE, recent};
use crate::backend::Backend;
use crate::data::contexts::Context;
use crate::data::{Example, IGNORE, pack};
use crate::error::Result;
use crate::model::attention::{Extent, Observer};

/// The mean over all layers and heads of the rows of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    /// Tokens of the answer; row t is the attention of the token that predicts the t-th.
    pub answer: Vec<u32>,
    /// `rows[t][j]`: probability of token j of prompt and answer; row t has `prompt + t` of them.
    pub rows: Vec<Vec<f32>>,
}

/// The figures of an example. NaN stands for a figure that the example does not have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// In the order of [`WHOLE`].
    pub whole: [f64; WHOLE.len()],
    /// In the order of [`HEADS`], each `[layers * heads]`.
    pub heads: Vec<Vec<f64>>,
    /// A map, where one was asked for.
    pub map: Option<Map>,
}

/// The room that an [`Observer`] requires for these rows with answers of up to `most` tokens, and with a map of an
/// answer of the lengths `mapped`.
pub fn extent(contexts: &[Context], most: usize, mapped: &[usize]) -> Extent {
    let one = |(i, context): (usize, &Context)| {
        let map = mapped.get(i).map_or(0, |answer| context.prompt.ids.len() + answer);
        let lengths = [context.prompt.ids.len() + most, context.example.ids.len(), map];
        Extent { tokens: lengths.iter().sum(), longest: lengths.into_iter().max().unwrap_or(0) }
    };
    contexts
        .iter()
        .enumerate()
        .map(one)
        .fold(Extent::default(), |a, b| Extent { tokens: a.tokens.max(b.tokens), longest: a.longest.max(b.longest) })
}

/// A prompt with an answer to it.
fn answered(context: &Context, answer: &[u32]) -> Example {
    let prompt = &context.prompt.ids;
    let ids = [prompt, answer].concat();
    let labels = [vec![IGNORE; prompt.len()].as_slice(), answer].concat();
    // an answer has no scan path
    let path = (0..ids.len()).map(|t| t < prompt.len() && context.prompt.path.get(t) == Some(&true)).collect();
    Example { row: context.prompt.row, weights: vec![1.0; ids.len()], ids, labels, path, ..Example::default() }
}

/// Which of the sequences of a batch a row belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Answer,
    Reference,
    Map,
}

/// Measures an example whose greedy answer is `answer`; `mapped` is the answer that a map is made of, if one is.
pub fn measure<B: Backend>(
    observer: &mut Observer<B>, (layers, heads): (usize, usize), context: &Context, answer: &[u32],
    mapped: Option<&[u32]>,
) -> Result<Measured> {
    let mut parts = Vec::new();
    if !answer.is_empty() {
        parts.push((Part::Answer, answered(context, answer)));
    }
    if !context.prompt.target.is_empty() {
        parts.push((Part::Reference, context.example.clone()));
    }
    if let Some(mapped) = mapped.filter(|mapped| !mapped.is_empty()) {
        parts.push((Part::Map, answered(context, mapped)));
    }
    if parts.is_empty() {
        let heads = vec![vec![f64::NAN; layers * heads]; HEADS.len()];
        return Ok(Measured { whole: [f64::NAN; WHOLE.len()], heads, map: mapped.map(|_| Map::default()) });
    }
    let examples: Vec<&Example> = parts.iter().map(|(_, example)| example).collect();
    let batch = pack::batch(&examples, None);
    // the part of each row
    let of = |i: usize| batch.row_start.partition_point(|&start| start as usize <= i) - 1;
    let mut means = vec![Means::default(); layers * heads];
    let mut map = Map { answer: mapped.unwrap_or_default().to_vec(), rows: Vec::new() };
    let mut sums: Vec<Vec<f64>> = Vec::new();
    let logp = observer.observe(&batch, &batch.rows, |layer, i, probs, keys| {
        let (part, example) = &parts[of(i)];
        let row = batch.rows[i];
        let seen = (row - batch.seg_start[row as usize]) as usize + 1;
        let path = &example.path[..seen];
        if *part == Part::Map {
            let t = seen - context.prompt.ids.len();
            sums.resize(sums.len().max(t + 1), Vec::new());
            sums[t].resize(seen, 0.0);
        }
        for (head, probs) in probs.chunks_exact(keys).enumerate() {
            let (probs, means) = (&probs[..seen], &mut means[layer * heads + head]);
            match part {
                Part::Answer => means.generated(probs, path, recent(seen)),
                Part::Reference => means.reference(probs, path),
                Part::Map => {
                    let sums = &mut sums[seen - context.prompt.ids.len()];
                    sums.iter_mut().zip(probs).for_each(|(sum, p)| *sum += f64::from(*p));
                }
            }
        }
        Ok(())
    })?;
    let all = (layers * heads) as f64;
    map.rows = sums.iter().map(|row| row.iter().map(|sum| (sum / all) as f32).collect()).collect();
    let of_part = |wanted: Part| {
        let list = logp.iter().enumerate().filter(|(i, _)| parts[of(*i)].0 == wanted);
        list.map(|(i, logp)| (f64::from(*logp), batch.path[i] != 0)).collect::<Vec<_>>()
    };
    let (answer, reference) = (of_part(Part::Answer), of_part(Part::Reference));
    let confidence = mean(answer.iter().map(|(logp, _)| *logp));
    let nll = |on: bool| mean(reference.iter().filter(|(_, path)| *path == on).map(|(logp, _)| -logp));
    // a reference without a path says nothing of the tokens off it
    let (on, off) = (nll(true), nll(false));
    let off = if on.is_finite() { off } else { f64::NAN };
    let values: Vec<_> = means.iter().map(Means::values).collect();
    Ok(Measured {
        whole: [confidence, confidence.exp(), on, off, on - off],
        heads: (0..HEADS.len()).map(|name| values.iter().map(|values| values[name]).collect()).collect(),
        map: mapped.map(|_| map),
    })
}

/// NaN without values.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    sum / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_roles_of_its_prompt_alone() {
        let context = Context {
            prompt: crate::data::requests::Prompt {
                ids: vec![5, 6],
                target: vec![7],
                path: vec![false, true, true, false],
                ..Default::default()
            },
            example: Example { ids: vec![5, 6, 7, 1], ..Example::default() },
        };
        let example = answered(&context, &[8, 9, 9]);
        assert_eq!((example.ids, example.path), (vec![5, 6, 8, 9, 9], vec![false, true, false, false, false]));
        assert_eq!(example.labels, [IGNORE, IGNORE, 8, 9, 9]);
        assert_eq!(extent(&[context], 9, &[3]), Extent { tokens: 11 + 4 + 5, longest: 11 });
    }
}
