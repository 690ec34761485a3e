//! Every key of a recipe: the reference that the other files, `--print-config` and the documentation are made from.

use std::path::{Path, PathBuf};

use super::value::Effect::{Bits, File, Free};
use super::value::Range::{Above, Any, AtLeast, Below, Within};
use super::value::{MOST, Value, section};
use crate::backend::ComputeDtype;
use crate::backend::moments::Optim;
use crate::choices::choices;
use crate::data::corpus::DataSource;
use crate::data::cut::Unit;
use crate::data::jinja::Date;
use crate::data::pack::Batching;
use crate::data::template::Task;
use crate::data::weights::drawn::Writing;
use crate::model::adapter::Targets;
use crate::model::quantized::Quantization;
use crate::model::workspace::Recompute;
use crate::salience::align::Align;
use crate::salience::labels::Calls;
use crate::salience::scanpath::Mode;
use crate::salience::syntax::Language;
use crate::salience::weights::{OffPath, Scope, Unseen};

choices! {
    /// What is trained.
    Method {
        /// Adapters beside frozen weights.
        Lora = "lora",
        /// Every weight of the model.
        Full = "full",
    }
}

choices! {
    /// Which loss weights the run uses: the knob of a controlled comparison (docs/weights.md).
    Arm {
        /// Those of scan paths where the section salience asks for them, else those that the data carry.
        Data = "data",
        /// 1 for every token.
        Uniform = "uniform",
        /// The same for every token: arm_constant, else the mean of data.
        Constant = "constant",
        /// Drawn weights without their rarity term.
        Semantic = "semantic",
        /// Drawn weights without their semantic term.
        Rarity = "rarity",
        /// arm_constant on the path, else the mean of data there; 1 off it.
        Path = "path",
        /// Weights and roles of data, exchanged among the supervised tokens of each example.
        Shuffled = "shuffled",
        /// Drawn weights for which the priors of the labels are exchanged; the paths are those of data.
        ShuffledLabels = "shuffled-labels",
        /// Weights and roles of data, exchanged among the supervised tokens of the whole file.
        RandomMatched = "random-matched",
        /// Twice the mean of data, less the weight; at least 0.
        Inverse = "inverse",
        /// 1 + 1 / ln(n + 2) for a token whose id is supervised n times in the training file.
        Frequency = "frequency",
        /// (1 - p)^arm_focal, where p is the probability that the model gives the token; no gradient flows through it.
        Focal = "focal",
        /// p, likewise: dynamic fine-tuning.
        Dft = "dft",
        /// The published code's one weight per row, with its mistakes.
        Artifact = "artifact",
        /// The published baseline: prompts are supervised and EOS is not.
        ArtifactBaseline = "artifact-baseline",
    }
}

choices! {
    /// What the summed loss of an optimiser step is divided by.
    Normalize {
        /// The count of supervised tokens; a weight of 0 still counts.
        Tokens = "tokens",
        /// The sum of the weights.
        Weights = "weights",
        /// Nothing.
        None = "none",
    }
}

choices! {
    /// How the learning rate moves over the run.
    Schedule {
        /// The same rate at every step, without a warm-up.
        Constant = "constant",
        /// The same rate at every step after the warm-up.
        ConstantWithWarmup = "constant_with_warmup",
        /// Falls in a straight line, to 0 at the end.
        Linear = "linear",
        /// Falls along half a period of the cosine, to 0 at the end.
        Cosine = "cosine",
    }
}

choices! {
    /// The number format of what is saved.
    SaveDtype {
        /// That of the model that training started from; float32 for adapters, as PEFT has it.
        Auto = "auto",
        /// 32 bits.
        Float32 = "float32",
        /// 16 bits, with the exponent of float32.
        Bfloat16 = "bfloat16",
        /// 16 bits, IEEE half precision.
        Float16 = "float16",
    }
}

choices! {
    /// What a run is reported to, beside metrics.jsonl.
    ReportTo {
        /// Nothing else.
        None = "none",
        /// A TensorBoard event file in output_dir/runs.
        Tensorboard = "tensorboard",
    }
}

impl Value for Date {
    fn kind() -> String {
        "a date such as \"2026-11-30\"".into()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.to_string()))
    }
}

