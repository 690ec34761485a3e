//! What must hold of any file of priors.

use eyekern::salience::Label;
use eyekern::salience::priors::Priors;

/// The file is refused with a sentence, or read, and then a written copy of it is read as the same.
pub fn run(input: &[u8]) {
    match Priors::from_json(input, None) {
        Err(why) => assert!(why.len() > 20, "{why:?} is no sentence"),
        Ok(priors) => {
            let again = Priors::from_json(priors.to_json().as_bytes(), None).expect("its own file");
            assert_eq!(again, priors);
            for label in Label::ALL {
                let mean = priors.beta(label).map_or(0.5, |beta| beta.mean());
                assert!((0.0..=1.0).contains(&mean), "{label:?}: {mean}");
            }
        }
    }
}
