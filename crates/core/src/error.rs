//! The one error of the engine and its backends: opaque and boxed, with a small public kind that always has
//! an errno, and context that names the operation, the layer and the path. A missing name on lookup is a
//! value, never an error.

use std::fmt;
use std::io;

/// What went wrong, coarsely; [`ErrorKind::errno`] is what a system call would have said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No such file or directory.
    NotFound,
    /// The name exists already.
    AlreadyExists,
    /// A directory was needed.
    NotADirectory,
    /// Something other than a directory was needed.
    IsADirectory,
    /// The directory is not empty.
    NotEmpty,
    /// Mode, owner or access list forbid it (`EACCES`).
    PermissionDenied,
    /// Only a privileged caller may do it (`EPERM`).
    NotPermitted,
    /// An argument makes no sense.
    InvalidInput,
    /// A name or path is too long.
    NameTooLong,
    /// Too many symbolic links, or layers that loop.
    Loop,
    /// The object does not live in the same place (`EXDEV`).
    CrossDevice,
    /// The scratch is full.
    NoSpace,
    /// A quota is used up.
    Quota,
    /// The view or layer is read-only.
    ReadOnly,
    /// The backend or its host cannot do it.
    Unsupported,
    /// The extended attribute does not exist.
    NoData,
    /// A buffer or value is too small or too large.
    Range,
    /// In use: an upper with a second owner, a mount point.
    Busy,
    /// What is on disk contradicts its format.
    Corrupt,
    /// The object is gone from under its handle.
    Stale,
    /// Too many links to one object.
    TooManyLinks,
    /// File too large.
    TooLarge,
    /// An owner cannot be represented (`EOVERFLOW`).
    Overflow,
    /// The handle does not allow it (`EBADF`).
    BadHandle,
    /// Out of file descriptors.
    TooManyFiles,
    /// A seek past the last data (`ENXIO`).
    NoSuchRange,
    /// The device or the host failed; the errno is what it said.
    Io(i32),
}

/// Linux errno values by name, so that the model has them on every host.
#[allow(missing_docs, reason = "the names are errno(3)'s own")]
pub mod errno {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const EINTR: i32 = 4;
    pub const EIO: i32 = 5;
    pub const E2BIG: i32 = 7;
    pub const ENXIO: i32 = 6;
    pub const EBADF: i32 = 9;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const EEXIST: i32 = 17;
    pub const EXDEV: i32 = 18;
    pub const ENOTDIR: i32 = 20;
    pub const EISDIR: i32 = 21;
    pub const EINVAL: i32 = 22;
    pub const ENFILE: i32 = 23;
    pub const EMFILE: i32 = 24;
    pub const ETXTBSY: i32 = 26;
    pub const EFBIG: i32 = 27;
    pub const ENOSPC: i32 = 28;
    pub const EROFS: i32 = 30;
    pub const EMLINK: i32 = 31;
    pub const ERANGE: i32 = 34;
    pub const ENAMETOOLONG: i32 = 36;
    pub const ENOSYS: i32 = 38;
    pub const ENOTEMPTY: i32 = 39;
    pub const ELOOP: i32 = 40;
    pub const ENODATA: i32 = 61;
    pub const EOVERFLOW: i32 = 75;
    pub const EOPNOTSUPP: i32 = 95;
    pub const ESTALE: i32 = 116;
    pub const EUCLEAN: i32 = 117;
    pub const EDQUOT: i32 = 122;
}

