//! One object of the tree beside what it was.

use super::record::Made;
use crate::Result;
use crate::apply::{Rules, kind_of, sum_of};
use crate::tar::{Entry, EntryKind, Extent};
use stratafs_core::{Device, Hit, Kind, Layer, ReadAt, Time};

/// Times that every file system keeps; others are cut to what it can.
const KEPT_TIMES: std::ops::Range<i64> = -(1 << 31)..(1 << 31);

/// What an object was.
pub(super) struct Was<'a> {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    rdev: Device,
    mtime: Time,
    size: u64,
    target: &'a [u8],
    xattrs: &'a [(Vec<u8>, Vec<u8>)],
    /// The ranges outside of which a file is zeros.
    sparse: Option<&'a [Extent]>,
    /// The sum of the content, where the archive does not have it.
    crc: Option<u32>,
}

impl<'a> Was<'a> {
    pub(super) fn made(made: &'a Made) -> Self {
        let Made { kind, mode, uid, gid, rdev, mtime, size, .. } = *made;
        let crc = (kind == Kind::File).then_some(made.crc);
        Self {
            kind,
            mode,
            uid,
            gid,
            rdev,
            mtime,
            size,
            target: &made.target,
            xattrs: &made.xattrs,
            sparse: None,
            crc,
        }
    }

    pub(super) fn entry(entry: &'a Entry) -> Self {
        let (rdev, target): (_, &[u8]) = match &entry.kind {
            EntryKind::Char(device) | EntryKind::Block(device) => (*device, b""),
            EntryKind::Symlink(target) => (Device::default(), target),
            _ => (Device::default(), b""),
        };
        Self {
            kind: kind_of(&entry.kind).unwrap_or(Kind::File),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            rdev,
            mtime: entry.mtime,
            size: entry.size,
            target,
            xattrs: &entry.xattrs,
            sparse: entry.sparse.as_deref(),
            crc: None,
        }
    }

    /// Says how an object differs from this.
    pub(super) fn compare<L: Layer>(
        &self,
        tree: &L,
        hit: &Hit<L::Node>,
        rules: Rules,
    ) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let is = &hit.attr;
        if is.kind != self.kind {
            return Ok(vec![format!("it is a {:?} and was a {:?}", is.kind, self.kind)]);
        }
        if self.kind != Kind::Symlink && is.mode != self.mode && rules.keeps_owner(self.kind) {
            wrong.push(format!("its mode is {:04o} and was {:04o}", is.mode, self.mode));
        }
        if (is.uid, is.gid) != (self.uid, self.gid) && rules.keeps_owner(self.kind) {
            wrong.push(format!("its owner is {}:{} and was {}:{}", is.uid, is.gid, self.uid, self.gid));
        }
        if is.mtime != self.mtime && KEPT_TIMES.contains(&self.mtime.secs) {
            let text = |t: Time| format!("{}.{:09}", t.secs, t.nanos);
            wrong.push(format!("its modification time is {} and was {}", text(is.mtime), text(self.mtime)));
        }
        match self.kind {
            Kind::Char | Kind::Block if is.rdev != self.rdev => {
                let text = |d: Device| format!("{}:{}", d.major, d.minor);
                wrong.push(format!("its device number is {} and was {}", text(is.rdev), text(self.rdev)));
            }
            Kind::Symlink if tree.read_link(&hit.node)? != self.target => {
                wrong.push("its target is not what it was".into());
            }
            Kind::File if is.size != self.size => {
                wrong.push(format!("it has {} bytes and had {}", is.size, self.size));
            }
            Kind::File => self.content(&tree.open(&hit.node)?, &mut wrong)?,
            _ => {}
        }
        self.attributes(tree, hit, rules, &mut wrong)?;
        Ok(wrong)
    }

    /// What the archive does not say of the content: holes, and files that are not in it.
    fn content(&self, file: &impl ReadAt, wrong: &mut Vec<String>) -> Result<()> {
        let holes = match self.sparse {
            Some(extents) => holes_are_empty(file, extents, self.size)?,
            None => true,
        };
        if !holes || self.crc.is_some_and(|crc| sum_of(file, self.size).is_ok_and(|is| is != crc)) {
            wrong.push("its content is not what it was".into());
        }
        Ok(())
    }

    fn attributes<L: Layer>(
        &self,
        tree: &L,
        hit: &Hit<L::Node>,
        rules: Rules,
        wrong: &mut Vec<String>,
    ) -> Result<()> {
        let kept = || self.xattrs.iter().filter(|(name, _)| rules.keeps(name, self.kind));
        let names = if hit.bare { Vec::new() } else { tree.xattrs(&hit.node)? };
        for (name, value) in kept() {
            match tree.xattr(&hit.node, name)? {
                None => wrong.push(format!("it lost the attribute {}", name.escape_ascii())),
                Some(is) if is != *value => {
                    wrong.push(format!("its attribute {} is not what it was", name.escape_ascii()));
                }
                Some(_) => {}
            }
        }
        for name in names.iter().filter(|name| !kept().any(|(known, _)| known == *name)) {
            wrong.push(format!("it has the attribute {} and had not", name.escape_ascii()));
        }
        if hit.marks.redirect.is_some() || hit.marks.metacopy {
            wrong.push("it is marked to be found elsewhere, as no layer from an archive is".into());
        }
        Ok(())
    }
}

/// Whether a file is zeros outside of its extents.
fn holes_are_empty(file: &impl ReadAt, extents: &[Extent], size: u64) -> Result<bool> {
    let mut buf = vec![0; 64 << 10];
    let mut from = 0;
    let ends = extents.iter().map(|extent| (extent.offset, extent.offset.saturating_add(extent.len)));
    for (hole_end, next) in ends.chain([(size, size)]) {
        while let Some(data) = file.seek_data(from)?.filter(|data| *data < hole_end) {
            let room = usize::try_from(hole_end - data).unwrap_or(usize::MAX).min(buf.len());
            let n = file.read_at(buf.get_mut(..room).unwrap_or_default(), data)?;
            if n == 0 {
                break;
            }
            if buf.get(..n).unwrap_or_default().iter().any(|b| *b != 0) {
                return Ok(false);
            }
            from = data + n as u64;
        }
        from = next;
    }
    Ok(true)
}
