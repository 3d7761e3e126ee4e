//! Moments, as image documents write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, read from and written as RFC 3339.
///
/// Always written in UTC, with as many digits of the second's fraction as it needs: the way Go
/// writes the times of image configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

/// A text or number that is no [`Timestamp`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// The text is not RFC 3339.
    #[error("{text:?} is no RFC 3339 time")]
    NotRfc3339 {
        /// The text.
        text: String,
    },
    /// The year does not have four digits.
    #[error("{seconds} seconds after 1970 is not within the years 0 to 9999")]
    OutOfRange {
        /// Seconds since 1970-01-01T00:00:00Z.
        seconds: i64,
    },
}

impl Timestamp {
    /// The moment `seconds` after 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// When that is not within the years 0 to 9999.
    pub fn from_unix(seconds: i64) -> Result<Timestamp, TimestampError> {
        const YEAR_ZERO: i64 = -62_167_219_200;
        match jiff::Timestamp::from_second(seconds) {
            Ok(moment) if seconds >= YEAR_ZERO => Ok(Timestamp(moment)),
            _ => Err(TimestampError::OutOfRange { seconds }),
        }
    }

    /// Whole seconds since 1970-01-01T00:00:00Z; negative before.
    pub fn unix(&self) -> i64 {
        self.0.as_second()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Timestamp, TimestampError> {
        text.parse()
            .map(Timestamp)
            .map_err(|_| TimestampError::NotRfc3339 { text: text.into() })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, written: &str) {
        let moment: Timestamp = text.parse().expect(text);
        assert_eq!(moment.to_string(), written);
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        check("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z");
        check("2024-01-02T03:04:05.120Z", "2024-01-02T03:04:05.12Z");
        check(
            "2024-01-02T03:04:05.123456789Z",
            "2024-01-02T03:04:05.123456789Z",
        );
        check("2024-01-02T03:04:05+02:00", "2024-01-02T01:04:05Z");
        check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
        check("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z");
    }

    #[test]
    fn numbers_and_other_texts() {
        let moment = Timestamp::from_unix(946_684_800).expect("in range");
        assert_eq!(moment.to_string(), "2000-01-01T00:00:00Z");
        assert_eq!(moment.unix(), 946_684_800);
        assert!(Timestamp::from_unix(i64::MAX).is_err());
        assert!(Timestamp::from_unix(-62_167_219_201).is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
