//! Where the conformance suite and the model tests run: layers and scratch in memory, and in directories.

use crate::need;
use std::fs::{File, create_dir};
use std::path::PathBuf;
use std::sync::Arc;
use stratafs_core::{Config, Stack, View};
use stratafs_dir::{DirLayer, DirScratch, LayerOptions, Namespace, Resolver, ScratchOptions};
use stratafs_mem::{LayerBuilder, MemLayer, MemScratch};
use stratafs_testkit::conformance::Bed;
use stratafs_testkit::host::{Whiteouts, materialise};
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

/// In directories of the temporary directory's file system. Needs root for owners, devices and `trusted.`
/// attributes; `STEPS` reaches directories step by step instead of by openat2.
#[derive(Debug, Clone)]
pub struct DirBed<const STEPS: bool = false> {
    /// The layers, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The scratch's upper directory.
    pub upper: PathBuf,
    /// The scratch's work directory.
    pub work: PathBuf,
    _dir: Arc<tempfile::TempDir>,
}

impl<const STEPS: bool> DirBed<STEPS> {
    const RESOLVER: Resolver = if STEPS { Resolver::StepByStep } else { Resolver::Auto };
}

/// How the layers here are stored.
#[must_use]
pub fn layer_options(resolver: Resolver) -> LayerOptions {
    LayerOptions { namespace: Namespace::Trusted, resolver, ..LayerOptions::default() }
}

impl<const STEPS: bool> Bed for DirBed<STEPS> {
    type L = DirLayer;
    type S = DirScratch;

    fn new(stack: &StackSpec) -> Option<Self> {
        if !need::root() {
            return None;
        }
        rustix::process::umask(rustix::fs::Mode::empty());
        let dir = Arc::new(tempfile::tempdir().expect("make a directory"));
        let mut lowers = Vec::new();
        for (n, layer) in stack.layers.iter().enumerate() {
            let at = dir.path().join(format!("lower{n}"));
            create_dir(&at).expect("make a layer's directory");
            let opened = File::open(&at).expect("open a layer's directory");
            materialise(layer, &opened, Whiteouts::Trusted).expect("make a layer");
            lowers.push(at);
        }
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        Some(Self { lowers, upper, work, _dir: dir })
    }

    fn layers(&self) -> Vec<DirLayer> {
        let options = layer_options(Self::RESOLVER);
        self.lowers.iter().map(|at| DirLayer::open(at, &options).expect("open a layer")).collect()
    }

    fn scratch(&self) -> DirScratch {
        let options = ScratchOptions { resolver: Self::RESOLVER, ..ScratchOptions::default() };
        DirScratch::create(&self.upper, &self.work, &options).expect("open the scratch")
    }
}

/// A bed whose scratch can become its topmost layer.
pub trait Freeze: Bed {
    /// The bed with the scratch as a layer and a new, empty scratch.
    #[must_use]
    fn frozen(&self) -> Self;
}

impl Freeze for MemBed {
    fn frozen(&self) -> Self {
        let mut layers = self.layers.clone();
        layers.insert(0, self.scratch.clone().seal());
        Self { layers, scratch: MemScratch::new() }
    }
}

impl<const STEPS: bool> Freeze for DirBed<STEPS> {
    fn frozen(&self) -> Self {
        let mut bed = self.clone();
        bed.lowers.insert(0, bed.upper.clone());
        let n = bed.lowers.len();
        bed.upper.set_file_name(format!("upper{n}"));
        bed.work.set_file_name(format!("work{n}"));
        bed
    }
}

/// A view over a bed.
///
/// # Panics
/// When it cannot be opened.
#[must_use]
pub fn view<B: Bed>(bed: &B) -> View<B::L, B::S> {
    let stack = Stack { layers: bed.layers(), scratch: Some(bed.scratch()) };
    View::new(stack, Config::default()).expect("open the view")
}
