//! [`World`]: a view over a bed, with the short words that the cases are written in.

use super::Bed;
use crate::dump::Dump;
use crate::path::Path;
use crate::spec::StackSpec;
use crate::view;
use stratafs_core::{
    Access, Aspects, Attr, Caller, Change, Config, Follow, Handle, Inode, Kind, Name, New, RenameFlags,
    Result, SetAttr, SetTime, Stack, Time, View, What,
};

pub(super) type Node<B> = Inode<<B as Bed>::L, <B as Bed>::S>;
pub(super) type Open<B> = Handle<<B as Bed>::L, <B as Bed>::S>;

/// Opens for reading.
pub(super) const READ: Access = Access { read: true, write: false, append: false, truncate: false };
/// Opens for writing.
pub(super) const WRITE: Access = Access { read: false, write: true, append: false, truncate: false };
/// Opens for both.
pub(super) const BOTH: Access = Access { read: true, write: true, append: false, truncate: false };

/// A view over a bed.
#[derive(Debug)]
pub struct World<B: Bed> {
    bed: B,
    config: Config,
    view: Option<View<B::L, B::S>>,
}

/// The errno that must come.
#[track_caller]
pub(super) fn errno<T>(result: Result<T>) -> i32 {
    result.err().expect("this must fail").errno()
}

pub(super) fn name(bytes: &str) -> Name<'_> {
    Name::new(bytes.as_bytes()).unwrap()
}

impl<B: Bed> World<B> {
    /// Makes the layers and opens a view; `None` when the machine cannot.
    #[must_use]
    pub fn open(stack: &StackSpec) -> Option<Self> {
        let mut world = Self { bed: B::new(stack)?, config: Config::default(), view: None };
        world.reopen();
        Some(world)
    }

    /// Drops the view and opens it again. All inodes and handles must be gone by then.
    #[track_caller]
    pub fn reopen(&mut self) {
        self.view = None;
        let stack = Stack { layers: self.bed.layers(), scratch: Some(self.bed.scratch()) };
        self.view = Some(View::new(stack, self.config).unwrap());
    }

    pub(super) fn reopen_with(&mut self, config: Config) {
        self.config = config;
        self.reopen();
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &View<B::L, B::S> {
        self.view.as_ref().unwrap()
    }

    /// The layers alone, without the scratch.
    pub(super) fn below(&self) -> View<B::L, B::S> {
        View::new(Stack { layers: self.bed.layers(), scratch: None }, self.config).unwrap()
    }

    #[track_caller]
    pub(super) fn node(&self, path: &str) -> Node<B> {
        match view::find(self.view(), &Path::of(path)) {
            Ok(node) => node,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    #[track_caller]
    pub(super) fn attr(&self, path: &str) -> Attr {
        self.view().attr(&self.node(path)).unwrap()
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        view::find(self.view(), &Path::of(path)).is_ok()
    }

    /// The directory and the name of a path.
    #[track_caller]
    pub(super) fn at<'p>(&self, path: &'p str) -> (Node<B>, Name<'p>) {
        match path.rsplit_once('/') {
            Some((dir, last)) => (self.node(dir), name(last)),
            None => (self.view().root(), name(path)),
        }
    }

    #[track_caller]
    pub(super) fn open_file(&self, path: &str, access: Access) -> Result<Open<B>> {
        self.view().open(&self.node(path), access, &Caller::root())
    }

    #[track_caller]
    pub(super) fn text(&self, path: &str) -> String {
        String::from_utf8_lossy(&view::contents(self.view(), &self.node(path)).unwrap()).into_owned()
    }

    #[track_caller]
    pub(super) fn target(&self, path: &str) -> String {
        String::from_utf8_lossy(&self.view().read_link(&self.node(path)).unwrap()).into_owned()
    }

    /// Makes the file or replaces what it holds.
    #[track_caller]
    pub(super) fn put(&self, path: &str, text: &str) {
        if !self.exists(path) {
            self.make(path, &New::file(0o644)).unwrap();
        }
        let handle = self.open_file(path, Access { truncate: true, ..WRITE }).unwrap();
        view::write(&handle, 0, text.as_bytes()).unwrap();
    }

    #[track_caller]
    pub(super) fn add(&self, path: &str, text: &str) {
        let handle = self.open_file(path, Access { append: true, ..WRITE }).unwrap();
        assert_eq!(handle.append(text.as_bytes()).unwrap().1, text.len());
    }

    #[track_caller]
    pub(super) fn make(&self, path: &str, new: &New<'_>) -> Result<Node<B>> {
        let (dir, name) = self.at(path);
        self.view().make(&dir, name, new, &Caller::root())
    }

    #[track_caller]
    pub(super) fn mkdir(&self, path: &str) {
        self.make(path, &New::dir(0o755)).unwrap();
    }

    #[track_caller]
    pub(super) fn unlink(&self, path: &str) -> Result<()> {
        let (dir, name) = self.at(path);
        self.view().unlink(&dir, name, &Caller::root())
    }

    #[track_caller]
    pub(super) fn rmdir(&self, path: &str) -> Result<()> {
        let (dir, name) = self.at(path);
        self.view().rmdir(&dir, name, &Caller::root())
    }

    #[track_caller]
    pub(super) fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> Result<()> {
        let ((a, from), (b, to)) = (self.at(from), self.at(to));
        self.view().rename(&a, from, &b, to, flags, &Caller::root())
    }

    #[track_caller]
    pub(super) fn mv(&self, from: &str, to: &str) {
        self.rename(from, to, RenameFlags::empty()).unwrap();
    }

    #[track_caller]
    pub(super) fn link(&self, from: &str, to: &str) -> Result<()> {
        let (dir, name) = self.at(to);
        self.view().link(&self.node(from), &dir, name, &Caller::root())
    }

    #[track_caller]
    pub(super) fn set(&self, path: &str, set: SetAttr) {
        self.view().set_attr(&self.node(path), &set, &Caller::root()).unwrap();
    }

    #[track_caller]
    pub(super) fn chmod(&self, path: &str, mode: u32) {
        self.set(path, SetAttr { mode: Some(mode), ..SetAttr::default() });
    }

    #[track_caller]
    pub(super) fn chown(&self, path: &str, uid: u32, gid: u32) {
        self.set(path, SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() });
    }

    #[track_caller]
    pub(super) fn touch(&self, path: &str, secs: i64, nanos: u32) {
        let time = Some(SetTime::At(Time { secs, nanos }));
        self.set(path, SetAttr { atime: time, mtime: time, ..SetAttr::default() });
    }

    /// Names in the view's order.
    #[track_caller]
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let entries = view::entries(self.view(), &self.node(path)).unwrap();
        entries.into_iter().map(|(name, ..)| name.escape_ascii().to_string()).collect()
    }

