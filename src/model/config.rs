//! `config.json` of a Hugging Face checkpoint -> [`Spec`]: all that distinguishes one architecture from another.
//!
//! Reads the form of hub files (`rope_theta`, `rope_scaling`, `torch_dtype`) and that of transformers 5
//! (`rope_parameters`, `dtype`). What a config asks for and eyekern does not do is refused by name.

use super::rope::{self, Scaling};
use crate::backend::{Act, Norm};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::io::ErrorKind;
use std::path::Path;

/// Architectures by their `model_type`.
pub const MODEL_TYPES: [&str; 7] = ["llama", "qwen2", "smollm3", "granite", "starcoder2", "gpt_bigcode", "gpt2"];

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

/// Typed access to the keys of one config, with errors that name file and key.
struct Keys<'a> {
    file: &'a Path,
    map: &'a Map<String, Value>,
}

/// No real dimension is larger; a config that claims more is refused before anything is allocated.
const LARGEST: u64 = 1 << 24;

impl Keys<'_> {
    fn fail<T>(&self, why: impl Into<String>) -> Result<T> {
        Err(Error::file(self.file, why))
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn typed<T>(&self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match read(value) {
            Some(x) => Ok(Some(x)),
            None => self.fail(format!("`{key}` is {value}, expected {what}")),
        }
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        let read = |v: &Value| v.as_u64().filter(|n| (1..=LARGEST).contains(n)).map(|n| n as usize);
        self.typed(key, "a whole number from 1 to 16777216", read)
    }

    fn missing<T>(&self, key: &str) -> Result<T> {
        self.fail(format!("key `{key}` is missing; is this the config.json of a causal language model?"))
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.size(key)?.map_or_else(|| self.missing(key), Ok)
    }

    fn number(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.typed(key, "a finite number", |v| v.as_f64().filter(|x| x.is_finite()))?.unwrap_or(default))
    }

    /// What a norm adds to a variance.
    fn epsilon(&self, key: &str, default: f64) -> Result<f64> {
        let read = |v: &Value| v.as_f64().filter(|x| x.is_finite() && *x >= 0.0);
        Ok(self.typed(key, "a finite number, at least 0", read)?.unwrap_or(default))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    fn text(&self, key: &str, default: &str) -> Result<String> {
        Ok(self.typed(key, "a string", |v| v.as_str().map(String::from))?.unwrap_or_else(|| default.into()))
    }

    /// Features of other models that would change the result if they were passed over.
    fn refuse_unsupported(&self) -> Result {
        for (key, what) in [
            ("quantization_config", "quantised weights"),
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
        for key in ["scale_attn_by_inverse_layer_idx", "add_cross_attention", "is_encoder_decoder"] {
            if self.flag(key, false)? {
                return self.fail(format!("`{key}` = true is not supported"));
            }
        }
        if self.number("partial_rotary_factor", 1.0)? != 1.0 {
            return self.fail("`partial_rotary_factor` other than 1 is not supported");
        }
        Ok(())
    }

    fn plain_act(&self, key: &str, default: &str) -> Result<Act> {
        match self.text(key, default)?.as_str() {
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Act::GeluTanh),
            "gelu" => Ok(Act::GeluErf),
            other => {
                self.fail(format!("`{key}` = \"{other}\" is not supported (gelu, gelu_new, gelu_pytorch_tanh are)"))
            }
        }
    }

    fn gated_act(&self) -> Result<Act> {
        match self.text("hidden_act", "silu")?.as_str() {
            "silu" | "swish" => Ok(Act::SwiGlu),
            other => self.fail(format!("`hidden_act` = \"{other}\" is not supported in a gated MLP (silu is)")),
        }
    }

    fn rope(&self, head_dim: usize, max_positions: usize, layers: Vec<bool>) -> Result<Positions> {
        if !head_dim.is_multiple_of(2) {
            return self.fail(format!("rotary positions need an even head size, this config has {head_dim}"));
        }
        let parameters = self.value("rope_parameters").or_else(|| self.value("rope_scaling"));
        let scaling = Scaling::parse(parameters, max_positions).or_else(|why| self.fail(why))?;
        let inside = parameters.and_then(|p| p.get("rope_theta")).filter(|v| !v.is_null());
        let theta = match inside.or_else(|| self.value("rope_theta")) {
            None => 10_000.0,
            Some(value) => match value.as_f64().filter(|theta| theta.is_finite() && *theta > 0.0) {
                Some(theta) => theta,
                None => return self.fail(format!("`rope_theta` is {value}, expected a positive number")),
            },
        };
        Ok(Positions::Rope { inverse: rope::inverse_frequencies(head_dim, theta, scaling), layers })
    }

    /// SmolLM3's list, where 1 means that the layer rotates; every fourth layer does not unless the config says so.
    fn rotating_layers(&self, layers: usize) -> Result<Vec<bool>> {
        let Some(list) = self.value("no_rope_layers") else {
            let interval = self.size("no_rope_layer_interval")?.unwrap_or(4);
            return Ok((1..=layers).map(|i| i % interval != 0).collect());
        };
        let flags = list.as_array().and_then(|a| a.iter().map(Value::as_u64).collect::<Option<Vec<_>>>());
        match flags {
            Some(flags) if flags.len() == layers => Ok(flags.iter().map(|&f| f != 0).collect()),
            _ => self.fail(format!("`no_rope_layers` is {list}, expected {layers} zeros or ones, one per layer")),
        }
    }

    /// The window that layers apply, if any; what it means for a run depends on the longest example.
    fn window(&self, used: bool) -> Result<Option<usize>> {
        let sliding = |types: &Value| {
            types.as_array().is_some_and(|a| a.iter().any(|t| t.as_str().is_some_and(|t| t != "full_attention")))
        };
        let by_type = self.value("layer_types").is_some_and(sliding);
        if used || by_type { self.size("sliding_window") } else { Ok(None) }
    }
}

