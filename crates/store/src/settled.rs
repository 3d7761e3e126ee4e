//! Which generations are on the disk for sure.
//!
//! A boot settles its generations in order, so each boot has one range of them; what it began and
//! never settled is in none. Only ranges of earlier boots are ever asked for.

use std::fmt;

use crate::gate::Generation;

/// Boots whose ranges are kept. What is older is verified again when it is used.
const MAX_RANGES: usize = 256;

/// When and where a record was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) generation: u64,
    pub(crate) boot: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    ranges: Vec<(u64, u64)>,
}

impl Settled {
    /// Reads what [`Settled`]'s `Display` wrote. Lines that are none are left out: they settle
    /// nothing.
    pub(crate) fn parse(text: &str) -> Settled {
        let range = |line: &str| {
            let (first, last) = line.split_once(' ')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let ranges = text.lines().filter_map(range).collect();
        Settled { ranges }
    }

    pub(crate) fn contains(&self, generation: u64) -> bool {
        self.ranges
            .iter()
            .any(|&(first, last)| (first..=last).contains(&generation))
    }

    /// The greatest generation that is settled, 0 when none is.
    pub(crate) fn greatest(&self) -> u64 {
        self.ranges.iter().map(|&(_, last)| last).max().unwrap_or(0)
    }

    /// Adds a generation that ended, and with it the earlier ones of its boot.
    pub(crate) fn add(&mut self, ended: &Generation) {
        self.ranges.retain(|&(first, _)| first != ended.first);
        self.ranges.push((ended.first, ended.number));
        let surplus = self.ranges.len().saturating_sub(MAX_RANGES);
        self.ranges.drain(..surplus);
    }
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ranges
            .iter()
            .try_for_each(|(first, last)| writeln!(f, "{first} {last}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(first: u64, number: u64) -> Generation {
        let boot = first.to_string();
        Generation {
            number,
            first,
            boot,
        }
    }

    #[test]
    fn what_a_boot_never_settled_stays_out() {
        let mut settled = Settled::default();
        settled.add(&ended(1, 1));
        settled.add(&ended(1, 2));
        settled.add(&ended(5, 6));
        assert_eq!(settled.to_string(), "1 2\n5 6\n");
        let inside: Vec<u64> = (0..9).filter(|&n| settled.contains(n)).collect();
        assert_eq!((inside, settled.greatest()), (vec![1, 2, 5, 6], 6));
        assert_eq!(Settled::parse(&settled.to_string()), settled);
    }

    #[test]
    fn damaged_lines_settle_nothing() {
        assert_eq!(
            Settled::parse("1 2\n3\nx 4\n\n5 6"),
            Settled {
                ranges: vec![(1, 2), (5, 6)]
            }
        );
    }

    #[test]
    fn the_oldest_boots_are_forgotten() {
        let mut settled = Settled::default();
        (1..=300).for_each(|n| settled.add(&ended(n * 10, n * 10)));
        assert!(!settled.contains(440) && settled.contains(450) && settled.contains(3000));
    }
}
