//! The README's console lines, run one after the other as they stand there.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, can_mount, said, skip};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// The lines after a prompt: `$` for any user, `#` for root.
fn lines(readme: &str) -> Vec<(bool, &str)> {
    let mut console = false;
    let mut out = Vec::new();
    for line in readme.lines() {
        if line.starts_with("```") {
            console = line == "```console";
        } else if console {
            let any = line.strip_prefix("$ ").map(|line| (false, line));
            out.extend(any.or_else(|| line.strip_prefix("# ").map(|line| (true, line))));
        }
    }
    out
}

#[test]
fn the_session_works_as_written() {
    let s = Strata::new();
    if s.run(&["info", "--json"]).json()["user_namespaces"] != true && !can_mount() {
        return skip("overlayfs or user namespaces");
    }
    let readme = include_str!("../../../README.md");
    for dir in ["bin", "work", "mnt"] {
        fs::create_dir(s.path(dir)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_strata"), s.path("bin/strata")).unwrap();
    let lines = lines(readme);
    assert!(lines.len() > 10, "{lines:?}");
    let mut patch = String::new();
    for (root, line) in lines {
        let needs_root = root || line.contains(" mount ") || line.contains(" umount ");
        if line.starts_with("cargo test") || (needs_root && !can_mount()) {
            continue;
        }
        let line = line.replace("cargo run --release --bin strata --", "strata");
        let line = line.replace("/mnt", s.path("mnt").to_str().unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).current_dir(s.path("work")).env("STRATA_ROOT", s.path("state"));
        shell.env("PATH", format!("{}:{}", s.path("bin").display(), std::env::var("PATH").unwrap()));
        let said = said(shell);
        // Those layers have no shell.
        let code = if line.contains("-- /bin/sh") { 127 } else { 0 };
        assert_eq!(said.code, code, "{line}: {said:?}");
        if line.contains("--patch") {
            patch = said.out;
        }
    }
    assert!(patch.contains("-hello\n+welcome\n"), "{patch}");
    assert!(common::mounts_below(s.tmp.path()).is_empty());
}
