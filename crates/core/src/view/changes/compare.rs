//! What is different between a merged object and a lower one. Bytes are read only where nothing else tells.

use super::{Aspects, Walk};
use crate::attr::{Attr, Kind};
use crate::caller::Caller;
use crate::error::Result;
use crate::layer::{Layer, ReadAt};
use crate::scratch::Scratch;
use crate::view::handle::Access;
use crate::view::object::{Inode, Lower};

impl<L: Layer, S: Scratch> Walk<'_, L, S> {
    /// What is different between an object and the lower one it is compared with; `data` has the latter's
    /// content.
    pub(super) fn aspects(
        &self,
        inode: &Inode<L, S>,
        base: &Lower<L::Node>,
        data: Option<&Lower<L::Node>>,
    ) -> Result<Aspects> {
        if !inode.is_upper() && inode.0.id == base.attr.id {
            return Ok(Aspects::empty());
        }
        let attr = self.view.attr(inode)?;
        let mut aspects = Aspects::empty();
        let owner = |a: &Attr| (a.mode, a.uid, a.gid, a.rdev);
        aspects.set(Aspects::METADATA, owner(&attr) != owner(&base.attr));
        aspects.set(Aspects::TIMES, attr.mtime != base.attr.mtime);
        aspects.set(Aspects::XATTRS, self.xattrs_differ(inode, base)?);
        aspects.set(Aspects::DATA, self.data_differs(inode, &attr, base, data)?);
        Ok(aspects)
    }

    fn xattrs_differ(&self, inode: &Inode<L, S>, base: &Lower<L::Node>) -> Result<bool> {
        let layer = self.view.layer(base)?;
        let mut mine = self.view.xattrs(inode)?;
        let mut theirs = if base.bare { Vec::new() } else { layer.xattrs(&base.node)? };
        mine.sort();
        theirs.sort();
        if mine != theirs {
            return Ok(true);
        }
        for name in &mine {
            if self.view.xattr(inode, name)? != layer.xattr(&base.node, name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn data_differs(
        &self,
        inode: &Inode<L, S>,
        attr: &Attr,
        base: &Lower<L::Node>,
        data: Option<&Lower<L::Node>>,
    ) -> Result<bool> {
        match inode.kind() {
            Kind::Symlink => Ok(self.view.read_link(inode)? != self.view.layer(base)?.read_link(&base.node)?),
            Kind::File => {
                if attr.size != base.attr.size {
                    return Ok(true);
                }
                let Some(data) = data else { return Ok(false) };
                let below = inode.0.data_below().map(|l| (l.layer, l.attr.id));
                let own = inode.0.state.read().own_data;
                if !own && below == Some((data.layer, data.attr.id)) {
                    return Ok(false);
                }
                let mine = self.view.open(inode, Access::read(), &Caller::root())?;
                let theirs = self.view.layer(data)?.open(&data.node)?;
                mine.with_file(|mine| contents_differ(mine, &theirs, attr.size))
            }
            _ => Ok(false),
        }
    }
}

/// Bytes compared at a time.
const CHUNK: usize = 128 * 1024;

fn contents_differ(a: &dyn ReadAt, b: &dyn ReadAt, size: u64) -> Result<bool> {
    let chunk = usize::try_from(size).unwrap_or(CHUNK).clamp(1, CHUNK);
    let (mut left, mut right) = (vec![0; chunk], vec![0; chunk]);
    let mut offset = 0;
    loop {
        let n = read_full(a, &mut left, offset)?;
        let m = read_full(b, &mut right, offset)?;
        if left.get(..n) != right.get(..m) {
            return Ok(true);
        }
        if n == 0 {
            return Ok(false);
        }
        offset += n as u64;
    }
}

fn read_full(file: &dyn ReadAt, buf: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}
