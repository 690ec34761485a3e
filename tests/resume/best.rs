//! The best model, and an early end.

use super::{Case, checkpoints, kill_at};
use serde_json::Value;

/// Evaluation losses by step.
fn evaluations(case: &Case, out: &str) -> Vec<(u64, f64)> {
    let pair = |v: &Value| Some((v.get("step")?.as_u64()?, v.get("eval_loss")?.as_f64()?));
    case.metrics(out).iter().filter_map(pair).collect()
}

#[test]
fn the_best_is_kept_and_patience_ends() {
    let case = Case::new();
    // it learns the training rows by heart, and the validation loss turns
    let sets = [
        "train.learning_rate=0.02",
        "train.lr_scheduler_type=constant",
        "train.max_steps=40",
        "train.save_steps=3",
        "train.eval_steps=2",
        "train.early_stopping_patience=3",
        "train.load_best_model_at_end=true",
    ];
    case.trained("reference", &sets);
    let losses = evaluations(&case, "reference");
    let (best, low) = losses.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a }).expect("evaluations");
    let last = losses.last().expect("evaluations").0;
    assert_eq!((last - best) / 2, 3, "three evaluations after the best: {losses:?}");
    assert!(last < 40 && best > 2, "{losses:?}");
    assert_eq!(case.metrics("reference").iter().filter_map(|l| l["learning_rate"].as_f64()).count() as u64, last);
    // the saved adapter is that of a run which ends at the best step
    case.trained(
        "short",
        &["train.learning_rate=0.02", "train.lr_scheduler_type=constant", &format!("train.max_steps={best}")],
    );
    let adapter = |out: &str| case.read(&format!("{out}/adapter_model.safetensors"));
    assert!(adapter("reference") == adapter("short"));
    let kept: Vec<u64> = checkpoints(&case.path("reference")).iter().map(|c| c.0).collect();
    assert!(kept.contains(&best) && kept.len() <= 3, "{kept:?}, best {best}");

    // the counters survive a kill
    kill_at(case.train("out", &sets, &[]), &case.path(&format!("out/checkpoint-{}", kept[kept.len() - 1])));
    let said = case.resumed("out", &sets);
    let note = format!(
        "note: stopped early after step {last}: 3 evaluations without a loss below {low:.4} of step {best}\nnote: the \
         best model is saved: that of step {best}, eval loss {low:.4}\n"
    );
    assert!(said.ends_with(&note), "{said}");
    case.same("out", "reference");

    // a best checkpoint that somebody removed
    std::fs::remove_dir_all(case.path(&format!("out/checkpoint-{best}"))).expect("removes");
    let said = case.resumed("out", &sets);
    assert!(said.contains("the best checkpoint is not whole (checkpoint.b3 cannot be read"), "{said}");
}
