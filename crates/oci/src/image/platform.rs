//! [`Platform`]: for which system an image is, and which of several is the right one.
//!
//! Variants are levels of an instruction set: who asks for one takes the same or the best lower one, never a higher
//! one, which might not run. Nothing said means v8 for arm64, v7 for arm and v1 for amd64, as for Docker.

use super::json::Node;
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Operating system, architecture and variant, in Go's words (`linux`, `amd64`, `v8`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub architecture: String,
    /// The level of the architecture, where it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// That of this program.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "loongarch64" => "loong64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            arch => arch,
        };
        Self { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned(), variant: None }
            .normal()
    }

    /// The members of an object: a descriptor's `platform`, or a configuration. Without both os and architecture
    /// there is none.
    pub(super) fn read(node: &Node<'_>) -> Result<Option<Self>> {
        let (os, architecture) = (node.text_of("os")?, node.text_of("architecture")?);
        let variant = node.text_of("variant")?.filter(|variant| !variant.is_empty());
        Ok(match (os, architecture) {
            (Some(os), Some(architecture)) if !os.is_empty() && !architecture.is_empty() => {
                Some(Self { os, architecture, variant })
            }
            _ => None,
        })
    }

    /// The usual words for the same thing.
    fn normal(mut self) -> Self {
        for word in [&mut self.os, &mut self.architecture] {
            word.make_ascii_lowercase();
        }
        let (architecture, variant) = match self.architecture.as_str() {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "i386" | "i486" | "i586" | "i686" => ("386", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            _ => return self,
        };
        self.architecture = architecture.to_owned();
        self.variant = self.variant.or(variant.map(str::to_owned));
        self
    }

    /// The variant as a number: what was said, or what nothing means.
    fn level(&self) -> Option<u32> {
        let Some(variant) = &self.variant else {
            return Some(match self.architecture.as_str() {
                "amd64" => 1,
                "arm" => 7,
                "arm64" => 8,
                _ => 0,
            });
        };
        variant.strip_prefix('v').unwrap_or(variant).split('.').next()?.parse().ok()
    }

    /// How well `found` fits who asks for this one: the more the better, `None` when it does not.
    #[must_use]
    pub fn suits(&self, found: &Self) -> Option<u32> {
        let (wanted, found) = (self.clone().normal(), found.clone().normal());
        if (&wanted.os, &wanted.architecture) != (&found.os, &found.architecture) {
            return None;
        }
        match (wanted.level(), found.level()) {
            (Some(wanted), Some(level)) if level <= wanted => Some(level),
            (Some(_), Some(_)) => None,
            // Variants that are no levels are names.
            _ => (wanted.variant == found.variant).then_some(u32::MAX),
        }
    }

    /// Said of what is no image but speaks of one, such as an attestation.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `OS/ARCHITECTURE` or `OS/ARCHITECTURE/VARIANT`.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/').map(str::to_owned);
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None)
                if word(&os) && word(&architecture) && variant.as_deref().is_none_or(word) =>
            {
                Ok(Self { os, architecture, variant }.normal())
            }
            _ => Err(Error::new(ErrorKind::InvalidInput, "read platform")
                .about(text)
                .because("OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT is needed, such as linux/arm64")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_lower_variant_serves_and_a_higher_one_does_not() {
        let suits = |wanted: &str, found: &str| platform(wanted).suits(&platform(found));
        for (wanted, found) in [
            ("linux/amd64", "linux/x86_64"),
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/arm64/v8", "linux/aarch64"),
            ("linux/arm", "linux/arm/v6"),
            ("linux/amd64/v3", "linux/amd64"),
            ("linux/s390x", "linux/s390x"),
        ] {
            assert!(suits(wanted, found).is_some(), "{wanted} {found}");
        }
        for (wanted, found) in [
            ("linux/amd64", "linux/arm64"),
            ("linux/amd64", "windows/amd64"),
            ("linux/amd64", "linux/amd64/v3"),
            ("linux/arm/v6", "linux/arm/v7"),
            ("linux/mips64/softfloat", "linux/mips64/hardfloat"),
        ] {
            assert_eq!(suits(wanted, found), None, "{wanted} {found}");
        }
        assert!(suits("linux/arm/v7", "linux/arm/v7") > suits("linux/arm/v7", "linux/arm/v6"));
    }

    #[test]
    fn only_two_or_three_words_are_a_platform() {
        for bad in ["", "linux", "linux/", "/amd64", "linux/a/b/c", "linux/a b", "linux/amd64/"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
        assert_eq!(platform("linux/armhf").to_string(), "linux/arm/v7");
        assert_eq!(Platform::host().os, "linux");
    }
}
