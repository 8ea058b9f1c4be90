//! Times in configurations: RFC 3339 in UTC, to the second.

use crate::{Error, ErrorKind, Result};

/// The text of a number of seconds since 1970.
///
/// # Errors
/// `InvalidInput` past the year 9999, which RFC 3339 cannot write.
pub fn rfc3339(seconds: u64) -> Result<String> {
    let days = seconds / 86_400;
    // From 0000-03-01 on, leap days are the last of their years, and 400 years are 146,097 days.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    if year > 9999 {
        return Err(Error::new(ErrorKind::InvalidInput, "write time")
            .because(format!("{seconds} seconds since 1970 is past the year 9999")));
    }
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    Ok(format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds).unwrap(), text);
        }
        assert!(rfc3339(253_402_300_800).is_err());
        assert!(rfc3339(u64::MAX).is_err());
    }
}