impl Value for DataSource {
    fn kind() -> String {
        "a JSONL file, or two parallel text files as [\"source\", \"target\"]".into()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::String(file) => Some(DataSource::Jsonl(file.into())),
            toml::Value::Array(pair) => match pair.as_slice() {
                [source, target] => Some(DataSource::Parallel(PathBuf::read(source)?, PathBuf::read(target)?)),
                _ => None,
            },
            _ => None,
        }
    }
    fn write(&self) -> Option<toml::Value> {
        match self {
            DataSource::Jsonl(file) => file.write(),
            DataSource::Parallel(source, target) => Some(toml::Value::Array(vec![source.write()?, target.write()?])),
        }
    }
    fn map_paths(&mut self, f: &dyn Fn(&Path) -> PathBuf) {
        match self {
            DataSource::Jsonl(file) => file.map_paths(f),
            DataSource::Parallel(source, target) => {
                source.map_paths(f);
                target.map_paths(f);
            }
        }
    }
}

/// A list of names; empty where nothing is named.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names(pub Vec<String>);

impl Value for Names {
    fn kind() -> String {
        "a list of names such as [\"strict_exact\", \"codebleu\"]".into()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        value.as_array()?.iter().map(String::read).collect::<Option<_>>().map(Names)
    }
    fn write(&self) -> Option<toml::Value> {
        Some(self.0.clone().into())
    }
}

impl Value for Targets {
    fn kind() -> String {
        "\"all-linear\" or a list of layer names such as [\"q_proj\", \"v_proj\"]".into()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::String(all) if all == "all-linear" => Some(Targets::AllLinear),
            toml::Value::Array(names) if !names.is_empty() => {
                let names: Option<Vec<String>> = names.iter().map(String::read).collect();
                names.filter(|n| n.iter().all(|n| !n.is_empty())).map(Targets::Named)
            }
            _ => None,
        }
    }
    fn write(&self) -> Option<toml::Value> {
        Some(match self {
            Targets::AllLinear => "all-linear".into(),
            Targets::Named(names) => names.clone().into(),
        })
    }
}

impl Value for OffPath {
    fn kind() -> String {
        "\"formula\" or a finite number, at least 0".into()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        match value.as_str() {
            Some(name) => (name == "formula").then_some(OffPath::Formula),
            None => f64::read(value).filter(|n| n.is_finite() && *n >= 0.0).map(OffPath::Number),
        }
    }
    fn write(&self) -> Option<toml::Value> {
        Some(match self {
            OffPath::Formula => "formula".into(),
            OffPath::Number(n) => (*n).into(),
        })
    }
}

impl Value for Writing {
    fn kind() -> String {
        format!("\"text\", or {}", Language::kind())
    }
    fn read(value: &toml::Value) -> Option<Self> {
        match value.as_str() {
            Some("text") => Some(Writing::Words),
            _ => Language::read(value).map(Writing::Code),
        }
    }
    fn write(&self) -> Option<toml::Value> {
        match self {
            Writing::Words => Some("text".into()),
            Writing::Code(language) => language.write(),
        }
    }
}

/// The types above are written as in the recipe.
macro_rules! serialize_as_written {
    ($($T:ty),+) => {$(
        impl serde::Serialize for $T {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                self.write().serialize(serializer)
            }
        }
    )+};
}
serialize_as_written!(DataSource, Names, Targets, OffPath, Writing);

section! {
    /// The model that training starts from.
    Model = "model" {
        /// A directory with a Hugging Face model, or the id of one in the local cache. Required.
        model_name_or_path: String = String::new(), Any, File;
        /// Another tokenizer.json than the model's: the file, by any name that ends in .json, or its directory.
        tokenizer: Option<PathBuf> = None, Any, File;
        /// Dropout behind the embedding, whatever the model's config.json says.
        embd_dropout: f32 = 0.0, Below(0.0, 1.0), Bits;
        /// Dropout on what each block adds to the residual stream, likewise.
        resid_dropout: f32 = 0.0, Below(0.0, 1.0), Bits;
        /// Dropout on attention probabilities, likewise.
        attention_dropout: f32 = 0.0, Below(0.0, 1.0), Bits;
        /// The storage of frozen weights: as the checkpoint has them, or quantised on load (docs/quantization.md).
        quantization: Quantization = Quantization::None, Any, Bits;
        /// Whether the scales of NF4 are quantised too: 4.13 bits a value in place of 4.5.
        double_quant: bool = true, Any, Bits;
        /// Modules that stay as they are, by the start or the end of their path ("model.layers.0", "down_proj").
        /// Embedding and head are never quantised.
        skip_modules: Names = Names::default(), Any, Bits;
    }
}

