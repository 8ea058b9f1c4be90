//! Reading one object: lookup, marks, attributes, extended attributes, link targets, data, identity.

use super::Tree;
use crate::dialect::{self, FUSE_OPAQUE, FUSE_PREFIX, Meaning, WH_OPAQUE};
use crate::file::DirFile;
use crate::marks;
use crate::node::{DirNode, Kept, Node};
use crate::stash::{self, Stash};
use crate::sys::{self, Obj, Sys};
use rustix::fd::AsFd;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::sync::Arc;
use stratafs_core::{Attr, Device, Error, ErrorKind, Found, Hit, Kind, Marks, Name, Origin, Result};

/// What the extended attributes of an object say to us.
struct Said {
    marks: Marks,
    whiteout: bool,
    attr: Attr,
    /// There is nothing to hear.
    bare: bool,
}

/// True for the device that is a whiteout.
pub(super) fn is_whiteout(attr: &Attr) -> bool {
    attr.kind == Kind::Char && attr.rdev == Device::default()
}

/// Applies the stored ownership of an object, where this tree believes it.
pub(super) fn meant(tree: &Tree, obj: Obj<'_>, real: Attr) -> Sys<Result<Attr>> {
    if !tree.options.stashed_ownership || !matches!(real.kind, Kind::File | Kind::Dir) {
        return Ok(Ok(real));
    }
    Ok(match sys::xattr::get(obj, stash::XATTR)? {
        Some(value) => Stash::parse(&value).map(|stash| stash.over(real)),
        None => Ok(real),
    })
}

impl Tree {
    /// The root as a lookup would give it.
    pub(crate) fn root_hit(&self) -> Result<Hit<Node>> {
        let node = Node::dir(Arc::clone(&self.root));
        let fd = self.root_fd()?;
        let obj = Obj::Open(fd.as_fd());
        let attr = sys::stat::attr(obj).map_err(self.failed("read root", &node))?;
        let said = self.said(obj, attr, &node)?;
        Ok(Hit { node, attr: said.attr, marks: said.marks, bare: said.bare })
    }

    /// Looks up one name.
    pub(crate) fn lookup(&self, dir: &Node, name: Name<'_>) -> Result<Found<Node>> {
        let parent = self.as_dir(dir, "look up")?;
        let wh_names = self.options.formats.wh_names();
        if wh_names && dialect::meaning(name.as_bytes()) != Meaning::Entry {
            return Ok(Found::Absent);
        }
        let fd = self.dir_fd(parent)?;
        let obj = Obj::At(fd.as_fd(), name.as_bytes());
        let attr = match sys::stat::attr(obj) {
            Ok(attr) => attr,
            Err(Errno::NOENT) if wh_names => {
                let hidden = self.exists(Obj::At(fd.as_fd(), &dialect::hider(name.as_bytes())));
                let hidden = hidden.map_err(self.failed_at("look up", parent, name.as_bytes()))?;
                return Ok(if hidden { Found::Whiteout } else { Found::Absent });
            }
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Ok(Found::Absent),
            Err(e) => return Err(self.failed_at("look up", parent, name.as_bytes())(e)),
        };
        if is_whiteout(&attr) {
            return Ok(Found::Whiteout);
        }
        let node = match attr.kind {
            Kind::Dir => Node::dir(self.dir_node(parent, name.to_buf(), attr.id)),
            _ => Node::known(Arc::clone(parent), name.to_buf(), attr.id.ino),
        };
        let said = match self.said(obj, attr, &node) {
            // Gone between the two calls.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Absent),
            said => said?,
        };
        if said.whiteout {
            return Ok(Found::Whiteout);
        }
        Ok(Found::Node(Hit { node, attr: said.attr, marks: said.marks, bare: said.bare }))
    }

    fn exists(&self, obj: Obj<'_>) -> Sys<bool> {
        match sys::stat::attr(obj) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// One list of the attributes' names, then only the values that matter.
    fn said(&self, obj: Obj<'_>, attr: Attr, node: &Node) -> Result<Said> {
        let mut said = Said { marks: Marks::default(), whiteout: false, attr, bare: false };
        let formats = self.options.formats;
        let user_attributes = matches!(attr.kind, Kind::File | Kind::Dir);
        let trusted = formats.overlay && self.namespace() == crate::Namespace::Trusted;
        if trusted
            || user_attributes
                && (formats.overlay || formats.fuse_overlayfs || self.options.stashed_ownership)
        {
            let names = sys::xattr::list(obj).map_err(self.failed("list attributes", node))?;
            said.bare = names.is_empty();
            for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
                self.hear(obj, name, &mut said, node)?;
            }
        }
        if formats.wh_names()
            && let Kept::Dir(dir) = &node.0
            && !said.marks.opaque
        {
            let fd = self.dir_fd(dir)?;
            said.marks.opaque = self
                .exists(Obj::At(fd.as_fd(), WH_OPAQUE))
                .map_err(self.failed("look for an opaque mark", node))?;
        }
        Ok(said)
    }

