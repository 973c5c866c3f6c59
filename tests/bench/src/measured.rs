//! What one step of one contender cost.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The cost of one step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Seconds from the command to its end.
    pub wall_seconds: f64,
    /// Seconds in user and kernel mode, of all processes of the contender.
    pub cpu_seconds: f64,
    /// The most memory that one of its processes had resident.
    pub peak_bytes: u64,
    /// What its repository takes on the disk afterwards.
    pub stored_bytes: u64,
    /// What a random read took, where the step reads so.
    pub latency: Option<Latency>,
}

/// Seconds that one read of many took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Of the one in the middle.
    pub median_seconds: f64,
    /// Of 99 of 100 at most.
    pub p99_seconds: f64,
}

/// Runs a command to its end under GNU time, and tells what it cost.
pub fn timed(command: &Command, log: &Path) -> Result<Measured> {
    let figures = log.with_extension("time");
    let out = fs::File::options().create(true).append(true).open(log)?;
    let mut timed = Command::new("/usr/bin/time");
    timed
        .args(["--quiet", "-f", "%e %U %S %M", "-o"])
        .arg(&figures)
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        timed.current_dir(dir);
    }
    let status = timed.status().context("run /usr/bin/time")?;
    ensure!(
        status.success(),
        "{command:?} ended with {status}; its log is {}",
        log.display()
    );
    parse(&fs::read_to_string(&figures)?)
}

/// `elapsed user system peak_kib`, as the format above has them.
fn parse(figures: &str) -> Result<Measured> {
    let numbers: Vec<f64> = figures
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("read {figures:?}"))?;
    let [wall_seconds, user, system, peak_kib] = numbers[..] else {
        anyhow::bail!("four numbers were asked for, not {figures:?}");
    };
    Ok(Measured {
        wall_seconds,
        cpu_seconds: user + system,
        peak_bytes: (peak_kib * 1024.0) as u64,
        ..Measured::default()
    })
}

/// What the files below a directory take on the disk.
pub fn allocated(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            allocated(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(sum)
}

/// The middle one of some numbers, or the mean of the two in the middle; nothing of none.
pub fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let upper = numbers.get(numbers.len() / 2)?;
    let lower = numbers.get((numbers.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_time_writes_is_read_and_nothing_else() {
        let read = parse("12.50 3.25 0.75 2048\n").unwrap();
        assert!((read.cpu_seconds - 4.0).abs() < 1e-9);
        assert!((read.wall_seconds - 12.5).abs() < 1e-9);
        assert_eq!(read.peak_bytes, 2 << 20);
        parse("Command exited with non-zero status 1").unwrap_err();
        parse("1 2 3").unwrap_err();
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
