//! The order of entries does not matter, as long as links come after their targets.
#![allow(clippy::unwrap_used, reason = "tests")]

mod apply_help;

use apply_help::*;
use proptest::prelude::*;
use stratafs_mem::MemScratch;
use stratafs_oci::{Silent, apply};

/// Entries of a small layer: names are unique, links lead to files that are always there.
fn items() -> impl Strategy<Value = Vec<Item>> {
    let dirs = ["a", "a/b", "a/b/c", "d", "low", "low/deep"];
    let name = || (prop::sample::select(dirs.to_vec()), prop::sample::select(vec!["x", "y", "z", "w"]));
    let item = (name(), 0..7_u8).prop_map(|((dir, name), what)| {
        let path = format!("{dir}/{name}");
        match what {
            0 | 1 => file(&path, &path),
            2 => link_item(&path),
            3 => wh(&format!("{dir}/.wh.{name}")),
            4 => wh(&format!("{dir}/.wh..wh..opq")),
            5 => dir_item(dir),
            _ => wh(&format!(".wh.{}", dir.split('/').next().unwrap_or(dir))),
        }
    });
    prop::collection::vec(item, 0..16).prop_map(|mut items| {
        let mut seen = std::collections::HashSet::new();
        items.retain(|(entry, _)| seen.insert(entry.path.clone()));
        items
    })
}

fn link_item(path: &str) -> Item {
    link(path, "nowhere")
}

fn dir_item(path: &str) -> Item {
    let mut item = dir(path);
    item.0.mode = 0o700 + u32::try_from(path.len()).unwrap_or(0);
    item
}

fn unpacked(items: &[Item], links: &[Item], below: &Below) -> String {
    let all: Vec<_> = items.iter().chain(links).cloned().collect();
    text(&unpack_over(&archive(&all), Some(below)).unwrap().scratch)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shuffled_entries_give_the_same_tree((items, shuffled) in items().prop_flat_map(|items| {
        (Just(items.clone()), Just(items).prop_shuffle())
    })) {
        let below = below(|b| {
            let b = b.dir("a", 0o750).dir("low", 0o711).dir("low/deep", 0o755).file("low/deep/x", "below").file("a/x", "below");
            ["low/deep/x", "a/x", "low/deep", "low", "a"].into_iter().fold(b, |b, path| b.times(path, WHEN))
        });
        let links: Vec<_> = items
            .iter()
            .filter(|(entry, content)| !content.is_empty() && !entry.path.starts_with(b"low"))
            .map(|(entry, _)| hard(&format!("{}-too", String::from_utf8_lossy(&entry.path)), &String::from_utf8_lossy(&entry.path)))
            .collect();
        let shuffled_links: Vec<_> = links.iter().rev().cloned().collect();
        prop_assert_eq!(unpacked(&items, &links, &below), unpacked(&shuffled, &shuffled_links, &below));
    }

    #[test]
    fn whatever_bytes_come_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let scratch = MemScratch::new();
        let _ = apply(bytes.as_slice(), &scratch, &|| Ok(None::<Below>), options(), &Silent);
    }

    #[test]
    fn a_flipped_bit_is_refused_or_another_layer(items in items(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = archive(&items);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        // What is accepted comes back: the helper compares.
        let _ = unpack_over(&bytes, None);
    }
}
