//! `config.json` of a Hugging Face checkpoint -> [`Spec`]: all that distinguishes one architecture from another.
//!
//! Reads the form of hub files (`rope_theta`, `rope_scaling`, `torch_dtype`) and that of transformers 5
//! (`rope_parameters`, `dtype`), with the defaults of transformers for absent keys (`defaults`).
//! Features that eyekern lacks, and values of a wrong type, are refused by name.

use super::defaults;
use super::keys::{self, Keys, ORIGINAL};
use super::rope::{self, Scaling};
use crate::backend::{Act, Norm};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// Architectures by their `model_type`.
pub const MODEL_TYPES: [&str; 7] = ["llama", "qwen2", "smollm3", "granite", "starcoder2", "gpt_bigcode", "gpt2"];

/// No model has more layers.
const MOST_LAYERS: usize = 4096;

const BEYOND: &str = "the sizes in this config are beyond any model that eyekern can train";

/// Which naming scheme the checkpoint's tensors follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Family {
    /// `model.layers.N.self_attn.q_proj`, gated MLP.
    Llama,
    /// As Llama, with LayerNorm and a plain MLP `c_fc`, `c_proj`.
    StarCoder2,
    /// `transformer.h.N.attn.c_attn`; `conv1d`: weights stored `[in, out]`; `interleaved`: QKV rows per head.
    Gpt {
        /// GPT-2 stores its projections transposed.
        conv1d: bool,
        /// GPTBigCode without multi-query stores `[head, (q, k, v), dim]`.
        interleaved: bool,
    },
}

/// Where position enters.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// A learned table added to the embedding.
    Learned,
    /// Rotation of queries and keys.
    Rope {
        /// `[head_dim / 2]`.
        inverse: Vec<f32>,
        /// Whether each layer rotates (SmolLM3 leaves some out).
        layers: Vec<bool>,
    },
}

/// Dropout rates that the config asks for; reported, while the recipe decides.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ConfigDropout {
    /// On attention probabilities.
    pub attention: f64,
    /// On the two block outputs.
    pub resid: f64,
    /// On the embedding.
    pub embd: f64,
}

/// A decoder-only transformer, described.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `model_type` of the config.
    pub model_type: String,
    /// Naming scheme of the tensors.
    pub family: Family,
    /// Vocabulary size.
    pub vocab: usize,
    /// Hidden size.
    pub hidden: usize,
    /// Inner size of the MLP.
    pub inner: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub q_heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Features per head.
    pub head_dim: usize,
    /// Normalisation of every block.
    pub norm: Norm,
    /// Non-linearity of the MLP.
    pub act: Act,
    /// Positions.
    pub positions: Positions,
    /// Biases on query, key and value.
    pub qkv_bias: bool,
    /// Bias on the attention output.
    pub o_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Factor on the embedding.
    pub embed_scale: f64,
    /// Factor on the attention scores.
    pub attn_scale: f64,
    /// Factor on both block outputs.
    pub residual_scale: f64,
    /// Factor on the logits.
    pub logit_scale: f64,
    /// Whether the LM head is the embedding.
    pub tied: bool,
    /// Longest context of the original model.
    pub max_positions: usize,
    /// Attention window; contexts longer than this are refused.
    pub window: Option<usize>,
    /// Dropout in the config.
    pub dropout: ConfigDropout,
}

