//! Where the conformance suite and the model tests run: layers and scratch in memory, and in directories.

use stratafs_core::{Config, Scratch, Stack, View};
use stratafs_mem::{LayerBuilder, MemLayer, MemScratch};
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::{Entry, StackSpec, TreeSpec, What};

/// In memory.
#[derive(Debug, Clone)]
pub struct MemBed {
    layers: Vec<MemLayer>,
    scratch: MemScratch,
}

impl Bed for MemBed {
    type L = MemLayer;
    type S = MemScratch;

    fn new(stack: &StackSpec) -> Option<Self> {
        Some(Self { layers: stack.layers.iter().map(mem_layer).collect(), scratch: MemScratch::new() })
    }

    fn layers(&self) -> Vec<MemLayer> {
        self.layers.clone()
    }

    fn scratch(&self) -> MemScratch {
        self.scratch.clone()
    }
}

/// A layer in memory.
///
/// # Panics
/// When the specification makes no sense.
#[must_use]
pub fn mem_layer(tree: &TreeSpec) -> MemLayer {
    let built = tree.entries.iter().fold(MemLayer::builder(), add);
    let dated = |b: LayerBuilder, e: &Entry| match e.what {
        What::Whiteout | What::HardLink(_) => b,
        _ => b.times(e.path.bytes(), e.mtime),
    };
    tree.entries.iter().fold(built, dated).build().expect("build the layer")
}

fn add(builder: LayerBuilder, entry: &Entry) -> LayerBuilder {
    let path = &entry.path.bytes();
    let builder = match &entry.what {
        What::File(data) => {
            let runs = data.segments();
            let runs: Vec<_> = runs.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
            builder.sparse(path, data.len, &runs)
        }
        What::Dir { opaque } => {
            let builder = builder.dir(path, entry.mode);
            if *opaque { builder.opaque(path) } else { builder }
        }
        What::Symlink(target) => builder.symlink(path, target),
        What::HardLink(target) => return builder.hard_link(path, target.bytes()),
        What::Node(kind, rdev) => builder.node(path, *kind, *rdev),
        What::Whiteout => return builder.whiteout(path),
    };
    let builder = builder.owner(path, entry.uid, entry.gid);
    let builder = match entry.what {
        What::Symlink(_) => builder,
        _ => builder.mode(path, entry.mode),
    };
    entry.xattrs.iter().fold(builder, |b, (name, value)| b.xattr(path, name, value))
}

/// A view over a bed.
///
/// # Panics
/// When it cannot be opened.
#[must_use]
pub fn view<B: Bed>(bed: &B) -> View<B::L, B::S>
where
    B::S: Scratch,
{
    let stack = Stack { layers: bed.layers(), scratch: Some(bed.scratch()) };
    View::new(stack, Config::default()).expect("open the view")
}
