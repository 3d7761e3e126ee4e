//! What processes may use of the machine: docker's flags, their bounds, and what they come to.

use std::num::ParseIntError;
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use engine::request::{Resources, Swap};

use super::outputs::split_csv;
use super::values::parse_size;

/// The least that docker takes for memory: less than that, and nothing starts.
const LEAST_MEMORY: u64 = 6 << 20;
/// The kernel's bounds on a period, and its least quota, in microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const LEAST_QUOTA: u64 = 1_000;
/// What `--cpus` is counted over.
const PERIOD: u64 = 100_000;

/// Limits that `kiln build` and `kiln run` have. 0 is none, as in docker.
#[derive(Args, Clone)]
pub(crate) struct LimitArgs {
    /// Limit of memory, at least 6m
    #[arg(short, long, value_name = "BYTES", value_parser = parse_size)]
    memory: Option<u64>,
    /// Limit of memory and swap together; -1 is as much swap as there is [default: twice the memory]
    #[arg(long, value_name = "BYTES", value_parser = parse_swap, allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Weight of the processes where processors are short [default: 1024]
    #[arg(short, long, value_name = "SHARES")]
    cpu_shares: Option<u64>,
    /// Period that --cpu-quota is counted over [default: 100000]
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Processor time that may be taken in each period; -1 is no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Processors that may be used: 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used: 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Control group to make those of processes in: a path, or a slice of systemd's
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
}

/// Limits that `kiln run` has beside them.
#[derive(Args)]
pub(crate) struct RunLimitArgs {
    /// Memory that it keeps when the machine is short of it
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    memory_reservation: Option<u64>,
    /// Processors' worth of time: 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
}

impl LimitArgs {
    /// What is asked for.
    ///
    /// # Errors
    /// When a value is out of its bounds, or values contradict each other.
    pub(super) fn resources(&self) -> Result<Resources> {
        let some = |value: Option<u64>| value.filter(|&value| value != 0);
        let list = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let resources = Resources {
            memory: some(self.memory),
            swap: match self.memory_swap {
                None | Some(0) => None,
                Some(total) => Some(u64::try_from(total).map_or(Swap::Unlimited, Swap::Total)),
            },
            cpu_shares: some(self.cpu_shares),
            cpu_period: some(self.cpu_period),
            cpu_quota: some(self.cpu_quota.and_then(|quota| u64::try_from(quota).ok())),
            cpuset_cpus: list(&self.cpuset_cpus),
            cpuset_mems: list(&self.cpuset_mems),
            ..Resources::default()
        };
        check(&resources)?;
        Ok(resources)
    }
}

/// The limits with those of buildx's `--resource KEY=VALUE[,…]`, whose keys are the names of flags. A
/// flag of its own counts more.
///
/// # Errors
/// When a key is unknown or a value is none of its flag's.
pub(super) fn with_resources(flags: &LimitArgs, specs: &[String]) -> Result<LimitArgs> {
    let mut limits = flags.clone();
    for spec in specs {
        for field in split_csv(spec)? {
            let set = set_resource(&mut limits, &field);
            set.with_context(|| format!("--resource {spec}"))?;
        }
    }
    Ok(limits)
}

fn set_resource(limits: &mut LimitArgs, field: &str) -> Result<()> {
    const KEYS: &str = "memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus and \
                        cpuset-mems";
    let (key, value) = field
        .split_once('=')
        .with_context(|| format!("`{field}` is not KEY=VALUE"))?;
    let refused = |reason: String| anyhow!("{key}: {reason}");
    match key {
        "memory" => keep(&mut limits.memory, parse_size(value).map_err(refused)?),
        "memory-swap" => keep(&mut limits.memory_swap, parse_swap(value).map_err(refused)?),
        "cpu-shares" => keep(&mut limits.cpu_shares, number(key, value)?),
        "cpu-period" => keep(&mut limits.cpu_period, number(key, value)?),
        "cpu-quota" => keep(&mut limits.cpu_quota, number(key, value)?),
        "cpuset-cpus" => keep(&mut limits.cpuset_cpus, value.to_string()),
        "cpuset-mems" => keep(&mut limits.cpuset_mems, value.to_string()),
        other => bail!("there is no `{other}`: known are {KEYS}"),
    }
    Ok(())
}

fn number<T: FromStr<Err = ParseIntError>>(key: &str, value: &str) -> Result<T> {
    value
        .parse()
        .with_context(|| format!("{key}: `{value}` is no number"))
}

