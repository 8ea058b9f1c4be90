//! `strata image`, `commit`, `export` and `layer`: what they do, careless use, hostile archives, and any user.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use common::tar::{Tar, docker};
use common::{Said, Strata, each_user, skip};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The digest of no bytes at all is as good as any for a layer that is never compared.
const NO_DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn id(s: &Strata, image: &str) -> String {
    s.run(&["image", "inspect", image, "--json"]).json()["id"].as_str().unwrap().to_owned()
}

/// Nothing of a failed import is left.
#[track_caller]
fn nothing_left(s: &Strata) {
    for dir in ["images", "layers", "trash"] {
        assert_eq!(s.state(dir), [""; 0], "{dir}");
    }
}

#[test]
fn an_image_goes_in_is_listed_and_goes_out_as_it_was() {
    each_user(|s| {
        s.image("base", &[]);
        let listed = s.run(&["image", "ls", "--json"]).json();
        assert_eq!((&listed[0]["name"], &listed[0]["layers"]), (&"base:latest".into(), &1.into()));
        assert!(s.run(&["image", "ls"]).ok().starts_with("base:latest  "));
        let about = s.run(&["image", "inspect", "base", "--json"]).json();
        assert_eq!(about["config"]["os"], "linux");
        assert_eq!(about["stack"].as_array().unwrap().len(), 1);
        let id = about["id"].as_str().unwrap();
        assert!(s.run(&["image", "inspect", "base"]).ok().contains(id));
        assert!(s.run(&["image", "inspect", &id[7..15]]).ok().contains(id), "by the beginning of the id");
        s.run(&["image", "tag", "base", "team/base:1"]).ok();
        assert!(s.run(&["image", "inspect", "base"]).ok().contains("base:latest, team/base:1"));
        for (compression, file) in [("gzip", "a.tar"), ("zstd", "b.tar"), ("none", "c.tar")] {
            let file = s.path(file);
            let file = file.to_str().unwrap();
            let export = ["image", "export", "base", "-o", file, "--compression", compression];
            s.run(&export).ok();
            let other = s.path(&format!("other-{compression}"));
            let root = ["--root", other.to_str().unwrap()];
            s.run(&[&root[..], &["image", "import", file]].concat()).ok();
            let there = s.run(&[&root[..], &["image", "ls", "--json"]].concat()).json();
            assert_eq!((&there[0]["name"], &there[0]["id"]), (&"base:latest".into(), &id.into()));
        }
        let layout = s.path("layout");
        let layout = layout.to_str().unwrap();
        s.run(&["image", "export", "base", "team/base:1", "-o", layout, "--dir"]).ok();
        s.run(&["image", "rm", "base", "team/base:1"]).ok();
        assert_eq!(s.run(&["image", "ls"]).ok(), "");
        s.run(&["image", "import", layout]).ok();
        assert_eq!(s.run(&["image", "ls", "--json"]).json().as_array().unwrap().len(), 2);
    });
}

#[test]
fn layer_archives_are_taken_from_files_and_from_standard_input() {
    each_user(|s| {
        let layer = Tar::default().dir("etc").file("etc/motd", b"hello\n").bytes();
        let images = s.feed(&["image", "import", "-", "--name", "one"], &layer).ok();
        assert!(images.starts_with("one:latest  "));
        s.run(&["create", "--image", "one", "--name", "c"]).ok();
        assert_eq!(s.run(&["fs", "c", "cat", "/etc/motd"]).ok(), "hello\n");
        for compression in ["gzip", "zstd", "none"] {
            let file = s.path(compression);
            let file = file.to_str().unwrap();
            s.run(&["export", "c", "-o", file, "--compression", compression]).ok();
            s.run(&["image", "import", file, "--name", compression]).ok();
        }
        assert_eq!(id(s, "gzip"), id(s, "zstd"), "compression is not part of an image");
        assert_eq!(id(s, "gzip"), id(s, "none"));
    });
}

