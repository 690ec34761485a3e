//! The file of `--examples`: the metrics of each prediction.

use super::ScoreArgs;
use crate::error::{Error, Result};
use crate::eval::score::Example;
use crate::files;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The file, under its temporary name until it is complete.
pub struct Examples<'a> {
    path: PathBuf,
    partial: PathBuf,
    columns: Vec<&'a str>,
    samples: bool,
    check: bool,
    form: Form,
}

enum Form {
    Jsonl(BufWriter<File>),
    Csv(Box<csv::Writer<File>>),
}

impl<'a> Examples<'a> {
    /// Creates the file. `columns` are the names of the metrics.
    pub fn create(path: &Path, columns: &[&'a str], args: &ScoreArgs) -> Result<Examples<'a>> {
        let partial = files::partial(path);
        let file = File::create(&partial).map_err(Error::io(&partial, "create"))?;
        let csv = path.extension().is_some_and(|e| e == "csv");
        let form =
            if csv { Form::Csv(csv::Writer::from_writer(file).into()) } else { Form::Jsonl(BufWriter::new(file)) };
        let (samples, check) = (args.samples > 1, args.check.is_some());
        let mut examples =
            Examples { path: path.to_path_buf(), partial, columns: columns.to_vec(), samples, check, form };
        if let Form::Csv(writer) = &mut examples.form {
            let ahead = ["row"].into_iter().chain(samples.then_some("sample"));
            let behind = check.then_some(["check", "check_output"]).into_iter().flatten();
            let names = ahead.chain(columns.iter().copied()).chain(behind);
            writer.write_record(names).map_err(|e| Error::io(&examples.partial, "write")(e.into()))?;
        }
        Ok(examples)
    }

    /// Writes a prediction's line.
    pub fn write(&mut self, example: &Example) -> Result {
        let mut fields = vec![("row", Value::from(example.row + 1))];
        fields.extend(self.samples.then(|| ("sample", Value::from(example.sample + 1))));
        // a number that JSON lacks is null
        fields.extend(self.columns.iter().copied().zip(example.values.iter().map(|&value| Value::from(value))));
        if let Some(check) = example.check.filter(|_| self.check) {
            fields.push(("check", check.verdict.name().into()));
            fields.push(("check_output", check.output.as_str().into()));
        }
        let written = match &mut self.form {
            Form::Jsonl(file) => {
                let object: Map<_, _> = fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
                writeln!(file, "{}", Value::Object(object))
            }
            Form::Csv(writer) => {
                let cell = |(_, value): (_, Value)| match value {
                    Value::String(text) => text,
                    Value::Null => String::new(),
                    number => number.to_string(),
                };
                writer.write_record(fields.into_iter().map(cell)).map_err(Into::into)
            }
        };
        written.map_err(Error::io(&self.partial, "write"))
    }

    /// Gives the complete file its name; a file that is dropped before is removed.
    pub fn finish(mut self) -> Result {
        let flushed = match &mut self.form {
            Form::Jsonl(file) => file.flush(),
            Form::Csv(writer) => writer.flush(),
        };
        flushed.map_err(Error::io(&self.partial, "write"))?;
        std::fs::rename(&self.partial, &self.path).map_err(Error::io(&self.path, "write"))
    }
}

impl Drop for Examples<'_> {
    fn drop(&mut self) {
        // it has been renamed where it is complete
        let _ = std::fs::remove_file(&self.partial);
    }
}
