//! One type over all backends, so that a stack can mix them: dispatch by enum, one match a call. Invariant: a
//! node of one backend handed to another is `ESTALE`, never a panic and never another object.

mod layer;
mod scratch;

pub use layer::{AnyFile, AnyLayer, AnyNode};
pub use scratch::{AnyScratch, AnyScratchFile, AnyScratchNode, AnyStaged};

use stratafs_core::{Error, ErrorKind};

/// The answer to a node that another backend made.
fn foreign(operation: &'static str) -> Error {
    Error::new(ErrorKind::Stale, operation).because("the node belongs to another backend")
}

/// Calls `$method` on whichever backend `$self` is.
macro_rules! dispatch {
    ($self:expr, $method:ident($($arg:expr),*)) => {
        match $self {
            Self::Dir(it) => it.$method($($arg),*),
            Self::Mem(it) => it.$method($($arg),*),
        }
    };
    ($self:expr, $node:ident: $nodes:ident, $method:ident($($arg:expr),*)) => {
        match ($self, $node) {
            (Self::Dir(it), $nodes::Dir($node)) => it.$method($node, $($arg),*),
            (Self::Mem(it), $nodes::Mem($node)) => it.$method($node, $($arg),*),
            _ => Err(foreign(stringify!($method))),
        }
    };
}
use dispatch;

#[cfg(test)]
mod tests {
    use super::*;
    use stratafs_core::{Layer, Name, Scratch};
    use stratafs_mem::{MemLayer, MemScratch};

    #[test]
    fn a_node_of_another_backend_is_stale() {
        let dir = tempfile::tempdir().unwrap();
        let disk = AnyLayer::from(stratafs_dir::DirLayer::open(dir.path(), &Default::default()).unwrap());
        let memory = AnyLayer::Mem(MemLayer::builder().build().unwrap());
        let node = memory.root().unwrap().node;
        let name = Name::new(b"x").unwrap();
        assert_eq!(disk.lookup(&node, name).unwrap_err().kind(), ErrorKind::Stale);
        assert_eq!(disk.attr(&node).unwrap_err().kind(), ErrorKind::Stale);
        assert!(disk.locate(&stratafs_core::Origin::new([])).is_none());

        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        let disk =
            AnyScratch::from(stratafs_dir::DirScratch::create(&upper, &work, &Default::default()).unwrap());
        let node = AnyScratch::Mem(MemScratch::new()).root().unwrap().node;
        assert_eq!(disk.pin(&node).unwrap_err().kind(), ErrorKind::Stale);
    }
}
