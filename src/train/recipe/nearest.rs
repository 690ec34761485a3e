//! "Did you mean": the key or section that an unknown name was most likely meant to be.

use super::{EXTENDS, Key, keys};
use crate::choices::{distance, near, nearest};

/// Names that other trainers and habit use for ours, where spelling alone would lead astray.
const ALIASES: [(&str, &str, &str); 29] = [
    ("alpha", "lora", "lora_alpha"),
    ("bnb_4bit_quant_type", "model", "quantization"),
    ("bnb_4bit_use_double_quant", "model", "double_quant"),
    ("batch_size", "train", "per_device_train_batch_size"),
    ("bf16", "train", "compute_dtype"),
    ("block_size", "data", "max_length"),
    ("clip", "train", "max_grad_norm"),
    ("dropout", "lora", "lora_dropout"),
    ("dtype", "train", "compute_dtype"),
    ("epochs", "train", "num_train_epochs"),
    ("eps", "train", "adam_epsilon"),
    ("grad_clip", "train", "max_grad_norm"),
    ("gradient_checkpointing", "train", "recompute"),
    ("llm_int8_skip_modules", "model", "skip_modules"),
    ("load_in_4bit", "model", "quantization"),
    ("lora_r", "lora", "r"),
    ("lr", "train", "learning_rate"),
    ("lr_scheduler", "train", "lr_scheduler_type"),
    ("max_seq_length", "data", "max_length"),
    ("model", "model", "model_name_or_path"),
    ("name", "model", "model_name_or_path"),
    ("path", "model", "model_name_or_path"),
    ("precision", "train", "compute_dtype"),
    ("qlora", "model", "quantization"),
    ("rank", "lora", "r"),
    ("scheduler", "train", "lr_scheduler_type"),
    ("steps", "train", "max_steps"),
    ("targets", "lora", "target_modules"),
    ("warmup", "train", "warmup_steps"),
];

/// The message for a key that no section has. `section` is `None` for a key outside all sections.
pub(super) fn unknown_key(section: Option<&str>, key: &str) -> String {
    let shown = section.map_or(key.to_string(), |s| format!("{s}.{key}"));
    if let Some((_, section, key)) = ALIASES.iter().find(|(name, ..)| *name == key) {
        return format!("unknown key {shown}; did you mean {section}.{key}?");
    }
    if key == EXTENDS {
        return format!("{shown}: {EXTENDS} stands in a recipe file, before its first section");
    }
    if section.is_none() && near(key, EXTENDS) {
        return format!("unknown key {shown}; did you mean {EXTENDS}?");
    }
    // Another section costs less than two letters of the key: the right name in the wrong place wins over a remote
    // likeness in the right one.
    let cost = |k: &Key| 2 * distance(key, k.name) + section.map_or(0, |s| distance(s, k.section).min(3));
    match keys().min_by_key(cost) {
        Some(k) if near(key, k.name) => format!("unknown key {shown}; did you mean {}.{}?", k.section, k.name),
        _ => format!("unknown key {shown}; {}", choice(section)),
    }
}

/// The message for a section that does not exist.
pub(super) fn unknown_section(section: &str) -> String {
    match nearest(section, section_names()) {
        Some(name) => format!("unknown section [{section}]; did you mean [{name}]?"),
        None => format!("unknown section [{section}]; {}", choice(None)),
    }
}

/// What there is to choose from, where nothing is near.
fn choice(section: Option<&str>) -> String {
    match section.filter(|s| section_names().contains(s)) {
        Some(s) => {
            let names: Vec<&str> = keys().filter(|k| k.section == s).map(|k| k.name).collect();
            format!("the keys of [{s}] are {}", names.join(", "))
        }
        None => format!("the sections are {}", section_names().join(", ")),
    }
}

fn section_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = keys().map(|k| k.section).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_key() {
        for (section, key, want) in [
            (Some("train"), "learning_rat", "train.learning_rate"),
            (None, "learning_rate", "train.learning_rate"),
            (Some("trian"), "learning_rate", "train.learning_rate"),
            (Some("model"), "learning_rate", "train.learning_rate"),
            (Some("train"), "r", "lora.r"),
            (Some("train"), "lr", "train.learning_rate"),
            (Some("data"), "gama", "objective.gamma"),
            (Some("data"), "max-tokens", "data.max_tokens"),
        ] {
            let message = unknown_key(section, key);
            assert!(message.ends_with(&format!("did you mean {want}?")), "{message}");
        }
    }

    #[test]
    fn what_is_like_nothing_gets_the_list() {
        assert_eq!(
            unknown_key(Some("objective"), "zzzzzz"),
            "unknown key objective.zzzzzz; the keys of [objective] are arm, arm_constant, arm_focal, normalize, gamma, \
             beta, dpo_weights, reference_model"
        );
        assert_eq!(unknown_section("trainer"), "unknown section [trainer]; did you mean [train]?");
        let sections = "the sections are model, data, salience, lora, objective, eval, train";
        assert_eq!(unknown_section("zzz"), format!("unknown section [zzz]; {sections}"));
        assert_eq!(unknown_key(None, "zzz"), format!("unknown key zzz; {sections}"));
    }

    #[test]
    fn aliases_lead_to_keys_and_hide_none() {
        for (alias, section, key) in ALIASES {
            assert!(keys().any(|k| (k.section, k.name) == (section, key)), "{section}.{key}");
            assert!(keys().all(|k| k.name != alias), "{alias}");
        }
    }
}