#[test]
fn a_commit_is_an_image_and_the_same_changes_are_the_same_layer() {
    each_user(|s| {
        s.image("base", &[]);
        for (name, order) in [("a", ["/x", "/y"]), ("b", ["/y", "/x"])] {
            s.run(&["create", "--image", "base", "--name", name]).ok();
            for path in order {
                s.run(&["fs", name, "mkdir", path]).ok();
            }
            s.run(&["fs", name, "rm", "/etc/motd"]).ok();
            // What time it was is part of a change.
            s.feed(&["fs", name, "put", "-", "/etc/new"], b"new\n").ok();
        }
        let committed = s.run(&[
            "commit",
            "a",
            "--image",
            "app:1",
            "-m",
            "why",
            "--author",
            "who",
            "--change",
            "CMD [\"/x\"]",
            "--change",
            "ENV A=b c",
            "--json",
        ]);
        let last = committed.lines().pop().unwrap();
        assert_eq!(last["event"], "result", "{committed:?}");
        assert_eq!(last["result"]["image"]["name"], "app:1");
        assert!(last["result"]["layer"]["entries"].as_u64().unwrap() >= 5);
        let about = s.run(&["image", "inspect", "app:1", "--json"]).json();
        assert_eq!(about["config"]["config"], serde_json::json!({"Cmd": ["/x"], "Env": ["A=b c"]}));
        assert_eq!(about["config"]["history"][1]["comment"], "why");
        assert_eq!(about["layers"], 2);
        s.run(&["create", "--image", "app:1", "--name", "again"]).ok();
        assert_eq!(s.run(&["fs", "again", "cat", "/etc/new"]).ok(), "new\n");
        s.run(&["fs", "again", "cat", "/etc/motd"]).fails(1, &["/etc/motd"]);
        assert_eq!(s.run(&["diff", "again"]).ok(), "");
        assert!(s.run(&["commit", "again", "--image", "app:2"]).ok().contains("nothing changed"));
        // The container goes on, and its changes stay its own.
        assert!(s.run(&["diff", "a", "--stat"]).ok().contains("deleted"));
        let names = |container: &str| {
            let file = s.path(container);
            s.run(&["layer", container, "--force", "-o", file.to_str().unwrap()]).ok();
            let said = Command::new("tar").arg("tf").arg(&file).output().unwrap();
            String::from_utf8(said.stdout).unwrap()
        };
        assert_eq!(names("a"), "./\netc/\netc/.wh.motd\netc/new\nx/\ny/\n");
        assert_eq!(names("a"), names("b"));
        let fixed = |name: &str| {
            let mut command = s.command(&["commit", "a", "--image", name]);
            command.env("SOURCE_DATE_EPOCH", "1000000000");
            common::said(command).ok();
            id(s, name)
        };
        assert_eq!(fixed("same:1"), fixed("same:2"));
    });
}

