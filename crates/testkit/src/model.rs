//! [`Model`]: the reference: one plain tree without layers. Operations do what POSIX and Linux say they do on
//! a plain file system, for a privileged caller with umask 0. Small enough to be seen to be right.

use crate::dump::{Content, Dump, Object, Stamp, listing, stat_line};
use crate::op::{Blocks, Mode, Op, Outcome, RenameHow, SLOTS, Value};
use crate::path::Path;
use crate::spec::{Entry, StackSpec, TreeSpec, What};
use crate::subject::Subject;
use std::collections::{BTreeMap, HashMap};
use stratafs_core::error::errno::*;
use stratafs_core::{Device, Kind, SetXattr};

type Ino = usize;
const ROOT: Ino = 0;

#[derive(Debug, Clone)]
enum Body {
    File(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, Ino>),
    Symlink(Vec<u8>),
    Special,
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    rdev: Device,
    nlink: u32,
    mtime: Stamp,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    body: Body,
}

impl Node {
    fn new(kind: Kind, mode: u32, body: Body) -> Self {
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            rdev: Device::default(),
            nlink: 1,
            mtime: Stamp::Now,
            xattrs: BTreeMap::new(),
            body,
        }
    }

    fn dir(mode: u32) -> Self {
        Self::new(Kind::Dir, mode, Body::Dir(BTreeMap::new()))
    }
}

/// A plain tree.
#[derive(Debug, Clone)]
pub struct Model {
    nodes: Vec<Node>,
    slots: [Option<(Ino, Mode)>; SLOTS],
}

impl Default for Model {
    fn default() -> Self {
        Self { nodes: vec![Node::dir(0o755)], slots: Default::default() }
    }
}

impl Model {
    /// The tree that a stack shows: its layers laid over each other from the lowest up.
    #[must_use]
    pub fn from_stack(stack: &StackSpec) -> Self {
        let mut model = Self::default();
        for layer in stack.layers.iter().rev() {
            model.lay_over(layer);
        }
        model
    }

    /// The stack without whiteouts that hide nothing. The kernel lists such a whiteout by name when its
    /// directory is not merged, and then says `ENOENT` for it.
    #[must_use]
    pub fn without_idle_whiteouts(mut stack: StackSpec) -> StackSpec {
        let mut below = Self::default();
        for layer in stack.layers.iter_mut().rev() {
            let opaque = |e: &Entry| (e.what == What::Dir { opaque: true }).then(|| e.path.clone());
            let opaque: Vec<_> = layer.entries.iter().filter_map(opaque).collect();
            let hides = |path: &Path| below.find(path).is_ok() && !opaque.iter().any(|dir| dir.holds(path));
            layer.entries.retain(|e| e.what != What::Whiteout || hides(&e.path));
            below.lay_over(layer);
        }
        stack
    }

    /// A whiteout takes a name away, a directory joins a directory unless it is opaque, everything else
    /// replaces. Link counts are those of the layer, as overlayfs shows them.
    fn lay_over(&mut self, layer: &TreeSpec) {
        let mut of_layer = HashMap::<&Path, Ino>::new();
        for entry in &layer.entries {
            let Some((dir, name)) = entry.path.split() else { continue };
            let dir = self.walk(dir).expect("an entry's directory comes before it");
            let old = self.children(dir).get(name).copied();
            let ino = match &entry.what {
                What::Whiteout => {
                    self.children_mut(dir).remove(name);
                    continue;
                }
                What::HardLink(target) => {
                    let ino = of_layer[target];
                    self.nodes[ino].nlink += 1;
                    ino
                }
                What::Dir { opaque: false } if old.is_some_and(|o| self.nodes[o].kind == Kind::Dir) => {
                    old.expect("checked by the guard")
                }
                what => self.add(Node::new(kind_of(what), entry.mode, body_of(what))),
            };
            of_layer.insert(&entry.path, ino);
            self.children_mut(dir).insert(name.to_vec(), ino);
            if !matches!(entry.what, What::HardLink(_)) {
                self.dress(ino, entry);
            }
        }
    }

    fn dress(&mut self, ino: Ino, entry: &Entry) {
        let node = &mut self.nodes[ino];
        (node.mode, node.uid, node.gid) = (entry.mode, entry.uid, entry.gid);
        if let What::Node(_, rdev) = entry.what {
            node.rdev = rdev;
        }
        node.mtime = Stamp::At(entry.mtime);
        node.xattrs = entry.xattrs.iter().cloned().collect();
    }

