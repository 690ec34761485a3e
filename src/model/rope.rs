//! The angles of rotary positions: `default`, `linear` and `llama3`, as transformers computes them.

use serde_json::Value;

/// How positions are scaled for contexts longer than the original training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// As trained.
    Default,
    /// Frequencies divided by a factor (position interpolation, Chen et al. 2023).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided, short ones kept, a smooth band between.
    Llama3 {
        /// Divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above original / this are divided.
        low: f64,
        /// Wavelengths below original / this are kept.
        high: f64,
        /// Context of the original training, in tokens.
        original: f64,
    },
}

impl Scaling {
    /// From `rope_parameters` (transformers 5) or `rope_scaling` (hub files). `outside` is the config's own
    /// `original_max_position_embeddings`, which transformers takes before that of the parameters. The error names what
    /// is not supported.
    pub fn parse(parameters: Option<&Value>, outside: Option<&Value>, max_positions: usize) -> Result<Scaling, String> {
        let Some(map) = parameters.filter(|v| !v.is_null()) else { return Ok(Scaling::Default) };
        let map = map.as_object().ok_or("the rope parameters are not an object")?;
        if map.values().any(Value::is_object) {
            return Err("rope parameters that differ between layers are not supported".into());
        }
        let positive = |key: &str, value: Option<&Value>| -> Result<f64, String> {
            let number = value.and_then(Value::as_f64).filter(|x| x.is_finite() && *x > 0.0);
            number.ok_or_else(|| format!("the rope parameters need a positive number `{key}`"))
        };
        let number = |key: &str| positive(key, map.get(key));
        if map.contains_key("partial_rotary_factor") && number("partial_rotary_factor")? != 1.0 {
            return Err("partial_rotary_factor other than 1 is not supported".into());
        }
        // a `rope_type` that is null is not an absent one: transformers fails on it
        let kind = ["rope_type", "type"].into_iter().find_map(|key| Some((key, map.get(key)?)));
        let kind = match kind {
            None => "default",
            Some((key, value)) => {
                value.as_str().ok_or_else(|| format!("`{key}` of the rope parameters is {value}, expected a string"))?
            }
        };
        let original = "original_max_position_embeddings";
        match kind {
            "default" => Ok(Scaling::Default),
            "linear" => Ok(Scaling::Linear { factor: number("factor")? }),
            "llama3" => Ok(Scaling::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: match outside.or(map.get(original)) {
                    None => max_positions as f64,
                    given => positive(original, given)?,
                },
            }),
            other => Err(format!("rope type `{other}` is not supported (default, linear, llama3 are)")),
        }
    }
}

/// Inverse frequencies `[dim / 2]` in f32, rounded where transformers rounds.
pub fn inverse_frequencies(dim: usize, theta: f64, scaling: Scaling) -> Vec<f32> {
    let base = |i: usize| (1.0 / theta.powf((2 * i) as f64 / dim as f64)) as f32;
    let scaled = |freq: f32| match scaling {
        Scaling::Default => freq,
        Scaling::Linear { factor } => freq / factor as f32,
        Scaling::Llama3 { factor, low, high, original } => {
            let wavelength = std::f64::consts::TAU / f64::from(freq);
            if wavelength < original / high {
                freq
            } else if wavelength > original / low {
                (f64::from(freq) / factor) as f32
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                ((1.0 - smooth) * f64::from(freq) / factor + smooth * f64::from(freq)) as f32
            }
        }
    };
    (0..dim / 2).map(|i| scaled(base(i))).collect()
}

/// The table `[positions, dim]` of [`crate::backend::RopeOps::rope`]: cosines, then sines of f32 angles.
pub fn table(inverse: &[f32], positions: usize) -> Vec<f64> {
    let angles = |pos: usize| inverse.iter().map(move |f| f64::from(pos as f32 * f));
    (0..positions).flat_map(|pos| angles(pos).map(f64::cos).chain(angles(pos).map(f64::sin))).collect()
}
