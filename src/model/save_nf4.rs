//! A model in 4 bits, written as transformers and bitsandbytes read it.

use super::checkpoint::{ABSMAX, MAP, NESTED_ABSMAX, NESTED_MAP, STATE};
use super::files::ModelFiles;
use super::keys;
use super::names::{self, Layout, Tensor};
use super::quantized::{Quantizer, State, not_finite};
use super::save::{self, Record};
use crate::backend::nf4::{Host, LEVELS, Scales};
use crate::error::{Error, Result};
use crate::files;
use safetensors::Dtype;
use serde_json::{Value, json};
use std::path::Path;

/// Writes `config.json`, of the fields of `config`, and `model.safetensors` to `dir`: the model with its projections in
/// 4 bits, all else in `dtype`. As transformers does, weights are rounded to `dtype` first. Only what is written is
/// held in memory.
pub fn write(model: &ModelFiles, config: &Value, quantizer: &Quantizer, dtype: Dtype, dir: &Path) -> Result {
    let mut records = Vec::new();
    for tensor in names::tensors(&model.spec) {
        let values = model.checkpoint.read(&tensor.name, &tensor.shape())?.into_f32();
        if dtype == Dtype::F16 && save::beyond_f16(&values) {
            let why = format!("{} has values beyond float16's 65504; choose bfloat16 or float32", tensor.name);
            return Err(Error::file(model.checkpoint.origin(), why));
        }
        if !quantizer.takes(&tensor) {
            records.push(Record::new(&tensor.name, tensor.shape(), &values, dtype));
            continue;
        }
        if values.iter().any(|x| !x.is_finite()) {
            return Err(not_finite(model.checkpoint.origin(), &tensor.name));
        }
        let values = ordered(&tensor, save::rounded(&values, dtype));
        records.extend(of(&tensor, &Host::of(&values, quantizer.scheme), dtype));
    }
    save::write_safetensors(&dir.join(save::MODEL), &records)?;
    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        save::set_dtype(map, dtype);
        map.insert("quantization_config".into(), described(quantizer, dtype));
    }
    files::write(&dir.join(save::CONFIG), keys::text(&config))
}

/// Values of a file in the order in which they are cut into blocks: that of the file, but for GPT-2, whose projections
/// are transposed first, as transformers does.
fn ordered(tensor: &Tensor, values: Vec<f32>) -> Vec<f32> {
    match tensor.layout {
        Layout::Transposed => tensor.layout.load(tensor.rows, tensor.cols, &values),
        _ => values,
    }
}

/// The tensors of one in 4 bits.
fn of(tensor: &Tensor, values: &Host, dtype: Dtype) -> Vec<Record> {
    let name = |end: &str| format!("{}{end}", tensor.name);
    let bytes = |end: &str, bytes: &[u8]| Record {
        name: name(end),
        dtype: Dtype::U8,
        shape: vec![bytes.len()],
        bytes: bytes.to_vec(),
    };
    let floats = |end: &str, values: &[f32]| Record::new(&name(end), vec![values.len()], values, Dtype::F32);
    let mut state = State {
        quant_type: "nf4".into(),
        blocksize: values.block,
        dtype: save::dtype_name(dtype).into(),
        shape: vec![tensor.rows, tensor.cols],
        nested_blocksize: None,
        nested_dtype: None,
        nested_offset: None,
    };
    let codes = Record { shape: vec![values.codes.len(), 1], ..bytes("", &values.codes) };
    let mut records = vec![codes, floats(MAP, &LEVELS)];
    match &values.scales {
        Scales::Full(absmax) => records.push(floats(ABSMAX, absmax)),
        Scales::Nested { codes, block, absmax, map, offset } => {
            state.nested_blocksize = Some(*block);
            state.nested_dtype = Some("float32".into());
            state.nested_offset = Some(f64::from(*offset));
            records.extend([bytes(ABSMAX, codes), floats(NESTED_ABSMAX, absmax), floats(NESTED_MAP, map)]);
        }
    }
    records.push(bytes(STATE, json!(state).to_string().as_bytes()));
    records
}

/// The `quantization_config` of transformers 5, whose own default of `llm_int8_skip_modules` is the head.
fn described(quantizer: &Quantizer, dtype: Dtype) -> Value {
    let skip = match quantizer.skip.as_slice() {
        [] => Value::Null,
        skip => skip.iter().map(String::as_str).chain(["lm_head"]).collect(),
    };
    json!({
        "_load_in_4bit": true, "_load_in_8bit": false, "bnb_4bit_compute_dtype": save::dtype_name(dtype),
        "bnb_4bit_quant_storage": "uint8", "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": quantizer.scheme.double, "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false, "llm_int8_skip_modules": skip, "llm_int8_threshold": 6.0,
        "load_in_4bit": true, "load_in_8bit": false, "quant_method": "bitsandbytes",
    })
}
