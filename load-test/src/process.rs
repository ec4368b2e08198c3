//! What the kernel knows about a process: processor time and memory.

use std::fs;

use anyhow::{Context, Result};

/// Processor time, user and system, that process `pid` has used, in seconds.
///
/// # Errors
/// When the process is gone.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = parse_cpu_ticks(&stat).with_context(|| format!("{path} is not as proc(5) describes it"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Memory of process `pid` that is in RAM, in bytes.
///
/// # Errors
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

/// The part of it that no file backs, in bytes: heap and stacks, without mapped code and page cache.
///
/// # Errors
/// When the process is gone.
pub fn anonymous_bytes(pid: u32) -> Result<u64> {
    memory(pid, "RssAnon:")
}

fn memory(pid: u32, kind: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix(kind))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .with_context(|| format!("{path} has no {kind}"))?;
    Ok(kibibytes * 1_024)
}

/// utime + stime: fields 14 and 15, counted from after the command name, which may contain anything.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user = fields.next()?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_name_may_contain_blanks_and_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 731 269 0 0 20 0 1 0 5 0 0";
        assert_eq!(parse_cpu_ticks(stat), Some(1_000));
    }

    #[test]
    fn this_process_uses_memory() {
        let (resident, anonymous) = (resident_bytes(std::process::id()), anonymous_bytes(std::process::id()));
        assert!(resident.unwrap() > anonymous.unwrap());
        assert!(cpu_seconds(std::process::id()).is_ok());
    }
}