fn keep<T>(field: &mut Option<T>, value: T) {
    field.get_or_insert(value);
}

impl RunLimitArgs {
    /// What is asked for beside `shared`. `processors` is how many there are.
    ///
    /// # Errors
    /// As [`LimitArgs::resources`].
    pub(crate) fn resources(&self, shared: &LimitArgs, processors: usize) -> Result<Resources> {
        let mut resources = shared.resources()?;
        resources.memory_reservation = self.memory_reservation.filter(|&bytes| bytes != 0);
        resources.pids = self.pids_limit.and_then(|count| u64::try_from(count).ok());
        resources.pids = resources.pids.filter(|&count| count != 0);
        if let Some(cpus) = self.cpus.filter(|&cpus| cpus != 0.0) {
            ensure!(
                resources.cpu_period.is_none() && resources.cpu_quota.is_none(),
                "--cpus says what --cpu-period and --cpu-quota say: give either"
            );
            #[expect(
                clippy::cast_precision_loss,
                reason = "nobody has that many processors"
            )]
            let most = processors as f64;
            ensure!(
                (0.01..=most).contains(&cpus),
                "--cpus {cpus}: between 0.01 and {processors}, since there are {processors}"
            );
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "within the bounds that were checked"
            )]
            let quota = (cpus * PERIOD as f64).round() as u64;
            resources.cpu_quota = Some(quota);
        }
        check(&resources)?;
        Ok(resources)
    }
}

/// docker's rules.
fn check(resources: &Resources) -> Result<()> {
    let Resources {
        memory,
        swap,
        memory_reservation,
        ..
    } = *resources;
    for (flag, value) in [
        ("--memory", memory),
        ("--memory-reservation", memory_reservation),
    ] {
        if let Some(value) = value
            && value < LEAST_MEMORY
        {
            bail!("{flag} {value}: at least 6m (6291456)");
        }
    }
    if let Some(Swap::Total(total)) = swap {
        match memory {
            None => bail!("--memory-swap bounds memory and swap together: --memory is missing"),
            Some(memory) if total < memory => {
                bail!(
                    "--memory-swap {total}: memory and swap together, so at least the {memory} of --memory"
                )
            }
            Some(_) => {}
        }
    }
    if let (Some(memory), Some(reservation)) = (memory, memory_reservation)
        && memory < reservation
    {
        bail!("--memory-reservation {reservation}: at most the {memory} of --memory");
    }
    if let Some(shares) = resources.cpu_shares
        && shares < 2
    {
        bail!("--cpu-shares {shares}: at least 2");
    }
    if let Some(period) = resources.cpu_period
        && !PERIODS.contains(&period)
    {
        bail!("--cpu-period {period}: between 1000 (1 ms) and 1000000 (1 s)");
    }
    if let Some(quota) = resources.cpu_quota
        && quota < LEAST_QUOTA
    {
        bail!("--cpu-quota {quota}: at least 1000 (1 ms)");
    }
    let lists = [
        ("--cpuset-cpus", &resources.cpuset_cpus),
        ("--cpuset-mems", &resources.cpuset_mems),
    ];
    for (flag, list) in lists {
        if let Some(list) = list
            && !is_list(list)
        {
            bail!("{flag} {list}: must be numbers and ranges, as in 0-3,7");
        }
    }
    Ok(())
}

fn is_list(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok();
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => {
            matches!((number(first), number(last)), (Some(a), Some(b)) if a <= b)
        }
        None => number(part).is_some(),
    })
}

