use super::super::samples::*;
use super::super::template::Task;
use super::super::weights::drawn::{PathReading, Writing};
use super::*;
use crate::error::Error;
use crate::salience::Label;
use crate::salience::align::{Align, Salience};
use crate::salience::labels::Calls;
use crate::salience::priors::Priors;
use crate::salience::syntax::Language;
use crate::salience::weights::WeightSettings;

fn reading(task: Task, max_length: usize) -> Reading {
    Reading { task, max_length, ..Reading::default() }
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) -> DataSource {
    std::fs::write(dir.path().join(name), text).unwrap();
    DataSource::Jsonl(dir.path().join(name))
}

fn survey_of(jsonl: &str, reading: &Reading, drawing: Option<&Drawing>, rows: Rows) -> (Survey, Vec<Shown>) {
    let dir = tempfile::tempdir().unwrap();
    let ask = Ask { tokenizer: Some(&plain()), vocab: 512, reading, drawing, armed: None };
    ask.survey(&write(&dir, "d", jsonl), &rows, None).unwrap()
}

fn at(lines: &[usize]) -> Finding {
    Finding { count: lines.len(), first: lines.iter().map(|&line| (line, None)).collect() }
}

fn like(pairs: &[(usize, usize)]) -> Finding {
    Finding { count: pairs.len(), first: pairs.iter().map(|&(line, like)| (line, Some(like))).collect() }
}

#[test]
fn defects_are_counted_with_their_rows() {
    let jsonl = concat!(
        "{\"prompt\": \"ab\", \"completion\": \"xy\", \"weights\": [[0, 1, 3, true]]}\n",
        "\n",
        "{\"prompt\": \"ab\", \"completion\": \"xy\"}\n", // other weights, same tokens and labels: line 3
        "{\"prompt\": \"a b\", \"completion\": \" a b\\n\"}\n", // copies but for blanks: 4
        "{\"prompt\": \"abcd\", \"completion\": \"bc\"}\n", // contained: 5
        "{\"prompt\": \"abcdefghij\", \"completion\": \"xyz\"}\n", // cut, nothing left: 6
        "{\"prompt\": \"abcdef\", \"completion\": \"xyz\"}\n", // cut, no EOS: 7
        "{\"prompt\": \"abc\", \"completion\": \"\"}\n",  // EOS alone
        "{\"input_ids\": [5, 6, 7], \"labels\": [-100, 6, 7]}\n", // no EOS: 9
        "{\"prompt\": \"ab\", \"completion\": \"xy\"}\n", // once more: 10
        "{\"segments\": [{\"text\": \"q: x\", \"train\": false}, {\"text\": \"x\"}]}\n", // contained: 11
    );
    let (survey, shown) = survey_of(jsonl, &reading(Task::None, 9), None, Rows::First(0));
    assert!(shown.is_empty());
    assert_eq!((survey.counts.rows, survey.counts.kept, survey.counts.truncated), (10, 9, 2));
    assert_eq!(survey.truncated, at(&[6, 7]));
    assert_eq!(survey.unsupervised, at(&[6]));
    assert_eq!(survey.endless, Some(at(&[7, 9])));
    assert_eq!((survey.duplicates, survey.repeated), (like(&[(3, 1), (10, 1)]), 1));
    assert_eq!((survey.texts, survey.copies, survey.contained), (9, at(&[4]), at(&[4, 5, 11])));
    assert_eq!(survey.longest, (6, 14));
    assert_eq!(survey.off_path, at(&[3, 4, 5, 7, 8, 9, 10, 11]));
    assert_eq!((survey.shared, survey.paths), (None, None));
    let spread = &survey.weights[&Kind::Data];
    assert_eq!(spread.values.last(), Some(&(3.0, 1)));
    assert_eq!(survey.weights[&Kind::End].count() + spread.count(), survey.counts.supervised as u64);
    assert_eq!(survey.weights[&Kind::End].count(), survey.counts.eos_rows as u64);
    assert_eq!((survey.counts.weight_max, survey.counts.on_path), (3.0, 1));
}

