//! Untrusted bytes as the documents of an image: no panic; what reads can be edited and reads again, and what was not
//! edited stays.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stratafs_oci::Digest;
use stratafs_oci::image::{Config, ConfigChange, History, Index, Manifest};

fuzz_target!(|data: &[u8]| {
    let _ = Index::parse(data, "fuzz");
    if let Ok(manifest) = Manifest::parse(data, "fuzz") {
        let written = manifest.to_json().expect("a manifest that was read can be written");
        assert_eq!(Manifest::parse(&written, "fuzz").expect("and read again"), manifest);
    }
    if let Ok(change) = String::from_utf8_lossy(data).parse::<ConfigChange>() {
        assert!(!format!("{change:?}").is_empty());
    }
    let Ok(config) = Config::parse(data.to_vec(), "fuzz") else { return };
    assert_eq!(config.as_str().as_bytes(), data);
    assert_eq!(config.digest(), Digest::of(data));
    config.runtime_json().expect("a configuration that was read has one");
    let unchanged = config.edit().and_then(|edit| edit.finish()).expect("nothing was changed");
    assert_eq!(unchanged.diff_ids(), config.diff_ids());
    assert_eq!(unchanged.runtime(), config.runtime());

    let mut edit = config.edit().expect("it was read");
    let layer = Digest::of(b"layer");
    edit.add(Some(layer), &History::default()).expect("a layer can be added");
    edit.created("1970-01-01T00:00:00Z").expect("a text can be set");
    for change in ["USER 1", "LABEL a=b", "EXPOSE 80", "ENV A=b", "ENTRYPOINT [\"x\"]"] {
        // What is of another type was refused when it was read.
        edit.change(&change.parse().expect("a good line")).expect("a change");
    }
    let edited = edit.finish().expect("an edited configuration is one");
    assert_eq!(edited.diff_ids().split_last(), Some((&layer, config.diff_ids())));
    assert_eq!(edited.platform(), config.platform());
    assert_eq!(edited.runtime().working_dir, config.runtime().working_dir);
    assert!(edited.history().len() > config.history().len());
});
