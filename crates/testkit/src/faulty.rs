//! [`Faulty`]: a scratch with a [`Switch`] that makes its n-th verb fail, or its process die there: that verb
//! and all later ones do nothing and fail, and objects that were staged by then are left where they are, as
//! after a crash: nobody rolls back.

use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use stratafs_core::error::errno;
use stratafs_core::{
    Allocate, At, Attr, Backing, Caps, Copied, Error, ErrorKind, Features, FileId, Found, Hit, Layer, Leave,
    Mark, Marks, Name, Origin, Over, RawEntry, ReadAt, Result, Scratch, Seed, SetAttr, SetXattr, StatFs,
    Sync, WriteAt,
};

/// What happens at the chosen verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this errno and does nothing; later verbs work.
    Fail(i32),
    /// It and all later verbs do nothing and fail with `EIO`.
    Die,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: verbs are not counted and none fails.
    armed: Option<Armed>,
    /// What was staged when the process died: nobody rolls it back before the switch goes.
    left: Vec<Box<dyn Any + Send>>,
}

#[derive(Debug)]
struct Armed {
    plan: Option<(usize, Fault)>,
    seen: usize,
}

/// Says which verb of a [`Faulty`] is hit. Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct Switch(Arc<Mutex<State>>);

impl Switch {
    /// Counts verbs from here, from 0 on, and hits the one that the plan names.
    pub fn arm(&self, plan: Option<(usize, Fault)>) {
        self.0.lock().armed = Some(Armed { plan, seen: 0 });
    }

    /// Counts and hits no more; how many verbs there were.
    pub fn disarm(&self) -> usize {
        self.0.lock().armed.take().map_or(0, |armed| armed.seen)
    }

    /// Every verb that may change something passes here.
    fn verb(&self) -> Result<()> {
        let mut state = self.0.lock();
        let Some(armed) = &mut state.armed else { return Ok(()) };
        let n = armed.seen;
        armed.seen += 1;
        let code = match armed.plan {
            Some((at, Fault::Fail(code))) if at == n => code,
            Some((at, Fault::Die)) if at <= n => errno::EIO,
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::from_errno(code), "step").because("an injected fault"))
    }

    fn dead(&self) -> bool {
        let state = self.0.lock();
        let armed = state.armed.as_ref().and_then(|armed| armed.plan.map(|plan| (plan, armed.seen)));
        matches!(armed, Some(((at, Fault::Die), seen)) if seen > at)
    }
}

/// A scratch that can fail and die.
pub struct Faulty<S: Scratch> {
    scratch: S,
    fate: Switch,
}

impl<S: Scratch> fmt::Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("fate", &self.fate).finish_non_exhaustive()
    }
}

impl<S: Scratch> Faulty<S> {
    /// Hits what `switch` says.
    pub fn new(scratch: S, switch: Switch) -> Self {
        Self { scratch, fate: switch }
    }
}

/// A staged object; dropped by a dead process, it stays.
pub struct FaultyStaged<T: Send + 'static> {
    staged: Option<T>,
    fate: Switch,
}

impl<T: Send + 'static> fmt::Debug for FaultyStaged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStaged")
    }
}

impl<T: Send + 'static> FaultyStaged<T> {
    fn take(mut self) -> Result<T> {
        self.fate.verb()?;
        self.staged.take().ok_or_else(|| Error::new(ErrorKind::Stale, "staged"))
    }
}

impl<T: Send + 'static> Drop for FaultyStaged<T> {
    fn drop(&mut self) {
        if self.fate.dead() {
            let left = self.staged.take().map(|staged| Box::new(staged) as Box<dyn Any + Send>);
            self.fate.0.lock().left.extend(left);
        }
    }
}

/// A file of a [`Faulty`].
#[derive(Debug)]
pub struct FaultyFile<F> {
    file: F,
    fate: Switch,
}

impl<F: ReadAt> ReadAt for FaultyFile<F> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn size(&self) -> Result<u64> {
        self.file.size()
    }

    fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        self.file.seek_data(offset)
    }

    fn seek_hole(&self, offset: u64) -> Result<Option<u64>> {
        self.file.seek_hole(offset)
    }

    fn backing(&self) -> Backing<'_> {
        self.file.backing()
    }
}

impl<F: WriteAt> WriteAt for FaultyFile<F> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<usize> {
        self.fate.verb()?;
        self.file.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.fate.verb()?;
        self.file.set_len(len)
    }

    fn allocate(&self, how: Allocate, offset: u64, len: u64) -> Result<()> {
        self.fate.verb()?;
        self.file.allocate(how, offset, len)
    }

    fn fill(&self, from: &dyn ReadAt, len: u64) -> Result<Copied> {
        self.fate.verb()?;
        self.file.fill(from, len)
    }

    fn copy_range(&self, from: &dyn ReadAt, from_offset: u64, offset: u64, len: u64) -> Result<u64> {
        self.fate.verb()?;
        self.file.copy_range(from, from_offset, offset, len)
    }

    fn sync(&self, how: Sync) -> Result<()> {
        self.fate.verb()?;
        self.file.sync(how)
    }
}

impl<S: Scratch> Layer for Faulty<S> {
    type Node = S::Node;
    type File = FaultyFile<S::File>;

    fn caps(&self) -> &Caps {
        self.scratch.caps()
    }

    fn root(&self) -> Result<Hit<S::Node>> {
        self.scratch.root()
    }

    fn lookup(&self, dir: &S::Node, name: Name<'_>) -> Result<Found<S::Node>> {
        self.scratch.lookup(dir, name)
    }