/// The JSON of a `config.json`.
pub fn read(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            Error::file(file, "there is no such file; give a directory with config.json and model.safetensors")
        }
        _ => Error::io(file, "read")(e),
    })?;
    serde_json::from_str(&text)
        .map_err(|e| Error::file(file, format!("not valid JSON ({e}); copy or download it again")))
}

impl Spec {
    /// Reads `config.json` at `file`.
    pub fn load(file: &Path) -> Result<Spec> {
        Spec::parse(&read(file)?, file)
    }

    /// From a parsed config; `file` is for messages.
    pub fn parse(config: &Value, file: &Path) -> Result<Spec> {
        let Some(map) = config.as_object() else { return Err(Error::file(file, "expected a JSON object")) };
        let k = Keys { file, map };
        k.refuse_unsupported()?;
        let model_type = k.text("model_type", "")?;
        let spec = match model_type.as_str() {
            "" => return k.missing("model_type"),
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
        if self.layers > 4096 || self.q_heads > 4096 || widest.saturating_mul(tallest) > 1 << 40 {
            return k.fail("the sizes in this config are beyond any model that eyekern can train");
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

fn llama(k: &Keys, model_type: String) -> Result<Spec> {
    let kind = model_type.as_str();
    let (hidden, layers, q_heads) =
        (k.needed("hidden_size")?, k.needed("num_hidden_layers")?, k.needed("num_attention_heads")?);
    let head_dim = match k.size("head_dim")? {
        Some(dim) => dim,
        None if hidden.is_multiple_of(q_heads) => hidden / q_heads,
        None => {
            return k
                .fail(format!("hidden_size {hidden} is not a multiple of {q_heads} heads and head_dim is not given"));
        }
    };
    let max_positions = k.size("max_position_embeddings")?.unwrap_or(2048);
    let starcoder2 = kind == "starcoder2";
    let (attention_bias, mlp_bias) = if starcoder2 {
        let bias = k.flag("use_bias", true)?;
        (bias, bias)
    } else {
        (k.flag("attention_bias", false)?, k.flag("mlp_bias", false)?)
    };
    let rotating = if kind == "smollm3" { k.rotating_layers(layers)? } else { vec![true; layers] };
    let granite = |key: &str| if kind == "granite" { k.number(key, 1.0) } else { Ok(1.0) };
    let root = 1.0 / (head_dim as f64).sqrt();
    let logits_scaling = granite("logits_scaling")?;
    if logits_scaling == 0.0 {
        return k.fail("`logits_scaling` is 0, by which the logits would be divided");
    }
    Ok(Spec {
        family: if starcoder2 { Family::StarCoder2 } else { Family::Llama },
        vocab: k.needed("vocab_size")?,
        hidden,
        inner: k.needed("intermediate_size")?,
        layers,
        q_heads,
        kv_heads: k.size("num_key_value_heads")?.unwrap_or(q_heads),
        head_dim,
        norm: if starcoder2 {
            Norm::Layer { eps: k.epsilon("norm_epsilon", 1e-5)? }
        } else {
            Norm::Rms { eps: k.epsilon("rms_norm_eps", 1e-6)? }
        },
        act: if starcoder2 { k.plain_act("hidden_act", "gelu_pytorch_tanh")? } else { k.gated_act()? },
        positions: k.rope(head_dim, max_positions, rotating)?,
        qkv_bias: attention_bias || kind == "qwen2",
        o_bias: attention_bias && kind != "qwen2",
        mlp_bias: mlp_bias && kind != "qwen2",
        embed_scale: granite("embedding_multiplier")?,
        attn_scale: if kind == "granite" { k.number("attention_multiplier", 1.0)? } else { root },
        residual_scale: granite("residual_multiplier")?,
        logit_scale: 1.0 / logits_scaling,
        tied: k.flag("tie_word_embeddings", matches!(kind, "smollm3" | "starcoder2"))?,
        max_positions,
        window: k.window(starcoder2 || k.flag("use_sliding_window", false)?)?,
        dropout: ConfigDropout {
            attention: k.number("attention_dropout", 0.0)?,
            resid: k.number("residual_dropout", 0.0)?,
            embd: k.number("embedding_dropout", 0.0)?,
        },
        model_type,
    })
}

fn gpt(k: &Keys, model_type: String) -> Result<Spec> {
    let bigcode = model_type == "gpt_bigcode";
    let (hidden, q_heads) = (k.needed("n_embd")?, k.needed("n_head")?);
    if !hidden.is_multiple_of(q_heads) {
        return k.fail(format!("n_embd {hidden} is not a multiple of {q_heads} heads"));
    }
    let head_dim = hidden / q_heads;
    let multi_query = bigcode && k.flag("multi_query", true)?;
    Ok(Spec {
        family: Family::Gpt { conv1d: !bigcode, interleaved: bigcode && !multi_query },
        vocab: k.needed("vocab_size")?,
        hidden,
        inner: k.size("n_inner")?.unwrap_or(4 * hidden),
        layers: k.needed("n_layer")?,
        q_heads,
        kv_heads: if multi_query { 1 } else { q_heads },
        head_dim,
        norm: Norm::Layer { eps: k.epsilon("layer_norm_epsilon", 1e-5)? },
        act: k.plain_act("activation_function", if bigcode { "gelu_pytorch_tanh" } else { "gelu_new" })?,
        positions: Positions::Learned,
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        embed_scale: 1.0,
        attn_scale: if k.flag("scale_attn_weights", true)? { 1.0 / (head_dim as f64).sqrt() } else { 1.0 },
        residual_scale: 1.0,
        logit_scale: 1.0,
        tied: k.flag("tie_word_embeddings", true)?,
        max_positions: k.size("n_positions")?.unwrap_or(1024),
        window: None,
        dropout: ConfigDropout {
            attention: k.number("attn_pdrop", 0.1)?,
            resid: k.number("resid_pdrop", 0.1)?,
            embd: k.number("embd_pdrop", 0.1)?,
        },
        model_type,
    })
}
