//! A regular file's bytes, sparse in pages. Invariants: no page starts at or past the end, the bytes of the
//! last page behind the end are zero, and every page held is charged to the file system's space.

use crate::limits::Space;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use stratafs_core::{Allocate, ErrorKind};

/// Bytes a page: the unit of holes and of space.
pub const PAGE: u64 = 4096;

/// The largest file in bytes (`off_t`); past it is `EFBIG`.
pub(crate) const MAX_LEN: u64 = i64::MAX as u64;

/// 512-byte blocks a page.
const BLOCKS_PER_PAGE: u64 = PAGE / 512;

type Page = [u8; PAGE as usize];

/// The bytes of one file.
#[derive(Debug)]
pub(crate) struct Pages {
    pages: BTreeMap<u64, Box<Page>>,
    len: u64,
    space: Arc<Space>,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.space.give_pages(self.pages.len() as u64);
    }
}

impl Pages {
    pub(crate) fn new(space: Arc<Space>) -> Self {
        Self { pages: BTreeMap::new(), len: 0, space }
    }

    /// The size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// 512-byte blocks in use.
    pub(crate) fn blocks(&self) -> u64 {
        self.pages.len() as u64 * BLOCKS_PER_PAGE
    }

    /// Reads up to the end; 0 there and past it.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = self.len.min(offset.saturating_add(buf.len() as u64));
        if offset >= end {
            return 0;
        }
        let buf = &mut buf[..(end - offset) as usize];
        buf.fill(0);
        for (&index, page) in self.pages.range(pages_touching(offset..end)) {
            let from = offset.max(index * PAGE);
            let part = within(index, &(offset..end));
            let to = (from - offset) as usize;
            buf[to..to + part.len()].copy_from_slice(&page[part]);
        }
        buf.len()
    }

    /// Writes as many bytes as there is room for.
    ///
    /// # Errors
    /// `NoSpace` when there is room for none, `TooLarge` at the largest size.
    pub(crate) fn write(&mut self, buf: &[u8], offset: u64) -> Result<usize, ErrorKind> {
        if buf.is_empty() {
            return Ok(0);
        }
        if offset >= MAX_LEN {
            return Err(ErrorKind::TooLarge);
        }
        let end = MAX_LEN.min(offset.saturating_add(buf.len() as u64));
        let mut done = 0;
        for index in pages_touching(offset..end) {
            let Ok(page) = self.page_mut(index) else { break };
            let part = within(index, &(offset..end));
            let n = part.len();
            page[part].copy_from_slice(&buf[done..done + n]);
            done += n;
        }
        if done == 0 {
            return Err(ErrorKind::NoSpace);
        }
        self.len = self.len.max(offset + done as u64);
        Ok(done)
    }

    fn page_mut(&mut self, index: u64) -> Result<&mut Page, ErrorKind> {
        use std::collections::btree_map::Entry;
        match self.pages.entry(index) {
            Entry::Occupied(page) => Ok(page.into_mut()),
            Entry::Vacant(hole) => {
                self.space.take_page()?;
                Ok(hole.insert(Box::new([0; PAGE as usize])))
            }
        }
    }

    /// Sets the size: what is cut off is freed, what is added is a hole.
    pub(crate) fn set_len(&mut self, len: u64) -> Result<(), ErrorKind> {
        if len > MAX_LEN {
            return Err(ErrorKind::TooLarge);
        }
        if len < self.len {
            self.punch(len..self.len);
        }
        self.len = len;
        Ok(())
    }

    /// Changes the blocks under a range, with fallocate(2)'s errors. Reserving checks that the space is there
    /// now but does not hold it.
    pub(crate) fn allocate(&mut self, how: Allocate, offset: u64, len: u64) -> Result<(), ErrorKind> {
        if len == 0 {
            return Err(ErrorKind::InvalidInput);
        }
        let end = offset.checked_add(len).filter(|end| *end <= MAX_LEN).ok_or(ErrorKind::TooLarge)?;
        match how {
            Allocate::Reserve | Allocate::ReserveKeepSize => {
                let touched = pages_touching(offset..end);
                let held = self.pages.range(touched.clone()).count() as u64;
                if touched.end - touched.start - held > self.space.free_pages() {
                    return Err(ErrorKind::NoSpace);
                }
                if how == Allocate::Reserve {
                    self.len = self.len.max(end);
                }
            }
            Allocate::PunchHole => self.punch(offset..end.min(self.len)),
            Allocate::Zero => {
                self.zero(offset..end.min(self.len));
                self.len = self.len.max(end);
            }
            Allocate::ZeroKeepSize => self.zero(offset..end.min(self.len)),
            Allocate::Collapse => {
                if !aligned(offset, len) || end >= self.len {
                    return Err(ErrorKind::InvalidInput);
                }
                self.punch(offset..end);
                let tail = self.pages.split_off(&(end / PAGE));
                self.pages.extend(tail.into_iter().map(|(index, page)| (index - len / PAGE, page)));
                self.len -= len;
            }
            Allocate::Insert => {
                if !aligned(offset, len) || offset >= self.len {
                    return Err(ErrorKind::InvalidInput);
                }
                let grown = self.len.checked_add(len).filter(|l| *l <= MAX_LEN).ok_or(ErrorKind::TooLarge)?;
                let tail = self.pages.split_off(&(offset / PAGE));
                self.pages.extend(tail.into_iter().map(|(index, page)| (index + len / PAGE, page)));
                self.len = grown;
            }
        }
        Ok(())
    }

    /// Frees the pages that `range` covers and zeroes the rest of it. The end of the file completes its page.
    fn punch(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = range.start.div_ceil(PAGE);
        let last = if range.end == self.len { range.end.div_ceil(PAGE) } else { range.end / PAGE };
        if first < last {
            let freed = self.pages.extract_if(first..last, |_, _| true).count();
            self.space.give_pages(freed as u64);
        }
        self.zero(range);
    }

    /// Zeroes what pages hold of `range`; holes stay holes.
    fn zero(&mut self, range: Range<u64>) {
        for (&index, page) in self.pages.range_mut(pages_touching(range.clone())) {
            page[within(index, &range)].fill(0);
        }
    }

    /// The first offset at or after `offset` that a page holds.
    pub(crate) fn seek_data(&self, offset: u64) -> Option<u64> {
        if offset >= self.len {
            return None;
        }
        let (&index, _) = self.pages.range(offset / PAGE..).next()?;
        Some(offset.max(index * PAGE))
    }

    /// The first offset at or after `offset` that no page holds, the end at the latest.
    pub(crate) fn seek_hole(&self, offset: u64) -> Option<u64> {
        if offset >= self.len {
            return None;
        }
        let first = offset / PAGE;
        let run = self.pages.range(first..).zip(first..).take_while(|((index, _), want)| *index == want);
        Some(offset.max((first + run.count() as u64) * PAGE).min(self.len))
    }
}

fn aligned(offset: u64, len: u64) -> bool {
    offset.is_multiple_of(PAGE) && len.is_multiple_of(PAGE)
}

/// The indexes of the pages that hold a byte of `range`.
fn pages_touching(range: Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / PAGE..range.end.div_ceil(PAGE)
}

/// The part of page `index` that lies in `range`, which must touch it.
fn within(index: u64, range: &Range<u64>) -> Range<usize> {
    let start = index * PAGE;
    (range.start.max(start) - start) as usize..(range.end - start).min(PAGE) as usize
}
