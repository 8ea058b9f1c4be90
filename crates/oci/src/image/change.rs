//! [`ConfigChange`]: one line in the words of Dockerfiles (`docker commit --change`), for what a container is to run.

use super::config::Edit;
use super::members::Members;
use crate::{Error, ErrorKind, Result};
use serde_json::value::RawValue;
use std::str::FromStr;

/// One change of what a container of the image runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigChange {
    /// Sets a variable of the environment.
    Env(String, String),
    /// What is run, or arguments for the entry point.
    Cmd(Vec<String>),
    /// What is always run.
    Entrypoint(Vec<String>),
    /// Where it is run.
    WorkingDir(String),
    /// As whom: a user, or user and group after a colon.
    User(String),
    /// Sets a label.
    Label(String, String),
    /// A port, such as `80/tcp`.
    Expose(String),
    /// A directory that holds data.
    Volume(String),
    /// How the container is asked to end.
    StopSignal(String),
}

impl FromStr for ConfigChange {
    type Err = Error;

    /// `ENV NAME=VALUE`, `CMD ["program", "argument"]` or `CMD command line for sh`, `ENTRYPOINT` likewise,
    /// `WORKDIR /path`, `USER name`, `LABEL name=value`, `EXPOSE 80/tcp`, `VOLUME /path`, `STOPSIGNAL TERM`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(ErrorKind::InvalidInput, "read change").about(text).because(why);
        let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let rest = rest.trim();
        if rest.contains(['\0', '\n']) {
            return Err(bad("one line without NUL is needed"));
        }
        let need = |what: &str| match rest {
            "" => Err(bad(&format!("{what} is needed after {word}"))),
            rest => Ok(rest.to_owned()),
        };
        let pair = || {
            let (name, value) = rest.split_once('=').ok_or_else(|| bad("NAME=VALUE is needed"))?;
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(bad("a name without white space is needed before ="));
            }
            Ok((name.to_owned(), unquoted(value).to_owned()))
        };
        Ok(match word.to_ascii_uppercase().as_str() {
            "ENV" => pair().map(|(name, value)| Self::Env(name, value))?,
            "LABEL" => pair().map(|(name, value)| Self::Label(name, value))?,
            "CMD" => Self::Cmd(command(rest)),
            "ENTRYPOINT" => Self::Entrypoint(command(rest)),
            "WORKDIR" => match need("a directory")? {
                dir if dir.starts_with('/') => Self::WorkingDir(dir),
                _ => return Err(bad("an absolute path is needed")),
            },
            "USER" => Self::User(need("a user")?),
            "EXPOSE" => {
                Self::Expose(port(rest).ok_or_else(|| bad("a port is needed, such as 80 or 53/udp"))?)
            }
            "VOLUME" => match need("a directory")? {
                dir if dir.starts_with('/') => Self::Volume(dir),
                _ => return Err(bad("an absolute path is needed")),
            },
            "STOPSIGNAL" => Self::StopSignal(need("a signal")?),
            _ => {
                return Err(bad(
                    "known are ENV, CMD, ENTRYPOINT, WORKDIR, USER, LABEL, EXPOSE, VOLUME and STOPSIGNAL",
                ));
            }
        })
    }
}

/// A list in JSON, else a line for the shell.
fn command(text: &str) -> Vec<String> {
    match serde_json::from_str(text) {
        Ok(words) => words,
        Err(_) if text.is_empty() => Vec::new(),
        Err(_) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()],
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn port(text: &str) -> Option<String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number: u16 = number.parse().ok()?;
    matches!(protocol, "tcp" | "udp" | "sctp").then(|| format!("{number}/{protocol}"))
}

impl Edit {
    /// Changes what is run.
    ///
    /// # Errors
    /// `Corrupt` when the member was of another type.
    pub fn change(&mut self, change: &ConfigChange) -> Result<()> {
        self.runtime_changed = true;
        match change {
            ConfigChange::Env(name, value) => self.set_env(name, value),
            // As with Docker, the arguments of another entry point are gone with it.
            ConfigChange::Entrypoint(words) => {
                self.runtime.set("Entrypoint", words)?;
                self.runtime.set("Cmd", &RawValue::NULL)
            }
            ConfigChange::Cmd(words) => self.runtime.set("Cmd", words),
            ConfigChange::WorkingDir(dir) => self.runtime.set("WorkingDir", dir),
            ConfigChange::User(user) => self.runtime.set("User", user),
            ConfigChange::StopSignal(signal) => self.runtime.set("StopSignal", signal),
            ConfigChange::Label(name, value) => self.set_in("Labels", name, value),
            ConfigChange::Expose(port) => self.set_in("ExposedPorts", port, &Members::default()),
            ConfigChange::Volume(dir) => self.set_in("Volumes", dir, &Members::default()),
        }
    }

    fn set_in(&mut self, member: &str, name: &str, value: &impl serde::Serialize) -> Result<()> {
        let mut object = self.runtime.object(member, "change configuration")?;
        object.set(name, value)?;
        self.runtime.set(member, &object)
    }

    fn set_env(&mut self, name: &str, value: &str) -> Result<()> {
        let line = format!("{name}={value}");
        let mut env: Vec<String> = match self.runtime.get("Env") {
            Some(text) => serde_json::from_str(text).map_err(|e| {
                Error::new(ErrorKind::Corrupt, "change configuration").because(format!("config.Env: {e}"))
            })?,
            None => Vec::new(),
        };
        match env.iter_mut().find(|old| old.split_once('=').is_some_and(|(old, _)| old == name)) {
            Some(old) => *old = line,
            None => env.push(line),
        }
        self.runtime.set("Env", &env)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Config, Platform};

    #[test]
    fn lines_of_a_dockerfile_change_what_is_run() {
        let mut edit = Config::empty(&Platform::host(), None).unwrap().edit().unwrap();
        for line in [
            "ENV PATH=/bin",
            "env A=\"b c\"",
            "ENV PATH=/usr/bin",
            "CMD [\"x\"]",
            "ENTRYPOINT [\"/init\", \"-q\"]",
            "CMD echo hello",
            "WORKDIR /srv",
            "USER 1:2",
            "LABEL a.b=c=d",
            "EXPOSE 80",
            "EXPOSE 53/udp",
            "VOLUME /data",
            "STOPSIGNAL TERM",
        ] {
            edit.change(&line.parse().unwrap()).unwrap();
        }
        let config = edit.finish().unwrap();
        let runtime = config.runtime();
        assert_eq!(runtime.env, ["PATH=/usr/bin", "A=b c"]);
        assert_eq!(runtime.entrypoint, ["/init", "-q"]);
        assert_eq!(runtime.cmd, ["/bin/sh", "-c", "echo hello"]);
        assert_eq!(runtime.working_dir.as_deref(), Some("/srv"));
        assert_eq!(runtime.user.as_deref(), Some("1:2"));
        assert_eq!(runtime.labels["a.b"], "c=d");
        assert_eq!(runtime.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(runtime.volumes, ["/data"]);
        assert_eq!(runtime.stop_signal.as_deref(), Some("TERM"));
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        for bad in [
            "",
            "RUN x",
            "ENV",
            "ENV A",
            "ENV =b",
            "WORKDIR x",
            "EXPOSE 70000",
            "VOLUME",
            "USER",
            "ENV A=b\nCMD x",
        ] {
            assert!(bad.parse::<ConfigChange>().is_err(), "{bad}");
        }
    }
}
