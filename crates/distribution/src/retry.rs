//! Patience: whether a failed attempt is followed by another, and when.
//!
//! Pauses are chosen at random between nothing and a bound that doubles ("full jitter"), so that
//! many clients that failed together do not come back together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use crate::config::RetryPolicy;
use crate::error::{Prospect, RegistryFailure};

/// The state of one operation's retries.
#[derive(Debug)]
pub(crate) struct Patience {
    policy: RetryPolicy,
    last_progress: Instant,
    failures: u32,
}

impl Patience {
    pub(crate) fn new(policy: RetryPolicy) -> Patience {
        Patience {
            policy,
            last_progress: Instant::now(),
            failures: 0,
        }
    }

    /// Something moved: the deadline starts anew.
    pub(crate) fn progress(&mut self) {
        self.last_progress = Instant::now();
        self.failures = 0;
    }

    /// How long to pause before the next attempt; `None` when there should be none.
    pub(crate) fn pause_after(&mut self, failure: &RegistryFailure) -> Option<Duration> {
        self.failures += 1;
        let pause = match failure.prospect() {
            Prospect::Hopeless => return None,
            Prospect::Slim if self.failures >= self.policy.connect_attempts => return None,
            Prospect::Slim | Prospect::Good(None) => self.jitter(),
            Prospect::Good(Some(at_least)) => at_least + self.jitter().min(at_least),
        };
        let waited = self.last_progress.elapsed();
        (waited + pause <= self.policy.deadline).then_some(pause)
    }

    fn jitter(&self) -> Duration {
        let doublings = (self.failures - 1).min(16);
        let bound = self
            .policy
            .first_pause
            .saturating_mul(1 << doublings)
            .min(self.policy.longest_pause);
        bound.mul_f64(random_fraction())
    }
}

/// A number in 0..=1. The keys of std's hash maps are random, which is random enough to keep
/// clients apart and needs no further crate.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RegistryMessage;

    fn busy(retry_after: Option<u64>) -> RegistryFailure {
        RegistryFailure::Busy {
            status: reqwest::StatusCode::TOO_MANY_REQUESTS,
            retry_after: retry_after.map(Duration::from_secs),
            registry: RegistryMessage::default(),
        }
    }

    fn patience(deadline: u64) -> Patience {
        let deadline = Duration::from_secs(deadline);
        Patience::new(RetryPolicy {
            deadline,
            ..RetryPolicy::default()
        })
    }

    #[test]
    fn pauses_stay_below_a_bound_that_doubles_up_to_the_longest() {
        let mut patience = patience(300);
        for bound in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let pause = patience
                .pause_after(&busy(None))
                .expect("within the deadline");
            assert!(
                pause <= Duration::from_millis(bound),
                "{pause:?} > {bound} ms"
            );
        }
        patience.progress();
        assert!(patience.pause_after(&busy(None)).expect("fresh") <= Duration::from_millis(500));
    }

    #[test]
    fn what_the_registry_asks_for_is_kept_unless_it_passes_the_deadline() {
        let pause = patience(300)
            .pause_after(&busy(Some(60)))
            .expect("within the deadline");
        assert!(pause >= Duration::from_secs(60));
        assert_eq!(patience(30).pause_after(&busy(Some(60))), None);
    }

    #[test]
    fn what_cannot_get_better_is_not_repeated() {
        let denied = RegistryFailure::Denied {
            registry: RegistryMessage::default(),
        };
        assert_eq!(patience(300).pause_after(&denied), None);
    }

    #[test]
    fn random_fractions_differ_and_stay_in_range() {
        let drawn: Vec<f64> = (0..32).map(|_| random_fraction()).collect();
        assert!(drawn.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
