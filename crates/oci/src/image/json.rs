//! Reading JSON that somebody else wrote. Invariants: a document is bounded in size before it is parsed and in depth
//! while it is (serde_json's 128 levels); a member that is there twice is refused, since two readers could take
//! different ones; an error names the blob and the member. `null` is the same as absent, as for Go's programs,
//! which write most of these documents.

use crate::{Digest, Error, ErrorKind, Result};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use std::fmt;

/// A parsed document and what to call it in errors.
#[derive(Debug, Clone)]
pub struct Document {
    value: Value,
    about: String,
    operation: &'static str,
}

/// One value of a document.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    value: &'a Value,
    path: String,
    of: &'a Document,
}

impl Document {
    /// Parses `bytes`, which `about` names in errors.
    pub fn parse(bytes: &[u8], operation: &'static str, about: &str) -> Result<Self> {
        let Strict(value) = serde_json::from_slice(bytes).map_err(|e| {
            Error::new(ErrorKind::Corrupt, operation).about(about).because(format!("not valid JSON: {e}"))
        })?;
        Ok(Self { value, about: about.to_owned(), operation })
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node { value: &self.value, path: String::new(), of: self }
    }

    /// An error about this document.
    pub fn error(&self, kind: ErrorKind, why: impl Into<Box<str>>) -> Error {
        Error::new(kind, self.operation).about(&self.about).because(why)
    }
}

impl<'a> Node<'a> {
    /// An error about this value.
    pub fn error(&self, why: &str) -> Error {
        let at = if self.path.is_empty() { "the document" } else { &self.path };
        self.of.error(ErrorKind::Corrupt, format!("{at}: {why}"))
    }

    fn wrong(&self, wanted: &str) -> Error {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.error(&format!("{wanted} was expected, {found} is there"))
    }

    /// A member of an object.
    pub fn member(&self, name: &str) -> Result<Option<Node<'a>>> {
        let Value::Object(members) = self.value else { return Err(self.wrong("an object")) };
        Ok(members.get(name).filter(|value| !value.is_null()).map(|value| self.at(value, name)))
    }

    /// A member that must be there.
    pub fn need(&self, name: &str) -> Result<Node<'a>> {
        self.member(name)?.ok_or_else(|| self.error(&format!("the member \"{name}\" is missing")))
    }

    fn at(&self, value: &'a Value, name: &str) -> Node<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        // A member's name can be as long as the document.
        let shown: String = name.chars().take(64).collect();
        Node { value, path: format!("{}{dot}{shown}", self.path), of: self.of }
    }

    /// The text of a string.
    pub fn text(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("a string"))
    }

    /// A whole number that is not negative.
    pub fn number(&self) -> Result<u64> {
        self.value.as_u64().ok_or_else(|| self.wrong("a whole number that is not negative"))
    }

    /// True or false.
    pub fn flag(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    /// A digest.
    pub fn digest(&self) -> Result<Digest> {
        let text = self.text()?;
        text.parse().map_err(|e: Error| self.error(&e.to_string()))
    }

    /// The values of a list.
    pub fn list(&self) -> Result<Vec<Node<'a>>> {
        let Value::Array(values) = self.value else { return Err(self.wrong("a list")) };
        Ok(values
            .iter()
            .enumerate()
            .map(|(i, value)| Node { value, path: format!("{}[{i}]", self.path), of: self.of })
            .collect())
    }

    /// The texts of a member that is a list of strings; empty when it is absent.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let Some(list) = self.member(name)? else { return Ok(Vec::new()) };
        list.list()?.iter().map(|text| text.text().map(str::to_owned)).collect()
    }

    /// The text of a member; `None` when it is absent.
    pub fn text_of(&self, name: &str) -> Result<Option<String>> {
        self.member(name)?.map(|text| text.text().map(str::to_owned)).transpose()
    }

    /// The names and texts of a member that is an object of strings; empty when it is absent.
    pub fn map_of(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let Some(map) = self.member(name)? else { return Ok(BTreeMap::new()) };
        let Value::Object(members) = map.value else { return Err(map.wrong("an object")) };
        members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| Ok((name.clone(), map.at(value, name).text()?.to_owned())))
            .collect()
    }

    /// The names of a member that is an object; empty when it is absent.
    pub fn names_of(&self, name: &str) -> Result<Vec<String>> {
        let Some(map) = self.member(name)? else { return Ok(Vec::new()) };
        let Value::Object(members) = map.value else { return Err(map.wrong("an object")) };
        Ok(members.keys().cloned().collect())
    }
}

/// A value in which no object has a member twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(Strict(value)) = values.next_element()? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Strict(value) = members.next_value()?;
            if out.contains_key(&name) {
                let shown: String = name.chars().take(64).collect();
                return Err(A::Error::custom(format!("the member \"{shown}\" is there twice")));
            }
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Document> {
        Document::parse(text.as_bytes(), "read manifest", "x")
    }

    #[test]
    fn members_that_are_there_twice_and_deep_nesting_are_refused() {
        for bad in [
            r#"{"a":1,"a":2}"#.to_owned(),
            r#"{"x":[{"a":1,"\u0061":2}]}"#.to_owned(),
            format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200)),
            "{} {}".to_owned(),
            String::new(),
        ] {
            assert_eq!(parse(&bad).unwrap_err().kind(), ErrorKind::Corrupt, "{bad}");
        }
    }

    #[test]
    fn an_error_names_the_blob_and_the_member() {
        let document = parse(r#"{"layers":[{"size":-1}]}"#).unwrap();
        let layers = document.root().need("layers").unwrap().list().unwrap();
        let error = layers[0].need("size").unwrap().number().unwrap_err().to_string();
        assert!(error.contains("\"x\"") && error.contains("layers[0].size"), "{error}");
    }

    #[test]
    fn null_is_absent() {
        let document = parse(r#"{"a":null,"m":{"x":null,"y":"z"}}"#).unwrap();
        assert!(document.root().member("a").unwrap().is_none());
        assert_eq!(document.root().map_of("m").unwrap().len(), 1);
    }
}
