//! `strata run`, `mount` and `umount` with the kernel: as root, and in a user namespace.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Strata, can_mount, each_way, mounts_below, skip};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn a_command_sees_the_host_and_changes_nothing_of_it() {
    each_way(|s| {
        let before = fs::metadata("/etc").unwrap().modified().unwrap();
        let script = "echo new > /etc/strata-test && rm /etc/passwd && test ! -e /etc/passwd && test $$ -lt 20 \
                      && test -c /dev/null && echo x > /dev/null && ls /proc/self/fd > /dev/null && touch /tmp/t \
                      && test -d /sys/kernel && echo done";
        let said = s.run(&["run", "--name", "try", "--stat", "--", "sh", "-c", script]);
        assert_eq!((said.code, said.out.as_str()), (0, "done\n"), "{said:?}");
        assert!(said.err.contains("strata diff try"), "{said:?}");
        let diff = s.run(&["diff", "try"]).ok();
        assert_eq!(diff, "D /etc/passwd\nA /etc/strata-test\n");
        assert!(fs::metadata("/etc/passwd").is_ok() && fs::metadata("/etc/strata-test").is_err());
        assert_eq!(fs::metadata("/etc").unwrap().modified().unwrap(), before);
        // Continued, with its own changes.
        assert_eq!(s.run(&["run", "--name", "try", "--", "cat", "/etc/strata-test"]).ok(), "new\n");
        assert_eq!(s.run(&["fs", "try", "cat", "/etc/strata-test"]).ok(), "new\n");
        assert_eq!(s.run(&["check"]).ok(), "try: ok\n");
        s.run(&["rm", "try"]).ok();
        assert!(mounts_below(s.tmp.path()).is_empty());
    });
}

#[test]
fn exit_codes_are_those_of_a_shell() {
    each_way(|s| {
        let code = |command: &[&str]| s.run(&[&["run", "--rm", "--"], command].concat()).code;
        assert_eq!(code(&["sh", "-c", "exit 7"]), 7);
        assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 143);
        assert_eq!(code(&["/no/such/program"]), 127);
        assert_eq!(code(&["/etc/passwd"]), 126);
        s.run(&["run", "--layer", "/no/such", "--", "true"]).fails(125, &["/no/such"]);
        s.run(&["run", "--workdir", "/no/such", "--", "true"]).fails(125, &["/no/such"]);
        s.run(&["run", "--env", "novalue", "--", "true"]).fails(2, &["novalue"]);
        assert_eq!(s.run(&["ls"]).ok(), "", "nothing is left of failed runs");
    });
}

#[test]
fn environment_directory_and_input_pass() {
    each_way(|s| {
        let out =
            s.run(&["run", "--rm", "--env", "A=b=c", "-w", "/usr", "--", "sh", "-c", "echo $A; pwd"]).ok();
        assert_eq!(out, "b=c\n/usr\n");
        let mut command = s.command(&["run", "--rm", "--", "pwd"]);
        command.current_dir("/usr");
        assert_eq!(common::said(command).ok(), "/usr\n");
        let mut command = s.command(&["run", "--rm", "--", "pwd"]);
        command.current_dir(s.tmp.path());
        let out = common::said(command).ok();
        assert!(out == "/\n" || !s.tmp.path().starts_with("/tmp"), "{out}");
    });
}

#[test]
fn the_state_of_containers_is_hidden_inside() {
    each_way(|s| {
        // Not below /tmp, which is private anyway.
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let root = dir.path().join("state");
        let root = root.to_str().unwrap();
        let script = "ls -A $1 && ! touch $1/x 2> /dev/null";
        s.run(&["--root", root, "run", "--rm", "--", "sh", "-c", script, "sh", root]).ok();
        let said = s.run(&["--root", root, "run", "--rm", "--", "ls", "-A", root]);
        assert_eq!(said.ok(), "");
    });
}