/// A size, or -1.
fn parse_swap(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        text => i64::try_from(parse_size(text)?).map_err(|_| format!("`{text}` is too large")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        shared: LimitArgs,
        #[command(flatten)]
        own: RunLimitArgs,
    }

    /// `expect`: the fields that are set, or the error, or a part of clap's.
    #[track_caller]
    fn check(line: &str, expect: Result<Resources, &str>) {
        let words = std::iter::once("kiln").chain(line.split_whitespace());
        let found = match Line::try_parse_from(words) {
            Ok(line) => line
                .own
                .resources(&line.shared, 2)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match (&found, &expect) {
            (Err(found), Err(expect)) => assert!(found.contains(expect), "{line}: {found}"),
            _ => assert_eq!(found, expect.map_err(String::from), "{line}"),
        }
    }

    #[test]
    fn forms() {
        let none = Resources::default();
        check("", Ok(none.clone()));
        check(
            "-m 64m --memory-swap 128m --memory-reservation 32m --pids-limit 10",
            Ok(Resources {
                memory: Some(64 << 20),
                swap: Some(Swap::Total(128 << 20)),
                memory_reservation: Some(32 << 20),
                pids: Some(10),
                ..none.clone()
            }),
        );
        check(
            "--memory 6291456 --memory-swap -1 -c 512 --cpu-period 50000 --cpu-quota 25000",
            Ok(Resources {
                memory: Some(6 << 20),
                swap: Some(Swap::Unlimited),
                cpu_shares: Some(512),
                cpu_period: Some(50_000),
                cpu_quota: Some(25_000),
                ..none.clone()
            }),
        );
        check(
            "--cpus 1.5 --cpuset-cpus 0-3,7 --cpuset-mems 0",
            Ok(Resources {
                cpu_quota: Some(150_000),
                cpuset_cpus: Some("0-3,7".into()),
                cpuset_mems: Some("0".into()),
                ..none.clone()
            }),
        );
        // None of these is a limit.
        check(
            "-m 0 --memory-swap 0 --memory-reservation 0 -c 0 --cpu-period 0 --cpu-quota -1 \
             --cpus 0 --pids-limit -1 --cpuset-cpus= --cpuset-mems=",
            Ok(none),
        );
    }

    #[test]
    fn resources_of_buildx() {
        #[track_caller]
        fn check(line: &str, specs: &[&str], expect: Result<Resources, &str>) {
            let words = std::iter::once("kiln").chain(line.split_whitespace());
            let flags = Line::try_parse_from(words).unwrap().shared;
            let specs: Vec<String> = specs.iter().map(|spec| (*spec).to_string()).collect();
            let limits = with_resources(&flags, &specs);
            let found = limits.and_then(|limits| limits.resources());
            let found = found.map_err(|error| format!("{error:#}"));
            assert_eq!(found, expect.map_err(String::from), "{specs:?}");
        }
        let all = [
            "memory=64m,memory-swap=-1,cpu-shares=512",
            "\"cpuset-cpus=0-1,3\",cpu-period=50000,cpu-quota=25000,cpuset-mems=0",
        ];
        let expect = Resources {
            memory: Some(64 << 20),
            swap: Some(Swap::Unlimited),
            cpu_shares: Some(512),
            cpu_period: Some(50_000),
            cpu_quota: Some(25_000),
            cpuset_cpus: Some("0-1,3".into()),
            cpuset_mems: Some("0".into()),
            ..Resources::default()
        };
        check("", &all, Ok(expect));
        let memory = |memory| Resources {
            memory: Some(memory),
            ..Resources::default()
        };
        check("-m 32m", &["memory=64m"], Ok(memory(32 << 20)));
        check(
            "",
            &["memory=5m"],
            Err("--memory 5242880: at least 6m (6291456)"),
        );
        check(
            "",
            &["memory"],
            Err("--resource memory: `memory` is not KEY=VALUE"),
        );
        check(
            "",
            &["cpu-shares=x"],
            Err(
                "--resource cpu-shares=x: cpu-shares: `x` is no number: invalid digit found in string",
            ),
        );
        check(
            "",
            &["cpus=2"],
            Err(
                "--resource cpus=2: there is no `cpus`: known are memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus and cpuset-mems",
            ),
        );
    }

    #[test]
    fn mistakes() {
        check("-m 5m", Err("--memory 5242880: at least 6m"));
        check("-m 6q", Err("`q` is no unit of size"));
        check("--memory-reservation 1k", Err("at least 6m"));
        check("--memory-swap 64m", Err("--memory is missing"));
        check(
            "-m 64m --memory-swap 32m",
            Err("so at least the 67108864 of --memory"),
        );
        check(
            "-m 64m --memory-reservation 65m",
            Err("at most the 67108864"),
        );
        check("-c 1", Err("--cpu-shares 1: at least 2"));
        check("-c -5", Err("unexpected argument"));
        check(
            "--cpu-period 999",
            Err("between 1000 (1 ms) and 1000000 (1 s)"),
        );
        check("--cpu-period 1000001", Err("between 1000"));
        check("--cpu-quota 999", Err("at least 1000 (1 ms)"));
        check("--cpus 2.5", Err("between 0.01 and 2, since there are 2"));
        check("--cpus 0.001", Err("between 0.01"));
        check("--cpus NaN", Err("between 0.01"));
        check("--cpus 1 --cpu-period 50000", Err("give either"));
        check("--cpuset-cpus 3-1", Err("must be numbers and ranges"));
        check("--cpuset-mems x", Err("--cpuset-mems x: must be"));
    }
}