impl Keys<'_> {
    /// Features of other models that would change the result if they were passed over.
    fn refuse_unsupported(&self) -> Result {
        for (key, what) in [
            ("attn_logit_softcapping", "softcapping of attention scores"),
            ("final_logit_softcapping", "softcapping of logits"),
            ("num_local_experts", "a mixture of experts"),
            ("num_experts", "a mixture of experts"),
            ("n_routed_experts", "a mixture of experts"),
        ] {
            if self.value(key).is_some_and(|v| v.as_u64() != Some(0)) {
                return self.fail(format!("the config asks for {what} (`{key}`), which eyekern does not do"));
            }
        }
        self.refuse_formats()?;
        for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention", "is_encoder_decoder"] {
            if self.optional(key, "true or false", Value::as_bool)? == Some(true) {
                return self.fail(format!("`{key}` = true is not supported"));
            }
        }
        let partial = self.optional("partial_rotary_factor", "a finite number", Value::as_f64)?;
        if partial.is_some_and(|share| share != 1.0) {
            return self.fail("`partial_rotary_factor` other than 1 is not supported");
        }
        Ok(())
    }

    /// Refuses a `quantization_config` other than NF4 of bitsandbytes, by the name of the format.
    fn refuse_formats(&self) -> Result {
        let Some(config) = self.value("quantization_config") else { return Ok(()) };
        let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
        let set = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
        let format = match text("quant_method") {
            "bitsandbytes" | "" if set("load_in_8bit") => "8 bits of bitsandbytes",
            "bitsandbytes" | "" if set("load_in_4bit") => match text("bnb_4bit_quant_type") {
                "nf4" => return Ok(()),
                _ => "FP4 of bitsandbytes",
            },
            "" => "an unknown format",
            other => other,
        };
        let what = format!("the weights are quantised as {format} (`quantization_config`)");
        self.fail(format!("{what}, which eyekern does not read; {ORIGINAL}"))
    }

    fn plain_act(&self, key: &str) -> Result<Act> {
        match self.text(key)? {
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Act::GeluTanh),
            "gelu" => Ok(Act::GeluErf),
            other => {
                self.fail(format!("`{key}` = \"{other}\" is not supported (gelu, gelu_new, gelu_pytorch_tanh are)"))
            }
        }
    }

    fn gated_act(&self) -> Result<Act> {
        match self.text("hidden_act")? {
            "silu" | "swish" => Ok(Act::SwiGlu),
            other => self.fail(format!("`hidden_act` = \"{other}\" is not supported in a gated MLP (silu is)")),
        }
    }

    /// Of two objects, `rope_scaling` counts, as in transformers, unless it is empty.
    fn rope(&self, head_dim: usize, max_positions: usize, layers: Vec<bool>) -> Result<Positions> {
        if !head_dim.is_multiple_of(2) {
            return self.fail(format!("rotary positions need an even head size, this config has {head_dim}"));
        }
        let scaling = self.value("rope_scaling").filter(|v| *v != &json!({}) && *v != &json!([]));
        let parameters = scaling.or(self.value("rope_parameters"));
        let outside = self.present("original_max_position_embeddings");
        let scaling = Scaling::parse(parameters, outside, max_positions).or_else(|why| self.fail(why))?;
        let theta = match parameters.and_then(|p| p.get("rope_theta")) {
            None => self.positive("rope_theta")?,
            Some(value) => match value.as_f64().filter(|theta| theta.is_finite() && *theta > 0.0) {
                Some(theta) => theta,
                None => return self.wrong("rope_theta", value, "a positive number"),
            },
        };
        Ok(Positions::Rope { inverse: rope::inverse_frequencies(head_dim, theta, scaling), layers })
    }

    /// SmolLM3's list, where 1 means that the layer rotates; every fourth layer does not unless the config says so.
    fn rotating_layers(&self, layers: usize) -> Result<Vec<bool>> {
        let Some(list) = self.value("no_rope_layers") else {
            let interval = self.size("no_rope_layer_interval")?;
            return Ok((1..=layers).map(|i| i % interval != 0).collect());
        };
        let flags = list.as_array().and_then(|a| a.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
        match flags {
            Some(flags) if flags.len() == layers => Ok(flags.iter().map(|&f| f != 0).collect()),
            _ => self.fail(format!("`no_rope_layers` is {list}, expected {layers} zeros or ones, one per layer")),
        }
    }

    /// The window of the layers that have one; `rotating` tells which layers rotate. The longest example decides
    /// whether it matters.
    fn window(&self, kind: &str, layers: usize, rotating: &[bool]) -> Result<Option<usize>> {
        const TYPES: &str = "\"full_attention\" or \"sliding_attention\" for each layer";
        let slides = |value: &Value| match value.as_str() {
            Some("full_attention") => Some(false),
            Some("sliding_attention") => Some(true),
            _ => None,
        };
        let listed = self.optional("layer_types", TYPES, |value| {
            let types: Vec<bool> = value.as_array()?.iter().map(slides).collect::<Option<_>>()?;
            (types.len() == layers).then_some(types)
        })?;
        let slides = listed.as_ref().is_some_and(|listed| listed.contains(&true));
        if kind == "starcoder2" {
            return self.size_or_null("sliding_window");
        }
        let used = self.flag("use_sliding_window")?;
        if !matches!(kind, "qwen2" | "smollm3") {
            let why = "`layer_types` has \"sliding_attention\", which this model type lacks";
            // transformers ignores the window here; a config that has one means another model
            return if slides { self.fail(why) } else { Ok(self.size_or_null("sliding_window")?.filter(|_| used)) };
        }
        // a listed SmolLM3 slides whether it `use`s the window or not
        let window = if used || kind == "smollm3" { self.size_or_null("sliding_window")? } else { None };
        let by_default = || match kind {
            "qwen2" => Ok(self.count("max_window_layers")? < layers as u64),
            _ => Ok(used && rotating.contains(&false)),
        };
        match (listed.is_some(), window) {
            (true, None) if slides => self.fail("`layer_types` has \"sliding_attention\", but no window is in use"),
            (true, window) => Ok(window.filter(|_| slides)),
            (false, None) => Ok(None),
            (false, Some(window)) => Ok(by_default()?.then_some(window)),
        }
    }
}

