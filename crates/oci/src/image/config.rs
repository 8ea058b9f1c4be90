//! [`Config`]: the configuration of an image, kept as the bytes it came as, since their digest is the image's
//! identity. What is read out of it was checked when it was parsed.

use super::json::{Document, Node};
use super::members::Members;
use super::platform::Platform;
use crate::{Digest, Error, ErrorKind, Result};
use serde::Serialize;
use std::collections::BTreeMap;

const READ: &str = "read configuration";

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    text: String,
    digest: Digest,
    platform: Platform,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
    created: Option<String>,
    author: Option<String>,
    runtime: Runtime,
}

/// How a layer came about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct History {
    /// When, as RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// There is no layer for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// What is to be run in a container of the image (image-spec, config, `config`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runtime {
    /// User, or user and group after a colon.
    pub user: Option<String>,
    /// Environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// What is always run.
    pub entrypoint: Vec<String>,
    /// What is run, or arguments for the entry point.
    pub cmd: Vec<String>,
    /// Where.
    pub working_dir: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories that hold data.
    pub volumes: Vec<String>,
    /// How it is asked to end.
    pub stop_signal: Option<String>,
}

impl Config {
    /// Reads a configuration, which `about` names in errors.
    ///
    /// # Errors
    /// `Corrupt`, naming the member, for what is no configuration; when `history` speaks of another number of
    /// layers than there are.
    pub fn parse(bytes: Vec<u8>, about: &str) -> Result<Self> {
        let document = Document::parse(&bytes, READ, about)?;
        let root = document.root();
        let rootfs = root.need("rootfs")?;
        if let Some(kind) = rootfs.text_of("type")?
            && kind != "layers"
        {
            return Err(rootfs.error(&format!("type \"{}\": only \"layers\" is known", kind.escape_debug())));
        }
        let diff_ids: Vec<Digest> = match rootfs.member("diff_ids")? {
            Some(ids) => ids.list()?.iter().map(Node::digest).collect::<Result<_>>()?,
            None => Vec::new(),
        };
        let history = match root.member("history")? {
            Some(history) => history.list()?.iter().map(read_history).collect::<Result<Vec<_>>>()?,
            None => Vec::new(),
        };
        let told = history.iter().filter(|entry| !entry.empty_layer).count();
        if !history.is_empty() && told != diff_ids.len() {
            let ids = diff_ids.len();
            return Err(root.error(&format!("history tells of {told} layers, rootfs.diff_ids has {ids}")));
        }
        let platform = Platform::read(&root)?
            .ok_or_else(|| root.error("the members \"os\" and \"architecture\" are needed"))?;
        let runtime = match root.member("config")? {
            Some(config) => read_runtime(&config)?,
            None => Runtime::default(),
        };
        let (created, author) = (root.text_of("created")?, root.text_of("author")?);
        let digest = Digest::of(&bytes);
        // What parsed as JSON is UTF-8.
        let text = String::from_utf8(bytes).map_err(|_| document.error(ErrorKind::Corrupt, "not UTF-8"))?;
        Ok(Self { text, digest, platform, diff_ids, history, created, author, runtime })
    }

    /// One for an image without layers.
    ///
    /// # Errors
    /// None that is known; serialising could fail.
    pub fn empty(platform: &Platform, created: Option<&str>) -> Result<Self> {
        let mut members = Members::default();
        if let Some(created) = created {
            members.set("created", &created)?;
        }
        members.set("architecture", &platform.architecture)?;
        members.set("os", &platform.os)?;
        if let Some(variant) = &platform.variant {
            members.set("variant", variant)?;
        }
        members.set("config", &Members::default())?;
        let none: [Digest; 0] = [];
        members.set("rootfs", &RootFs { kind: "layers", diff_ids: &none })?;
        Self::parse(members.to_text()?.into_bytes(), "a new image")
    }

    /// The text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The digest of the text: the image's id.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// For which system the image is.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The digests of the uncompressed layers, the lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// How the layers came about, the oldest first.
    #[must_use]
    pub fn history(&self) -> &[History] {
        &self.history
    }