/// Of a text that ends with EOS before EOS is put behind it, and of EOS elsewhere in a text.
#[test]
fn misplaced_ends_are_counted() {
    let jsonl = concat!(
        "{\"prompt\": \"ab\", \"completion\": \"xy\"}\n",
        "{\"prompt\": \"ab\", \"completion\": \"xy</s>\"}\n", // twice: 2
        "{\"prompt\": \"a</s>b\", \"completion\": \"xy\"}\n", // inside the prompt: 3
        "{\"prompt\": \"ab\", \"completion\": \"x</s>y</s>\"}\n", // both: 4
        "{\"input_ids\": [5, 2, 7, 2]}\n",                    // documents end to end
        "{\"input_ids\": [5, 2, 2]}\n",                       // twice: 6
        "{\"segments\": [{\"text\": \"a</s>\", \"train\": false}, {\"text\": \"b\"}]}\n", // inside: 7
    );
    let eos = EOS.to_string();
    let jsonl = jsonl.replace("[5, 2, 7, 2]", &format!("[5, {eos}, 7, {eos}]"));
    let jsonl = jsonl.replace("[5, 2, 2]", &format!("[5, {eos}, {eos}]"));
    let (survey, _) = survey_of(&jsonl, &reading(Task::None, 50), None, Rows::First(0));
    assert_eq!(survey.misplaced, Some([at(&[2, 4, 6]), at(&[3, 4, 7])]));
}

/// A template writes EOS after each answer, and a line break that may be learned with it.
#[test]
fn misplaced_ends_of_answers_are_counted() {
    let template = "{% for m in messages %}{{ m.role[0] }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}\
                    </s>\n{% endgeneration %}{% else %}{{ m.content }}</s>\n{% endif %}{% endfor %}";
    let row = |question: &str, answer: &str| {
        let turn = |text: &str, role: &str| serde_json::json!({"role": role, "content": text});
        let turns = [turn(question, "user"), turn(answer, "assistant"), turn("more", "user"), turn("z", "assistant")];
        serde_json::json!({ "messages": turns }).to_string() + "\n"
    };
    // the second has EOS in an answer, the third has it twice, and what is not learned may hold it
    let jsonl = row("a", "xy") + &row("b", "x</s>y") + &row("c", "x</s>") + &row("d</s>e", "xyz");
    let chat = super::super::chat::Chat::new(template, &[("eos_token", "</s>")]).unwrap();
    let (tokenizer, reading) = (plain().with_chat(chat), reading(Task::None, 100));
    let dir = tempfile::tempdir().unwrap();
    let ask = Ask { tokenizer: Some(&tokenizer), vocab: 512, reading: &reading, drawing: None, armed: None };
    let (survey, _) = ask.survey(&write(&dir, "d", &jsonl), &Rows::First(0), None).unwrap();
    assert_eq!(survey.misplaced, Some([at(&[3]), at(&[2])]));
}

/// The report is the one that training prints.
#[test]
fn counts_are_those_of_training() {
    let jsonl: String = (0..700)
        .map(|n| format!("{{\"prompt\": \"p{n}\", \"completion\": \"c{n}\", \"weights\": [[0, 1, {n}.5, true]]}}\n"))
        .collect();
    let reading = reading(Task::None, 6);
    let (survey, _) = survey_of(&jsonl, &reading, None, Rows::First(1));
    let corpus = corpus::read_str(&jsonl, std::path::Path::new("d"), Some(&plain()), 512, &reading).unwrap();
    assert_eq!(survey.counts, corpus.counts);
}

#[test]
fn only_the_first_rows_of_a_finding_are_listed() {
    let jsonl = "{\"input_ids\": [5, 6]}\n".repeat(25) + "{\"input_ids\": [5, 6], \"labels\": [-100, 7]}\n";
    let (survey, _) = survey_of(&jsonl, &reading(Task::None, 8), None, Rows::First(1));
    assert_eq!((survey.duplicates.count, survey.repeated), (24, 1));
    assert_eq!(survey.duplicates.first, (2..=11).map(|line| (line, Some(1))).collect::<Vec<_>>());
}

#[test]
fn halves_of_one_code_are_compared_with_what_is_given() {
    let row = |code: &str| serde_json::json!({"code": code, "content": code}).to_string() + "\n";
    let jsonl = row("a\nb") + &row("b\nb");
    let (survey, _) = survey_of(&jsonl, &reading(Task::Completion, 500), None, Rows::First(0));
    // the second half of the first row is not in the first; in no row is it all of the code
    assert_eq!((survey.copies, survey.contained), (at(&[]), at(&[2])));
    let (survey, _) = survey_of(&jsonl, &reading(Task::Copy, 500), None, Rows::First(0));
    assert_eq!((survey.copies, survey.contained), (at(&[1, 2]), at(&[1, 2])));
    // the words of the instruction do not count
    let jsonl = serde_json::json!({"code": "int x;", "content": "code"}).to_string();
    let (survey, _) = survey_of(&jsonl, &reading(Task::Summarization, 500), None, Rows::First(0));
    assert_eq!(survey.contained, at(&[]));
    // nor do those that Alpaca puts around a row; what the row asks for does
    let jsonl = "{\"instruction\": \"x\", \"output\": \"task\"}\n{\"instruction\": \"say no\", \"output\": \"no\"}\n\
                 {\"instruction\": \"x\", \"input\": \"a b\", \"output\": \"a b\"}\n";
    let (survey, _) = survey_of(jsonl, &reading(Task::None, 500), None, Rows::First(0));
    assert_eq!((survey.copies, survey.contained), (at(&[]), at(&[2, 3])));
}