section! {
    /// What is learned from.
    Data = "data" {
        /// Training examples. Required.
        train_file: DataSource = DataSource::Jsonl(PathBuf::new()), Any, File;
        /// Examples for the evaluation loss.
        validation_file: Option<DataSource> = None, Any, File;
        /// The prompt template put around plain code; "none" where rows bring their own prompt.
        task: Task = Task::None, Any, Bits;
        /// What completion leaves out of rows of `code` that have no target of their own: the second half of the lines,
        /// or a line, a statement or a block by the grammar. The language is the row's `lang` or salience.source_lang.
        cut: Unit = Unit::Half, Any, Bits;
        /// Chooses the line, statement or block; the choice depends on the code and not on its row.
        cut_seed: u64 = 0, Any, Bits;
        /// Whether such rows give the code behind the target too, between the model's tokens for filling in the middle.
        fim: bool = false, Any, Bits;
        /// Longest example in tokens; what is beyond is cut off, counted and reported.
        // One token alone predicts nothing.
        max_length: usize = 1024, Within(2.0, MOST), Bits;
        /// Loss weight of prompt tokens; unset, the prompt is not supervised.
        prompt_weight: Option<f32> = None, Any, Bits;
        /// The day that chat templates write with `strftime_now`; unset, the day of the first run, which a resumed run
        /// keeps.
        chat_date: Option<Date> = None, Any, Bits;
        /// Micro-batches: packed up to max_tokens, packed by count of examples, or by count and padded.
        batching: Batching = Batching::Tokens, Any, Bits;
        /// Token budget of a micro-batch; 0 means per_device_train_batch_size * max_length.
        max_tokens: usize = 0, Within(0.0, MOST), Bits;
        /// Whether every epoch has its own order (drawn from train.seed).
        shuffle: bool = true, Any, Bits;
        /// Whether prepared data files of 1 MiB and more, and log p under the DPO reference, are kept for the next run.
        cache: bool = true, Any, Free;
        /// Where they are kept; unset, in $XDG_CACHE_HOME/eyekern or ~/.cache/eyekern. May be deleted at any time.
        cache_dir: Option<PathBuf> = None, Any, Free;
    }
}

section! {
    /// Weights drawn from how programmers' eyes move over code, in place of those that the data carry. Used where
    /// condition or priors is set; docs/salience.md explains every key.
    Salience = "salience" {
        /// The priors: "reading", "writing" or "combined" of the published study, or a condition of the file in priors.
        condition: Option<String> = None, Any, Bits;
        /// A file with other priors, as `eyekern priors build` writes it.
        priors: Option<PathBuf> = None, Any, File;
        /// How many tokens of each label lie on a path: one density for the example, or one for each label.
        mode: Mode = Mode::Paper, Any, Bits;
        /// Lines over which an n-gram of a path may reach.
        max_lines: usize = 4, Within(0.0, MOST), Bits;
        /// Whether every epoch draws paths of its own.
        dynamic: bool = false, Any, Bits;
        /// What every token on a path weighs at least. The published code has 3.
        w_base: f64 = 1.0, AtLeast(0.0), Bits;
        /// What tokens off the path weigh: a number, or "formula" for the same formula without the n-gram.
        off_path: OffPath = OffPath::Number(1.0), Any, Bits;
        /// The rarity bonus of an n-gram that was never counted: none, or 1 / ln 2.
        unseen: Unseen = Unseen::Zero, Any, Bits;
        /// How weights cross from the code to what is learned; unset, the task decides: identity for completion and
        /// copy, target-ast for translation, lexical for summarization.
        align: Option<Align> = None, Any, Bits;
        /// Whether the loss sums over all supervised tokens or over those on the path; the others then weigh 0.
        scope: Scope = Scope::All, Any, Bits;
        /// How the names of called functions are told from other words: by syntax, or by the published list.
        calls: Calls = Calls::Syntax, Any, Bits;
        /// The language of the code; unset, by the extension of parallel files, by a row's `lang`, else java.
        source_lang: Option<Language> = None, Any, Bits;
        /// The language of what is learned, "text" for none; unset, by the extension of parallel files, c-sharp for
        /// translation, "text" for summarization, else that of the code.
        target_lang: Option<Writing> = None, Any, Bits;
    }
}