    /// When the image was made, as it says.
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    /// Who made it.
    #[must_use]
    pub fn author(&self) -> Option<&str> {
        self.author.as_deref()
    }

    /// What is to be run.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The text of the member `config`, an object of JSON.
    ///
    /// # Errors
    /// None for a configuration that parsed.
    pub fn runtime_json(&self) -> Result<String> {
        let members = Members::parse(&self.text, READ)?;
        Ok(members.get("config").unwrap_or("{}").to_owned())
    }

    /// Starts a configuration that differs from this one.
    ///
    /// # Errors
    /// None for a configuration that parsed.
    pub fn edit(&self) -> Result<Edit> {
        let members = Members::parse(&self.text, READ)?;
        let runtime = members.object("config", READ)?;
        Ok(Edit {
            history: members.list("history", READ)?,
            members,
            runtime,
            diff_ids: self.diff_ids.clone(),
            layers_changed: false,
            told: self.history.iter().filter(|entry| !entry.empty_layer).count(),
            runtime_changed: false,
        })
    }
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    diff_ids: &'a [Digest],
}

fn read_history(node: &Node<'_>) -> Result<History> {
    Ok(History {
        created: node.text_of("created")?,
        created_by: node.text_of("created_by")?,
        author: node.text_of("author")?,
        comment: node.text_of("comment")?,
        empty_layer: node.member("empty_layer")?.map_or(Ok(false), |flag| flag.flag())?,
    })
}

fn read_runtime(node: &Node<'_>) -> Result<Runtime> {
    let text = |name| node.text_of(name).map(|text| text.filter(|text| !text.is_empty()));
    // Docker took a single word for a list in its first years.
    let words = |name: &str| match node.member(name)? {
        Some(word) if word.text().is_ok() => Ok(vec![word.text()?.to_owned()]),
        _ => node.texts(name),
    };
    Ok(Runtime {
        user: text("User")?,
        env: node.texts("Env")?,
        entrypoint: words("Entrypoint")?,
        cmd: words("Cmd")?,
        working_dir: text("WorkingDir")?,
        labels: node.map_of("Labels")?,
        exposed_ports: node.names_of("ExposedPorts")?,
        volumes: node.names_of("Volumes")?,
        stop_signal: text("StopSignal")?,
    })
}

/// A configuration that is being changed: what is not named here keeps its text.
#[derive(Debug)]
pub struct Edit {
    members: Members,
    pub(super) runtime: Members,
    pub(super) runtime_changed: bool,
    history: Vec<Box<serde_json::value::RawValue>>,
    diff_ids: Vec<Digest>,
    layers_changed: bool,
    /// Layers that the history tells of.
    told: usize,
}

impl Edit {
    /// Puts a layer on top, and says how it came about; without one only the history grows. Layers that the
    /// history does not tell of yet get entries without text, so that the numbers agree.
    ///
    /// # Errors
    /// None that is known; serialising could fail.
    pub fn add(&mut self, layer: Option<Digest>, history: &History) -> Result<()> {
        for _ in self.told..self.diff_ids.len() {
            self.push_history(&History::default())?;
        }
        self.push_history(&History { empty_layer: layer.is_none(), ..history.clone() })?;
        self.diff_ids.extend(layer);
        self.layers_changed |= layer.is_some();
        self.told = self.diff_ids.len();
        Ok(())
    }

    fn push_history(&mut self, entry: &History) -> Result<()> {
        let entry = serde_json::value::to_raw_value(entry).map_err(|e| Error::io(e.into(), "write JSON"))?;
        self.history.push(entry);
        Ok(())
    }

    /// Replaces the layers by others, one for one: of layers that were packed anew.
    ///
    /// # Errors
    /// `InvalidInput` for another number of layers.
    pub fn replace_layers(&mut self, diff_ids: Vec<Digest>) -> Result<()> {
        if diff_ids.len() != self.diff_ids.len() {
            return Err(Error::new(ErrorKind::InvalidInput, "write configuration")
                .because("layers are replaced one for one"));
        }
        self.diff_ids = diff_ids;
        self.layers_changed = true;
        Ok(())
    }

