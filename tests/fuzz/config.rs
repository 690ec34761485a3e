//! What must hold of any config.json.

use eyekern::backend::moments::Optim;
use eyekern::backend::plan::Plan;
use eyekern::model::adapter::{AdapterInit, LoraConfig, Targets};
use eyekern::model::config::{Positions, Spec};
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::names;
use eyekern::model::workspace::{Need, Recompute, Workspace};
use std::path::Path;

use super::sentence;

/// More layers are only named, since building a decoder looks for each tensor of each layer.
const BUILT: usize = 64;

/// It is refused with a sentence, or it describes a model of finite numbers whose tensors and memory can be counted.
pub fn run(input: &[u8]) {
    // what is no JSON is refused before: `config::read`
    let Ok(config) = serde_json::from_slice(input) else { return };
    let spec = match Spec::parse(&config, Path::new("config.json")) {
        Err(refusal) => return sentence::check(&refusal, "config.json: ", 3),
        Ok(spec) => spec,
    };
    let scales = [spec.embed_scale, spec.attn_scale, spec.residual_scale, spec.logit_scale];
    assert!(scales.iter().all(|&x| (x as f32).is_finite()), "{scales:?}");
    if let Positions::Rope { inverse, layers } = &spec.positions {
        assert!(inverse.len() == spec.head_dim / 2 && layers.len() == spec.layers);
        assert!(inverse.iter().all(|f| f.is_finite() && *f >= 0.0), "{:?}", &inverse[..inverse.len().min(8)]);
    }
    let tensors = names::tensors(&spec);
    let values: Option<usize> = tensors.iter().try_fold(0usize, |n, t| n.checked_add(t.rows.checked_mul(t.cols)?));
    assert!(values.is_some_and(|n| n < 1 << 56), "{values:?} values");
    if spec.layers > BUILT {
        return;
    }
    for full in [false, true] {
        let plan = Plan::default();
        let mut model =
            Decoder::build(&plan, spec.clone(), &Init::Shapes { bf16: false }, full.then_some(Optim::AdamW), 16)
                .expect("it only counts");
        if !full {
            let lora = LoraConfig { r: 2, alpha: 4.0, dropout: 0.0, rslora: false, targets: Targets::AllLinear };
            if let Err(refusal) = model.attach(&plan, &lora, &AdapterInit::Shapes, Some(Optim::AdamW)) {
                sentence::check(&refusal, "lora.r", 2);
            }
        }
        let need =
            Need { tokens: 4096, train: true, lora_dropout: true, resid_dropout: true, recompute: Recompute::None };
        Workspace::new(&plan, &model, need).expect("it only counts");
        assert!(plan.bytes() < 1 << 62, "{} bytes", plan.bytes());
    }
}