    fn add(&mut self, node: Node) -> Ino {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn children(&self, ino: Ino) -> &BTreeMap<Vec<u8>, Ino> {
        match &self.nodes[ino].body {
            Body::Dir(children) => children,
            _ => panic!("walk gives directories only"),
        }
    }

    fn children_mut(&mut self, ino: Ino) -> &mut BTreeMap<Vec<u8>, Ino> {
        match &mut self.nodes[ino].body {
            Body::Dir(children) => children,
            _ => panic!("walk gives directories only"),
        }
    }

    /// The directory at `parts`.
    fn walk(&self, parts: &[Vec<u8>]) -> Result<Ino, i32> {
        parts.iter().try_fold(ROOT, |dir, name| {
            let ino = *self.children(dir).get(name).ok_or(ENOENT)?;
            if self.nodes[ino].kind == Kind::Dir { Ok(ino) } else { Err(ENOTDIR) }
        })
    }

    /// The directory and the name of a path that must not be the root.
    fn place<'p>(&self, path: &'p Path) -> Result<(Ino, &'p [u8]), i32> {
        let (dir, name) = path.split().ok_or(EBUSY)?;
        Ok((self.walk(dir)?, name))
    }

    fn find(&self, path: &Path) -> Result<Ino, i32> {
        let Some((dir, name)) = path.split() else { return Ok(ROOT) };
        self.children(self.walk(dir)?).get(name).copied().ok_or(ENOENT)
    }

    fn find_file(&self, path: &Path) -> Result<Ino, i32> {
        let ino = self.find(path)?;
        match self.nodes[ino].kind {
            Kind::File => Ok(ino),
            Kind::Dir => Err(EISDIR),
            Kind::Symlink => Err(ELOOP),
            _ => Err(ENXIO),
        }
    }

    fn touch(&mut self, ino: Ino) {
        self.nodes[ino].mtime = Stamp::Now;
    }

    fn make(&mut self, path: &Path, mut node: Node) -> Outcome {
        let (dir, name) = self.place(path)?;
        if self.children(dir).contains_key(name) {
            return Err(EEXIST);
        }
        if self.nodes[dir].mode & 0o2000 != 0 {
            node.gid = self.nodes[dir].gid;
            if node.kind == Kind::Dir {
                node.mode |= 0o2000;
            }
        }
        let ino = self.add(node);
        self.children_mut(dir).insert(name.to_vec(), ino);
        self.touch(dir);
        Ok(Value::Done)
    }

    fn remove(&mut self, path: &Path, dir_wanted: bool) -> Outcome {
        let (dir, name) = self.place(path)?;
        let ino = *self.children(dir).get(name).ok_or(ENOENT)?;
        match (self.nodes[ino].kind == Kind::Dir, dir_wanted) {
            (true, false) => return Err(EISDIR),
            (false, true) => return Err(ENOTDIR),
            (true, true) if !self.children(ino).is_empty() => return Err(ENOTEMPTY),
            _ => {}
        }
        self.children_mut(dir).remove(name);
        self.nodes[ino].nlink = self.nodes[ino].nlink.saturating_sub(1);
        self.touch(dir);
        Ok(Value::Done)
    }

    fn rename(&mut self, from: &Path, to: &Path, how: RenameHow) -> Outcome {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let source = *self.children(from_dir).get(from_name).ok_or(ENOENT)?;
        let target = self.children(to_dir).get(to_name).copied();
        match how {
            RenameHow::NoReplace if target.is_some() => return Err(EEXIST),
            RenameHow::Exchange if target.is_none() => return Err(ENOENT),
            _ => {}
        }
        if from.holds(to) {
            return Err(EINVAL);
        }
        if to.holds(from) {
            return Err(if how == RenameHow::Exchange { EINVAL } else { ENOTEMPTY });
        }
        if target == Some(source) {
            return Ok(Value::Done);
        }
        if let (Some(target), RenameHow::Plain) = (target, how) {
            let is_dir = |ino: Ino| self.nodes[ino].kind == Kind::Dir;
            match (is_dir(source), is_dir(target)) {
                (true, false) => return Err(ENOTDIR),
                (false, true) => return Err(EISDIR),
                (true, true) if !self.children(target).is_empty() => return Err(ENOTEMPTY),
                _ => {}
            }
            self.nodes[target].nlink = self.nodes[target].nlink.saturating_sub(1);
        }
        self.children_mut(from_dir).remove(from_name);
        self.children_mut(to_dir).insert(to_name.to_vec(), source);
        if let (Some(target), RenameHow::Exchange) = (target, how) {
            self.children_mut(from_dir).insert(from_name.to_vec(), target);
        }
        self.touch(from_dir);
        self.touch(to_dir);
        Ok(Value::Done)
    }