#[test]
fn rows_of_other_data_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let row = |code: &str, content: &str| serde_json::json!({"code": code, "content": content}).to_string() + "\n";
    let ids = "{\"input_ids\": [5, 6, 7], \"labels\": [-100, 6, 7]}\n";
    let train = row("a", "x") + &row("b", "y") + &row("c", "z") + ids;
    let test = row("d", "x") + &row("c", "z") + &row("c", "q") + &row("a", "y") + ids;
    let (train, test) = (write(&dir, "train", &train), write(&dir, "test", &test));
    let reading = reading(Task::Translation, 500);
    let ask = Ask { tokenizer: Some(&plain()), vocab: 512, reading: &reading, drawing: None, armed: None };
    let others = ask.others(&test).unwrap();
    let (survey, _) = ask.survey(&train, &Rows::First(0), Some(&others)).unwrap();
    assert_eq!(survey.shared, Some([like(&[(1, 4), (3, 2), (4, 5)]), like(&[(3, 2), (4, 5)])]));
}

#[test]
fn a_tokenizer_is_needed_for_eos_and_rows_for_anything() {
    let dir = tempfile::tempdir().unwrap();
    let reading = reading(Task::None, 500);
    let ask = Ask { tokenizer: None, vocab: 512, reading: &reading, drawing: None, armed: None };
    let (survey, shown) = ask.survey(&write(&dir, "d", "{\"input_ids\": [5, 6]}\n"), &Rows::First(1), None).unwrap();
    assert_eq!(survey.endless, None);
    assert_eq!(shown[0].subwords[1].text, "6 ");
    let error = ask.survey(&write(&dir, "d", "\n"), &Rows::First(1), None).unwrap_err();
    assert!(matches!(error, Error::File { why, .. } if why == "the file holds no rows; write one example per line"));
    // no row can be trained on: that is what a survey is there to tell
    let hopeless = write(&dir, "d", "{\"input_ids\": [5]}\n");
    let (survey, shown) = ask.survey(&hopeless, &Rows::First(1), None).unwrap();
    assert_eq!((survey.counts.kept, survey.unsupervised, shown[0].kept), (0, at(&[1]), false));
}

fn drawn() -> (Reading, Drawing) {
    let target = Some(Writing::Code(Language::Java));
    let paths = PathReading { align: Align::TargetAst, calls: Calls::Syntax, source: None, target, recorded: false };
    let priors = Priors::builtin("combined").unwrap();
    let (path, weights, align) = (Default::default(), WeightSettings::default(), Align::TargetAst);
    let salience = Salience { priors, path, weights, align, weighing: None };
    let reading = Reading { paths: Some(paths), ..reading(Task::Translation, 500) };
    (reading, Drawing { salience, seed: 7, artifact: false })
}

const CODE: &str = "public int size() { if (n == 0) { return 0; } return n; }";

