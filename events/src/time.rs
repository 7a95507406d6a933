//! Time as data: instants are arguments; only the shell reads a clock.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Durations are those of the standard library.
pub use std::time::Duration;

/// Nanoseconds since 1970-01-01T00:00:00Z. An `Option` of it takes no more space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(
    /// The nanoseconds after the least `i64`, which is no valid instant: so the order is that of time, and the value is never
    /// zero.
    NonZeroU64,
);

impl Timestamp {
    /// The instant `ns` nanoseconds after 1970-01-01T00:00:00Z. The least number is rounded up to the next one.
    pub const fn from_unix_ns(ns: i64) -> Self {
        match NonZeroU64::new(ns.wrapping_sub(i64::MIN).cast_unsigned()) {
            Some(biased) => Self(biased),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub const fn unix_ns(self) -> i64 {
        self.0.get().cast_signed().wrapping_add(i64::MIN)
    }

    /// The duration since `earlier`; zero if this instant is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(u64::try_from(self.unix_ns().saturating_sub(earlier.unix_ns())).unwrap_or(0))
    }

    /// The instant with a precision of minutes, for people: `2026-11-22 03:30 UTC`.
    pub fn minute(self) -> String {
        let (year, month, day, hour, minute, ..) = self.civil();
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
    }

    /// Year, month, day, hour, minute, second and nanosecond in UTC.
    fn civil(self) -> (i64, u32, u32, u32, u32, u32, u32) {
        let (days, ns) = (self.unix_ns().div_euclid(86_400_000_000_000), self.unix_ns().rem_euclid(86_400_000_000_000));
        // Days since 0000-03-01 of the proleptic Gregorian calendar, whose 400-year eras have 146,097 days.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let second = ns / 1_000_000_000;
        let parts =
            [month, day, second / 3_600, second / 60 % 60, second % 60, ns % 1_000_000_000].map(|part| part as u32);
        (year, parts[0], parts[1], parts[2], parts[3], parts[4], parts[5])
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::from_unix_ns(0)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    /// Saturates at the greatest instant.
    fn add(self, length: Duration) -> Timestamp {
        Self::from_unix_ns(self.unix_ns().saturating_add(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    /// Saturates at the least instant.
    fn sub(self, length: Duration) -> Timestamp {
        Self::from_unix_ns(self.unix_ns().saturating_sub(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with all nine digits, so that texts sort like instants.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second, ns) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an RFC 3339 instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseTimestampError(String);

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a time: expected the form 2026-01-31T12:00:00Z", self.0)
    }
}

impl std::error::Error for ParseTimestampError {}

impl std::str::FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Parses RFC 3339 in UTC (`Z`), with or without a fraction.
    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        parse(text).ok_or_else(|| ParseTimestampError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let numbers =
        |text: &str, separator| -> Option<Vec<i64>> { text.split(separator).map(|part| part.parse().ok()).collect() };
    let (date, clock) = (numbers(date, '-')?, numbers(clock, ':')?);
    let ([year, month @ 1..=12, day @ 1..=31], [hour @ 0..=23, minute @ 0..=59, second @ 0..=59]) =
        (&date[..], &clock[..])
    else {
        return None;
    };
    if fraction.len() > 9 || !(0..=9999).contains(year) {
        return None;
    }
    let ns: i64 = format!("{fraction:0<9}").parse().ok()?;
    let (shifted_year, march_month) = if *month > 2 { (*year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    let time = seconds.checked_mul(1_000_000_000)?.checked_add(ns).map(Timestamp::from_unix_ns)?;
    // The 31st of a shorter month would be parsed as a day of the next one.
    let (_, _, day_again, ..) = time.civil();
    (i64::from(day_again) == *day).then_some(time)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.unix_ns().serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self::from_unix_ns)
        }
    }
}

impl prost::Message for Timestamp {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        prost::encoding::sfixed64::encode(1, &self.unix_ns(), buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        match tag {
            1 => {
                let mut ns = 0;
                prost::encoding::sfixed64::merge(wire, &mut ns, buf, ctx)?;
                *self = Self::from_unix_ns(ns);
                Ok(())
            }
            _ => prost::encoding::skip_field(wire, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        9
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999999Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ];
        for (ns, text) in cases {
            assert_eq!(Timestamp::from_unix_ns(ns).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp::from_unix_ns(ns)));
        }
    }

    #[test]
    fn numbers_come_back_in_their_order() {
        let numbers = [i64::MIN + 1, -1, 0, 1, i64::MAX];
        let times = numbers.map(Timestamp::from_unix_ns);
        assert_eq!(times.map(Timestamp::unix_ns), numbers);
        assert!(times.is_sorted());
        assert_eq!(Timestamp::from_unix_ns(i64::MIN), times[0], "the least number is no instant");
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }

    #[test]
    fn other_text_is_refused() {
        for text in
            ["", "yesterday", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-01-01T00:00:00+01:00", "2026-01-01"]
        {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