impl ErrorKind {
    /// The errno that Linux would give.
    #[must_use]
    pub fn errno(self) -> i32 {
        use errno::*;
        match self {
            Self::NotFound => ENOENT,
            Self::AlreadyExists => EEXIST,
            Self::NotADirectory => ENOTDIR,
            Self::IsADirectory => EISDIR,
            Self::NotEmpty => ENOTEMPTY,
            Self::PermissionDenied => EACCES,
            Self::NotPermitted => EPERM,
            Self::InvalidInput => EINVAL,
            Self::NameTooLong => ENAMETOOLONG,
            Self::Loop => ELOOP,
            Self::CrossDevice => EXDEV,
            Self::NoSpace => ENOSPC,
            Self::Quota => EDQUOT,
            Self::ReadOnly => EROFS,
            Self::Unsupported => EOPNOTSUPP,
            Self::NoData => ENODATA,
            Self::Range => ERANGE,
            Self::Busy => EBUSY,
            Self::Corrupt => EUCLEAN,
            Self::Stale => ESTALE,
            Self::TooManyLinks => EMLINK,
            Self::TooLarge => EFBIG,
            Self::Overflow => EOVERFLOW,
            Self::BadHandle => EBADF,
            Self::TooManyFiles => EMFILE,
            Self::NoSuchRange => ENXIO,
            Self::Io(code) => code,
        }
    }

    /// The kind for an errno that a host's system call returned.
    #[must_use]
    pub fn from_errno(code: i32) -> Self {
        use errno::*;
        match code {
            ENOENT => Self::NotFound,
            EEXIST => Self::AlreadyExists,
            ENOTDIR => Self::NotADirectory,
            EISDIR => Self::IsADirectory,
            ENOTEMPTY => Self::NotEmpty,
            EACCES => Self::PermissionDenied,
            EPERM => Self::NotPermitted,
            EINVAL => Self::InvalidInput,
            ENAMETOOLONG => Self::NameTooLong,
            ELOOP => Self::Loop,
            EXDEV => Self::CrossDevice,
            ENOSPC => Self::NoSpace,
            EDQUOT => Self::Quota,
            EROFS => Self::ReadOnly,
            EOPNOTSUPP | ENOSYS => Self::Unsupported,
            ENODATA => Self::NoData,
            ERANGE => Self::Range,
            EBUSY => Self::Busy,
            EUCLEAN => Self::Corrupt,
            ESTALE => Self::Stale,
            EMLINK => Self::TooManyLinks,
            EFBIG => Self::TooLarge,
            EOVERFLOW => Self::Overflow,
            EBADF => Self::BadHandle,
            EMFILE => Self::TooManyFiles,
            ENXIO => Self::NoSuchRange,
            other => Self::Io(other),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "no such file or directory",
            Self::AlreadyExists => "already exists",
            Self::NotADirectory => "not a directory",
            Self::IsADirectory => "is a directory",
            Self::NotEmpty => "directory not empty",
            Self::PermissionDenied => "permission denied",
            Self::NotPermitted => "operation not permitted",
            Self::InvalidInput => "invalid argument",
            Self::NameTooLong => "name or path too long",
            Self::Loop => "too many levels of symbolic links",
            Self::CrossDevice => "crosses a border that it cannot cross",
            Self::NoSpace => "no space left",
            Self::Quota => "quota exceeded",
            Self::ReadOnly => "read-only",
            Self::Unsupported => "not supported",
            Self::NoData => "no such attribute",
            Self::Range => "result too large for the buffer",
            Self::Busy => "in use",
            Self::Corrupt => "damaged",
            Self::Stale => "stale handle",
            Self::TooManyLinks => "too many links",
            Self::TooLarge => "file too large",
            Self::Overflow => "value cannot be represented",
            Self::BadHandle => "the handle is not open for this",
            Self::TooManyFiles => "too many open files",
            Self::NoSuchRange => "no data past this offset",
            Self::Io(_) => "input/output error",
        }
    }
}

