//! Maps of sparse files: GNU's old headers of type `S`, and its PAX formats 0.0 (repeated keywords), 0.1 (one
//! keyword with all numbers) and 1.0 (the map stands in front of the content).

use super::fields::Bad;
use super::pax::{decimal, name, once};
use super::{BLOCK, Extent, fields};
use crate::Limits;
use ::tar::{GnuExtSparseHeader, GnuSparseHeader};

/// The keywords `GNU.sparse.*` of one entry.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    /// Called `size` by 0.0 and 0.1, `realsize` by 1.0.
    size: Option<u64>,
    realsize: Option<u64>,
    blocks: Option<u64>,
    /// Of 0.0: an offset whose length is still to come.
    offset: Option<u64>,
    pairs: Vec<Extent>,
    map: Option<Vec<Extent>>,
}

/// Where the map of a sparse file is.
#[derive(Debug)]
pub(super) enum Found {
    /// It was in the header: the file's size and its map.
    Map(u64, Vec<Extent>),
    /// It comes before the content; the file's size.
    Ahead(u64),
}

impl PaxSparse {
    /// True when any keyword was there.
    pub(super) fn any(&self) -> bool {
        self.name.is_some()
            || self.major.is_some()
            || self.minor.is_some()
            || self.size.is_some()
            || self.realsize.is_some()
            || self.blocks.is_some()
            || self.offset.is_some()
            || !self.pairs.is_empty()
            || self.map.is_some()
    }

    /// Takes the keyword `GNU.sparse.KEY`.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Bad> {
        match key {
            b"name" => once(&mut self.name, b"GNU.sparse.name", name(key, value)?),
            b"major" => once(&mut self.major, b"GNU.sparse.major", decimal(key, value)?),
            b"minor" => once(&mut self.minor, b"GNU.sparse.minor", decimal(key, value)?),
            b"size" => once(&mut self.size, b"GNU.sparse.size", decimal(key, value)?),
            b"realsize" => once(&mut self.realsize, b"GNU.sparse.realsize", decimal(key, value)?),
            b"numblocks" => once(&mut self.blocks, b"GNU.sparse.numblocks", decimal(key, value)?),
            b"offset" => once(&mut self.offset, b"GNU.sparse.offset", decimal(key, value)?),
            b"numbytes" => {
                let Some(offset) = self.offset.take() else {
                    return Err("GNU.sparse.numbytes without an offset before it".into());
                };
                push(&mut self.pairs, Extent { offset, len: decimal(key, value)? }, limits)
            }
            b"map" => {
                let mut map = Vec::new();
                let mut numbers = value.split(|b| *b == b',').filter(|_| !value.is_empty());
                while let Some(offset) = numbers.next() {
                    let len = numbers.next().ok_or("GNU.sparse.map has an odd number of numbers")?;
                    let extent = Extent { offset: decimal(key, offset)?, len: decimal(key, len)? };
                    push(&mut map, extent, limits)?;
                }
                once(&mut self.map, b"GNU.sparse.map", map)
            }
            other => Err(format!("GNU.sparse.{} is not known", other.escape_ascii()).into()),
        }
    }

    /// What the keywords together mean; `None` for an ordinary file.
    pub(super) fn found(self) -> Result<Option<Found>, Bad> {
        let bad =
            |why: &str| Err(Bad::from(format!("the keywords GNU.sparse.* contradict each other: {why}")));
        if !self.any() {
            return Ok(None);
        }
        if self.offset.is_some() {
            return bad("an offset without numbytes");
        }
        match (self.major, self.minor) {
            (Some(1), Some(0)) => {
                if self.map.is_some()
                    || !self.pairs.is_empty()
                    || self.blocks.is_some()
                    || self.size.is_some()
                {
                    return bad("keywords of the older formats in format 1.0");
                }
                let Some(size) = self.realsize else { return bad("no realsize") };
                Ok(Some(Found::Ahead(size)))
            }
            (None, None) | (Some(0), Some(0 | 1)) => {
                let map = match self.map {
                    Some(_) if !self.pairs.is_empty() => return bad("two maps"),
                    Some(map) => map,
                    None => self.pairs,
                };
                let (Some(size), None) = (self.size, self.realsize) else { return bad("no size") };
                if self.blocks != Some(map.len() as u64) {
                    return bad("numblocks is not the number of blocks");
                }
                // Without a single block GNU tar does not take it for sparse.
                if map.is_empty() {
                    return bad("no blocks");
                }
                Ok(Some(Found::Map(size, map)))
            }
            _ => Err(Bad::unsupported("a format of sparse files that is not known")),
        }
    }
}