impl Spec {
    /// Reads `config.json` at `file`.
    pub fn load(file: &Path) -> Result<Spec> {
        Spec::parse(&keys::read(file)?, file)
    }

    /// From a parsed config; `file` is for messages.
    pub fn parse(config: &Value, file: &Path) -> Result<Spec> {
        let model_type = Keys::new(file, config, Value::Null, &[])?.text("model_type")?.to_string();
        let k = Keys::new(file, config, defaults::of(&model_type), defaults::aliases(&model_type))?;
        k.refuse_unsupported()?;
        let spec = match model_type.as_str() {
            "gpt2" | "gpt_bigcode" => gpt(&k, model_type)?,
            "llama" | "qwen2" | "smollm3" | "granite" | "starcoder2" => llama(&k, model_type)?,
            other => {
                let known = MODEL_TYPES.join(", ");
                return k.fail(format!("`model_type` = \"{other}\" is not supported; supported are {known}"));
            }
        };
        spec.check(&k)?;
        Ok(spec)
    }

    fn check(&self, k: &Keys) -> Result {
        if !self.q_heads.is_multiple_of(self.kv_heads) {
            return k.fail(format!("{} query heads are not a multiple of {} key heads", self.q_heads, self.kv_heads));
        }
        // no product of two sizes may overflow, nor the sum over all layers
        let widest = [self.hidden, self.inner, self.q_heads * self.head_dim].into_iter().max().unwrap_or(0);
        let tallest = widest.max(self.vocab).max(self.max_positions);
        if self.layers > MOST_LAYERS || self.q_heads > 4096 || widest.saturating_mul(tallest) > 1 << 40 {
            return k.fail(BEYOND);
        }
        let finite = |x: f64| (x as f32).is_finite();
        if ![self.embed_scale, self.attn_scale, self.residual_scale, self.logit_scale].into_iter().all(finite) {
            return k.fail("a multiplier of this config is beyond the numbers of float32; mend it");
        }
        if let Positions::Rope { inverse, .. } = &self.positions
            && !inverse.iter().all(|frequency| frequency.is_finite() && *frequency >= 0.0)
        {
            return k.fail("the rope parameters of this config give angles that are no finite numbers; mend them");
        }
        Ok(())
    }

