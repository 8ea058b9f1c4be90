//! `strata promote`: changes applied to a real directory, conflicts, and careless use, as any user.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, each_user};
use std::fs;
use std::path::Path;

/// A container over one directory, `site`, with a change of each kind.
fn changed(s: &Strata) -> String {
    let site = s.path("site");
    fs::create_dir_all(site.join("etc/dir")).unwrap();
    for (name, text) in
        [("etc/motd", "one\n"), ("etc/gone", "gone\n"), ("etc/dir/file", "file\n"), ("other", "other\n")]
    {
        fs::write(site.join(name), text).unwrap();
    }
    s.own(&site);
    s.run(&["create", "--layer", site.to_str().unwrap(), "--name", "c"]).ok();
    s.feed(&["fs", "c", "put", "-", "/etc/motd"], b"two\n").ok();
    s.feed(&["fs", "c", "put", "-", "/new"], b"new\n").ok();
    s.run(&["fs", "c", "rm", "/etc/gone"]).ok();
    s.run(&["fs", "c", "mv", "/etc/dir", "/etc/moved"]).ok();
    site.to_str().unwrap().to_owned()
}

fn text(path: &str, name: &str) -> Option<String> {
    fs::read_to_string(Path::new(path).join(name)).ok()
}

#[test]
fn changes_are_shown_and_then_applied() {
    each_user(|s| {
        let site = changed(s);
        let promote = ["promote", "c", "--to", &site, "--own"];
        let shown = s.run(&[&promote[..], &["--dry-run"]].concat()).ok();
        for line in
            ["replace /etc/motd\n", "create /new\n", "remove /etc/gone\n", "move /etc/dir/ -> /etc/moved/\n"]
        {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        assert!(shown.ends_with("4 changes to apply, and no conflict\n"), "{shown}");
        assert_eq!(text(&site, "etc/motd").as_deref(), Some("one\n"), "a dry run changes nothing");
        assert!(s.run(&promote).ok().ends_with("4 changes applied, 8 B written\n"));
        assert_eq!(text(&site, "etc/motd").as_deref(), Some("two\n"));
        assert_eq!(text(&site, "new").as_deref(), Some("new\n"));
        assert_eq!(text(&site, "etc/gone"), None);
        assert_eq!(text(&site, "etc/moved/file").as_deref(), Some("file\n"));
        assert_eq!(fs::read_dir(&site).unwrap().count(), 3, "nothing of ours is left there");
    });
}

#[test]
fn chosen_paths_alone_are_applied_also_after_a_snapshot() {
    each_user(|s| {
        let site = changed(s);
        s.run(&["snapshot", "c"]).ok();
        let said = s.run(&["promote", "c", "/new", "etc/gone", "--to", &site, "--own", "--json"]).json();
        assert_eq!((&said["applied"], &said["bytes"]), (&true.into(), &4.into()), "{said}");
        assert_eq!(text(&site, "new").as_deref(), Some("new\n"));
        assert_eq!(text(&site, "etc/gone"), None);
        assert_eq!(text(&site, "etc/motd").as_deref(), Some("one\n"));
        assert!(Path::new(&site).join("etc/dir").exists());
    });
}

#[test]
fn conflicts_are_listed_and_nothing_is_done_unless_forced() {
    each_user(|s| {
        let site = changed(s);
        let copy = s.path("copy");
        assert!(std::process::Command::new("cp").args(["-a", &site]).arg(&copy).status().unwrap().success());
        fs::write(copy.join("etc/motd"), "changed by somebody\n").unwrap();
        fs::write(copy.join("new"), "made by somebody\n").unwrap();
        let copy = copy.to_str().unwrap();
        let promote = ["promote", "c", "--to", copy, "--own"];
        let said = s.run(&promote);
        assert!(said.code == 1 && said.out.lines().count() == 2, "{said:?}");
        assert!(
            said.out.contains("conflict /etc/motd: expected") && said.out.contains("conflict /new: expected")
        );
        assert!(said.err.contains("conflicts: 2, nothing was done; --force"), "{said:?}");
        assert_eq!(text(copy, "etc/gone").as_deref(), Some("gone\n"));
        let said = s.run(&[&promote[..], &["--json"]].concat());
        let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!((said.code, &json["applied"]), (1, &false.into()));
        assert_eq!(json["conflicts"][0]["path"], "/etc/motd");
        assert!(json["conflicts"][0]["found"].is_string() && json["conflicts"][0]["forceable"] == true);
        s.run(&[&promote[..], &["--force"]].concat()).ok();
        assert_eq!(text(copy, "new").as_deref(), Some("new\n"));
        assert_eq!(text(copy, "etc/motd").as_deref(), Some("two\n"));
    });
}

#[test]
fn what_an_image_changed_goes_to_its_unpacked_root() {
    let s = Strata::new();
    s.image("base", &[]);
    let rootfs = s.path("rootfs");
    let rootfs = rootfs.to_str().unwrap();
    s.run(&["create", "--image", "base", "--name", "c"]).ok();
    s.feed(&["fs", "c", "put", "-", "/etc/motd"], b"promoted\n").ok();
    s.run(&["promote", "c", "--to", rootfs, "--own"]).ok();
    assert_eq!(text(rootfs, "etc/motd").as_deref(), Some("promoted\n"));
}

#[test]
fn careless_use_is_one_line_and_changes_nothing() {
    let s = Strata::new();
    let site = changed(&s);
    s.run(&["promote", "c"]).fails(2, &["--to"]);
    s.run(&["promote", "--to", &site]).fails(2, &["NAME"]);
    s.run(&["promote", "unknown", "--to", &site]).fails(1, &["unknown", "no such container"]);
    s.run(&["promote", "c", "--to", "/no/such"]).fails(1, &["/no/such"]);
    s.run(&["promote", "c", "--to", &format!("{site}/other")]).fails(1, &["other"]);
    s.run(&["promote", "c", "--recover", "--to", &site]).fails(2, &["--recover"]);
    let nothing = s.run(&["promote", "c", "/no/such/path", "--to", &site]).ok();
    assert!(nothing.ends_with("nothing to apply\n"), "{nothing}");
    assert!(s.run(&["promote", "--recover", "--to", &site]).ok().contains("nothing was left behind"));
    assert_eq!(s.run(&["promote", "--recover", "--to", &site, "--json"]).json()["recovered"], "nothing");
    assert_eq!(text(&site, "etc/motd").as_deref(), Some("one\n"));
}

#[test]
fn hostile_names_in_the_target_are_shown_harmlessly() {
    let s = Strata::new();
    let site = s.path("site");
    fs::create_dir(&site).unwrap();
    let evil = "\x1b[2Jevil\n\u{202e}";
    fs::write(site.join(evil), "x").unwrap();
    let site = site.to_str().unwrap();
    s.run(&["create", "--layer", site, "--name", "c"]).ok();
    s.feed(&["fs", "c", "put", "-", &format!("/{evil}")], b"y").ok();
    fs::write(Path::new(site).join(evil), "changed").unwrap();
    let said = s.run(&["promote", "c", "--to", site]).harmless();
    assert!(said.code == 1 && said.out.lines().count() == 1, "{said:?}");
    s.run(&["promote", "c", "--to", site, "--force"]).harmless().ok();
}

#[test]
fn nothing_is_promoted_into_the_state_directory() {
    each_user(|s| {
        let site = changed(s);
        std::os::unix::fs::symlink(s.path("state"), s.path("link")).unwrap();
        let state = s.path("state");
        let upper = s.scratch("c").join("upper");
        for to in [state.clone(), state.join("containers/c"), state.join("layers"), upper, s.path("link")] {
            for more in ["--own", "--force", "--dry-run"] {
                let said = s.run(&["promote", "c", "--to", to.to_str().unwrap(), more]);
                said.fails(1, &[to.to_str().unwrap(), "state directory"]);
            }
        }
        assert!(!state.join("new").exists());
        s.run(&["promote", "c", "--to", &site, "--own"]).ok();
    });
}

#[test]
fn a_chosen_path_without_changes_is_named() {
    let s = Strata::new();
    let site = changed(&s);
    let said = s.run(&["promote", "c", "/ect", "/etc/gone", "/etc/dir", "--to", &site, "--dry-run"]);
    assert_eq!(said.err, "strata: /ect: c changed nothing at or below it\n", "{said:?}");
    assert_eq!(said.code, 0);
}