#[test]
fn careless_use_is_one_line_and_leaves_nothing() {
    let s = Strata::new();
    let missing = s.path("missing");
    let missing = missing.to_str().unwrap();
    s.run(&["image", "import", missing]).fails(1, &["missing", "No such file"]);
    s.run(&["image", "import"]).fails(2, &["FROM"]);
    fs::write(s.path("text"), "no archive at all").unwrap();
    let text = s.path("text");
    s.run(&["image", "import", text.to_str().unwrap()]).fails(1, &["text"]);
    s.feed(&["image", "import", "-"], b"").fails(1, &["-"]);
    s.feed(&["image", "import", "-"], &Tar::default().dir("x").bytes()).fails(1, &["name"]);
    s.run(&["image", "import", "/dev/null", "--name", "x"]).fails(1, &["/dev/null"]);
    let whole = Tar::default().file("f", &[7; 5000]).bytes();
    s.feed(&["image", "import", "-", "--name", "x"], &whole[..3000]).fails(1, &["ends"]);
    for bad in ["UPPER", "a b", "../x", "a@sha256:00", ""] {
        s.run(&["image", "import", text.to_str().unwrap(), "--name", bad]).fails(2, &["--name"]);
    }
    s.run(&["image", "import", text.to_str().unwrap(), "--platform", "linux"]).fails(2, &["OS/ARCH"]);
    nothing_left(&s);
    for arguments in [
        &["image", "inspect", "unknown"][..],
        &["image", "rm", "unknown"],
        &["image", "tag", "unknown", "x"],
        &["image", "export", "unknown", "-o", missing],
        &["create", "--image", "unknown"],
        &["commit", "unknown", "--image", "x"],
        &["export", "unknown", "-o", missing],
        &["layer", "unknown", "-o", missing],
    ] {
        s.run(arguments).fails(1, &["unknown"]);
    }
    s.run(&["run", "--image", "unknown", "x"]).fails(125, &["unknown"]);
    assert!(!s.path("missing").exists());
    s.image("base", &[]);
    s.run(&["create", "--image", "base", "--layer", "/"]).fails(2, &["--layer"]);
    s.run(&["create", "--image", "base", "--name", "c"]).ok();
    s.run(&["run", "--image", "base", "--name", "c", "x"]).fails(125, &["c", "already exists", "continue"]);
    s.run(&["run", "--image", "base"]).fails(2, &["names no command"]);
    s.run(&["image", "export", "base"]).fails(2, &["--output"]);
    s.run(&["commit", "c"]).fails(2, &["--image"]);
    s.run(&["commit", "c", "--image", "x", "--change", "RUN x"]).fails(2, &["RUN x", "ENV"]);
    fs::write(s.path("out"), "precious").unwrap();
    let (out, dir) = (s.path("out"), s.path("top"));
    let (out, dir) = (out.to_str().unwrap(), dir.to_str().unwrap());
    for arguments in [&["image", "export", "base"][..], &["export", "c"], &["layer", "c"]] {
        s.run(&[arguments, &["-o", out]].concat()).fails(1, &["out", "exists", "--force"]);
        assert_eq!(fs::read(out).unwrap(), b"precious");
        s.run(&[arguments, &["-o", dir]].concat()).fails(1, &["top"]);
        s.run(&[arguments, &["-o", "/no/such/dir/file"]].concat()).fails(1, &["/no/such/dir"]);
        s.run(&[arguments, &["-o", out, "--force"]].concat()).ok();
        assert_ne!(fs::read(out).unwrap(), b"precious");
        fs::write(out, "precious").unwrap();
    }
    assert_eq!(fs::read_dir(s.path("top")).unwrap().count(), 0);
    let names: Vec<_> = fs::read_dir(s.tmp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
    s.run(&["export", "c", "--json"]).fails(2, &["--output"]);
    s.run(&["export", "c", "-o", "-", "--json"]).fails(2, &["--json"]);
    assert_eq!(s.run(&["image", "rm", "unknown", "base"]).code, 1, "goes on after a failure");
    assert_eq!(s.run(&["image", "ls"]).ok(), "");
}

#[test]
fn importing_twice_stores_once_and_a_name_goes_to_the_new_image() {
    let s = Strata::new();
    s.image("base", &[]);
    let (first, layers) = (id(&s, "base"), s.state("layers"));
    s.image("base", &[]);
    s.image("other", &[]);
    assert_eq!((id(&s, "base"), s.state("layers")), (first.clone(), layers));
    fs::write(s.path("rootfs/new"), "new").unwrap();
    s.image("base", &[]);
    assert_ne!(id(&s, "base"), first);
    assert_eq!(id(&s, "other"), first);
}

#[test]
fn a_container_keeps_the_layers_of_an_image_that_is_removed() {
    each_user(|s| {
        s.image("base", &[]);
        s.run(&["create", "--image", "base", "--name", "c"]).ok();
        s.run(&["image", "rm", "base"]).ok();
        s.run(&["gc"]).ok();
        assert_eq!(s.run(&["fs", "c", "cat", "/etc/motd"]).ok(), "one\ntwo\nthree\n");
        assert!(s.run(&["inspect", "c"]).ok().contains("base:latest"));
        s.run(&["fs", "c", "touch", "/new"]).ok();
        s.run(&["commit", "c", "--image", "saved"]).ok();
        s.run(&["rm", "c"]).ok();
        s.run(&["image", "rm", "saved"]).ok();
        let collected = s.run(&["gc", "--json"]).json();
        assert_eq!(collected["layers"], 2);
        assert!(collected["bytes"].as_u64().unwrap() > 0);
        nothing_left(s);
        assert_eq!(s.run(&["gc"]).ok(), "nothing to remove\n");
    });
}

#[test]
fn hostile_archives_leave_nothing_and_reach_neither_the_host_nor_the_terminal() {
    each_user(|s| {
        let outside = s.path("outside");
        fs::create_dir(&outside).unwrap();
        let mark = outside.join("mark");
        let name = "\x1b]0;title\x07\x1b[2J\u{202e}name";
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("up", Tar::default().file("../mark", b"x").bytes()),
            ("absolute", Tar::default().entry(b'1', b"l", mark.to_str().unwrap().as_bytes(), b"").bytes()),
            ("control", Tar::default().file(&format!("a/../../{name}"), b"x").bytes()),
            ("bare", Tar::default().dir("d").file("d/.wh.", b"").bytes()),
            ("missing link", Tar::default().entry(b'1', b"\x1b[1mx", b"\x1b[2Jnowhere", b"").bytes()),
            ("file as directory", Tar::default().file("\x07f", b"").file("\x07f/x", b"").bytes()),
        ];
        for (case, archive) in cases {
            let said = s.feed(&["image", "import", "-", "--name", "x"], &archive).harmless();
            assert_eq!(said.code, 1, "{case}: {said:?}");
            assert_eq!(said.err.lines().count(), 1, "{case}: {said:?}");
            nothing_left(s);
            let said = s.feed(&["image", "import", "-", "--name", "x", "--json"], &archive).harmless();
            assert_eq!(said.lines().pop().unwrap()["event"], "error", "{case}");
            nothing_left(s);
        }
        let through = Tar::default()
            .entry(b'2', b"link", outside.to_str().unwrap().as_bytes(), b"")
            .file("link/mark", b"x")
            .bytes();
        let _ = s.feed(&["image", "import", "-", "--name", "x"], &through).harmless();
        assert!(!mark.exists() && fs::read_dir(&outside).unwrap().count() == 0);
    });
}

