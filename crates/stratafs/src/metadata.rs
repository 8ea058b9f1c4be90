//! [`Metadata`]: attributes in the style of [`std::fs::Metadata`].

use crate::{Attr, Kind, Time};
use std::time::{Duration, SystemTime};

/// The attributes of an object of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata(Attr);

impl Metadata {
    /// What it is.
    #[must_use]
    pub fn file_type(&self) -> Kind {
        self.0.kind
    }

    /// True for a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.0.kind == Kind::Dir
    }

    /// True for a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.0.kind == Kind::File
    }

    /// True for a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.0.kind == Kind::Symlink
    }

    /// Bytes; of a symbolic link its target's length.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "as in std")]
    pub fn len(&self) -> u64 {
        self.0.size
    }

    /// The full `st_mode`: type and permissions.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.0.st_mode()
    }

    /// Owner.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// Group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.0.gid
    }

    /// Number of names; 1 for a directory, as overlayfs has it.
    #[must_use]
    pub fn nlink(&self) -> u32 {
        self.0.nlink
    }

    /// The object's number in the container; it does not change at copy-up.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.0.id.ino
    }

    /// Last access.
    #[must_use]
    pub fn accessed(&self) -> SystemTime {
        system_time(self.0.atime)
    }

    /// Last change of the data.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        system_time(self.0.mtime)
    }

    /// Last change of the attributes.
    #[must_use]
    pub fn changed(&self) -> SystemTime {
        system_time(self.0.ctime)
    }

    /// Creation, where the host keeps it.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        self.0.btime.map(system_time)
    }

    /// Everything, in the engine's terms.
    #[must_use]
    pub fn attr(&self) -> &Attr {
        &self.0
    }
}

impl From<Attr> for Metadata {
    fn from(attr: Attr) -> Self {
        Self(attr)
    }
}

/// The nearest [`SystemTime`]; the epoch where the host's clock type cannot hold it.
fn system_time(time: Time) -> SystemTime {
    let epoch = SystemTime::UNIX_EPOCH;
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 { epoch.checked_sub(whole) } else { epoch.checked_add(whole) };
    whole.and_then(|t| t.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_count_backwards() {
        let time = system_time(Time { secs: -2, nanos: 500_000_000 });
        assert_eq!(SystemTime::UNIX_EPOCH.duration_since(time).unwrap(), Duration::from_millis(1500));
        assert!(system_time(Time { secs: i64::MAX, nanos: 999_999_999 }) > SystemTime::UNIX_EPOCH);
    }
}
