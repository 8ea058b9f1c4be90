//! Hostile layers, a tampered state directory, and commands that look for a way out of a run: nothing outside is
//! read or written, and nothing hangs.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::{Said, Strata, can_mount, each_way, said, skip};
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a command that must end by itself.
fn soon(mut command: Command) -> Said {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// A directory outside with one secret file.
fn outside(s: &Strata) -> std::path::PathBuf {
    let dir = s.path("outside");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("secret"), "secret").unwrap();
    dir
}

fn untouched(outside: &Path) {
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1, "something was made outside");
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
}

#[test]
fn a_layer_full_of_traps_leads_nowhere() {
    let s = Strata::new();
    let outside = outside(&s);
    let layer = s.path("top");
    let up = format!("{}{}", "../".repeat(20), outside.to_str().unwrap().trim_start_matches('/'));
    let magic = format!("/proc/self/root{}", outside.display());
    for (name, target) in
        [("abs", outside.to_str().unwrap()), ("rel", &up), ("magic", &magic), ("dev", "/dev")]
    {
        symlink(target, layer.join(name)).unwrap();
    }
    symlink("loop", layer.join("loop")).unwrap();
    fifo(&layer.join("fifo"));
    symlink("fifo", layer.join("to-fifo")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(layer.join("socket")).unwrap());
    fs::write(layer.join("setuid"), "x").unwrap();
    fs::set_permissions(layer.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::write(layer.join("zz"), "last").unwrap();
    s.create("c");
    let fs_c = |arguments: &[&str]| soon(s.command(&[&["fs", "c"], arguments].concat()));
    let source = s.path("base/etc/motd");
    let source = source.to_str().unwrap();
    for link in ["abs", "rel", "magic"] {
        fs_c(&["cat", &format!("/{link}/secret")]).fails(1, &[link]);
        fs_c(&["put", source, &format!("/{link}/new")]).fails(1, &[link]);
        fs_c(&["rm", &format!("/{link}/secret")]).fails(1, &[link]);
    }
    for special in ["/fifo", "/to-fifo", "/socket"] {
        fs_c(&["cat", special]).fails(1, &[special, "not a file"]);
        fs_c(&["put", source, special]).fails(1, &[special, "not a file"]);
        fs_c(&["cp", special, "/copy"]).fails(1, &[special, "not a file"]);
        fs_c(&["get", special, s.path("got").to_str().unwrap()]).fails(1, &[special, "not a file"]);
    }
    fs_c(&["cat", "/loop"]).fails(1, &["loop"]);

    let got = s.path("tree");
    fs_c(&["get", "-r", "/", got.to_str().unwrap()]).fails(1, &["fifo", "socket"]);
    assert_eq!(fs::read(got.join("zz")).unwrap(), b"last", "what can be copied is");
    assert_eq!(fs::read_link(got.join("abs")).unwrap(), outside);
    assert_eq!(fs::metadata(got.join("setuid")).unwrap().permissions().mode() & 0o7777, 0o755);
    fs_c(&["put", "-r", layer.to_str().unwrap(), "/copied"]).fails(1, &["fifo", "socket"]);
    assert_eq!(fs_c(&["cat", "/copied/zz"]).ok(), "last");
    for name in ["/abs", "/rel", "/magic", "/dev", "/copied", "/etc"] {
        fs_c(&["rm", "-r", name]).ok();
    }
    untouched(&outside);
    assert!(layer.join("abs").symlink_metadata().is_ok());
}

#[test]
fn files_planted_in_the_state_do_not_lead_outside_or_block() {
    let s = Strata::new();
    let outside = outside(&s);
    let dir = s.path("state/containers/c");
    for name in ["lock", "config.json", "upper", "work", "root", "works"] {
        for kind in ["link", "fifo", "file"] {
            if (name, kind) == ("lock", "file") {
                continue;
            }
            s.create("c");
            let home = match name {
                "upper" | "work" | "works" => s.scratch("c"),
                _ => dir.clone(),
            };
            let at = home.join(name);
            if at.is_dir() {
                fs::remove_dir_all(&at).unwrap()
            } else {
                fs::remove_file(&at).unwrap()
            }
            match kind {
                "link" => symlink(&outside, &at).unwrap(),
                "fifo" => fifo(&at),
                _ => fs::write(&at, "x").unwrap(),
            }
            for arguments in [&["fs", "c", "touch", "/x"][..], &["diff", "c"], &["check"], &["ls"]] {
                let said = soon(s.command(arguments));
                assert!(!said.out.contains("secret"), "{name} as {kind}: {said:?}");
                assert_eq!(said.code, i32::from(arguments[0] != "ls"), "{name} as {kind}: {said:?}");
            }
            untouched(&outside);
            let removed = soon(s.command(&["rm", "c"]));
            if removed.code != 0 {
                removed.fails(1, &["lock"]);
                fs::remove_dir_all(&dir).unwrap();
            }
        }
    }
    for name in ["trash", "containers"] {
        let real = s.path("state").join(name);
        fs::rename(&real, s.path("kept")).unwrap();
        symlink(&outside, &real).unwrap();
        s.run(&["ls"]).fails(1, &[name]);
        fs::remove_file(&real).unwrap();
        fs::rename(s.path("kept"), &real).unwrap();
        untouched(&outside);
    }
    fifo(&s.path("state/trash/fifo"));
    symlink(&outside, s.path("state/trash/link")).unwrap();
    s.create("c");
    soon(s.command(&["rm", "c"])).ok();
    assert_eq!(fs::read_dir(s.path("state/trash")).unwrap().count(), 0);
    untouched(&outside);
}

#[test]
fn a_command_gets_three_descriptors_and_none_of_our_variables() {
    each_way(|s| {
        // What the caller forgot to close is a way out, in the command and in its pid 1.
        let leak = fs::File::open("/").unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let script = "ls /proc/self/fd; echo; ls /proc/1/fd; env | grep STRATA_";
        let out = s.run(&["run", "--rm", "--", "sh", "-c", script]);
        assert_eq!(out.out, "0\n1\n2\n3\n\n0\n1\n2\n", "3 is the listed directory itself: {out:?}");
        let mut command = s.command(&["run", "--rm", "--env", "STRATA_ROOT=/mine", "--", "sh", "-c"]);
        command.arg("echo $STRATA_ROOT");
        assert_eq!(said(command).ok(), "/mine\n");
        drop(leak);
    });
}

#[test]
fn a_command_reaches_nothing_of_the_host() {
    each_way(|s| {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let (root, mark) = (dir.path().join("state"), dir.path().join("mark"));
        let script = "for p in / /proc/1/root /proc/self/root /proc/self/cwd/../../../../..; do \
                      ls -A $p$1; echo > $p$2; done; \
                      (echo x > /proc/sys/kernel/domainname) 2> /dev/null && echo wrote; \
                      mount -t tmpfs none /mnt && touch /mnt/inside; exit 0";
        let command =
            ["--root", root.to_str().unwrap(), "run", "--name", "c", "--", "sh", "-c", script, "sh"];
        let paths = [root.to_str().unwrap(), mark.to_str().unwrap()];
        assert_eq!(soon(s.command(&[&command[..], &paths].concat())).ok(), "");
        assert!(!mark.exists() && !Path::new("/mnt/inside").exists());
    });
}

#[test]
fn the_state_is_hidden_in_whatever_layer_holds_it() {
    each_way(|s| {
        s.install(&s.path("base"), &["ls"]);
        let state = s.path("base/state");
        for dir in ["base", "base/bin"] {
            fs::set_permissions(s.path(dir), fs::Permissions::from_mode(0o777)).unwrap();
        }
        let (root, base) = (state.to_str().unwrap(), s.path("base"));
        let run = [
            "--root",
            root,
            "run",
            "--rm",
            "--layer",
            base.to_str().unwrap(),
            "--",
            "/bin/ls",
            "-A",
            "/state",
        ];
        assert_eq!(s.run(&run).ok(), "");
        s.run(&["--root", root, "run", "--rm", "--layer", root, "--", "/x"]).fails(125, &["state directory"]);
    });
}

#[test]
fn mounts_that_a_run_leaves_out_are_named() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN");
    }
    let s = Strata::new();
    let at = s.path("base/etc");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &at, "tmpfs", flags, c"size=64k").unwrap();
    let said = s.run(&["run", "--rm", "--layer", s.path("base").to_str().unwrap(), "--", "/x"]);
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(said.code == 127 && said.err.contains("empty inside: /etc\n"), "{said:?}");
}