    /// Replaces what is to be run by another image's, as [`Config::runtime_json`] gave it.
    ///
    /// # Errors
    /// `Corrupt` when it is no object of JSON.
    pub fn runtime(&mut self, json: &str) -> Result<()> {
        self.runtime = Members::parse(json, READ)?;
        self.runtime_changed = true;
        Ok(())
    }

    /// Says when the image was made, as RFC 3339.
    ///
    /// # Errors
    /// None that is known; serialising could fail.
    pub fn created(&mut self, created: &str) -> Result<()> {
        self.members.set("created", &created)
    }

    /// Says who made it.
    ///
    /// # Errors
    /// None that is known; serialising could fail.
    pub fn author(&mut self, author: &str) -> Result<()> {
        self.members.set("author", &author)
    }

    /// The configuration.
    ///
    /// # Errors
    /// None for what the methods here did.
    pub fn finish(mut self) -> Result<Config> {
        if self.runtime_changed {
            self.members.set("config", &self.runtime)?;
        }
        if self.layers_changed {
            let mut rootfs = self.members.object("rootfs", READ)?;
            rootfs.set("type", &"layers")?;
            rootfs.set("diff_ids", &self.diff_ids)?;
            self.members.set("rootfs", &rootfs)?;
        }
        if !self.history.is_empty() {
            self.members.set("history", &self.history)?;
        }
        Config::parse(self.members.to_text()?.into_bytes(), "the new image")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text.as_bytes().to_vec(), "sha256:x")
    }

    #[test]
    fn a_commit_keeps_what_it_does_not_know() {
        let text = format!(
            r#"{{ "x":{{"big":18446744073709551616}},"os":"linux", "architecture":"amd64",
            "config":{{"Env":["A=b"],"Shell":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["{EMPTY}"]}}}}"#
        );
        let base = parse(&text).unwrap();
        assert_eq!(base.as_str(), text);
        let mut edit = base.edit().unwrap();
        let history = History { comment: Some("m".into()), ..History::default() };
        edit.add(Some(Digest::of(b"1")), &history).unwrap();
        edit.created("1970-01-01T00:00:00Z").unwrap();
        let new = edit.finish().unwrap();
        assert!(new.as_str().contains(r#""x":{"big":18446744073709551616}"#), "{}", new.as_str());
        assert!(new.as_str().contains(r#""config":{"Env":["A=b"],"Shell":["sh"]}"#));
        assert_eq!(new.diff_ids(), [EMPTY.parse().unwrap(), Digest::of(b"1")]);
        assert_eq!(new.history().len(), 2, "the layer without history got an entry");
        assert_eq!(new.created(), Some("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn numbers_that_do_not_agree_and_wrong_types_name_the_member() {
        let rest = r#""os":"linux","architecture":"amd64""#;
        for (text, says) in [
            (format!(r#"{{{rest}}}"#), "rootfs"),
            (format!(r#"{{{rest},"rootfs":{{"type":"x"}}}}"#), "rootfs: type \"x\""),
            (format!(r#"{{{rest},"rootfs":{{"diff_ids":["md5:x"]}}}}"#), "rootfs.diff_ids[0]"),
            (format!(r#"{{{rest},"rootfs":{{}},"history":[{{}}]}}"#), "history tells of 1 layers"),
            (format!(r#"{{{rest},"rootfs":{{}},"config":{{"Env":[1]}}}}"#), "config.Env[0]"),
            (r#"{"rootfs":{}}"#.to_owned(), "architecture"),
        ] {
            let error = parse(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[test]
    fn an_image_without_layers_is_one() {
        let config = Config::empty(&Platform::host(), None).unwrap();
        assert!(config.diff_ids().is_empty());
        let mut edit = config.edit().unwrap();
        edit.add(None, &History::default()).unwrap();
        assert!(edit.finish().unwrap().history()[0].empty_layer);
    }
}