    fn attr(&self, node: &S::Node) -> Result<Attr> {
        self.scratch.attr(node)
    }

    fn marks(&self, node: &S::Node) -> Result<Marks> {
        self.scratch.marks(node)
    }

    fn read_dir(&self, dir: &S::Node, sink: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        self.scratch.read_dir(dir, sink)
    }

    fn read_link(&self, node: &S::Node) -> Result<Vec<u8>> {
        self.scratch.read_link(node)
    }

    fn open(&self, node: &S::Node) -> Result<Self::File> {
        Ok(FaultyFile { file: self.scratch.open(node)?, fate: self.fate.clone() })
    }

    fn xattr(&self, node: &S::Node, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.scratch.xattr(node, name)
    }

    fn xattrs(&self, node: &S::Node) -> Result<Vec<Vec<u8>>> {
        self.scratch.xattrs(node)
    }

    fn origin(&self, node: &S::Node) -> Result<Origin> {
        self.scratch.origin(node)
    }

    fn locate(&self, origin: &Origin) -> Option<FileId> {
        self.scratch.locate(origin)
    }
}

impl<S: Scratch> Scratch for Faulty<S> {
    type Staged = FaultyStaged<S::Staged>;

    fn features(&self) -> Features {
        self.scratch.features()
    }

    fn stage(&self, seed: &Seed<'_>) -> Result<Self::Staged> {
        self.fate.verb()?;
        let staged = Some(self.scratch.stage(seed)?);
        Ok(FaultyStaged { staged, fate: self.fate.clone() })
    }

    /// # Panics
    /// Never: a staged object is taken out only by the verbs that consume it.
    fn staged<'a>(&self, staged: &'a Self::Staged) -> &'a S::Node {
        self.scratch.staged(staged.staged.as_ref().expect("staged and not yet published"))
    }

    fn publish(&self, staged: Self::Staged, at: At<'_, S::Node>, over: Over) -> Result<S::Node> {
        self.scratch.publish(staged.take()?, at, over)
    }

    fn publish_indexed(&self, staged: Self::Staged, origin: &Origin) -> Result<S::Node> {
        self.scratch.publish_indexed(staged.take()?, origin)
    }

    fn keep(&self, staged: Self::Staged) -> Result<S::Node> {
        self.scratch.keep(staged.take()?)
    }

    fn indexed(&self, origin: &Origin) -> Result<Option<Hit<S::Node>>> {
        self.scratch.indexed(origin)
    }

    fn index_entries(&self) -> Result<Vec<(Origin, Hit<S::Node>)>> {
        self.scratch.index_entries()
    }

    fn drop_indexed(&self, origin: &Origin) -> Result<()> {
        self.fate.verb()?;
        self.scratch.drop_indexed(origin)
    }

    fn link(&self, node: &S::Node, at: At<'_, S::Node>, over: Over) -> Result<S::Node> {
        self.fate.verb()?;
        self.scratch.link(node, at, over)
    }

    fn rename(
        &self,
        node: &S::Node,
        from: At<'_, S::Node>,
        to: At<'_, S::Node>,
        leave: Leave,
        over: Over,
    ) -> Result<S::Node> {
        self.fate.verb()?;
        self.scratch.rename(node, from, to, leave, over)
    }

    fn exchange(
        &self,
        a: (&S::Node, At<'_, S::Node>),
        b: (&S::Node, At<'_, S::Node>),
    ) -> Result<(S::Node, S::Node)> {
        self.fate.verb()?;
        self.scratch.exchange(a, b)
    }

    fn remove(&self, node: &S::Node, at: At<'_, S::Node>, leave: Leave) -> Result<()> {
        self.fate.verb()?;
        self.scratch.remove(node, at, leave)
    }

    fn whiteout(&self, at: At<'_, S::Node>) -> Result<()> {
        self.fate.verb()?;
        self.scratch.whiteout(at)
    }

    fn clear(&self, node: &S::Node, at: At<'_, S::Node>) -> Result<S::Node> {
        self.fate.verb()?;
        self.scratch.clear(node, at)
    }

    fn pin(&self, node: &S::Node) -> Result<S::Node> {
        self.fate.verb()?;
        self.scratch.pin(node)
    }

    fn open_write(&self, node: &S::Node) -> Result<Self::File> {
        self.fate.verb()?;
        Ok(FaultyFile { file: self.scratch.open_write(node)?, fate: self.fate.clone() })
    }

    fn set_attr(&self, node: &S::Node, set: &SetAttr) -> Result<()> {
        self.fate.verb()?;
        self.scratch.set_attr(node, set)
    }

    fn set_xattr(&self, node: &S::Node, name: &[u8], value: &[u8], how: SetXattr) -> Result<()> {
        self.fate.verb()?;
        self.scratch.set_xattr(node, name, value, how)
    }

    fn remove_xattr(&self, node: &S::Node, name: &[u8]) -> Result<()> {
        self.fate.verb()?;
        self.scratch.remove_xattr(node, name)
    }

    fn mark(&self, node: &S::Node, mark: Mark<'_>) -> Result<()> {
        self.fate.verb()?;
        self.scratch.mark(node, mark)
    }

    fn sync(&self, node: &S::Node, how: Sync) -> Result<()> {
        self.fate.verb()?;
        self.scratch.sync(node, how)
    }

    fn sync_all(&self) -> Result<()> {
        self.fate.verb()?;
        self.scratch.sync_all()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        self.scratch.stat_fs()
    }
}
