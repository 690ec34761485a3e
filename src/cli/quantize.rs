//! `--quantize` of the commands that read a model without a recipe; a recipe has `model.quantization`.

use super::choice;
use crate::backend::nf4::Scheme;
use crate::model::quantized::{Quantization, Quantizer};
use clap::Args;

/// How the weights of a model are stored once they are read.
#[derive(Args, Clone, Debug, Default)]
pub struct Quantize {
    /// Quantise the weights on load: none or nf4, for an adapter that was trained over weights in 4 bits.
    #[arg(long, value_name = "FORMAT", default_value = "none", value_parser = choice::<Quantization>())]
    pub quantize: Quantization,
    /// Whether the scales of NF4 are quantised too.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub double_quant: bool,
    /// Modules that are not quantised, separated by commas, by the start or the end of their path.
    #[arg(long, value_name = "MODULES", value_delimiter = ',')]
    pub skip_modules: Vec<String>,
}

impl Quantize {
    /// What quantises a model, if anything is to.
    pub fn quantizer(&self) -> Option<Quantizer> {
        let scheme = Scheme { double: self.double_quant };
        (self.quantize == Quantization::Nf4).then(|| Quantizer { scheme, skip: self.skip_modules.clone() })
    }
}
