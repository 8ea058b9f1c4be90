//! The extended attributes of one object, by full name and within xattr(7)'s limits.

use std::collections::BTreeMap;
use stratafs_core::{ErrorKind, SetXattr};

/// The longest name in bytes (`XATTR_NAME_MAX`); longer or empty is `ERANGE`.
pub const XATTR_NAME_MAX: usize = 255;
/// The largest value in bytes (`XATTR_SIZE_MAX`); larger is `E2BIG`.
pub const XATTR_VALUE_MAX: usize = 64 * 1024;
/// The most that the names of one object take together, each with its NUL (`XATTR_LIST_MAX`); more is
/// `ENOSPC`.
pub const XATTR_LIST_MAX: usize = 64 * 1024;

/// errno(3)'s `E2BIG`, for which there is no kind of its own.
const E2BIG: i32 = 7;

/// Names and values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Xattrs(BTreeMap<Box<[u8]>, Box<[u8]>>);

impl Xattrs {
    pub(crate) fn get(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.0.get(name).map(|value| value.to_vec())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn names(&self) -> Vec<Vec<u8>> {
        self.0.keys().map(|name| name.to_vec()).collect()
    }

    pub(crate) fn set(&mut self, name: &[u8], value: &[u8], how: SetXattr) -> Result<(), ErrorKind> {
        if name.is_empty() || name.len() > XATTR_NAME_MAX {
            return Err(ErrorKind::Range);
        }
        if name.contains(&0) {
            return Err(ErrorKind::InvalidInput);
        }
        if value.len() > XATTR_VALUE_MAX {
            return Err(ErrorKind::Io(E2BIG));
        }
        let exists = self.0.contains_key(name);
        match how {
            SetXattr::Create if exists => return Err(ErrorKind::AlreadyExists),
            SetXattr::Replace if !exists => return Err(ErrorKind::NoData),
            SetXattr::Any | SetXattr::Create | SetXattr::Replace => {}
        }
        if !exists && self.list_len() + name.len() + 1 > XATTR_LIST_MAX {
            return Err(ErrorKind::NoSpace);
        }
        self.0.insert(name.into(), value.into());
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Result<(), ErrorKind> {
        self.0.remove(name).map(drop).ok_or(ErrorKind::NoData)
    }

    fn list_len(&self) -> usize {
        self.0.keys().map(|name| name.len() + 1).sum()
    }
}