    fn link(&mut self, from: &Path, to: &Path) -> Outcome {
        let source = self.find(from)?;
        let (dir, name) = self.place(to)?;
        if self.children(dir).contains_key(name) {
            return Err(EEXIST);
        }
        if self.nodes[source].kind == Kind::Dir {
            return Err(EPERM);
        }
        self.children_mut(dir).insert(name.to_vec(), source);
        self.nodes[source].nlink += 1;
        self.touch(dir);
        Ok(Value::Done)
    }

    fn bytes(&mut self, ino: Ino) -> &mut Vec<u8> {
        match &mut self.nodes[ino].body {
            Body::File(bytes) => bytes,
            _ => panic!("find_file gives files only"),
        }
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Outcome {
        let bytes = self.bytes(ino);
        let start = offset as usize;
        if bytes.len() < start + data.len() {
            bytes.resize(start + data.len(), 0);
        }
        bytes[start..start + data.len()].copy_from_slice(data);
        self.touch(ino);
        Ok(Value::Count(data.len() as u64))
    }

    fn append(&mut self, ino: Ino, data: &[u8]) -> Outcome {
        let end = self.bytes(ino).len() as u64;
        self.write(ino, end, data)
    }

    fn read(&mut self, ino: Ino, offset: u64, len: usize) -> Vec<u8> {
        let bytes = self.bytes(ino);
        let start = bytes.len().min(offset as usize);
        bytes[start..bytes.len().min(start + len)].to_vec()
    }

    fn truncate(&mut self, ino: Ino, len: u64) -> Outcome {
        self.bytes(ino).resize(len as usize, 0);
        self.touch(ino);
        Ok(Value::Done)
    }

    fn set_xattr(&mut self, path: &Path, name: &[u8], value: &[u8], how: SetXattr) -> Outcome {
        let ino = self.find(path)?;
        self.user_xattrs_fit(ino, name).map_err(|()| EPERM)?;
        let xattrs = &mut self.nodes[ino].xattrs;
        match (how, xattrs.contains_key(name)) {
            (SetXattr::Create, true) => return Err(EEXIST),
            (SetXattr::Replace, false) => return Err(ENODATA),
            _ => {}
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        Ok(Value::Done)
    }

    /// Only files and directories have `user.` attributes.
    fn user_xattrs_fit(&self, ino: Ino, name: &[u8]) -> Result<(), ()> {
        let fits = !name.starts_with(b"user.") || matches!(self.nodes[ino].kind, Kind::File | Kind::Dir);
        fits.then_some(()).ok_or(())
    }

    fn slot(&self, slot: usize) -> Result<(Ino, Mode), i32> {
        self.slots[slot].ok_or(EBADF)
    }

    fn writable(&self, slot: usize) -> Result<Ino, i32> {
        let (ino, mode) = self.slot(slot)?;
        if mode.writes() { Ok(ino) } else { Err(EBADF) }
    }

    fn readable(&self, slot: usize) -> Result<Ino, i32> {
        let (ino, mode) = self.slot(slot)?;
        if mode.reads() { Ok(ino) } else { Err(EBADF) }
    }

    fn open(&mut self, slot: usize, path: &Path, mode: Mode) -> Outcome {
        self.slots[slot] = None;
        let ino = self.find_file(path)?;
        if mode == Mode::Replace {
            self.truncate(ino, 0)?;
        }
        self.slots[slot] = Some((ino, mode));
        Ok(Value::Done)
    }

    fn allocate(&mut self, ino: Ino, how: Blocks, offset: u64, len: u64) -> Outcome {
        let bytes = self.bytes(ino);
        let (start, end) = (offset as usize, (offset + len) as usize);
        match how {
            Blocks::Reserve if bytes.len() < end => bytes.resize(end, 0),
            Blocks::Punch => {
                let size = bytes.len();
                bytes[start.min(size)..end.min(size)].fill(0);
            }
            _ => {}
        }
        self.touch(ino);
        Ok(Value::Done)
    }

    fn copy(&mut self, (from, from_offset): (Ino, u64), (to, offset): (Ino, u64), len: u64) -> Outcome {
        let data = self.read(from, from_offset, len as usize);
        let len = data.len() as u64;
        if from == to && offset + len > from_offset && offset < from_offset + len {
            return Err(EINVAL);
        }
        if len == 0 {
            return Ok(Value::Count(0));
        }
        self.write(to, offset, &data)
    }

    fn object(&self, ino: Ino) -> Object {
        let node = &self.nodes[ino];
        Object {
            kind: node.kind,
            mode: if node.kind == Kind::Symlink { 0o777 } else { node.mode },
            uid: node.uid,
            gid: node.gid,
            rdev: node.rdev,
            nlink: node.nlink,
            mtime: node.mtime,
            id: (0, ino as u64),
            xattrs: node.xattrs.clone(),
            content: match &node.body {
                Body::File(bytes) => Content::file(bytes),
                Body::Symlink(target) => Content::Target(target.clone()),
                _ => Content::None,
            },
        }
    }

    fn chown(&mut self, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Outcome {
        let ino = self.find(path)?;
        let node = &mut self.nodes[ino];
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        if !matches!(node.kind, Kind::Dir | Kind::Symlink) {
            let group_runs = node.mode & 0o10 != 0;
            node.mode &= if group_runs { 0o1777 } else { 0o3777 };
        }
        Ok(Value::Done)
    }

    fn run(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create { path, mode } => {
                self.make(path, Node::new(Kind::File, *mode, Body::File(Vec::new())))
            }
            Op::Mkdir { path, mode } => self.make(path, Node::dir(*mode)),
            Op::Symlink { path, target } => {
                self.make(path, Node::new(Kind::Symlink, 0o777, Body::Symlink(target.clone())))
            }
            Op::Mknod { path, kind, mode, rdev } => {
                let mut node = Node::new(*kind, *mode, Body::Special);
                node.rdev = *rdev;
                self.make(path, node)
            }
            Op::Link { from, to } => self.link(from, to),
            Op::Unlink { path } => self.remove(path, false),
            Op::Rmdir { path } => self.remove(path, true),
            Op::Rename { from, to, how } => self.rename(from, to, *how),
            Op::Write { path, offset, len, fill } => {
                let ino = self.find_file(path)?;
                self.write(ino, *offset, &vec![*fill; *len])
            }
            Op::Append { path, len, fill } => {
                let ino = self.find_file(path)?;
                self.append(ino, &vec![*fill; *len])
            }
            Op::Truncate { path, len } => {
                let ino = self.find_file(path)?;
                self.truncate(ino, *len)
            }
            Op::Read { path, offset, len } => {
                let ino = self.find_file(path)?;
                Ok(Value::Bytes(self.read(ino, *offset, *len)))
            }
            Op::ReadLink { path } => match &self.nodes[self.find(path)?].body {
                Body::Symlink(target) => Ok(Value::Bytes(target.clone())),
                _ => Err(EINVAL),
            },
            Op::ReadDir { path } => {
                let dir = self.walk(&path.0)?;
                let list = self.children(dir).iter().map(|(name, ino)| (name.clone(), self.nodes[*ino].kind));
                Ok(Value::Text(listing(list.collect())))
            }
            Op::Stat { path } => Ok(Value::Text(stat_line(path, self.object(self.find(path)?)))),
            Op::Chmod { path, mode } => {
                let ino = self.find(path)?;
                if self.nodes[ino].kind == Kind::Symlink {
                    return Err(EOPNOTSUPP);
                }
                self.nodes[ino].mode = *mode;
                Ok(Value::Done)
            }
            Op::Chown { path, uid, gid } => self.chown(path, *uid, *gid),
            Op::Utimens { path, mtime, .. } => {
                let ino = self.find(path)?;
                self.nodes[ino].mtime = Stamp::from(*mtime);
                Ok(Value::Done)
            }
            Op::SetXattr { path, name, value, how } => self.set_xattr(path, name, value, *how),
            Op::RemoveXattr { path, name } => {
                let ino = self.find(path)?;
                self.user_xattrs_fit(ino, name).map_err(|()| EPERM)?;
                self.nodes[ino].xattrs.remove(name).map(|_| Value::Done).ok_or(ENODATA)
            }
            Op::GetXattr { path, name } => {
                let ino = self.find(path)?;
                self.nodes[ino].xattrs.get(name).cloned().map(Value::Bytes).ok_or(ENODATA)
            }
            Op::Open { slot, path, mode } => self.open(*slot, path, *mode),
            Op::HandleRead { slot, offset, len } => {
                let ino = self.readable(*slot)?;
                Ok(Value::Bytes(self.read(ino, *offset, *len)))
            }
            Op::HandleWrite { slot, offset, len, fill } => {
                let ino = self.writable(*slot)?;
                self.write(ino, *offset, &vec![*fill; *len])
            }
            Op::HandleAppend { slot, len, fill } => {
                let ino = self.writable(*slot)?;
                self.append(ino, &vec![*fill; *len])
            }
            Op::HandleTruncate { slot, len } => {
                let (ino, mode) = self.slot(*slot)?;
                if !mode.writes() {
                    return Err(EINVAL);
                }
                self.truncate(ino, *len)
            }
            Op::HandleAllocate { slot, how, offset, len } => {
                let ino = self.writable(*slot)?;
                self.allocate(ino, *how, *offset, *len)
            }
            Op::HandleCopy { from, from_offset, to, offset, len } => {
                let (_, _) = (self.slot(*from)?, self.slot(*to)?);
                let from = (self.readable(*from)?, *from_offset);
                let to = (self.writable(*to)?, *offset);
                self.copy(from, to, *len)
            }
            Op::HandleSize { slot } => {
                let (ino, _) = self.slot(*slot)?;
                Ok(Value::Count(self.bytes(ino).len() as u64))
            }
            Op::Close { slot } => {
                self.slots[*slot].take().ok_or(EBADF)?;
                Ok(Value::Done)
            }
            Op::Reopen => {
                self.slots = Default::default();
                Ok(Value::Done)
            }
        }
    }
}

fn kind_of(what: &What) -> Kind {
    match what {
        What::Dir { .. } => Kind::Dir,
        What::Symlink(_) => Kind::Symlink,
        What::Node(kind, _) => *kind,
        _ => Kind::File,
    }
}

fn body_of(what: &What) -> Body {
    match what {
        What::File(data) => Body::File(data.bytes()),
        What::Dir { .. } => Body::Dir(BTreeMap::new()),
        What::Symlink(target) => Body::Symlink(target.clone()),
        _ => Body::Special,
    }
}

impl Subject for Model {
    fn apply(&mut self, op: &Op) -> Outcome {
        self.run(op)
    }

    fn dump(&self) -> Dump {
        let mut objects = Vec::new();
        let mut dirs = vec![(Path::root(), ROOT)];
        while let Some((path, dir)) = dirs.pop() {
            for (name, ino) in self.children(dir) {
                let path = path.join(name);
                objects.push((path.clone(), self.object(*ino)));
                if self.nodes[*ino].kind == Kind::Dir {
                    dirs.push((path, *ino));
                }
            }
        }
        Dump::new(objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_flatten_by_overlay_rules() {
        let low = TreeSpec::new()
            .dir("d")
            .file("d/x", "x")
            .file("d/y", "y")
            .dir("e")
            .file("e/z", "z")
            .file("f", "1");
        let mid = TreeSpec::new().dir("d").whiteout("d/x").file("e", "file now").file("f", "2");
        let top = TreeSpec::new().opaque("d").file("d/new", "n").dir("e");
        let shown = Model::from_stack(&StackSpec::from([top, mid, low])).dump();
        assert_eq!(shown.paths(), ["d", "d/new", "e", "f"].map(Path::of));
    }

    #[test]
    fn links_share_their_object() {
        let mut model =
            Model::from_stack(&StackSpec::one(TreeSpec::new().file("a", "1").hard_link("b", "a")));
        let append = Op::Append { path: Path::of("b"), len: 1, fill: b'2' };
        assert_eq!(model.apply(&append), Ok(Value::Count(1)));
        let read = Op::Read { path: Path::of("a"), offset: 0, len: 9 };
        assert_eq!(model.apply(&read), Ok(Value::Bytes(b"12".to_vec())));
        assert!(model.dump().line(&Path::of("a")).unwrap().contains("nlink=2"));
    }
}