    /// Columns of the packed QKV buffer.
    pub fn qkv_width(&self) -> usize {
        (self.q_heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Columns of the attention output.
    pub fn attn_width(&self) -> usize {
        self.q_heads * self.head_dim
    }

    /// Columns of the MLP's first projection: gate and up together, or one.
    pub fn up_width(&self) -> usize {
        self.inner * self.act.fan_in()
    }

    /// Refuses examples longer than the model's positions or attention window can serve.
    pub fn check_length(&self, length: usize, file: &Path) -> Result {
        if self.positions == Positions::Learned && length > self.max_positions {
            let max = self.max_positions;
            return Err(Error::file(
                file,
                format!(
                    "examples of {length} tokens exceed the model's {max} learned positions; lower data.max_length \
                     to {max}"
                ),
            ));
        }
        if let Some(window) = self.window.filter(|&w| length > w) {
            return Err(Error::file(
                file,
                format!(
                    "a sliding window of {window} would act on examples of {length} tokens, which eyekern does \
                     not do; lower data.max_length to {window}"
                ),
            ));
        }
        Ok(())
    }
}

/// The first size that a config leaves to its class: the key to name where its tensors do not fit.
pub fn absent_size(config: &Value) -> Option<&'static str> {
    let aliases = defaults::aliases(config["model_type"].as_str().unwrap_or_default());
    let keys = match aliases {
        [] => ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"],
        _ => ["vocab_size", "n_embd", "n_positions", "n_layer", "n_head"],
    };
    let given = |key: &str| aliases.iter().filter(|(_, k)| *k == key).any(|(alias, _)| config.get(*alias).is_some());
    keys.into_iter().find(|key| config.get(*key).is_none() && !given(key))
}

fn llama(k: &Keys, model_type: String) -> Result<Spec> {
    let kind = model_type.as_str();
    let (hidden, layers, q_heads) =
        (k.size("hidden_size")?, k.size("num_hidden_layers")?, k.size("num_attention_heads")?);
    let head_dim = match k.size_or_null("head_dim")? {
        Some(dim) => dim,
        None if hidden.is_multiple_of(q_heads) => hidden / q_heads,
        None => {
            return k
                .fail(format!("hidden_size {hidden} is not a multiple of {q_heads} heads and head_dim is not given"));
        }
    };
    if layers > MOST_LAYERS {
        return k.fail(BEYOND);
    }
    let max_positions = k.size("max_position_embeddings")?;
    let starcoder2 = kind == "starcoder2";
    let (attention_bias, mlp_bias) = match kind {
        "starcoder2" => (k.flag("use_bias")?, k.flag("use_bias")?),
        "qwen2" => (false, false),
        _ => (k.flag("attention_bias")?, k.flag("mlp_bias")?),
    };
    let rotating = if kind == "smollm3" { k.rotating_layers(layers)? } else { vec![true; layers] };
    let granite = |key: &str| if kind == "granite" { k.number(key) } else { Ok(1.0) };
    let root = 1.0 / (head_dim as f64).sqrt();
    let logits_scaling = granite("logits_scaling")?;
    if logits_scaling == 0.0 {
        return k.fail("`logits_scaling` is 0, by which the logits would be divided");
    }
    Ok(Spec {
        family: if starcoder2 { Family::StarCoder2 } else { Family::Llama },
        vocab: k.size("vocab_size")?,
        hidden,
        inner: k.size("intermediate_size")?,
        layers,
        q_heads,
        kv_heads: if starcoder2 {
            k.size("num_key_value_heads")?
        } else {
            k.size_or_null("num_key_value_heads")?.unwrap_or(q_heads)
        },
        head_dim,
        norm: if starcoder2 {
            Norm::Layer { eps: k.epsilon("norm_epsilon")? }
        } else {
            Norm::Rms { eps: k.epsilon("rms_norm_eps")? }
        },
        act: if starcoder2 { k.plain_act("hidden_act")? } else { k.gated_act()? },
        window: k.window(kind, layers, &rotating)?,
        positions: k.rope(head_dim, max_positions, rotating)?,
        qkv_bias: attention_bias || kind == "qwen2",
        o_bias: attention_bias,
        mlp_bias,
        embed_scale: granite("embedding_multiplier")?,
        attn_scale: if kind == "granite" { k.number("attention_multiplier")? } else { root },
        residual_scale: granite("residual_multiplier")?,
        logit_scale: 1.0 / logits_scaling,
        tied: k.flag("tie_word_embeddings")?,
        max_positions,
        dropout: ConfigDropout {
            attention: k.rate("attention_dropout")?,
            resid: k.rate("residual_dropout")?,
            embd: k.rate("embedding_dropout")?,
        },
        model_type,
    })
}

fn gpt(k: &Keys, model_type: String) -> Result<Spec> {
    let bigcode = model_type == "gpt_bigcode";
    let (hidden, q_heads) = (k.size("n_embd")?, k.size("n_head")?);
    if !hidden.is_multiple_of(q_heads) {
        return k.fail(format!("n_embd {hidden} is not a multiple of {q_heads} heads"));
    }
    let head_dim = hidden / q_heads;
    let multi_query = bigcode && k.flag("multi_query")?;
    Ok(Spec {
        family: Family::Gpt { conv1d: !bigcode, interleaved: bigcode && !multi_query },
        vocab: k.size("vocab_size")?,
        hidden,
        inner: k.size_or_null("n_inner")?.unwrap_or(4 * hidden),
        layers: k.size("n_layer")?,
        q_heads,
        kv_heads: if multi_query { 1 } else { q_heads },
        head_dim,
        norm: Norm::Layer { eps: k.epsilon("layer_norm_epsilon")? },
        act: k.plain_act("activation_function")?,
        positions: Positions::Learned,
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        embed_scale: 1.0,
        attn_scale: if k.flag("scale_attn_weights")? { 1.0 / (head_dim as f64).sqrt() } else { 1.0 },
        residual_scale: 1.0,
        logit_scale: 1.0,
        tied: k.flag("tie_word_embeddings")?,
        max_positions: k.size("n_positions")?,
        window: None,
        dropout: ConfigDropout {
            attention: k.rate("attn_pdrop")?,
            resid: k.rate("resid_pdrop")?,
            embd: k.rate("embd_pdrop")?,
        },
        model_type,
    })
}

#[cfg(test)]
mod tests;