#[test]
fn root_of_a_user_namespace_runs_as_a_user_does() {
    let Some(s) = Strata::as_nobody() else { return skip("setpriv, to become another user") };
    if s.run(&["info", "--json"]).json()["user_namespaces"] != true {
        return skip("user namespaces");
    }
    let inside = s.wrapped(&["unshare", "--user", "--map-root-user", "--"]);
    assert_eq!(inside.run(&["info", "--json"]).json()["namespace"], "user");
    assert_eq!(inside.run(&["run", "--rm", "--", "echo", "nested"]).ok(), "nested\n");
}

#[test]
fn layers_stack_with_the_first_on_top() {
    each_way(|s| {
        s.install(&s.path("base"), &["sh", "cat"]);
        fs::create_dir_all(s.path("top/etc")).unwrap();
        fs::write(s.path("top/etc/motd"), "from the top\n").unwrap();
        let (top, base) = (s.path("top"), s.path("base"));
        let layers = ["--layer", top.to_str().unwrap(), "--layer", base.to_str().unwrap()];
        let command =
            ["--name", "c", "--stat", "--", "/bin/sh", "-c", "/bin/cat /etc/motd; echo mine > /new"];
        let said = s.run(&[&["run"], &layers[..], &command].concat());
        assert_eq!((said.code, said.out.as_str()), (0, "from the top\n"), "{said:?}");
        assert_eq!(s.run(&["diff", "c"]).ok(), "A /new\n", "no mount points are left");
        let said = s.run(&["run", "--name", "c", "--layer", "/", "--", "/bin/true"]);
        said.fails(125, &["c", "exists", "continue"]);
    });
}

#[test]
fn odd_paths_of_layers_mount() {
    each_way(|s| {
        let odd = s.path("a:b,c\\d e");
        s.install(&odd, &["cat"]);
        fs::write(odd.join("odd"), "odd").unwrap();
        let out = s.run(&["run", "--rm", "--layer", odd.to_str().unwrap(), "--", "/bin/cat", "/odd"]).ok();
        assert_eq!(out, "odd");
    });
}

#[test]
fn layers_inside_each_other_are_refused_with_the_reason() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN");
    }
    let s = Strata::new();
    let (outer, inner) = (s.path("base"), s.path("base/etc"));
    let layers = ["--layer", outer.to_str().unwrap(), "--layer", inner.to_str().unwrap()];
    s.run(&[&["run"], &layers[..], &["--", "true"]].concat())
        .fails(125, &["lies inside", "base/etc", "strata fs"]);
    assert_eq!(s.run(&["ls"]).ok(), "");
    // The other way round the lowest one is the outer one, which can be helped in a run; a plain mount cannot.
    s.install(&outer, &["cat"]);
    let layers = ["--layer", inner.to_str().unwrap(), "--layer", outer.to_str().unwrap()];
    let cat = ["--name", "c", "--", "/bin/cat", "/motd", "/etc/hosts"];
    assert_eq!(s.run(&[&["run"], &layers[..], &cat].concat()).ok(), "one\ntwo\nthree\nlocalhost\n");
    s.run(&["mount", "c", s.path("top").to_str().unwrap()]).fails(1, &["c", "lies inside", "strata run"]);
}

#[test]
fn whiteouts_that_the_kernel_does_not_know_are_not_mounted() {
    each_way(|s| {
        fs::write(s.path("top/.wh.etc"), "").unwrap();
        let (top, base) = (s.path("top"), s.path("base"));
        let layers = ["--layer", top.to_str().unwrap(), "--layer", base.to_str().unwrap()];
        s.run(&[&["create", "--name", "c", "--whiteouts", "aufs"], &layers[..]].concat()).ok();
        assert_eq!(s.run(&["fs", "c", "ls"]).ok(), "");
        s.run(&["run", "--name", "c", "--", "true"]).fails(125, &["whiteouts", "top", "strata fs"]);
    });
}

#[test]
fn planted_links_do_not_lead_mounts_elsewhere() {
    each_way(|s| {
        for name in ["proc", "dev", "sys", "tmp"] {
            let layer = s.path(name);
            fs::create_dir(&layer).unwrap();
            std::os::unix::fs::symlink("/etc", layer.join(name)).unwrap();
            fs::create_dir(layer.join("etc")).unwrap();
            s.run(&["run", "--layer", layer.to_str().unwrap(), "--", "/bin/true"]).fails(125, &[name]);
        }
        assert_eq!(s.run(&["ls"]).ok(), "");
    });
}

