//! What a container may use, in docker's terms, and the files of control groups that say so.

use super::{Setting, Version};

/// Limits of a container. The default has none.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Memory and swap together. Without it, twice the memory.
    pub swap: Option<Swap>,
    /// Bytes of memory that it keeps when the machine is short of it.
    pub memory_reservation: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Weight against other groups: 2 to 262,144, of which 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// Microseconds that the quota is counted over; 100,000 unless said.
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<u64>,
    /// Processors, as `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, as `0-3,7`.
    pub cpuset_mems: Option<String>,
}

/// A bound on memory and swap together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// As much swap as there is.
    Unlimited,
    /// Bytes, of memory and swap; at least those of memory.
    Total(u64),
}

/// The controllers that kiln sets something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the kernel's controller of that name")]
pub enum Controller {
    Cpu,
    Cpuset,
    Memory,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Controller; 4] = [
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Pids,
    ];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }
}

/// What version 2 counts a quota over when nobody says.
const CPU_PERIOD: u64 = 100_000;

impl Resources {
    /// Controllers that must be there.
    pub(super) fn controllers(&self) -> Vec<Controller> {
        let mut all = Controller::ALL.to_vec();
        all.retain(|&controller| !self.settings(controller, Version::Two).is_empty());
        all
    }

    /// What is written for a controller.
    pub(super) fn settings(&self, controller: Controller, version: Version) -> Vec<Setting> {
        match (controller, version) {
            (Controller::Memory, Version::Two) => self.memory_two(),
            (Controller::Memory, Version::One) => self.memory_one(),
            (Controller::Cpu, Version::Two) => self.cpu_two(),
            (Controller::Cpu, Version::One) => settings([
                ("cpu.shares", self.cpu_shares),
                ("cpu.cfs_period_us", self.cpu_period),
                ("cpu.cfs_quota_us", self.cpu_quota),
            ]),
            (Controller::Cpuset, _) => settings([
                ("cpuset.cpus", self.cpuset_cpus.as_ref()),
                ("cpuset.mems", self.cpuset_mems.as_ref()),
            ]),
            (Controller::Pids, _) => settings([("pids.max", self.pids)]),
        }
    }

    fn memory_two(&self) -> Vec<Setting> {
        let swap = self.total_with_swap().map(|total| match total {
            Swap::Unlimited => "max".to_owned(),
            Swap::Total(total) => (total - self.memory.unwrap_or(0).min(total)).to_string(),
        });
        let mut all = settings([("memory.max", self.memory)]);
        all.extend(self.swap_setting("memory.swap.max", swap));
        all.extend(settings([("memory.low", self.memory_reservation)]));
        all
    }

    fn memory_one(&self) -> Vec<Setting> {
        let swap = self.total_with_swap().map(|total| match total {
            Swap::Unlimited => "-1".to_owned(),
            Swap::Total(total) => total.to_string(),
        });
        let mut all = settings([("memory.limit_in_bytes", self.memory)]);
        // The kernel wants it to be at least the memory's, so after it.
        all.extend(self.swap_setting("memory.memsw.limit_in_bytes", swap));
        all.extend(settings([(
            "memory.soft_limit_in_bytes",
            self.memory_reservation,
        )]));
        all
    }

    fn total_with_swap(&self) -> Option<Swap> {
        let usual = || {
            self.memory
                .map(|memory| Swap::Total(memory.saturating_mul(2)))
        };
        self.swap.or_else(usual)
    }

    /// Kernels that count no swap have no such file. That only matters to who asked for it.
    fn swap_setting(&self, file: &str, value: Option<String>) -> Option<Setting> {
        value.map(|value| Setting {
            file: file.to_owned(),
            value,
            optional: !matches!(self.swap, Some(Swap::Total(_))),
        })
    }

