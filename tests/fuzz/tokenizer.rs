//! What must hold of any tokenizer.json.

use eyekern::data::tokenizer::Tokenizer;

use super::sentence;

const TEXTS: [&str; 5] = [
    "",
    "int f(int a) { return a; }\n\n  // done",
    "é漢🙂 \u{0}\u{301}",
    "</s> <s>x<s>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// It is refused with a sentence, or texts become ids below `id_end` that lie in order inside the text, or a sentence.
pub fn run(input: &[u8]) {
    for eos in [None, Some("</s>")] {
        let tokenizer = match Tokenizer::from_bytes(input, eos) {
            Err(refusal) => {
                sentence::check(&refusal, "tokenizer.json: ", 3);
                continue;
            }
            Ok(tokenizer) => tokenizer,
        };
        for text in TEXTS {
            let pieces = match tokenizer.encode(text) {
                Err(refusal) => {
                    sentence::check(&refusal, "tokenizer.json: ", 3);
                    continue;
                }
                Ok(pieces) => pieces,
            };
            for piece in &pieces {
                assert!(piece.start <= piece.end && piece.end <= text.len(), "{piece:?} of {text:?}");
                assert!(
                    text.is_char_boundary(piece.start) && text.is_char_boundary(piece.end),
                    "{piece:?} of {text:?}"
                );
                assert!((piece.id as usize) < tokenizer.id_end(), "{piece:?}, ids end at {}", tokenizer.id_end());
            }
            let ids: Vec<u32> = pieces.iter().map(|p| p.id).collect();
            if let Err(refusal) = tokenizer.decode(&ids) {
                sentence::check(&refusal, "tokenizer.json: ", 3);
            }
            for id in ids.into_iter().take(8) {
                tokenizer.token_bytes(id);
            }
        }
    }
}
