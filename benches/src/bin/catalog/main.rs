//! What the commands about a catalog of a million segments take, everything included, beside reading its file.
//!
//!     cargo build --release -p icecore-server
//!     cargo run --release -p icecore-benches --bin catalog -- [SEGMENTS [DIRECTORY]]
//!
//! The catalog is made anew, which takes a few minutes and is not measured; in a DIRECTORY that is named it stays, and is
//! measured again the next time.

mod synthetic;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use icecore_tier::catalog::{Catalog, file};

/// Each command runs this often, and the fastest and the slowest run count.
const RUNS: usize = 5;

/// Policies like those that apply, but that keep alarms a year only and debug logs for less long.
const PROPOSED: &str = r#"
[[policy]]
name   = "alarms"
match  = { schema = "alarm*" }
cold   = [{ after = "6h", store = "archive" }]
delete = { after = "1y" }

[[policy]]
name   = "debug"
match  = { schema = "debug*" }
delete = { after = "30d", undo = "1d" }

[[policy]]
name   = "default"
cold   = [{ after = "6h", store = "archive" }]
local  = { drop_after = "2d" }
delete = { after = "90d", undo = "7d" }
"#;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let segments =
        arguments.next().map_or(Ok(1_000_000), |text| text.parse()).context("SEGMENTS is a number")?;
    let (directory, _temporary) = match arguments.next() {
        Some(directory) => (PathBuf::from(directory), None),
        None => {
            let temporary = tempfile::tempdir().context("cannot make a directory")?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let icecore = icecore()?;
    let data = directory.join("data");
    if !directory.join("icecore.toml").exists() {
        run(Command::new(&icecore).arg("init").arg("--dir").arg(&directory))?;
    }
    fs::create_dir_all(&data)?;
    if !file(&data).exists() {
        let begin = Instant::now();
        synthetic::make(&data, segments)?;
        println!("made in {:.0?}", begin.elapsed());
    }
    measure(&icecore, &directory)
}

fn measure(icecore: &Path, directory: &Path) -> anyhow::Result<()> {
    let (config, data) = (directory.join("icecore.toml"), directory.join("data"));
    let proposed = directory.join("proposed.toml");
    fs::write(&proposed, PROPOSED)?;
    let proposed = proposed.to_str().context("the directory's name is not UTF-8")?;

    let raw = spread(|| read(&file(&data)))?;
    let count = Catalog::read(&data)?.view()?.count()?;
    println!("{count} segments in {} bytes", fs::metadata(file(&data))?.len());
    tell("reading the file", raw, raw.0);
    let commands: [(&str, &[&str]); 5] = [
        ("retention plan", &[]),
        ("retention plan --json", &["--json"]),
        ("retention plan --days 30", &["--days", "30"]),
        ("retention plan --policy FILE", &["--policy", proposed]),
        ("segments list", &[]),
    ];
    for (name, more) in commands {
        let words = name.split(' ').take(2);
        let command =
            || run(Command::new(icecore).arg("--config").arg(&config).args(words.clone()).args(more));
        tell(name, spread(command)?, raw.0);
    }
    tell(
        "opening it to write, as a server does",
        spread(|| Ok(Catalog::open(&data, [7; 16], None).map(drop)?))?,
        raw.0,
    );
    Ok(())
}

/// The fastest and the slowest of some runs.
fn spread(mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<(Duration, Duration)> {
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begin = Instant::now();
        run()?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok((times[0], times[RUNS - 1]))
}

fn tell(what: &str, (fastest, slowest): (Duration, Duration), raw: Duration) {
    let ratio = fastest.as_secs_f64() / raw.as_secs_f64();
    println!(
        "{what:<40}{:>8.3} to {:.3} s, {ratio:.1} × reading the file",
        fastest.as_secs_f64(),
        slowest.as_secs_f64()
    );
}

/// Reads a file to its end.
fn read(path: &Path) -> anyhow::Result<()> {
    let (mut file, mut piece) = (File::open(path)?, vec![0; 1 << 20]);
    while file.read(&mut piece)? > 0 {}
    Ok(())
}

/// The binary beside this program.
fn icecore() -> anyhow::Result<PathBuf> {
    let icecore = std::env::current_exe()?.with_file_name("icecore");
    ensure!(icecore.exists(), "{} is not there: build it first", icecore.display());
    Ok(icecore)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{command:?} ended with {}: {said}", ended.status);
    Ok(())
}
