//! What sealed files cost on disk: bytes a row, everything included, beside gzip of the CSV and the best of Parquet's
//! encodings of the same rows.
//!
//!     cargo run --release -p icecore-benches --bin sizes -- FILES.csv.gz

mod parquet_file;
mod rows;
mod sealed_file;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Bytes a row that pco took by itself, as measured for the design (rows sorted by device and time, without any file
/// around them), by file.
const DESIGN: [(&str, f64); 5] = [
    ("beijing_air", 9.0),
    ("ecg_mitbih100", 1.4),
    ("px4_imu", 25.5),
    ("nab_telemetry", 3.4),
    ("room_occupancy", 4.4),
];

/// What a sealed file may take beyond that.
const ALLOWANCE: f64 = 1.05;

/// What one file takes, in bytes a row.
struct Sizes {
    file: String,
    sealed: f64,
    design: Option<f64>,
    parquet: f64,
    gzip: f64,
}

fn main() -> anyhow::Result<()> {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    ensure!(!files.is_empty(), "name the CSV files to measure, such as ../shared/data/*.csv.gz");
    println!(
        "{:<16}{:>9}{:>8}{:>9}{:>8}{:>11}{:>11}{:>9}",
        "bytes a row", "rows", "fields", "sealed", "gzip", "Parquet", "× Parquet", "allowed"
    );
    let mut measured = Vec::with_capacity(files.len());
    for file in &files {
        measured.push(measure(file).with_context(|| format!("cannot measure {}", file.display()))?);
    }
    let of_design: Vec<&Sizes> = measured.iter().filter(|sizes| sizes.design.is_some()).collect();
    for (which, sizes) in [("all files", measured.iter().collect()), ("the design's", of_design)] {
        if let Some(mean) = geometric_mean(&sizes) {
            println!("geometric mean of sealed × Parquet over {which} ({}): {mean:.3}", sizes.len());
        }
    }
    Ok(())
}

fn measure(file: &Path) -> anyhow::Result<Sizes> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    let rows = rows::read(file)?;
    let a_row = |bytes: u64| bytes as f64 / rows.times.len() as f64;
    let sizes = Sizes {
        sealed: a_row(sealed_file::bytes(&name, &rows)?),
        parquet: a_row(parquet_file::bytes(&rows)?),
        gzip: a_row(rows.gzip_bytes),
        design: DESIGN.iter().find(|(design, _)| *design == name).map(|(_, bytes)| bytes * ALLOWANCE),
        file: name,
    };
    println!(
        "{:<16}{:>9}{:>8}{:>9.2}{:>8.2}{:>11.2}{:>11.3}{:>9}",
        sizes.file,
        rows.times.len(),
        rows.columns.len(),
        sizes.sealed,
        sizes.gzip,
        sizes.parquet,
        sizes.sealed / sizes.parquet,
        sizes.design.map_or("–".into(), |design| format!("{design:.2}")),
    );
    Ok(sizes)
}

fn geometric_mean(sizes: &[&Sizes]) -> Option<f64> {
    let logarithms = sizes.iter().map(|sizes| (sizes.sealed / sizes.parquet).ln()).sum::<f64>();
    (!sizes.is_empty()).then(|| (logarithms / sizes.len() as f64).exp())
}