#[test]
fn weights_are_told_by_label_and_paths_by_length() {
    let jsonl = (serde_json::json!({"code": CODE, "content": CODE}).to_string() + "\n").repeat(3);
    let (reading, drawing) = drawn();
    let (survey, shown) = survey_of(&jsonl, &reading, Some(&drawing), Rows::Lines(vec![2..=2]));
    let [row] = &shown[..] else { panic!("{} rows", shown.len()) };
    let scan = row.scan.as_ref().unwrap();
    assert_eq!((row.line, scan.text.as_str(), scan.spans.len()), (2, CODE, 11));
    let paths = survey.paths.unwrap();
    assert_eq!(paths.tokens, 33);
    // the survey's count is that of the three paths
    let (mut lengths, mut uncounted) = ([0; 3], 0);
    for line in 0..3 {
        let spans = &scan.spans;
        let key = crate::salience::scanpath::Key { seed: 7, example: line, epoch: 0 };
        for segment in drawing.salience.of(spans, key).0.segments {
            lengths[segment.places().len() - 1] += 1;
            let labels: Vec<Label> = segment.places().iter().map(|&place| spans[place].label.unwrap()).collect();
            uncounted += u64::from(drawing.salience.priors.freq(&labels).is_none());
        }
    }
    assert_eq!(paths.segments, lengths);
    assert_eq!(paths.on_path(), lengths[0] + 2 * lengths[1] + 3 * lengths[2]);
    assert_eq!(paths.uncounted, uncounted);
    // labels of the tokens, each subword under the label of its own
    let count = |label| survey.weights.get(&Kind::Label(label)).map_or(0, Spread::count);
    assert_eq!(count(Label::FunctionDeclaration), 3 * (6 + 1 + 4)); // p u b l i c, " int", s i z e
    assert_eq!(survey.weights[&Kind::End].values, [(1.0, 3)]);
    assert_eq!(survey.weights[&Kind::NoToken].range(), [1.0, 1.0, 1.0]);
    let all: u64 = survey.weights.values().map(Spread::count).sum();
    assert_eq!(all, survey.counts.supervised as u64);
    // the parts add up
    for subword in row.subwords.iter().filter(|subword| subword.parts.is_some()) {
        let parts = subword.parts.unwrap();
        assert_eq!((parts.base + parts.rarity + parts.semantic) as f32, subword.weight);
        assert_eq!(subword.on_path, subword.weight > 1.0);
    }
    // rows with the weights of an arm: the parts stay, the weight is what is trained with
    let dir = tempfile::tempdir().unwrap();
    let source = write(&dir, "d", &jsonl);
    let mut armed = corpus::read(&source, Some(&plain()), 512, &reading).unwrap().examples;
    armed.iter_mut().for_each(|example| example.weights.fill(1.0));
    let (tokenizer, drawing, armed) = (plain(), Some(&drawing), Some(&armed[..]));
    let ask = Ask { tokenizer: Some(&tokenizer), vocab: 512, reading: &reading, drawing, armed };
    let (survey, shown) = ask.survey(&source, &Rows::First(1), None).unwrap();
    assert_eq!((survey.counts.weight_min, survey.counts.weight_max), (1.0, 1.0));
    assert!(shown[0].subwords.iter().any(|s| s.parts.is_some_and(|parts| parts.semantic > 0.0) && s.weight == 1.0));
}

#[test]
fn shown_rows_have_their_text_bytes_and_cut() {
    let line = "{\"prompt\": \"a\", \"completion\": \"漢 int b\"}";
    let (_, shown) = survey_of(line, &reading(Task::None, 6), None, Rows::First(1));
    let row = &shown[0];
    let seen: Vec<(&str, &[u8])> = row.subwords.iter().map(|s| (s.text.as_str(), s.bytes.as_slice())).collect();
    // a character of three tokens is shown once, at the first of them
    assert_eq!(
        seen,
        [("a", &b"a"[..]), ("漢", &[0xE6]), ("", &[0xBC]), ("", &[0xA2]), (" int", b" int"), (" ", b" "),]
    );
    assert_eq!(row.cut, (2, "b".to_string()));
    assert_eq!(row.subwords.iter().filter(|s| s.kind == Kind::End).count(), 0);
    assert_eq!(
        row.subwords.iter().map(|s| s.label.is_some()).collect::<Vec<_>>(),
        [false, true, true, true, true, true]
    );

    let whole = survey_of(line, &reading(Task::None, 60), None, Rows::First(1)).1.remove(0);
    let last = whole.subwords.last().unwrap();
    assert_eq!((last.text.as_str(), last.kind, last.label), ("</s>", Kind::End, Some(EOS)));
    assert_eq!(whole.cut, (0, String::new()));
}

#[test]
fn rows_are_chosen_by_number_or_line() {
    let jsonl = "\n{\"input_ids\": [1, 2]}\n\n{\"input_ids\": [3, 4]}\n{\"input_ids\": [5, 6]}\n";
    let lines = |rows| -> Vec<usize> {
        survey_of(jsonl, &reading(Task::None, 6), None, rows).1.iter().map(|row| row.line).collect()
    };
    assert_eq!(lines(Rows::First(2)), [2, 4]);
    assert_eq!(lines(Rows::Lines(vec![5..=9, 1..=2])), [2, 5]);
    assert!(lines(Rows::Lines(vec![3..=3])).is_empty());
    // the first few of all, not of every chunk that is read at a time
    let many = "{\"input_ids\": [1, 2]}\n".repeat(1200);
    let (_, shown) = survey_of(&many, &reading(Task::None, 6), None, Rows::First(2));
    assert_eq!(shown.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn histograms_hold_every_token_once() {
    let spread = Spread { values: vec![(-1.0, 2), (0.0, 1), (0.49, 3), (3.0, 4)] };
    assert_eq!(spread.histogram(-1.0, 3.0, 4), [2, 4, 0, 4]);
    assert_eq!(spread.range(), [-1.0, (-2.0 + 3.0 * f64::from(0.49f32) + 12.0) / 10.0, 3.0]);
    let one = Spread { values: vec![(1.0, 5)] };
    assert_eq!(one.histogram(1.0, 1.0, 3), [5, 0, 0]);
    assert_eq!((Spread::default().range(), Spread::default().histogram(0.0, 1.0, 2)), ([0.0; 3], vec![0, 0]));
}
