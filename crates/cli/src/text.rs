//! Names and times as people and programs read them.

use serde::Serialize;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A path in JSON: text where it is UTF-8, else an array of its bytes.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum JsonPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl JsonPath {
    /// Of a path's bytes.
    pub fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(bytes.to_vec()),
        }
    }
}

impl From<&Path> for JsonPath {
    fn from(path: &Path) -> Self {
        Self::new(path.as_os_str().as_bytes())
    }
}

/// A path on one line of a terminal: what is not printable is escaped, and then the backslash too.
pub fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(misleads) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// A path, as [`shown`].
pub fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// A message in which names of others may stand: what a terminal would act on is escaped, and the rest stays.
pub fn harmless(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for c in message.chars() {
        match misleads(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// True for what moves the cursor, colours, or turns the direction of the text around it.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// Bytes in the unit that fits: `512 B`, `1.4 kB`, `23 MB`, as `ls -h --si` has it.
pub fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1000.0;
    let mut unit = "kB";
    for larger in UNITS.into_iter().skip(1) {
        // What would be rounded to 1000 is one of the next.
        if size < 999.5 {
            break;
        }
        (size, unit) = (size / 1000.0, larger);
    }
    if size < 9.95 { format!("{size:.1} {unit}") } else { format!("{size:.0} {unit}") }
}

/// `drwxr-xr-x`, as ls(1) has it.
pub fn mode_text(st_mode: u32) -> String {
    let kind = stratafs::Kind::from_mode(st_mode).map_or('?', kind_letter);
    let mut out = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = st_mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (st_mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    out
}

/// The letter of ls(1) for a kind.
pub fn kind_letter(kind: stratafs::Kind) -> char {
    use stratafs::Kind::*;
    match kind {
        File => '-',
        Dir => 'd',
        Symlink => 'l',
        Fifo => 'p',
        Socket => 's',
        Char => 'c',
        Block => 'b',
    }
}

/// The word for a kind, in JSON too.
pub fn kind_word(kind: stratafs::Kind) -> &'static str {
    use stratafs::Kind::*;
    match kind {
        File => "file",
        Dir => "directory",
        Symlink => "symlink",
        Fifo => "fifo",
        Socket => "socket",
        Char => "char",
        Block => "block",
    }
}

/// `2026-01-31 23:59:59` UTC.
pub fn time_text(secs: i64) -> String {
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut out = String::new();
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    // Writing to a String cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}");
    out
}

/// Seconds since 1970; 0 before.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Year, month and day of a day since 1970 in the Gregorian calendar: eras of 400 years that begin in March, so
/// that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = (if month < 10 { month + 3 } else { month - 9 }, day - (153 * month + 2) / 5 + 1);
    (year + era * 400 + i64::from(date.0 <= 2), date.0, date.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(time_text(0), "1970-01-01 00:00:00");
        assert_eq!(time_text(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(time_text(951_868_799), "2000-02-29 23:59:59");
        assert_eq!(time_text(951_868_800), "2000-03-01 00:00:00");
        assert_eq!(time_text(-1), "1969-12-31 23:59:59");
        assert_eq!(time_text(4_107_542_400), "2100-03-01 00:00:00");
    }

    #[test]
    fn modes_read_as_in_ls() {
        assert_eq!(mode_text(0o100_644), "-rw-r--r--");
        assert_eq!(mode_text(0o041_777), "drwxrwxrwt");
        assert_eq!(mode_text(0o104_655), "-rwSr-xr-x");
        assert_eq!(mode_text(0o120_777), "lrwxrwxrwx");
    }

    #[test]
    fn a_name_cannot_fake_a_second_line() {
        assert_eq!(shown(b"a\nD b"), r"a\nD b");
        assert_eq!(shown("ä".as_bytes()), "ä");
        assert_eq!(shown(b"\xff"), r"\xff");
        assert!(!shown("a\u{202e}b".as_bytes()).contains('\u{202e}'), "nor turn the text around");
        assert_eq!(harmless("ä \x1b[2Jb\n\\"), r"ä \u{1b}[2Jb\n\");
    }

    #[test]
    fn sizes_fit_the_eye() {
        let shown = [0, 999, 1000, 1450, 9_949, 9_950, 999_499, 999_500, 23_456_789, u64::MAX].map(size_text);
        let wanted =
            ["0 B", "999 B", "1.0 kB", "1.4 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "23 MB", "18 EB"];
        assert_eq!(shown, wanted);
    }
}