    /// Takes one attribute into account.
    fn hear(&self, obj: Obj<'_>, name: &[u8], said: &mut Said, node: &Node) -> Result<()> {
        let value = || {
            sys::xattr::get(obj, name)
                .map(Option::unwrap_or_default)
                .map_err(self.failed("read attribute", node))
        };
        let kind = said.attr.kind;
        if self.options.stashed_ownership && name == stash::XATTR {
            said.attr = Stash::parse(&value()?).map_err(self.located(node))?.over(said.attr);
            return Ok(());
        }
        if self.options.formats.fuse_overlayfs && name == FUSE_OPAQUE {
            said.marks.opaque |= kind == Kind::Dir && value()? == marks::YES;
            return Ok(());
        }
        let own = self.options.formats.overlay.then(|| self.namespace().own_name(name)).flatten();
        let Some(short) = own.and_then(|short| std::str::from_utf8(short).ok()) else { return Ok(()) };
        let marks = &mut said.marks;
        match (short, kind) {
            (marks::OPAQUE, Kind::Dir) => marks.opaque |= value()? == marks::YES,
            (marks::IMPURE, Kind::Dir) => marks.impure = value()? == marks::YES,
            (marks::REDIRECT, Kind::Dir | Kind::File) => {
                marks.redirect = Some(marks::parse_redirect(&value()?).map_err(self.located(node))?);
            }
            (marks::METACOPY, Kind::File) => {
                marks::check_metacopy(&value()?).map_err(self.located(node))?;
                marks.metacopy = true;
            }
            (marks::WHITEOUT, Kind::File) => said.whiteout = said.attr.size == 0,
            (marks::NLINK, kind) if kind != Kind::Dir => {
                marks.nlink = Some(marks::parse_nlink(&value()?).map_err(self.located(node))?);
            }
            (marks::ORIGIN, _) => marks.origin = Some(Origin::new(value()?)),
            _ => {}
        }
        Ok(())
    }

    /// Fresh attributes.
    pub(crate) fn attr(&self, node: &Node) -> Result<Attr> {
        let held = self.held(node)?;
        let attr = self.attr_of(held.obj()).map_err(self.failed("read attributes", node))?;
        let attr = attr.map_err(self.located(node))?;
        self.same(node, &attr)?;
        Ok(attr)
    }

    /// In a scratch names move while others read: `ESTALE` when another object stands at the name now. Lower layers
    /// do not change, and where one does all the same, what is there now is as good an answer.
    fn same(&self, node: &Node, found: &Attr) -> Result<()> {
        match &node.0 {
            Kept::Entry(entry) if self.shared.is_some() && !entry.is(found.id.ino) => {
                Err(self.error(ErrorKind::Stale, "find object", node).because("another one has its name now"))
            }
            _ => Ok(()),
        }
    }

    /// Fresh marks.
    pub(crate) fn marks(&self, node: &Node) -> Result<Marks> {
        let held = self.held(node)?;
        let attr = sys::stat::attr(held.obj()).map_err(self.failed("read marks", node))?;
        Ok(self.said(held.obj(), attr, node)?.marks)
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self, node: &Node) -> Result<Vec<u8>> {
        let held = self.held(node)?;
        sys::stat::link_target(held.obj()).map_err(self.failed("read link", node))
    }