#[derive(thiserror::Error)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    layer: Option<Box<str>>,
    path: Option<Box<[u8]>>,
    why: Option<Box<str>>,
    source: Option<io::Error>,
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation)?;
        if let Some(path) = &self.path {
            write!(f, " \"{}\"", String::from_utf8_lossy(path).escape_debug())?;
        }
        if let Some(layer) = &self.layer {
            write!(f, " in {layer}")?;
        }
        match (&self.source, &self.why) {
            (_, Some(why)) => write!(f, ": {}: {why}", self.kind.text())?,
            (Some(source), None) => write!(f, ": {source}")?,
            (None, None) => write!(f, ": {}", self.kind.text())?,
        }
        Ok(())
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (errno {}): {self}", self.kind, self.kind.errno())
    }
}

/// An error of the engine or a backend. Cheap to move; [`Error::kind`] and [`Error::errno`] are for programs,
/// the text is for people.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` in `operation`.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str) -> Self {
        Self(Box::new(Inner { kind, operation, layer: None, path: None, why: None, source: None }))
    }

    /// From what a system call of the host returned.
    #[must_use]
    pub fn io(source: io::Error, operation: &'static str) -> Self {
        let kind = match source.raw_os_error() {
            Some(code) => ErrorKind::from_errno(code),
            None => ErrorKind::Io(errno::EIO),
        };
        let mut error = Self::new(kind, operation);
        error.0.source = Some(source);
        error
    }

    /// Names the object, unless a deeper context already did.
    #[must_use]
    pub fn about(mut self, path: impl AsRef<[u8]>) -> Self {
        self.0.path.get_or_insert_with(|| path.as_ref().into());
        self
    }

    /// Says what the caller asked for, in place of the step inside that failed. Damage and failures of the
    /// host keep the deeper context: there the place matters more than the question.
    #[must_use]
    pub fn asked(mut self, operation: &'static str, path: impl AsRef<[u8]>) -> Self {
        if !matches!(self.0.kind, ErrorKind::Corrupt | ErrorKind::Io(_)) || self.0.path.is_none() {
            self.0.operation = operation;
            self.0.path = Some(path.as_ref().into());
        }
        self
    }

    /// Calls a layer by another name, where it is that one: what a caller knows it by.
    #[must_use]
    pub fn with_layer_called(mut self, known: &str, name: &str) -> Self {
        if self.0.layer.as_deref() == Some(known) {
            self.0.layer = Some(name.into());
        }
        self
    }

    /// Names the layer, unless a deeper context already did.
    #[must_use]
    pub fn in_layer(mut self, layer: impl fmt::Display) -> Self {
        self.0.layer.get_or_insert_with(|| layer.to_string().into());
        self
    }

    /// Says what was expected, what was found, and what to do.
    #[must_use]
    pub fn because(mut self, why: impl Into<Box<str>>) -> Self {
        self.0.why = Some(why.into());
        self
    }

    /// What went wrong, for programs.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The errno that a system call would have given.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.0.kind.errno()
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The path or name it failed on, where one is known.
    #[must_use]
    pub fn path(&self) -> Option<&[u8]> {
        self.0.path.as_deref()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = if cfg!(target_os = "linux") {
            Self::from_raw_os_error(error.errno()).kind()
        } else {
            match error.kind() {
                ErrorKind::NotFound => io::ErrorKind::NotFound,
                ErrorKind::AlreadyExists => io::ErrorKind::AlreadyExists,
                ErrorKind::PermissionDenied | ErrorKind::NotPermitted => io::ErrorKind::PermissionDenied,
                _ => io::ErrorKind::Other,
            }
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_errnos_agree_both_ways() {
        for code in 1..134 {
            let kind = ErrorKind::from_errno(code);
            if code != errno::ENOSYS {
                assert_eq!(kind.errno(), code);
            }
        }
    }

    #[test]
    fn the_text_names_operation_path_and_layer() {
        let e =
            Error::new(ErrorKind::Corrupt, "read redirect").about("a/b").in_layer("layer 2").because("bad");
        assert_eq!(e.to_string(), "read redirect \"a/b\" in layer 2: damaged: bad");
        assert_eq!(e.errno(), 117);
    }
}
