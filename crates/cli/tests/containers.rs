//! create, ls, inspect, rm, diff and check, as any user.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::Strata;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_container_is_made_listed_and_removed() {
    let s = Strata::new();
    s.create("app");
    let listed = s.run(&["ls", "--json"]).json();
    assert_eq!(listed[0]["name"], "app");
    assert_eq!(listed[0]["in_use"], false);
    assert_eq!(listed[0]["layers"].as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["layers"][1]["path"], s.path("base").to_str().unwrap());
    assert!(s.run(&["ls"]).ok().starts_with("app  "));
    let about = s.run(&["inspect", "app", "--json"]).json();
    assert_eq!(about["durability"], "ordered");
    assert!(s.run(&["inspect", "app"]).ok().contains("base"));
    assert_eq!(s.run(&["check"]).ok(), "app: ok\n");
    s.run(&["rm", "app"]).ok();
    assert_eq!(s.run(&["ls", "--json"]).json().as_array().unwrap().len(), 0);
    let fresh = s.run(&["create", "--layer", s.path("base").to_str().unwrap()]).ok();
    s.run(&["inspect", fresh.trim()]).ok();
}

#[test]
fn bad_input_is_one_line_and_leaves_nothing() {
    let s = Strata::new();
    s.create("app");
    let base = s.path("base");
    let base = base.to_str().unwrap();
    s.run(&["create", "--name", "app", "--layer", base]).fails(1, &["app", "exists"]);
    s.run(&["create", "--name", "x", "--layer", "/no/such"]).fails(1, &["/no/such"]);
    let file = s.path("base/etc/motd");
    s.run(&["create", "--name", "x", "--layer", file.to_str().unwrap()])
        .fails(1, &["motd", "not a directory"]);
    s.run(&["create", "--name", "../x", "--layer", base]).fails(2, &["../x"]);
    s.run(&["rm", "unknown"]).fails(1, &["unknown"]);
    s.run(&["inspect", "unknown"]).fails(1, &["unknown"]);
    s.run(&["diff", "unknown"]).fails(1, &["unknown"]);
    s.run(&["fs", "unknown", "ls"]).fails(1, &["unknown"]);
    let said = s.run(&["check", "unknown"]);
    assert!(said.code == 1 && said.out.contains("no such container"), "{said:?}");
    s.run(&["frobnicate"]).fails(2, &["frobnicate"]);
    s.run(&["run"]).fails(2, &["COMMAND"]);
    assert_eq!(s.run(&["rm", "unknown", "app"]).code, 1, "goes on after a failure");
    assert_eq!(s.run(&["ls"]).ok(), "");
    assert_eq!(fs::read_dir(s.path("state/trash")).unwrap().count(), 0);
    fs::set_permissions(s.path("state"), fs::Permissions::from_mode(0o755)).unwrap();
    s.run(&["ls"]).fails(1, &["state", "0755"]);
}

#[test]
fn diff_shows_lines_counts_json_and_patches() {
    let s = Strata::new();
    s.create("app");
    assert_eq!(s.run(&["diff", "app", "--exit-code"]).ok(), "");
    fs::write(s.path("new"), "one\n2\nthree\n").unwrap();
    s.run(&["fs", "app", "put", s.path("new").to_str().unwrap(), "/etc/motd"]).ok();
    s.run(&["fs", "app", "rm", "/etc/hosts"]).ok();
    s.run(&["fs", "app", "mkdir", "/var"]).ok();
    s.run(&["fs", "app", "mv", "/etc", "/settings"]).ok();
    let text = s.run(&["diff", "app"]).ok();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.contains(&"R /etc/ -> /settings/"), "{text}");
    assert!(lines.iter().any(|l| l.starts_with("M /settings/motd (data")), "{text}");
    assert!(lines.contains(&"D /settings/hosts") || lines.contains(&"D /etc/hosts"), "{text}");
    assert!(lines.contains(&"A /var/"), "{text}");
    assert!(!text.contains("M / "), "only times of the root changed: {text}");
    assert!(s.run(&["diff", "app", "--all"]).ok().contains("M / (times)"));
    assert_eq!(s.run(&["diff", "app", "--stat"]).ok(), "1 added, 1 modified, 1 deleted, 1 renamed\n");
    let json = s.run(&["diff", "app", "--json"]).json();
    assert_eq!((&json["added"], &json["renamed"]), (&1.into(), &1.into()));
    assert_eq!(json["changes"].as_array().unwrap().len(), 4);
    assert_eq!(s.run(&["diff", "app", "--exit-code"]).code, 3);
    let patch = s.run(&["diff", "app", "--patch", "/settings/motd"]).ok();
    assert!(patch.starts_with("--- a/etc/motd\n+++ b/settings/motd\n@@ "), "{patch}");
    assert!(patch.contains("\n-two\n+2\n"), "{patch}");
    s.run(&["diff", "app", "--patch", "/nowhere"]).fails(1, &["/nowhere"]);
    assert_eq!(fs::read_to_string(s.path("base/etc/motd")).unwrap(), "one\ntwo\nthree\n");
}

#[test]
fn check_names_what_is_wrong() {
    let s = Strata::new();
    s.create("app");
    s.create("other");
    s.run(&["fs", "app", "mv", "/etc", "/moved"]).ok();
    assert_eq!(s.run(&["check"]).ok(), "app: ok\nother: ok\n");
    fs::rename(s.path("base/etc"), s.path("base/gone")).unwrap();
    let said = s.run(&["check", "app"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("/moved") && said.out.contains("/etc"), "{said:?}");
    fs::rename(s.path("base"), s.path("lost")).unwrap();
    let said = s.run(&["check", "--json"]);
    assert_eq!(said.code, 1);
    let reports: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert!(reports[0]["problems"][0]["what"].as_str().unwrap().contains("base"));
    fs::rename(s.path("lost"), s.path("base")).unwrap();
    fs::write(s.path("state/containers/other/config.json"), "{}").unwrap();
    let said = s.run(&["check", "other"]);
    assert!(said.code == 1 && said.out.contains("config.json"), "{said:?}");
    assert!(s.run(&["ls"]).ok().contains("damaged"));
    s.run(&["rm", "other"]).ok();
}

#[test]
fn info_and_completions_answer() {
    let s = Strata::new();
    let info = s.run(&["info", "--json"]).json();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert!(s.run(&["info"]).ok().contains("user namespaces"));
    assert_eq!(fs::read_dir(s.path("state")).unwrap().count(), 5, "no probe is left");
    assert!(s.run(&["completions", "bash"]).ok().contains("strata"));
    let help = s.run(&["--help"]).ok();
    assert!(help.contains("strata diff try") && help.contains("Exit codes"));
}

#[test]
fn the_state_directory_comes_from_the_environment() {
    let s = Strata::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_strata"));
    command.args(["info", "--json"]).env("STRATA_ROOT", s.path("elsewhere"));
    let info = common::said(command).json();
    assert_eq!(info["root"], s.path("elsewhere").canonicalize().unwrap().to_str().unwrap());
}

#[test]
fn where_the_state_is_does_not_show_in_the_usage_of_errors() {
    let s = Strata::new();
    let said = s.run(&["fork", "c"]);
    assert!(said.code == 2 && said.err.contains("Usage: strata fork <NAME> <NEW>"), "{said:?}");
    // An empty variable is none.
    let mut command = s.command(&["info", "--json"]);
    command.env("STRATA_ROOT", "").env("HOME", s.path("home")).env("XDG_DATA_HOME", s.path("data"));
    assert_ne!(common::said(command).json()["state"], "");
}