section! {
    /// The adapters, where train.method is "lora". Names and meanings are PEFT's.
    Lora = "lora" {
        /// Rank.
        r: usize = 16, Within(1.0, MOST), Bits;
        /// The adapter's output is scaled by lora_alpha / r.
        lora_alpha: f64 = 32.0, Above(0.0), Bits;
        /// Dropout on the adapter's input.
        lora_dropout: f32 = 0.0, Below(0.0, 1.0), Bits;
        /// The layers that are adapted.
        target_modules: Targets = Targets::AllLinear, Any, Bits;
        /// Scale by lora_alpha / sqrt(r) instead.
        use_rslora: bool = false, Any, Bits;
    }
}

section! {
    /// What is minimised: weighted cross entropy + gamma * token-level DPO.
    Objective = "objective" {
        /// The loss weights. data.prompt_weight stays in every arm but artifact-baseline.
        arm: Arm = Arm::Data, Any, Bits;
        /// The weight of the arms constant and path; unset, the mean of data.
        arm_constant: Option<f64> = None, AtLeast(0.0), Bits;
        /// The exponent of the arm focal.
        arm_focal: f64 = 2.0, AtLeast(0.0), Bits;
        /// What the summed cross entropy of an optimiser step is divided by.
        normalize: Normalize = Normalize::Tokens, Any, Bits;
        /// Factor of the DPO term; 0 leaves it out.
        gamma: f64 = 0.0, AtLeast(0.0), Bits;
        /// Inverse temperature of the DPO term.
        beta: f64 = 0.1, Above(0.0), Bits;
        /// Whether the DPO term's means over tokens are weighted.
        dpo_weights: bool = false, Any, Bits;
        /// A directory with the DPO reference; unset, it is the model that training starts from.
        reference_model: Option<PathBuf> = None, Any, File;
    }
}

section! {
    /// Text metrics at each evaluation: greedy texts for rows of data.validation_file, scored (docs/evaluation.md).
    Eval = "eval" {
        /// Rows for which text is generated, the first of the file; 0 generates none.
        generate_rows: usize = 0, Within(0.0, MOST), Free;
        /// Metrics of the texts; unset, the usual ones of data.task.
        metrics: Names = Names::default(), Any, Free;
        /// Largest number of new tokens of a text.
        max_new_tokens: usize = 256, Within(1.0, MOST), Free;
        /// Rows that are generated together.
        per_device_eval_batch_size: usize = 8, Within(1.0, 4096.0), Free;
        /// The language of the texts; unset, by the extension of parallel files, c-sharp for translation, else
        /// salience.source_lang.
        lang: Option<Language> = None, Any, Free;
        /// The folder dict of Princeton's WordNet, for the metric meteor_wordnet.
        wordnet: Option<PathBuf> = None, Any, Free;
    }
}