#[test]
fn setuid_files_of_untrusted_layers_have_no_effect() {
    if !can_mount() {
        return skip("CAP_SYS_ADMIN");
    }
    let s = Strata::new();
    let flags = |untrusted: &[&str]| {
        let run =
            [&["run", "--rm"][..], untrusted, &["--", "grep", " / / ", "/proc/self/mountinfo"]].concat();
        s.run(&run).ok()
    };
    assert!(!flags(&[]).contains("nosuid"));
    assert!(flags(&["--untrusted"]).contains("nosuid"));
}

#[test]
fn a_command_cannot_set_the_clock_or_load_modules() {
    each_way(|s| {
        let out = s.run(&["run", "--rm", "--", "grep", "CapEff", "/proc/self/status"]).ok();
        let effective = u64::from_str_radix(out.trim().trim_start_matches("CapEff:").trim(), 16).unwrap();
        // Modules (16), raw input and output (17), time (25), the kernel's log (34); a user namespace gives none of
        // them over the host.
        let missing: u64 = 1 << 16 | 1 << 17 | 1 << 25 | 1 << 34;
        assert!(effective & missing == 0 || s.run(&["info", "--json"]).json()["sys_admin"] == false, "{out}");
    });
}

#[test]
fn a_terminal_is_one_inside_too() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script(1), for a terminal");
    }
    each_way(|s| {
        let inner = s.command(&["run", "--rm", "--", "tty"]);
        let words: Vec<_> = std::iter::once(inner.get_program()).chain(inner.get_args()).collect();
        let line: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        let mut script = Command::new("script");
        script.args(["-qec", &line.join(" "), "/dev/null"]).env("STRATA_ROOT", s.path("state"));
        script.stdin(Stdio::null());
        let said = soon(script);
        assert!(said.out.contains("/dev/console"), "{said:?}");
    });
}

