//! Extended headers of PAX: records of `LENGTH KEY=VALUE\n` (POSIX, pax, "pax Extended Header"). The length counts
//! the whole record, so a value may hold any byte, newlines too.
//!
//! A record that is not exactly of this form is an error, as is a known keyword that comes twice. Ignored
//! are among others: `atime`, `ctime`, `uname`, `gname`, `comment`, `SCHILY.acl.*` and `RHT.security.selinux`
//! (the attribute comes as `SCHILY.xattr` too), and `LIBARCHIVE.xattr.*`, which libarchive writes beside
//! `SCHILY.xattr.*` and which nothing that unpacks images reads.

use super::fields::Bad;
use super::sparse::PaxSparse;
use crate::Limits;
use stratafs_core::Time;

/// What an extended header says about the next entry.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) owner: Owner,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// What a global header may say too.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Time>,
}

impl Owner {
    /// What is said here, else there.
    pub(super) fn or(self, other: Self) -> Self {
        Self { uid: self.uid.or(other.uid), gid: self.gid.or(other.gid), mtime: self.mtime.or(other.mtime) }
    }
}

const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

impl Pax {
    /// Reads the records of an `x` header.
    pub(super) fn parse(data: &[u8], limits: &Limits) -> Result<Self, Bad> {
        let mut pax = Self::default();
        let mut left = data;
        while !left.is_empty() {
            let (key, value);
            (key, value, left) = record(left)?;
            pax.take(key, value, limits)?;
        }
        // A million attributes must not cost a million squared.
        let mut names: Vec<&[u8]> = pax.xattrs.iter().map(|(name, _)| name.as_slice()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(twice(name));
        }
        Ok(pax)
    }

    /// Reads the records of a `g` header, which may say nothing that belongs to one entry.
    pub(super) fn parse_global(data: &[u8], limits: &Limits) -> Result<Owner, Bad> {
        let pax = Self::parse(data, limits)?;
        if pax.path.is_some()
            || pax.link.is_some()
            || pax.size.is_some()
            || !pax.xattrs.is_empty()
            || pax.sparse.any()
        {
            return Err("a global extended header gives all entries one path, size or attribute".into());
        }
        Ok(pax.owner)
    }