/// The map of an old GNU header, as far as it is in one block. `true`: the block says that more may follow.
pub(super) fn old_map(
    slots: &[GnuSparseHeader],
    map: &mut Vec<Extent>,
    limits: &Limits,
) -> Result<bool, Bad> {
    for slot in slots {
        if slot.numbytes.first() == Some(&0) {
            return Ok(false);
        }
        let read = |field: &[u8], what| {
            let value = fields::number(field, what)?;
            u64::try_from(value).map_err(|_| Bad::from(format!("the {what} is {value}")))
        };
        let offset = read(&slot.offset, "offset of a sparse block")?;
        push(map, Extent { offset, len: read(&slot.numbytes, "length of a sparse block")? }, limits)?;
    }
    Ok(true)
}

/// A block as a continuation of an old map.
pub(super) fn extension(block: &[u8; BLOCK]) -> GnuExtSparseHeader {
    let mut extension = GnuExtSparseHeader::new();
    *extension.as_mut_bytes() = *block;
    extension
}

/// Pairs of numbers, ascending and inside `size`: the extents of a file. Empty ones, which only mark the end, go.
pub(super) fn check_map(map: Vec<Extent>, size: u64, stored: u64) -> Result<Vec<Extent>, Bad> {
    let (mut end, mut total) = (0u64, 0u64);
    for extent in &map {
        let next = extent.offset.checked_add(extent.len).filter(|next| *next <= size);
        let Some(next) = next.filter(|_| extent.offset >= end) else {
            return Err(format!(
                "the sparse map has {} bytes at {}, which overlaps or is past the end at {size}",
                extent.len, extent.offset
            )
            .into());
        };
        end = next;
        // Cannot overflow: the extents do not overlap.
        total += extent.len;
    }
    if total != stored {
        return Err(format!("the sparse map has {total} bytes, the archive {stored}").into());
    }
    Ok(map.into_iter().filter(|extent| extent.len > 0).collect())
}

fn push(map: &mut Vec<Extent>, extent: Extent, limits: &Limits) -> Result<(), Bad> {
    if map.len() >= limits.extents {
        return Err(Bad::limit(format!("more than {} blocks of a sparse file", limits.extents)));
    }
    map.push(extent);
    Ok(())
}

/// Reads the map of format 1.0 out of the blocks before the content: decimal numbers, each with a newline: how many
/// pairs, then offsets and lengths.
#[derive(Debug, Default)]
pub(super) struct MapAhead {
    left: Option<u64>,
    offset: Option<u64>,
    digits: Vec<u8>,
    map: Vec<Extent>,
}

impl MapAhead {
    /// Takes one block; the map once it is complete.
    pub(super) fn take(&mut self, block: &[u8; BLOCK], limits: &Limits) -> Result<Option<Vec<Extent>>, Bad> {
        for byte in block {
            if *byte != b'\n' {
                // No number is longer.
                if self.digits.len() >= 20 {
                    return Err("the map of the sparse file has a number that is too long".into());
                }
                self.digits.push(*byte);
                continue;
            }
            let number = decimal(b"the map of the sparse file", &self.digits)?;
            self.digits.clear();
            match (self.left, self.offset.take()) {
                (None, _) => {
                    if number > limits.extents as u64 {
                        return Err(Bad::limit(format!(
                            "more than {} blocks of a sparse file",
                            limits.extents
                        )));
                    }
                    self.left = Some(number);
                }
                (Some(_), None) => self.offset = Some(number),
                (Some(left), Some(offset)) => {
                    push(&mut self.map, Extent { offset, len: number }, limits)?;
                    self.left = Some(left - 1);
                }
            }
            if self.left == Some(0) {
                return Ok(Some(std::mem::take(&mut self.map)));
            }
        }
        Ok(None)
    }
}
