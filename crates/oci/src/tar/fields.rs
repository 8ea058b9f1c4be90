//! The fields of one 512-byte header: which format it is, numbers, names, the checksum. The layout is the `tar`
//! crate's; what a field may contain is decided here, and is what GNU tar and Python's tarfile agree on.
//!
//! Reasons are a [`Bad`]: the reader knows the entry and the place.

use super::BLOCK;
use ::tar::Header;
use stratafs_core::{Device, ErrorKind};

/// Why something cannot be read.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) kind: ErrorKind,
    pub(super) why: String,
}

impl Bad {
    /// It is more than a limit allows.
    pub(super) fn limit(why: String) -> Self {
        Self { kind: ErrorKind::TooLarge, why }
    }

    /// It is of a kind that is not known.
    pub(super) fn unsupported(why: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unsupported, why: why.into() }
    }
}

impl From<String> for Bad {
    fn from(why: String) -> Self {
        Self { kind: ErrorKind::Corrupt, why }
    }
}

impl From<&str> for Bad {
    fn from(why: &str) -> Self {
        why.to_string().into()
    }
}

/// Whose header it is: they differ in what stands after the link's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Before POSIX: no prefix, no devices.
    V7,
    /// POSIX: a prefix of the name.
    Ustar,
    /// GNU: times and a sparse map where POSIX has the prefix.
    Gnu,
}

/// One header block whose checksum is right.
#[derive(Debug)]
pub(super) struct Fields {
    header: Header,
    pub(super) format: Format,
}

impl Fields {
    /// Reads a block that is not all zeros.
    pub(super) fn new(block: &[u8; BLOCK]) -> Result<Self, Bad> {
        let mut header = Header::new_old();
        *header.as_mut_bytes() = *block;
        let magic = block.get(257..265).unwrap_or_default();
        let format = match magic {
            // What follows the magic is the version, which nobody looks at.
            [b'u', b's', b't', b'a', b'r', 0, ..] => Format::Ustar,
            b"ustar  \0" => Format::Gnu,
            _ => Format::V7,
        };
        let wanted = octal(&header.as_old().cksum, "checksum")?;
        if !sums(block).contains(&wanted) {
            return Err(
                "the checksum of the header is wrong: this is no tar archive, or it is damaged".into()
            );
        }
        if format == Format::Ustar {
            // `Header::as_ustar` wants the version of POSIX.
            if let Some(version) = header.as_mut_bytes().get_mut(263..265) {
                version.copy_from_slice(b"00");
            }
        }
        Ok(Self { header, format })
    }

    /// The type as the letter it is written with; old archives have a NUL for a file.
    pub(super) fn kind(&self) -> u8 {
        self.header.as_old().linkflag.first().copied().unwrap_or(0)
    }

    /// Prefix and name.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.header.as_old().name);
        match self.header.as_ustar().map(|ustar| text(&ustar.prefix)) {
            Some(prefix) if !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(&self.header.as_old().linkname)
    }

    pub(super) fn size(&self) -> Result<u64, Bad> {
        let size = number(&self.header.as_old().size, "size")?;
        u64::try_from(size).map_err(|_| format!("the size is {size}").into())
    }

    pub(super) fn mode(&self) -> Result<u32, Bad> {
        let mode = number(&self.header.as_old().mode, "mode")?;
        // Some writers leave the type of the file in it.
        Ok(u32::try_from(mode & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Result<i64, Bad> {
        number(&self.header.as_old().uid, "uid")
    }

    pub(super) fn gid(&self) -> Result<i64, Bad> {
        number(&self.header.as_old().gid, "gid")
    }

    pub(super) fn mtime(&self) -> Result<i64, Bad> {
        number(&self.header.as_old().mtime, "mtime")
    }

    /// Major and minor number of a device; `None` where the header has no room for them.
    pub(super) fn device(&self) -> Result<Option<Device>, Bad> {
        let (major, minor) = match (self.header.as_ustar(), self.header.as_gnu()) {
            (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
            (_, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
            _ => return Ok(None),
        };
        let read = |field: &[u8], what| {
            let value = number(field, what)?;
            u32::try_from(value).map_err(|_| Bad::from(format!("the {what} is {value}")))
        };
        Ok(Some(Device { major: read(major, "device major")?, minor: read(minor, "device minor")? }))
    }

    /// The GNU header, for its sparse map.
    pub(super) fn gnu(&self) -> Option<&::tar::GnuHeader> {
        self.header.as_gnu()
    }
}

/// The sum of all bytes with blanks in place of the checksum, as unsigned bytes and, as old writers did, as signed.
fn sums(block: &[u8; BLOCK]) -> [i64; 2] {
    let bytes = || block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
    [bytes().map(i64::from).sum(), bytes().map(|b| i64::from(b.cast_signed())).sum()]
}

/// A name: up to the first NUL or the end of the field.
fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// A number: octal digits, or binary where the first byte says so (GNU's base-256, 0x80 or 0xff for negative).
pub(super) fn number(field: &[u8], what: &str) -> Result<i64, Bad> {
    let (start, rest) = match field.split_first() {
        Some((0x80, rest)) => (0, rest),
        Some((0xff, rest)) => (-1, rest),
        _ => return octal(field, what),
    };
    // At most eleven bytes follow.
    let value = rest.iter().try_fold(start, |value: i128, b| Some(value.checked_mul(256)? + i128::from(*b)));
    value
        .and_then(|value| i64::try_from(value).ok())
        .ok_or_else(|| format!("the {what} does not fit into 63 bits").into())
}

/// Blanks, octal digits, and a NUL or blanks where the field is longer. A field of only blanks and NULs is 0.
fn octal(field: &[u8], what: &str) -> Result<i64, Bad> {
    let blank = |b: &u8| matches!(b, b' ' | 0);
    if field.iter().all(blank) {
        return Ok(0);
    }
    let mut value = 0i64;
    let mut rest = field.iter().skip_while(|b| **b == b' ').peekable();
    let mut digits = 0;
    while let Some(digit @ b'0'..=b'7') = rest.peek() {
        value = value << 3 | i64::from(*digit - b'0');
        digits += 1;
        rest.next();
    }
    // What follows a NUL is nobody's; what follows a blank is read differently by different readers.
    let ends = match rest.peek() {
        None | Some(0) => true,
        _ => rest.all(blank),
    };
    if digits == 0 || !ends {
        return Err(format!("the {what} is \"{}\", an octal number is needed", field.escape_ascii()).into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        let good: &[(&[u8], i64)] = &[
            (b"0000644\0", 0o644),
            (b"   644 \0", 0o644),
            (b"77777777777", 0o77777777777),
            (b"644\0junk", 0o644),
            (b"\0\0\0\0", 0),
            (b"        ", 0),
            (b"\x80\0\0\0\0\0\0\0\0\x01\0\x02", 65538),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
        ];
        for (field, value) in good {
            assert_eq!(number(field, "field").ok(), Some(*value), "{}", field.escape_ascii());
        }
        let bad: &[&[u8]] = &[
            b"8",
            b"12 34",
            b"\x00123",
            b"-1",
            b"+A",
            b"0x12",
            b"1_2",
            b"\t12",
            b"12\t",
            b"\x81\0\0\0",
            b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
        ];
        for field in bad {
            assert!(number(field, "field").is_err(), "{}", field.escape_ascii());
        }
    }
}
