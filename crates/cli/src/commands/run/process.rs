//! What is run in a container, in which environment, where and as whom: of a container made from an image as the
//! image says, with Docker's rules; of one made from directories as the caller's shell would have it.

use super::users::{self, User};
use crate::args::Run;
use crate::failure::Failure;
use crate::text::shown;
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use stratafs::{Container, ErrorKind};

/// The PATH of a command in an image that names none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The most that is read of the container's `passwd` and `group`.
const FILE_MAX: u64 = 16 << 20;

/// What an image says about running (image-spec, config, `config`). Old tools wrote a word where a list belongs, and
/// null for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Runtime {
    env: Option<Vec<String>>,
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    working_dir: Option<String>,
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    fn into_words(self) -> Vec<OsString> {
        match self {
            Self::One(word) => vec![word.into()],
            Self::Many(words) => words.into_iter().map(OsString::from).collect(),
        }
    }
}

/// A command with everything around it.
#[derive(Debug, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    /// The variables.
    pub env: Vec<(OsString, OsString)>,
    /// True when those are all; else they come on top of the caller's.
    pub only_env: bool,
    /// Where to start.
    pub workdir: PathBuf,
    /// It is an error when that is not there.
    pub workdir_required: bool,
    /// Make it when it is not there.
    pub make_workdir: bool,
    /// As whom, as it was asked for; `None` is root with what it has.
    pub user: Option<String>,
}

/// The failure of a run without anything to run.
pub fn no_command() -> Failure {
    Failure::usage("a COMMAND is needed: strata run ... -- COMMAND")
}

/// What to run in a container without an image.
pub fn of_directories(asked: &Run) -> Result<Process, Failure> {
    if asked.entrypoint.is_some() {
        return Err(Failure::usage("--entrypoint: only a container made from an image has one"));
    }
    if asked.command.is_empty() {
        return Err(no_command());
    }
    let here = || std::env::current_dir().unwrap_or_else(|_| "/".into());
    Ok(Process {
        command: asked.command.clone(),
        env: variables(&asked.env)?,
        only_env: false,
        workdir: asked.workdir.as_ref().map_or_else(here, |dir| Path::new("/").join(dir)),
        workdir_required: asked.workdir.is_some(),
        make_workdir: false,
        user: asked.user.clone(),
    })
}

/// What to run in a container of an image whose configuration for running is `config`; `of` names it in errors, and
/// `term` is the caller's terminal.
pub fn of_image(
    asked: &Run,
    config: &serde_json::Value,
    of: &str,
    term: Option<OsString>,
) -> Result<Process, Failure> {
    let unreadable = |why: &str| {
        let why = shown(why.as_bytes());
        Failure::new(format!("{of}: what the image says about running cannot be read: {why}"))
    };
    let runtime = match config {
        serde_json::Value::Null => Runtime::default(),
        // A list would do for serde as well.
        serde_json::Value::Object(_) => {
            Runtime::deserialize(config).map_err(|e| unreadable(&e.to_string()))?
        }
        _ => return Err(unreadable("an object is needed")),
    };
    let words = |words: Option<Words>| words.map(Words::into_words).unwrap_or_default();
    let mut command = match &asked.entrypoint {
        Some(word) if word.is_empty() => Vec::new(),
        Some(word) => vec![word.clone()],
        None => words(runtime.entrypoint),
    };
    match (asked.command.as_slice(), &asked.entrypoint) {
        ([], None) => command.extend(words(runtime.cmd)),
        // The image's arguments belong to the image's entry point.
        ([], Some(_)) => {}
        (given, _) => command.extend_from_slice(given),
    }
    if command.is_empty() {
        return Err(Failure::usage(format!("{of} names no command: give one, strata run ... -- COMMAND")));
    }
    let mut env = Vec::new();
    for pair in runtime.env.unwrap_or_default() {
        // A name without a value is not set, as with Docker.
        if let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) {
            set(&mut env, name.into(), value.into());
        }
    }
    set_default(&mut env, "PATH", || PATH.into());
    if let Some(term) = term {
        set_default(&mut env, "TERM", || term);
    }
    for (name, value) in variables(&asked.env)? {
        set(&mut env, name, value);
    }
    let own_dir = runtime.working_dir.filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let process = Process {
        command,
        env,
        only_env: true,
        workdir: Path::new("/").join(asked.workdir.clone().or(own_dir).unwrap_or_default()),
        workdir_required: true,
        make_workdir: asked.workdir.is_none(),
        user: Some(asked.user.clone().or(runtime.user).unwrap_or_default()),
    };
    let words = process.env.iter().flat_map(|(name, value)| [name, value]).chain(&process.command);
    if words.chain([&process.workdir.clone().into()]).any(|word| word.as_bytes().contains(&0)) {
        return Err(Failure::new(format!("{of}: what the image says about running has a NUL byte in it")));
    }
    Ok(process)
}

impl Process {
    /// Looks up the user in the container; its home goes into the environment, where nothing else was said.
    pub fn look_up(&mut self, container: &Container) -> Result<Option<User>, Failure> {
        let user = match &self.user {
            None => None,
            Some(asked) => {
                let (passwd, group) = (text(container, "/etc/passwd")?, text(container, "/etc/group")?);
                let failed = |why: String| {
                    Failure::new(format!(
                        "cannot run as \"{}\": {}",
                        shown(asked.as_bytes()),
                        shown(why.as_bytes())
                    ))
                };
                Some(users::find(asked, &passwd, &group).map_err(failed)?)
            }
        };
        if let Some(user) = &user {
            set_default(&mut self.env, "HOME", || user.home.as_deref().unwrap_or("/").into());
        }
        Ok(user)
    }
}