    /// Opens a regular file.
    pub(crate) fn open_data(&self, node: &Node, access: OFlags) -> Result<DirFile> {
        let held = self.held(node)?;
        if let Kept::Loose(loose) = &node.0
            && loose.open
        {
            return Ok(DirFile::new(Arc::clone(&loose.fd), Arc::clone(&self.label)));
        }
        let fail = |e| match e {
            // A link under O_NOFOLLOW, a socket or a device without a driver, a directory for writing.
            Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR => self.not_regular(node),
            other => self.failed("open", node)(other),
        };
        let fd = match access {
            OFlags::RDONLY if self.noatime => match sys::open::data(held.obj(), access | OFlags::NOATIME) {
                Err(Errno::PERM) => sys::open::data(held.obj(), access),
                done => done,
            },
            _ => sys::open::data(held.obj(), access),
        }
        .map_err(fail)?;
        let found = sys::stat::attr(Obj::Open(fd.as_fd())).map_err(self.failed("open", node))?;
        if found.kind != Kind::File {
            return Err(self.not_regular(node));
        }
        self.same(node, &found)?;
        Ok(DirFile::new(Arc::new(fd), Arc::clone(&self.label)))
    }

    fn not_regular(&self, node: &Node) -> Error {
        self.error(ErrorKind::InvalidInput, "open", node).because("it is not a regular file")
    }

    /// True for attributes that users never see.
    fn is_private(&self, stored: &[u8]) -> bool {
        (self.options.stashed_ownership && stored == stash::XATTR)
            || (self.options.formats.fuse_overlayfs && stored.starts_with(FUSE_PREFIX))
            || (self.options.stashed_ownership && stash::kept_name(stored).is_some())
    }

    /// Under which name a user's attribute is stored; `None` when it has no place here.
    pub(crate) fn stored_name(&self, name: &[u8]) -> Option<Vec<u8>> {
        if self.options.stashed_ownership {
            if let Some(kept) = stash::kept_name(name) {
                return Some(kept);
            }
            if stash::name_kept(name).is_some() {
                return None;
            }
        }
        if self.is_private(name) {
            return None;
        }
        Some(if self.options.formats.overlay { self.namespace().escape(name) } else { name.to_vec() })
    }

    /// One extended attribute.
    pub(crate) fn xattr(&self, node: &Node, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(stored) = self.stored_name(name) else { return Ok(None) };
        let held = self.held(node)?;
        sys::xattr::get(held.obj(), &stored).map_err(self.failed("read attribute", node))
    }

    /// The names of all extended attributes.
    pub(crate) fn xattrs(&self, node: &Node) -> Result<Vec<Vec<u8>>> {
        let held = self.held(node)?;
        let stored = sys::xattr::list(held.obj()).map_err(self.failed("list attributes", node))?;
        Ok(stored
            .split(|b| *b == 0)
            .filter(|name| !name.is_empty() && !self.is_private(name))
            .filter_map(|name| match stash::name_kept(name).filter(|_| self.options.stashed_ownership) {
                Some(kept) => Some(kept.to_vec()),
                None if self.options.formats.overlay => self.namespace().unescape(name),
                None => Some(name.to_vec()),
            })
            .collect())
    }

    /// The lasting identity of an object.
    pub(crate) fn origin(&self, node: &Node) -> Result<Origin> {
        let held = self.held(node)?;
        let no_origin = || self.error(ErrorKind::Overflow, "identify", node);
        match sys::stat::handle(held.obj()) {
            Ok(handle) if self.home.root.as_ref().is_some_and(|root| root.mount == handle.mount) => {
                return self.home.of_handle(&handle).ok_or_else(no_origin);
            }
            Ok(_) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::OVERFLOW) => {}
            Err(e) => return Err(self.failed("identify", node)(e)),
        }
        let attr = sys::stat::attr(held.obj()).map_err(self.failed("identify", node))?;
        self.home.of_id(attr.id).ok_or_else(no_origin)
    }

    /// A directory with a descriptor of its own, or any other object as `O_PATH`.
    pub(crate) fn pin(&self, node: &Node) -> Result<Node> {
        match &node.0 {
            Kept::Loose(_) => Ok(node.clone()),
            Kept::Dir(dir) => {
                let fd = self.dir_fd(dir)?;
                let own = sys::open::step(fd.as_fd(), b".").or_else(|e| match e {
                    Errno::ACCESS => rustix::io::fcntl_dupfd_cloexec(&*fd, 0),
                    other => Err(other),
                });
                Ok(Node::dir(DirNode::fixed(own.map_err(self.failed("pin", node))?, dir.id())))
            }
            Kept::Entry(entry) => {
                let fd = self.dir_fd(&entry.dir)?;
                let own =
                    sys::open::path(fd.as_fd(), entry.name.as_bytes()).map_err(self.failed("pin", node))?;
                Ok(Node::loose(own, false))
            }
        }
    }
}
