//! Reading WordNet: synonyms, and files that are none of WordNet's.

use crate::support::fixtures;
use crate::support::trials::trials;
use eyekern::error::Error;
use eyekern::eval::metrics::wordnet::WordNet;
use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<Trial> {
    trials!(plain:
        synonyms_come_from_every_part_of_speech_and_base_form,
        a_missing_file_is_named,
        a_damaged_file_is_refused,
    )
    .into()
}

fn synonyms_come_from_every_part_of_speech_and_base_form() {
    let wordnet = WordNet::open(&fixtures().join("wordnet")).expect("the fixtures have a small WordNet");
    let cases: [(&str, &[&str]); 12] = [
        ("car", &["auto", "automobile", "car", "machine"]),
        ("automobiles", &["auto", "automobile", "car", "machine"]),
        ("wolves", &["wolf"]),
        ("entries", &["entry"]),
        ("geese", &["goose"]),
        ("fast", &["fast", "quick", "quickly", "rapidly"]),
        ("better", &["good", "well"]),
        ("went", &["go", "move", "operate", "run", "travel"]),
        // the exceptions of verbs stand for the rules
        ("got", &["acquire", "get", "take"]),
        ("java", &["Java", "coffee"]),
        ("motor_vehicle", &["auto", "automobile", "car", "machine"]),
        ("gooses", &["goose"]),
    ];
    for (word, expected) in cases {
        let found: BTreeSet<&str> = wordnet.synonyms(word).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected, "{word}");
    }
    assert_eq!(wordnet.synonyms("unknown").count() + wordnet.synonyms("").count() + wordnet.synonyms("s").count(), 0);
}

/// A copy of the small WordNet in a temporary folder.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for file in fs::read_dir(fixtures().join("wordnet")).expect("the fixtures have a small WordNet") {
        let file = file.expect("a file");
        fs::copy(file.path(), dir.path().join(file.file_name())).expect("a copy");
    }
    dir
}

/// The message about a folder, in which DIR stands for it.
fn message(dir: &Path) -> String {
    let error = WordNet::open(dir).err().expect("the folder is refused");
    assert_eq!(error.exit_code(), 3);
    assert!(matches!(error, Error::File { .. } | Error::Row { .. }), "{error}");
    error.to_string().replace(&dir.display().to_string(), "DIR")
}

fn a_missing_file_is_named() {
    let dir = copy();
    let missing = |name: &str| {
        format!(
            "DIR/{name}: cannot read: No such file or directory (os error 2); a folder of WordNet 3.0 has index.*, \
             data.* and *.exc"
        )
    };
    fs::remove_file(dir.path().join("adv.exc")).expect("a file");
    assert_eq!(message(dir.path()), missing("adv.exc"));
    assert_eq!(message(&PathBuf::from("DIR")), missing("data.noun"));
}

/// A change of a file's content.
type Damage = fn(&str) -> Vec<u8>;

fn a_damaged_file_is_refused() {
    let again = "copy the files of WordNet 3.0 again, unchanged";
    let line = |file: &str, row: usize| {
        format!("DIR/{file}:{row}: this is no line of WordNet's {file}, or its data file is not whole; {again}")
    };
    let cases: [(&str, Damage, String); 14] = [
        ("data.verb", |text| text[..text.len() / 2].into(), line("data.verb", 6)),
        // cut between two lines
        ("data.verb", |text| text.split_inclusive('\n').take(6).collect::<String>().into(), line("index.verb", 3)),
        ("data.noun", |text| text.replace('\n', "\r\n").into(), line("data.noun", 2)),
        ("data.adj", |text| text.replace(" 02 big", " zz big").into(), line("data.adj", 2)),
        ("data.adj", |text| text.replace(" 02 big", " ffffffffffffffffff big").into(), line("data.adj", 2)),
        ("data.adj", |text| text.replace(" 02 big", " 40 big").into(), line("data.adj", 2)),
        ("index.adv", |text| text.replace("ly r 1 1", "ly r 1 18446744073709551615").into(), line("index.adv", 4)),
        ("index.adv", |text| text.replace("quickly r 1", "quickly r 9").into(), line("index.adv", 4)),
        ("index.adv", |text| text.replace("quickly r 1", "quickly r -1").into(), line("index.adv", 4)),
        ("index.adv", |text| text.replace("00000051", "00000052").into(), line("index.adv", 2)),
        ("index.noun", |_| Vec::new(), format!("DIR/index.noun: the file is empty; {again}")),
        ("noun.exc", |text| format!("{text}\n").into(), line("noun.exc", 4)),
        (
            "verb.exc",
            |_| b"\xff\xfe".to_vec(),
            "DIR/verb.exc: cannot read: it is not UTF-8; save it as UTF-8; a folder of WordNet 3.0 has index.*, data.* \
             and *.exc"
                .into(),
        ),
        (
            "index.noun",
            |text| text.split_inclusive('\n').take(3).collect::<String>().into(),
            format!("DIR/index.noun: the word \"car\" of data.noun is missing; {again}"),
        ),
    ];
    for (file, damage, expected) in cases {
        let dir = copy();
        let path = dir.path().join(file);
        let text = fs::read_to_string(&path).expect("a text");
        let damaged = damage(&text);
        assert_ne!(damaged, text.as_bytes(), "{file}: nothing changed");
        fs::write(&path, damaged).expect("a file");
        assert_eq!(message(dir.path()), expected, "{file}");
    }
}