#[test]
fn signals_reach_the_command_and_no_process_is_left() {
    each_way(|s| {
        let script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
        let mut command = s.command(&["run", "--name", "sig", "--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        s.run(&["fs", "sig", "ls"]).fails(1, &["in use"]);
        s.run(&["rm", "sig"]).fails(1, &["in use"]);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "got it");
        assert_eq!(child.wait().unwrap().code(), Some(9));
        s.run(&["rm", "sig"]).ok();
    });
}

#[test]
fn a_killed_run_leaves_nothing_mounted_and_frees_the_container() {
    each_way(|s| {
        let mut command = s.command(&["run", "--name", "kill", "--", "sh", "-c", "echo ready; sleep 100"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(lines.next().is_none(), "the command is gone: its output ends");
        let freed = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            s.run(&["fs", "kill", "ls"]).code == 0
        });
        assert!(freed);
        assert!(mounts_below(s.tmp.path()).is_empty());
        s.run(&["rm", "kill"]).ok();
    });
}

#[test]
fn volatile_and_strict_containers_run_again() {
    each_way(|s| {
        for durability in ["volatile", "strict"] {
            let run = |script: &str| {
                s.run(&["run", "--name", durability, "--", "sh", "-c", script]).ok();
            };
            s.run(&["create", "--name", durability, "--durability", durability]).ok();
            run("echo a > /etc/strata-test");
            run("grep a /etc/strata-test && mkdir /etc/strata-dir");
            assert_eq!(s.run(&["diff", durability, "--stat"]).ok(), "2 added\n");
            assert_eq!(s.run(&["fs", durability, "cat", "/etc/strata-test"]).ok(), "a\n");
            s.run(&["rm", durability]).ok();
        }
    });
}

#[test]
fn a_mounted_container_is_in_use_until_it_is_unmounted() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN");
    }
    let s = Strata::new();
    s.create("app");
    s.run(&["fs", "app", "mv", "/etc", "/moved"]).ok();
    let point = s.path("mnt");
    fs::create_dir(&point).unwrap();
    let at = point.to_str().unwrap();
    s.run(&["mount", "app", "/no/such"]).fails(1, &["/no/such"]);
    s.run(&["umount", at]).fails(1, &["mnt"]);
    s.run(&["mount", "app", at]).ok();
    assert_eq!(fs::read_to_string(point.join("moved/motd")).unwrap(), "one\ntwo\nthree\n");
    fs::write(point.join("moved/motd"), "by the kernel").unwrap();
    for arguments in [&["fs", "app", "ls"][..], &["rm", "app"], &["mount", "app", at]] {
        s.run(arguments).fails(1, &["app", "mounted at"]);
    }
    s.run(&["run", "--name", "app", "--", "true"]).fails(125, &["app", "mounted at"]);
    assert_eq!(s.run(&["inspect", "app", "--json"]).json()["mounted_at"], at);
    s.run(&["umount", "app"]).ok();
    assert!(mounts_below(s.tmp.path()).is_empty());
    assert_eq!(s.run(&["fs", "app", "cat", "/moved/motd"]).ok(), "by the kernel");
    s.run(&["mount", "app", at]).ok();
    s.run(&["umount", at]).ok();
    s.run(&["rm", "app"]).ok();
}

#[test]
fn an_unprivileged_run_stacks_layers_without_mounts_whole() {
    let Some(s) = Strata::as_nobody() else { return skip("setpriv, to become another user") };
    if s.run(&["info", "--json"]).json()["user_namespaces"] != true {
        return skip("user namespaces");
    }
    s.create("app");
    // Nothing can be executed in these layers: what counts is that everything up to there was set up.
    let said = s.run(&["run", "--name", "app", "--", "/bin/true"]);
    assert_eq!(said.code, 127, "{said:?}");
    assert_eq!(s.run(&["diff", "app"]).ok(), "", "the mount points that were made are gone again");
}
