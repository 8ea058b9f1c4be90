//! Untrusted bytes as redirects and access lists: what reads must write back the same, and nothing leads out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratafs_core::{Redirect, acl};

fuzz_target!(|data: &[u8]| {
    if let Ok(redirect) = Redirect::parse(data) {
        assert_eq!(redirect.encode(), data);
        let parts = match &redirect {
            Redirect::Sibling(name) => std::slice::from_ref(name),
            Redirect::Absolute(parts) => parts,
        };
        assert!(parts.iter().all(|p| p.as_bytes() != b".." && !p.as_bytes().contains(&b'/')));
    }
    if let Some((mode, _)) = acl::mode_of(data) {
        assert!(mode <= 0o777);
        for wanted in [0, 0o640, 0o777] {
            let kept = acl::with_mode(data, wanted).expect("a list that reads can follow a mode");
            assert_eq!(acl::mode_of(&kept).map(|(mode, _)| mode), Some(wanted));
        }
    }
    if let Some((mode, _)) = acl::inherit(data, 0o666) {
        assert_eq!(mode & !0o666, 0);
    }
});