/// The text of a file of the container; empty where there is none.
fn text(container: &Container, path: &str) -> Result<String, Failure> {
    let missing = |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::Loop);
    match container.metadata(path) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Ok(String::new()),
        Err(e) if missing(e.kind()) => return Ok(String::new()),
        Err(e) => return Err(e.into()),
    }
    let mut bytes = Vec::new();
    let read = container.open(path)?.take(FILE_MAX).read_to_end(&mut bytes);
    read.map_err(|e| Failure::new(format!("{path} of the container: {e}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The variables that were asked for with `--env`.
pub fn variables(asked: &[OsString]) -> Result<Vec<(OsString, OsString)>, Failure> {
    let split = |pair: &OsString| {
        let bytes = pair.as_bytes();
        let at = bytes.iter().position(|b| *b == b'=').filter(|at| *at > 0);
        let at = at.ok_or_else(|| {
            Failure::usage(format!("--env {}: KEY=VALUE is needed", shown(pair.as_bytes())))
        })?;
        let (key, value) = (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..).unwrap_or_default());
        Ok((OsString::from_vec(key.to_vec()), OsString::from_vec(value.to_vec())))
    };
    asked.iter().map(split).collect()
}

fn set(env: &mut Vec<(OsString, OsString)>, name: OsString, value: OsString) {
    match env.iter_mut().find(|(old, _)| *old == name) {
        Some((_, old)) => *old = value,
        None => env.push((name, value)),
    }
}

fn set_default(env: &mut Vec<(OsString, OsString)>, name: &str, value: impl FnOnce() -> OsString) {
    if !env.iter().any(|(old, _)| old == OsStr::new(name)) {
        env.push((name.into(), value()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn asked(words: &[&str]) -> Run {
        let cli = Cli::try_parse_from([&["strata", "run"], words].concat()).unwrap();
        let Command::Run(run) = cli.command else { panic!() };
        run
    }

    fn image(words: &[&str], config: serde_json::Value) -> Result<Process, Failure> {
        of_image(&asked(words), &config, "the image", Some("vt100".into()))
    }

    fn command(words: &[&str], config: serde_json::Value) -> Vec<OsString> {
        image(words, config).unwrap().command
    }

    #[test]
    fn entry_point_and_command_go_together_as_with_docker() {
        let config = serde_json::json!({"Entrypoint": ["/init", "-q"], "Cmd": ["serve"]});
        let with = |words: &[&str]| command(words, config.clone());
        assert_eq!(with(&["--image", "i"]), ["/init", "-q", "serve"]);
        assert_eq!(with(&["--image", "i", "other", "x"]), ["/init", "-q", "other", "x"]);
        assert_eq!(with(&["--image", "i", "--entrypoint", "/sh"]), ["/sh"], "not with the image's arguments");
        assert_eq!(with(&["--image", "i", "--entrypoint", "/sh", "--", "-c"]), ["/sh", "-c"]);
        assert_eq!(with(&["--image", "i", "--entrypoint", "", "ls"]), ["ls"]);
        let only = serde_json::json!({"Cmd": ["sh"], "Entrypoint": null});
        assert_eq!(command(&["--image", "i"], only.clone()), ["sh"]);
        assert_eq!(command(&["--image", "i", "ls"], only), ["ls"]);
        assert_eq!(command(&["--image", "i"], serde_json::json!({"Cmd": "sh"})), ["sh"]);
        for nothing in [serde_json::json!({}), serde_json::Value::Null] {
            let failure = image(&["--image", "i"], nothing).unwrap_err();
            assert!(failure.code == 2 && failure.message.contains("names no command"), "{failure:?}");
        }
    }

    #[test]
    fn the_environment_is_the_image_s() {
        let config = serde_json::json!({"Cmd": ["x"], "Env": ["A=1", "B=2=3", "NOVALUE", "=", "A=4"]});
        let process = image(&["--image", "i", "-e", "B=5", "-e", "C=6"], config).unwrap();
        let pairs: Vec<_> = process
            .env
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(pairs, ["A=4", "B=5", &format!("PATH={PATH}"), "TERM=vt100", "C=6"]);
        assert!(process.only_env && process.user.as_deref() == Some(""));
    }

    #[test]
    fn what_an_image_says_wrongly_is_an_error_and_never_a_panic() {
        for config in [
            serde_json::json!({"Env": [1]}),
            serde_json::json!([]),
            serde_json::json!({"Cmd": {"a": 1}}),
            serde_json::json!({"Cmd": ["a\0b"]}),
            serde_json::json!({"Cmd": ["a"], "WorkingDir": "/a\0"}),
            serde_json::json!({"Cmd": ["a"], "Env": ["A=\0"]}),
        ] {
            let failure = image(&["--image", "i"], config.clone()).unwrap_err();
            assert!(failure.message.starts_with("the image: "), "{config}: {failure:?}");
        }
    }

    #[test]
    fn where_and_as_whom_can_be_said_otherwise() {
        let config = serde_json::json!({"Cmd": ["x"], "WorkingDir": "srv", "User": "web"});
        let process = image(&["--image", "i"], config.clone()).unwrap();
        assert_eq!((process.workdir.to_str(), process.make_workdir), (Some("/srv"), true));
        assert_eq!(process.user.as_deref(), Some("web"));
        let process = image(&["--image", "i", "-w", "/x", "-u", "0"], config).unwrap();
        assert_eq!((process.workdir.to_str(), process.make_workdir), (Some("/x"), false));
        assert_eq!(process.user.as_deref(), Some("0"));
    }
}
