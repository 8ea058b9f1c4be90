//! Editing a document without touching the rest of it: an object as its members in their order, each the text that
//! it came as. So numbers keep their digits and unknown members everything.

use crate::{Error, ErrorKind, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use std::fmt;

/// The members of an object.
#[derive(Debug, Clone, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// The members of the object in `text`.
    pub fn parse(text: &str, operation: &'static str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| {
            Error::new(ErrorKind::Corrupt, operation).because(format!("not an object of JSON: {e}"))
        })
    }

    /// The text of a member; `None` when it is absent or `null`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(member, _)| member == name)?;
        Some(value.get()).filter(|text| *text != "null")
    }

    /// The members of a member that is an object; none when it is absent.
    pub fn object(&self, name: &str, operation: &'static str) -> Result<Self> {
        self.get(name).map_or_else(|| Ok(Self::default()), |text| Self::parse(text, operation))
    }

    /// The values of a member that is a list; none when it is absent.
    pub fn list(&self, name: &str, operation: &'static str) -> Result<Vec<Box<RawValue>>> {
        let Some(text) = self.get(name) else { return Ok(Vec::new()) };
        serde_json::from_str(text).map_err(|e| {
            Error::new(ErrorKind::Corrupt, operation).because(format!("{name} is not a list: {e}"))
        })
    }

    /// Sets a member, in its place if it has one, else as the last.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let value = serde_json::value::to_raw_value(value).map_err(|e| Error::io(e.into(), "write JSON"))?;
        match self.0.iter_mut().find(|(member, _)| member == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// The object as text.
    pub fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::io(e.into(), "write JSON"))
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
        let mut out = Vec::new();
        while let Some(member) = members.next_entry::<String, Box<RawValue>>()? {
            out.push(member);
        }
        Ok(Members(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_stays_as_it_came() {
        let text = r#"{"z":1.50,"a":{"x": 18446744073709551616},"n":null}"#;
        let mut members = Members::parse(text, "test").unwrap();
        assert_eq!(members.to_text().unwrap(), text);
        members.set("a", &[1]).unwrap();
        members.set("new", &"b").unwrap();
        assert_eq!(members.to_text().unwrap(), r#"{"z":1.50,"a":[1],"n":null,"new":"b"}"#);
        assert_eq!(members.get("n"), None);
    }
}