#[test]
fn what_an_image_says_of_itself_is_shown_harmlessly() {
    let s = Strata::new();
    let evil = "\x1b[2J\x07evil\nline";
    let layer = Tar::default().dir("etc").bytes();
    let mut config = serde_json::json!({
        "os": "linux", "architecture": "amd64", "author": evil, "created": evil,
        "config": {"Env": [format!("A={evil}")], "Cmd": [evil], "User": evil, "WorkingDir": evil, "Labels": {evil: evil},
            "ExposedPorts": {evil: {}}, "Volumes": {evil: {}}, "StopSignal": evil},
        "rootfs": {"type": "layers", "diff_ids": [NO_DIGEST]},
        "history": [{"comment": evil}],
    });
    let said = s.feed(&["image", "import", "-"], &docker("x:1", &config, &layer)).harmless();
    said.fails(1, &[NO_DIGEST]);
    nothing_left(&s);
    // The digest that it is, from an import that does not know one.
    s.feed(&["image", "import", "-", "--name", "plain"], &layer).ok();
    let about = s.run(&["image", "inspect", "plain", "--json"]).json();
    config["rootfs"]["diff_ids"][0] = about["stack"][0]["diff_id"].clone();
    s.feed(&["image", "import", "-"], &docker(&format!("{evil}:1"), &config, &layer)).harmless();
    s.feed(&["image", "import", "-", "--name", "x:1"], &docker("y:1", &config, &layer)).harmless().ok();
    s.run(&["create", "--image", "x:1", "--name", "c"]).ok();
    for arguments in [
        &["image", "ls"][..],
        &["image", "ls", "--json"],
        &["image", "inspect", "x:1"],
        &["image", "inspect", "x:1", "--json"],
        &["inspect", "c"],
        &["usage"],
        &["check"],
        &["run", "--name", "c"],
    ] {
        s.run(arguments).harmless();
    }
}

#[test]
fn events_are_one_object_a_line_and_end_with_the_result() {
    let s = Strata::new();
    s.image("base", &[]);
    let file = s.path("base.tar");
    let file = file.to_str().unwrap();
    let said = s.run(&["image", "export", "base", "-o", file, "--json"]);
    let events = said.lines();
    assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    assert_eq!(events.first().unwrap()["event"], "begin");
    let result = events.last().unwrap();
    assert_eq!((&result["event"], &result["result"]["output"]), (&"result".into(), &file.into()));
    let other = s.path("other");
    let import = ["--root", other.to_str().unwrap(), "image", "import", file, "--json"];
    let said = s.run(&import);
    let events = said.lines();
    let what = events[0]["what"].as_str().unwrap();
    assert!(what.starts_with("sha256:") && events[0]["bytes"].as_u64().unwrap() > 0, "{events:?}");
    let done = events.iter().find(|event| event["event"] == "done").unwrap();
    assert_eq!((&done["what"], &done["bytes"]), (&what.into(), &events[0]["bytes"]));
    assert_eq!(events.last().unwrap()["result"]["images"][0]["name"], "base:latest");
    let again = s.run(&import).lines();
    assert!(again.iter().any(|event| event["note"].is_string()), "{again:?}");
    s.run(&["create", "--image", "base", "--name", "c"]).ok();
    let said = s.run(&["export", "c", "-o", s.path("flat.tar").to_str().unwrap(), "--json"]);
    assert!(said.lines().pop().unwrap()["result"]["entries"].as_u64().unwrap() > 3);
    // Nobody listens: the work ends, and nothing of it is left.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let third = s.path("third");
    let mut command = s.command(&["--root", third.to_str().unwrap(), "image", "import", file, "--json"]);
    assert_eq!(command.stdout(writer).status().unwrap().code(), Some(141));
    assert_eq!(fs::read_dir(third.join("images")).unwrap().count(), 0);
}

