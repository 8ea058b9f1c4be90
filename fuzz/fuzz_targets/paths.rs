//! Arbitrary paths over arbitrary symbolic links: an answer or an error, and what is found is inside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratafs_core::{Caller, Config, Follow, Stack, View};
use stratafs_mem::{MemLayer, MemScratch};

fuzz_target!(|data: &[u8]| {
    let mut pieces = data.split(|b| *b == b'\n');
    let mut layer = MemLayer::builder().dir("a", 0o755).dir("a/b", 0o755).file("a/b/f", "x");
    for name in ["l", "a/l", "a/b/l"] {
        let target = pieces.next().unwrap_or_default();
        if !target.is_empty() && target.len() < 4096 && !target.contains(&0) {
            layer = layer.symlink(name, target);
        }
    }
    let Ok(layer) = layer.build() else { return };
    let stack = Stack { layers: vec![layer], scratch: Some(MemScratch::new()) };
    let view = View::new(stack, Config::default()).expect("a view of one layer");
    for path in pieces {
        for follow in [Follow::Yes, Follow::No] {
            if let Ok(found) = view.resolve(&view.root(), path, follow, &Caller::root()) {
                assert!(view.attr(&found).is_ok());
            }
        }
        let _ = view.resolve_parent(&view.root(), path, &Caller::root());
    }
});