    fn take(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Bad> {
        match key {
            b"path" => once(&mut self.path, key, name(key, value)?),
            b"linkpath" => once(&mut self.link, key, name(key, value)?),
            b"size" => once(&mut self.size, key, decimal(key, value)?),
            b"uid" => once(&mut self.owner.uid, key, owner(key, value)?),
            b"gid" => once(&mut self.owner.gid, key, owner(key, value)?),
            b"mtime" => once(&mut self.owner.mtime, key, time(value)?),
            // Not used, but a reader that uses them would refuse the archive.
            b"atime" | b"ctime" => time(value).map(|_| ()),
            _ if key.starts_with(b"GNU.volume.") => {
                Err(Bad::unsupported("archives of several volumes are not supported"))
            }
            b"SCHILY.realsize" => Err(Bad::unsupported("star's sparse files are not supported")),
            _ => {
                if let Some(key) = key.strip_prefix(SPARSE) {
                    self.sparse.take(key, value, limits)
                } else if let Some(encoded) = key.strip_prefix(XATTR) {
                    let name = xattr_name(encoded);
                    if name.is_empty() || name.contains(&0) {
                        return Err("an extended attribute without a proper name".into());
                    }
                    if self.xattrs.len() >= limits.xattrs {
                        return Err(Bad::limit(format!("more than {} extended attributes", limits.xattrs)));
                    }
                    self.xattrs.push((name, value.to_vec()));
                    Ok(())
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// A key, its value, and what follows the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The first record.
fn record(data: &[u8]) -> Result<Record<'_>, Bad> {
    let bad = |why: &str| {
        let shown = data.get(..data.len().min(40)).unwrap_or_default();
        Bad::from(format!("malformed extended header at \"{}\": {why}", shown.escape_ascii()))
    };
    let digits = data.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = data.split_at_checked(digits).unwrap_or_default();
    let len = decimal(b"length", number).map_err(|_| bad("no proper length"))?;
    if rest.first() != Some(&b' ') {
        return Err(bad("no blank after the length"));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let (record, after) = data.split_at_checked(len).ok_or_else(|| bad("the length is past the end"))?;
    let body = record.get(digits + 1..).ok_or_else(|| bad("the length is too small"))?;
    let body = body.strip_suffix(b"\n").ok_or_else(|| bad("no newline at the end of the record"))?;
    let equals = body.iter().position(|b| *b == b'=').ok_or_else(|| bad("no equals sign"))?;
    let (key, value) = body.split_at_checked(equals).unwrap_or_default();
    if key.is_empty() || key.contains(&0) {
        return Err(bad("no proper keyword"));
    }
    Ok((key, value.get(1..).unwrap_or_default(), after))
}

fn twice(key: &[u8]) -> Bad {
    format!("{} comes twice in the extended header", key.escape_ascii()).into()
}

/// Sets what may be said once only.
pub(super) fn once<T>(slot: &mut Option<T>, key: &[u8], value: T) -> Result<(), Bad> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice(key)),
    }
}

/// A path: any bytes but NUL. POSIX lets an empty value take back an earlier one; there is none.
pub(super) fn name(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Bad> {
    if value.is_empty() || value.contains(&0) {
        return Err(format!("{} in the extended header is empty or has a NUL", key.escape_ascii()).into());
    }
    Ok(value.to_vec())
}

/// Decimal digits without sign and, but for zero itself, without a zero in front.
pub(super) fn decimal(key: &[u8], value: &[u8]) -> Result<u64, Bad> {
    let number = match value {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => value.iter().try_fold(0u64, |number, b| {
            let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        }),
        _ => None,
    };
    // The places of a file are signed numbers everywhere.
    number.filter(|number| i64::try_from(*number).is_ok()).ok_or_else(|| {
        let shown = value.get(..value.len().min(40)).unwrap_or_default();
        let key = key.escape_ascii();
        format!("{key} in the extended header is \"{}\", a decimal number is needed", shown.escape_ascii())
            .into()
    })
}

fn owner(key: &[u8], value: &[u8]) -> Result<i64, Bad> {
    let number = decimal(key, value)?;
    i64::try_from(number).map_err(|_| format!("{} is {number}", key.escape_ascii()).into())
}

/// `[-]SECONDS[.FRACTION]`. What is beyond nanoseconds is cut off towards the past, as GNU tar does.
fn time(value: &[u8]) -> Result<Time, Bad> {
    let bad = || {
        let shown = value.get(..value.len().min(40)).unwrap_or_default();
        Bad::from(format!(
            "a time in the extended header is \"{}\", seconds are needed",
            shown.escape_ascii()
        ))
    };
    let (negative, rest) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = rest.splitn(2, |b| *b == b'.');
    let whole = parts.next().unwrap_or_default();
    let whole = i64::try_from(decimal(b"a time", whole)?).map_err(|_| bad())?;
    let (mut nanos, mut beyond) = (0u32, false);
    if let Some(fraction) = parts.next() {
        if fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
            return Err(bad());
        }
        for place in 0..9 {
            nanos = nanos * 10 + fraction.get(place).map_or(0, |b| u32::from(b - b'0'));
        }
        beyond = fraction.iter().skip(9).any(|b| *b != b'0');
    }
    if !negative {
        return Ok(Time { secs: whole, nanos });
    }
    // Nanoseconds count forward, also before 1970.
    let nanos = nanos + u32::from(beyond);
    Ok(match nanos {
        0 => Time { secs: -whole, nanos: 0 },
        nanos => Time { secs: -whole - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// GNU tar writes `=` in a name as `%3D`, and `%` as `%25`.
fn xattr_name(encoded: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (rest.strip_prefix(b"%3D"), rest.strip_prefix(b"%25")) {
            (Some(after), _) => (b'=', after),
            (_, Some(after)) => (b'%', after),
            _ => (*first, after),
        };
        name.push(byte);
        rest = after;
    }
    name
}

/// The keyword of an attribute. Only names that would be read as another one are encoded, since readers in Go take
/// the name as it stands.
pub(super) fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = XATTR.to_vec();
    if !name.contains(&b'=') && xattr_name(name) == name {
        key.extend_from_slice(name);
        return key;
    }
    for byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            other => key.push(*other),
        }
    }
    key
}

/// One record. Its length counts the digits of the length too.
pub(super) fn write_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |n: usize| n.checked_ilog10().map_or(1, |log| log as usize + 1);
    let mut len = rest + digits(rest);
    if digits(len) != len - rest {
        len += 1;
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A time as the shortest text that reads back the same.
pub(super) fn write_time(time: Time) -> String {
    let (sign, secs, nanos) = match (time.secs < 0, time.nanos) {
        (false, nanos) => ("", time.secs.unsigned_abs(), nanos),
        (true, 0) => ("-", time.secs.unsigned_abs(), 0),
        (true, nanos) => ("-", time.secs.unsigned_abs() - 1, 1_000_000_000 - nanos.min(999_999_999)),
    };
    let text = format!("{sign}{secs}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