/// The signals that a process has blocked: it waits for those.
fn blocked(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

#[test]
fn an_interrupted_import_ends_at_once_and_leaves_nothing() {
    let s = Strata::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = s.command(&["image", "import", "-", "--name", "x"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let archive = Tar::default().file("big", &vec![1; 300_000]).bytes();
        stdin.write_all(&archive[..200_000]).unwrap();
        let (start, bit) = (Instant::now(), 1_u64 << (signal.as_raw() - 1));
        while blocked(child.id()) & bit == 0 {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        let start = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        // As timeout(1) does, once to the process and once to its group: no reason to leave everything lying.
        std::thread::sleep(Duration::from_millis(10));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (128 + signal.as_raw(), "strata: interrupted\n"));
        assert!(start.elapsed() < Duration::from_secs(5));
        nothing_left(&s);
        drop(stdin);
    }
}

#[test]
fn archives_are_not_written_to_a_terminal() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script(1), for a terminal");
    }
    let s = Strata::new();
    s.image("base", &[]);
    s.run(&["create", "--image", "base", "--name", "c"]).ok();
    for line in ["export c", "layer c", "export c -o -", "image export base -o -", "image import -"] {
        let inner = s.command(&line.split(' ').collect::<Vec<_>>());
        let words: Vec<_> = std::iter::once(inner.get_program()).chain(inner.get_args()).collect();
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        let mut script = Command::new("script");
        script.args(["-qec", &words.join(" "), "/dev/null"]).env("STRATA_ROOT", s.path("state"));
        let said = common::said(script);
        assert!(said.code == 2 && said.out.contains("terminal"), "{line}: {said:?}");
    }
}

#[test]
fn a_reader_of_an_archive_that_has_had_enough_is_no_error() {
    let s = Strata::new();
    fs::write(s.path("base/big"), vec![b'x'; 1 << 20]).unwrap();
    s.create("c");
    s.image("base", &[]);
    for arguments in [&["export", "c"][..], &["layer", "c"], &["image", "export", "base", "-o", "-"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = s.command(arguments);
        command.stdout(writer).stderr(Stdio::piped());
        let said = Said::of(command.spawn().unwrap().wait_with_output().unwrap());
        assert_eq!((said.code, said.err.as_str()), (141, ""), "{arguments:?}");
    }
}

#[test]
fn links_at_the_place_of_the_output_are_not_written_through() {
    let s = Strata::new();
    s.create("c");
    fs::write(s.path("precious"), "precious").unwrap();
    symlink(s.path("precious"), s.path("out")).unwrap();
    let out = s.path("out");
    s.run(&["export", "c", "-o", out.to_str().unwrap()]).fails(1, &["exists"]);
    s.run(&["export", "c", "-o", out.to_str().unwrap(), "--force"]).ok();
    assert_eq!(fs::read(s.path("precious")).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&out).unwrap().is_file());
}

#[test]
fn an_image_is_written_into_pipes_and_devices_in_place() {
    let s = Strata::new();
    s.image("base", &[]);
    let fifo = s.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    s.run(&["image", "export", "base", "-o", fifo.to_str().unwrap()]).ok();
    assert!(reader.join().unwrap().len() > 1024);
    s.run(&["image", "export", "base", "-o", "/dev/null", "--force"]).ok();
    s.run(&["image", "export", "base", "-o", "/dev/full"]).fails(1, &["No space"]);
}

#[test]
fn where_an_image_cannot_go_the_option_that_helps_is_named() {
    let s = Strata::new();
    s.image("base", &[]);
    fs::write(s.path("file"), "").unwrap();
    let (file, dir) = (s.path("file"), s.path("top"));
    let export = |to: &std::path::Path, more: &[&str]| {
        s.run(&[&["image", "export", "base", "-o", to.to_str().unwrap()], more].concat())
    };
    export(&dir, &[]).fails(1, &["is a directory", "--dir"]);
    export(&file, &["--dir"]).fails(1, &["no directory"]);
    export(&file, &[]).fails(1, &["--force"]);
    let layer = Tar::default().dir("etc").bytes();
    s.feed(&["image", "import", "-"], &layer).fails(1, &["--name"]);
    for text in ["hello\n".to_owned(), "a long text of many words\n".repeat(100)] {
        s.feed(&["image", "import", "-", "--name", "x"], text.as_bytes())
            .fails(1, &["no archive", "docker save"]);
    }
    s.feed(&["image", "import", "-", "--name", "x"], b"\xfd7zXZ\0rest").fails(1, &["xz"]);
    let mut from_dir = s.command(&["image", "import", "-", "--name", "x"]);
    from_dir.stdin(fs::File::open(&dir).unwrap());
    common::said(from_dir).fails(1, &["s a directory"]);
}
