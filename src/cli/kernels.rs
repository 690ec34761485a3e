//! `eyekern kernels`: lists the resources of the compiled kernels.

use super::Format;
use super::terminal::Terminal;
use crate::backend::cuda::cubin::{self, Instruction, Kernel};
use crate::backend::cuda::kernels::{COMPILER, CUBINS, Cubin, REMEDY, SOURCES};
use crate::error::{Error, Result};
use clap::Args;
use serde_json::{Value, json};

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern kernels
  eyekern kernels --format json";

/// Arguments of `eyekern kernels`.
#[derive(Args, Debug)]
pub struct KernelsArgs {
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// A kernel compiled for one architecture.
struct Row<'a> {
    cubin: &'a Cubin,
    kernel: Kernel,
}

/// Prints the table.
pub fn run(args: &KernelsArgs, out: &mut Terminal) -> Result {
    let sources: Vec<&str> = SOURCES.iter().map(|source| source.name).collect();
    let rows = rows(CUBINS)?;
    match args.format {
        Format::Json => out.line(&format!("{:#}", object(COMPILER, &sources, &rows))),
        Format::Text => text(COMPILER, &sources, &rows).iter().for_each(|line| out.line(line)),
    }
    Ok(())
}

fn rows(cubins: &[Cubin]) -> Result<Vec<Row<'_>>> {
    let mut rows = Vec::new();
    for cubin in cubins {
        let kernels = cubin::read(cubin.code);
        let kernels =
            kernels.map_err(|why| Error::Device(format!("{} {}: {why}", cubin.source, cubin.architecture)))?;
        rows.extend(kernels.into_iter().map(|kernel| Row { cubin, kernel }));
    }
    // the rows of a kernel are adjacent, in the order of CUBINS
    rows.sort_by(|a, b| (a.cubin.source, &a.kernel.name).cmp(&(b.cubin.source, &b.kernel.name)));
    Ok(rows)
}

fn text(compiler: Option<(i32, i32)>, sources: &[&str], rows: &[Row]) -> Vec<String> {
    let Some((major, minor)) = compiler else {
        return vec![
            format!("no machine code in this build, only the sources: {}", sources.join(", ")),
            "A run on a GPU compiles them at its start with the NVRTC of a CUDA toolkit or a Python package".into(),
            format!("(`eyekern doctor` shows whether there is one). To embed machine code, {REMEDY}."),
        ];
    };
    let header = ["kernel", "architecture", "registers", "shared", "stack", "spills", "HMMA", "HGMMA", "atomics"];
    let mut table = vec![header.map(String::from)];
    table.extend(rows.iter().map(|row| {
        let kernel = &row.kernel;
        let numbers = [
            kernel.registers,
            kernel.shared,
            kernel.stack,
            kernel.stack_accesses(),
            kernel.count(Instruction::Hmma),
            kernel.count(Instruction::Hgmma),
            kernel.count(Instruction::Atomic),
        ];
        let [registers, shared, stack, spills, hmma, hgmma, atomics] = numbers.map(|n| n.to_string());
        let (name, architecture) = (kernel.name.clone(), row.cubin.architecture.to_string());
        [name, architecture, registers, shared, stack, spills, hmma, hgmma, atomics]
    }));
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    let line = |row: &[String; 9]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    let mut lines: Vec<String> = table.iter().map(line).collect();
    lines.push(String::new());
    lines.push(format!(
        "Compiled by NVRTC {major}.{minor}. Registers per thread; static shared memory in bytes per block; stack in \
         bytes per thread; spills are instructions that access the stack."
    ));
    lines
}

fn object(compiler: Option<(i32, i32)>, sources: &[&str], rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let kernel = &row.kernel;
        let counts = Instruction::ALL.into_iter().map(|i| (i.name().to_string(), kernel.count(i).into()));
        json!({
            "kernel": kernel.name,
            "source": row.cubin.source,
            "architecture": row.cubin.architecture,
            "registers": kernel.registers,
            "shared_bytes": kernel.shared,
            "stack_bytes": kernel.stack,
            "parameter_bytes": kernel.parameters,
            "instructions": kernel.instructions,
            "counts": counts.collect::<serde_json::Map<_, Value>>(),
        })
    };
    json!({
        "compiler": compiler.map(|(major, minor)| format!("NVRTC {major}.{minor}")),
        "sources": sources,
        "kernels": rows.iter().map(row).collect::<Vec<_>>(),
        "remedy": if compiler.is_none() { Some(REMEDY) } else { None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static CUBINS: [Cubin; 2] = [
        Cubin {
            source: "tensor.cu",
            architecture: "sm_80",
            code: include_bytes!("../../tests/fixtures/cubins/tensor.sm_80.cubin"),
            log: "",
        },
        Cubin {
            source: "spilling.cu",
            architecture: "sm_90a",
            code: include_bytes!("../../tests/fixtures/cubins/spilling.sm_90a.cubin"),
            log: "",
        },
    ];

    #[test]
    fn the_table_has_a_line_for_each_kernel_and_architecture() {
        let lines = text(Some((13, 0)), &[], &rows(&CUBINS).unwrap());
        assert_eq!(
            lines[..4],
            [
                "kernel    architecture  registers  shared  stack  spills  HMMA  HGMMA  atomics",
                "spilling  sm_90a               32       0    320     154     0      0        0",
                "tensor    sm_80                18    1024      0       0     1      0        1",
                "",
            ]
        );
        assert!(lines[4].starts_with("Compiled by NVRTC 13.0. "), "{}", lines[4]);
    }

    #[test]
    fn json_has_every_count() {
        let value = object(Some((13, 0)), &["tensor.cu"], &rows(&CUBINS[..1]).unwrap());
        let kernel = &value["kernels"][0];
        assert_eq!((&value["compiler"], &value["remedy"]), (&json!("NVRTC 13.0"), &Value::Null));
        assert_eq!((&kernel["registers"], &kernel["shared_bytes"]), (&json!(18), &json!(1024)));
        assert_eq!((&kernel["parameter_bytes"], &kernel["counts"]["LDGSTS"]), (&json!([8, 8, 4]), &json!(1)));
        assert_eq!(kernel["counts"].as_object().unwrap().len(), Instruction::ALL.len());
    }

    #[test]
    fn without_machine_code_it_says_how_to_get_it() {
        let lines = text(None, &["a.cu", "b.cu"], &[]);
        assert_eq!(lines[0], "no machine code in this build, only the sources: a.cu, b.cu");
        assert!(lines[2].contains("run `python3 scripts/fetch_nvrtc.py` and build again"), "{}", lines[2]);
        let value = object(None, &["a.cu"], &[]);
        assert_eq!((&value["compiler"], &value["remedy"]), (&Value::Null, &json!(REMEDY)));
    }

    #[test]
    fn a_damaged_cubin_is_a_sentence() {
        let damaged = [Cubin { source: "a.cu", architecture: "sm_80", code: b"\x7fELF", log: "" }];
        let error = rows(&damaged).err().expect("refused");
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            ("a.cu sm_80: not a whole cubin: it is no ELF64 file", 4)
        );
    }
}