    /// Names, sorted, with spaces between them.
    #[track_caller]
    pub(super) fn ls(&self, path: &str) -> String {
        let mut names = self.list(path);
        names.sort();
        names.join(" ")
    }

    #[track_caller]
    pub(super) fn dump(&self) -> Dump {
        view::dump(self.view()).unwrap()
    }

    #[track_caller]
    pub(super) fn resolve(&self, path: &str) -> Result<Node<B>> {
        self.view().resolve(&self.view().root(), path.as_bytes(), Follow::Yes, &Caller::root())
    }

    /// The change list, one line each. That a directory's time changed with its names is left out, and that
    /// times changed besides something else.
    #[track_caller]
    pub(super) fn changes(&self) -> Vec<String> {
        let names_only = |c: &&Change| c.kind == Kind::Dir && c.what == What::Modified(Aspects::TIMES);
        self.view().changes().unwrap().iter().filter(|c| !names_only(c)).map(shown).collect()
    }
}

fn shown(change: &Change) -> String {
    let path = change.path.escape_ascii();
    let slash = if change.kind == Kind::Dir { "/" } else { "" };
    match &change.what {
        What::Added => format!("A {path}{slash}"),
        What::Deleted => format!("D {path}{slash}"),
        What::Modified(aspects) => format!("M {path}{slash}{}", words(*aspects)),
        What::Renamed { from, aspects } => {
            let names_only = change.kind == Kind::Dir && *aspects == Aspects::TIMES;
            let aspects = if names_only { Aspects::empty() } else { *aspects };
            format!("R {} -> {path}{slash}{}", from.escape_ascii(), words(aspects))
        }
    }
}

fn words(aspects: Aspects) -> String {
    let all = [
        (Aspects::DATA, " data"),
        (Aspects::METADATA, " metadata"),
        (Aspects::XATTRS, " xattrs"),
        (Aspects::TIMES, " times"),
    ];
    let aspects = if aspects == Aspects::TIMES { aspects } else { aspects - Aspects::TIMES };
    all.iter().filter(|(aspect, _)| aspects.contains(*aspect)).map(|(_, word)| *word).collect()
}