#[test]
fn a_command_of_an_image_does_not_write_lines_of_ours() {
    each_way(|s| {
        let layer = common::tar::Tar::default().file("motd", b"x").bytes();
        let evil = "\nstrata: fine";
        for (config, what) in [
            (serde_json::json!({"Cmd": [format!("/x{evil}")]}), "cannot run"),
            (serde_json::json!({"Cmd": ["/x"], "WorkingDir": format!("/motd/{evil}")}), "cannot start"),
            (serde_json::json!({"Cmd": ["/x"], "User": format!("x{evil}")}), "cannot run as"),
        ] {
            let diff_id = stratafs::oci::Digest::of(&layer).to_string();
            let config = serde_json::json!({"os": "linux", "architecture": "amd64", "config": config,
                "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
            let archive = common::tar::docker("evil:1", &config, &layer);
            s.feed(&["image", "import", "-", "--platform", "linux/amd64"], &archive).ok();
            let said = s.run(&["run", "--rm", "--image", "evil:1"]);
            assert!(said.err.contains(what) && said.err.lines().count() == 1, "{said:?}");
        }
    });
}

#[test]
fn links_where_a_run_mounts_are_named_with_what_helps() {
    each_way(|s| {
        s.image("base", &["sh"]);
        for name in ["proc", "dev", "sys", "tmp"] {
            s.run(&["create", "--image", "base", "--name", "c"]).ok();
            s.run(&["fs", "c", "ln", "-s", "/etc", &format!("/{name}")]).ok();
            let help = format!("strata fs c rm /{name}");
            let said = s.run(&["run", "--name", "c", "--", "sh", "-c", ":"]);
            assert!(!said.err.contains("overlayfs"), "{said:?}");
            said.fails(125, &[&format!("/{name}"), "not a directory", &help]);
            s.run(&["fs", "c", "rm", &format!("/{name}")]).ok();
            s.run(&["run", "--name", "c", "--", "sh", "-c", ":"]).ok();
            s.run(&["rm", "c"]).ok();
        }
    });
}

#[test]
fn a_container_that_spoils_its_own_accounts_still_runs_as_root() {
    each_way(|s| {
        s.image("base", &["sh"]);
        s.run(&["create", "--image", "base", "--name", "c"]).ok();
        s.run(&["fs", "c", "rm", "/etc/passwd"]).ok();
        for target in ["passwd", "/dev/zero", "/proc/self/environ", "../../../../etc/passwd"] {
            s.run(&["fs", "c", "ln", "-s", target, "/etc/passwd"]).ok();
            soon(s.command(&["run", "--name", "c", "--", "sh", "-c", ":"])).ok();
            soon(s.command(&["run", "--name", "c", "-u", "web", "--", "sh"]))
                .fails(125, &["web", "/etc/passwd"]);
            s.run(&["fs", "c", "rm", "/etc/passwd"]).ok();
        }
    });
}