section! {
    /// The run. Names and meanings are those of Hugging Face's TrainingArguments where it has them.
    Train = "train" {
        /// Where the trained model or adapter and the metrics go.
        output_dir: PathBuf = "eyekern-out".into(), Any, Free;
        /// Train adapters or every weight.
        method: Method = Method::Lora, Any, Bits;
        /// The optimiser.
        optim: Optim = Optim::AdamW, Any, Bits;
        /// Peak learning rate of AdamW.
        learning_rate: f64 = 1e-4, AtLeast(0.0), Bits;
        /// Examples in a micro-batch.
        per_device_train_batch_size: usize = 8, Within(1.0, MOST), Bits;
        /// Micro-batches in an optimiser step.
        gradient_accumulation_steps: usize = 1, Within(1.0, MOST), Bits;
        /// Passes over the data; fractions are allowed.
        // Bounded, as epochs are counted in 32 bits.
        num_train_epochs: f64 = 3.0, Within(0.0, 1e6), Free;
        /// Optimiser steps; where above 0 it decides, not num_train_epochs.
        max_steps: i64 = -1, AtLeast(-1.0), Free;
        /// How the learning rate moves over the run.
        lr_scheduler_type: Schedule = Schedule::Linear, Any, Bits;
        /// Optimiser steps over which the learning rate rises from 0.
        warmup_steps: u64 = 0, AtLeast(0.0), Bits;
        /// The same as a share of the run, where warmup_steps is 0.
        warmup_ratio: f64 = 0.0, Within(0.0, 1.0), Bits;
        /// Decoupled weight decay; biases and norms are exempt.
        weight_decay: f64 = 0.0, AtLeast(0.0), Bits;
        /// Decay of AdamW's mean of gradients.
        adam_beta1: f64 = 0.9, Below(0.0, 1.0), Bits;
        /// Decay of AdamW's mean of squared gradients.
        adam_beta2: f64 = 0.999, Below(0.0, 1.0), Bits;
        /// Added to the root of AdamW's mean of squared gradients.
        adam_epsilon: f64 = 1e-8, Above(0.0), Bits;
        /// Gradients with a larger norm are scaled down to it; 0 means no clipping.
        max_grad_norm: f64 = 1.0, AtLeast(0.0), Bits;
        /// Optimiser steps between two lines of the log.
        logging_steps: u64 = 10, AtLeast(1.0), Free;
        /// Whether an output_dir that holds an earlier run may be written over; what that run saved is removed at the
        /// start.
        overwrite_output_dir: bool = false, Any, Free;
        /// Optimiser steps between two evaluations; 0 means at the end of each epoch. Needs data.validation_file.
        eval_steps: u64 = 0, AtLeast(0.0), Free;
        /// Optimiser steps between two checkpoints; 0 means at the end of each epoch.
        save_steps: u64 = 500, AtLeast(0.0), Free;
        /// How many checkpoints are kept: the last ones, and the best beside them.
        save_total_limit: usize = 2, Within(1.0, MOST), Free;
        /// The measure of the best model: "loss", or a metric of the texts that eval.generate_rows asks for.
        metric_for_best_model: String = "loss".into(), Any, Bits;
        /// Evaluations without a better one after which the run stops; 0 means never. Needs data.validation_file.
        early_stopping_patience: u64 = 0, AtLeast(0.0), Free;
        /// Whether the model of the best evaluation is saved, not the last. Needs data.validation_file.
        load_best_model_at_end: bool = false, Any, Free;
        /// Seed of initial values, data order and dropout.
        seed: u64 = 42, AtLeast(0.0), Bits;
        /// What the run is reported to, beside metrics.jsonl: TensorBoard by files below output_dir/runs, or nothing.
        report_to: ReportTo = ReportTo::None, Any, Free;
        /// The device's peak in TFLOP/s for products of the run's number type, of which MFU is a share; 0 means that of
        /// a known GPU, and no MFU elsewhere.
        peak_tflops: f64 = 0.0, AtLeast(0.0), Free;
        /// The number format of what is saved.
        save_dtype: SaveDtype = SaveDtype::Auto, Any, Free;
        /// What backward computes anew to save memory, with the same result: nothing, or the activations of each layer
        /// (gradient checkpointing), which takes up to a third more time.
        recompute: Recompute = Recompute::None, Any, Free;
        /// The number format of matrix products: auto (f32 on a CPU, bf16 on a GPU), f32, or bf16 with sums in f32,
        /// which is for AMD's CPUs with AVX512_BF16.
        compute_dtype: ComputeDtype = ComputeDtype::Auto, Any, Bits;
        /// CPU threads; 0 means RAYON_NUM_THREADS if it is set, else all cores. Results do not depend on it.
        threads: usize = 0, Within(0.0, 1024.0), Free;
    }
}