    fn cpu_two(&self) -> Vec<Setting> {
        let bandwidth = match (self.cpu_quota, self.cpu_period) {
            (None, None) => None,
            (quota, period) => {
                let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
                Some(format!("{quota} {}", period.unwrap_or(CPU_PERIOD)))
            }
        };
        let mut all = settings([("cpu.weight", self.cpu_shares.map(weight))]);
        all.extend(settings([("cpu.max", bandwidth)]));
        all
    }
}

fn settings<T: ToString, const N: usize>(all: [(&str, Option<T>); N]) -> Vec<Setting> {
    let setting = |(file, value): (&str, Option<T>)| {
        value.map(|value| Setting {
            file: file.to_owned(),
            value: value.to_string(),
            optional: false,
        })
    };
    all.into_iter().filter_map(setting).collect()
}

/// The weight of version 2 (1 to 10,000) for shares of version 1, as runc has it since 1.3.2: a
/// curve through the least, the usual (1024 is 100) and the most of both.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "both ranges are small, and the curve stays within them"
)]
fn weight(shares: u64) -> u64 {
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // What is whole but for the last digits is not rounded up.
    (10f64.powf(exponent) - 1e-9).ceil().clamp(1.0, 10_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `two` and `one` are what the files of the versions say, `file=value`, optional ones with a
    /// question mark.
    #[track_caller]
    fn check(resources: Resources, two: &str, one: &str) {
        for (version, expect) in [(Version::Two, two), (Version::One, one)] {
            let all = Controller::ALL
                .iter()
                .flat_map(|&controller| resources.settings(controller, version));
            let text: Vec<_> = all
                .map(|setting| {
                    let mark = if setting.optional { "?" } else { "" };
                    format!("{}{mark}={}", setting.file, setting.value)
                })
                .collect();
            assert_eq!(text.join(" "), expect, "{version:?}");
        }
    }

    #[test]
    fn memory() {
        let memory = |swap| Resources {
            memory: Some(64 << 20),
            swap,
            ..Resources::default()
        };
        check(
            memory(None),
            "memory.max=67108864 memory.swap.max?=67108864",
            "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes?=134217728",
        );
        check(
            memory(Some(Swap::Total(64 << 20))),
            "memory.max=67108864 memory.swap.max=0",
            "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=67108864",
        );
        check(
            memory(Some(Swap::Unlimited)),
            "memory.max=67108864 memory.swap.max?=max",
            "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes?=-1",
        );
        check(
            Resources {
                memory_reservation: Some(8 << 20),
                ..Resources::default()
            },
            "memory.low=8388608",
            "memory.soft_limit_in_bytes=8388608",
        );
    }

    #[test]
    fn processors_and_processes() {
        check(
            Resources {
                cpu_shares: Some(512),
                cpu_period: Some(50_000),
                cpu_quota: Some(25_000),
                cpuset_cpus: Some("0-1".into()),
                cpuset_mems: Some("0".into()),
                pids: Some(20),
                ..Resources::default()
            },
            "cpu.weight=59 cpu.max=25000 50000 cpuset.cpus=0-1 cpuset.mems=0 pids.max=20",
            "cpu.shares=512 cpu.cfs_period_us=50000 cpu.cfs_quota_us=25000 cpuset.cpus=0-1 \
             cpuset.mems=0 pids.max=20",
        );
        let quota = Resources {
            cpu_quota: Some(25_000),
            ..Resources::default()
        };
        check(quota, "cpu.max=25000 100000", "cpu.cfs_quota_us=25000");
        let period = Resources {
            cpu_period: Some(50_000),
            ..Resources::default()
        };
        check(period, "cpu.max=max 50000", "cpu.cfs_period_us=50000");
        check(Resources::default(), "", "");
    }

    #[test]
    fn shares_become_weights() {
        let weights = [0, 2, 3, 1024, 2048, 262_144, u64::MAX].map(weight);
        assert_eq!(weights, [1, 1, 2, 100, 174, 10_000, 10_000]);
    }
}
