//! File data against a plain vector of bytes and a set of pages: after every step, the same bytes, size,
//! blocks and holes.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod common;

use common::{errno, put, root};
use proptest::prelude::*;
use std::collections::BTreeSet;
use stratafs_core::error::errno::{EFBIG, EINVAL};
use stratafs_core::{Allocate, Copied, Kind, Layer, ReadAt, Scratch, WriteAt};
use stratafs_mem::{MemFile, MemScratch, PAGE};

#[derive(Debug, Clone)]
enum Step {
    Write { offset: u64, len: usize, byte: u8 },
    SetLen(u64),
    Allocate { how: Allocate, offset: u64, len: u64 },
}

/// Offsets in some ten pages, most of them at or beside a page's edge.
fn offset() -> impl Strategy<Value = u64> {
    let edge = (0..10u64, 0..3u64).prop_map(|(page, beside)| (page * PAGE + beside).saturating_sub(1));
    prop_oneof![2 => (0..10u64).prop_map(|page| page * PAGE), 2 => edge, 1 => 0..10 * PAGE]
}

fn how() -> impl Strategy<Value = Allocate> {
    prop_oneof![
        Just(Allocate::Reserve),
        Just(Allocate::ReserveKeepSize),
        Just(Allocate::PunchHole),
        Just(Allocate::Zero),
        Just(Allocate::ZeroKeepSize),
        Just(Allocate::Collapse),
        Just(Allocate::Insert),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (offset(), 0..3 * PAGE as usize, 1..=255u8)
            .prop_map(|(offset, len, byte)| Step::Write { offset, len, byte }),
        1 => offset().prop_map(Step::SetLen),
        3 => (how(), offset(), offset()).prop_map(|(how, offset, len)| Step::Allocate { how, offset, len }),
    ]
}

#[derive(Debug, Default)]
struct Model {
    bytes: Vec<u8>,
    pages: BTreeSet<u64>,
}

impl Model {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn grow(&mut self, len: u64) {
        self.bytes.resize(self.bytes.len().max(len as usize), 0);
    }

    fn zero(&mut self, offset: u64, end: u64) {
        let end = end.min(self.len());
        if offset < end {
            self.bytes[offset as usize..end as usize].fill(0);
        }
    }

    fn punch(&mut self, offset: u64, end: u64) {
        self.zero(offset, end);
        let len = self.len();
        self.pages.retain(|page| page * PAGE < offset || len.min((page + 1) * PAGE) > end);
    }

    /// Gives the errno where the step must fail.
    fn apply(&mut self, step: &Step) -> Result<(), i32> {
        match *step {
            Step::Write { offset, len, byte } => {
                let end = offset + len as u64;
                if len > 0 {
                    self.grow(end);
                    self.bytes[offset as usize..end as usize].fill(byte);
                    self.pages.extend(offset / PAGE..end.div_ceil(PAGE));
                }
            }
            Step::SetLen(len) => {
                self.bytes.resize(len as usize, 0);
                self.pages.retain(|page| page * PAGE < len);
            }
            Step::Allocate { len: 0, .. } => return Err(EINVAL),
            Step::Allocate { how, offset, len } => {
                let end = offset + len;
                let aligned = offset % PAGE == 0 && len % PAGE == 0;
                match how {
                    Allocate::Reserve => self.grow(end),
                    Allocate::ReserveKeepSize => {}
                    Allocate::PunchHole => self.punch(offset, end),
                    Allocate::Zero => {
                        self.zero(offset, end);
                        self.grow(end);
                    }
                    Allocate::ZeroKeepSize => self.zero(offset, end),
                    Allocate::Collapse if aligned && end < self.len() => {
                        self.bytes.drain(offset as usize..end as usize);
                        let kept = self.pages.iter().filter(|p| !(offset..end).contains(&(*p * PAGE)));
                        self.pages = kept.map(|p| if p * PAGE < end { *p } else { p - len / PAGE }).collect();
                    }
                    Allocate::Insert if aligned && offset < self.len() => {
                        let hole = vec![0; len as usize];
                        self.bytes.splice(offset as usize..offset as usize, hole);
                        self.pages = self
                            .pages
                            .iter()
                            .map(|p| if p * PAGE < offset { *p } else { p + len / PAGE })
                            .collect();
                    }
                    Allocate::Collapse | Allocate::Insert => return Err(EINVAL),
                }
            }
        }
        Ok(())
    }

    fn seek(&self, offset: u64, data: bool) -> Option<u64> {
        let starts = (offset / PAGE + 1..=self.len() / PAGE).map(|page| page * PAGE);
        let mut offsets = std::iter::once(offset).chain(starts).take_while(|at| *at < self.len());
        offsets.find(|at| self.pages.contains(&(at / PAGE)) == data)
    }

    /// A hole is at the end too, but for a seek from the end.
    fn seek_hole(&self, offset: u64) -> Option<u64> {
        (offset < self.len()).then(|| self.seek(offset, false).unwrap_or(self.len()))
    }
}

fn apply(file: &MemFile, step: &Step) -> Result<(), i32> {
    match *step {
        Step::Write { offset, len, byte } => {
            file.write_at(&vec![byte; len], offset).map(|n| assert_eq!(n, len))
        }
        Step::SetLen(len) => file.set_len(len),
        Step::Allocate { how, offset, len } => file.allocate(how, offset, len),
    }
    .map_err(|error| error.errno())
}

fn read_all(file: &MemFile) -> Vec<u8> {
    let mut bytes = vec![0xff; file.size().unwrap() as usize + 10];
    let n = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(n);
    bytes
}

fn edges(len: u64) -> impl Iterator<Item = u64> {
    (0..=len.div_ceil(PAGE)).flat_map(|page| (0..3).map(move |d| (page * PAGE + d).saturating_sub(1)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn data_is_what_a_vector_says(steps in prop::collection::vec(step(), 1..24)) {
        let scratch = MemScratch::new();
        let node = put(&scratch, &root(&scratch), "f", Kind::File);
        let file = scratch.open_write(&node).unwrap();
        let mut model = Model::default();
        for step in &steps {
            prop_assert_eq!(apply(&file, step), model.apply(step), "{:?}", step);
            prop_assert_eq!(read_all(&file) == model.bytes, true, "bytes after {:?}", step);
            prop_assert_eq!(scratch.attr(&node).unwrap().blocks, model.pages.len() as u64 * 8);
            for offset in edges(model.len()) {
                prop_assert_eq!(file.seek_data(offset).unwrap(), model.seek(offset, true));
                prop_assert_eq!(file.seek_hole(offset).unwrap(), model.seek_hole(offset));
            }
        }
        let used = |s: &MemScratch| { let st = s.stat_fs().unwrap(); st.blocks - st.blocks_free };
        prop_assert_eq!(used(&scratch), model.pages.len() as u64);

        let copy = scratch.open_write(&put(&scratch, &root(&scratch), "g", Kind::File)).unwrap();
        let cut = model.len() * 2 / 3;
        let data = model.pages.iter().map(|page| cut.saturating_sub(page * PAGE).min(PAGE)).sum();
        let copied = copy.fill(&file, cut).unwrap();
        prop_assert_eq!(copied, if data == 0 { Copied::Empty } else { Copied::Bytes(data) });
        prop_assert_eq!(read_all(&copy) == model.bytes[..cut as usize], true);
        for offset in edges(cut) {
            prop_assert_eq!(copy.seek_data(offset).unwrap(), model.seek(offset, true).filter(|at| *at < cut));
        }
    }

    #[test]
    fn reads_anywhere_give_the_vectors_part(offset in offset(), len in 0..3 * PAGE as usize) {
        let scratch = MemScratch::new();
        let file = scratch.open_write(&put(&scratch, &root(&scratch), "f", Kind::File)).unwrap();
        let mut model = Model::default();
        for step in [Step::Write { offset: 100, len: 5000, byte: 3 }, Step::Write { offset: 5 * PAGE, len: 9, byte: 4 }] {
            prop_assert_eq!(apply(&file, &step), model.apply(&step));
        }
        let mut buf = vec![0xff; len];
        let n = file.read_at(&mut buf, offset).unwrap();
        let end = model.bytes.len().min(offset as usize + len);
        let want = model.bytes.get(offset as usize..end).unwrap_or(&[]);
        prop_assert_eq!(&buf[..n], want);
        prop_assert!(buf[n..].iter().all(|b| *b == 0xff), "bytes behind the read were touched");
    }
}

#[test]
fn the_largest_file_ends_at_off_t() {
    let scratch = MemScratch::new();
    let file = scratch.open_write(&put(&scratch, &root(&scratch), "f", Kind::File)).unwrap();
    let max = i64::MAX as u64;
    assert_eq!(file.write_at(b"abc", max - 2).unwrap(), 2, "a write is cut at the largest size");
    assert_eq!(file.size().unwrap(), max);
    assert_eq!(file.seek_data(0).unwrap(), Some((max - 2) / PAGE * PAGE));
    assert_eq!(file.seek_hole(max - 1).unwrap(), Some(max));
    let mut buf = [0; 8];
    assert_eq!(file.read_at(&mut buf, max - 2).unwrap(), 2);
    assert_eq!(&buf[..2], b"ab");
    assert_eq!(file.read_at(&mut buf, u64::MAX).unwrap(), 0);
    assert_eq!(errno(file.write_at(b"a", max)), EFBIG);
    assert_eq!(errno(file.write_at(b"a", u64::MAX)), EFBIG);
    assert_eq!(errno(file.set_len(max + 1)), EFBIG);
    assert_eq!(errno(file.allocate(Allocate::Zero, max, 1)), EFBIG);
    assert_eq!(errno(file.allocate(Allocate::Zero, u64::MAX, 2)), EFBIG);
    assert_eq!(errno(file.allocate(Allocate::Insert, 0, PAGE)), EFBIG);
    file.allocate(Allocate::PunchHole, 0, max).unwrap();
    assert_eq!(scratch.stat_fs().unwrap().blocks, scratch.stat_fs().unwrap().blocks_free);
}

#[test]
fn copy_range_is_short_at_the_end_and_crosses_files() {
    let scratch = MemScratch::new();
    let dir = root(&scratch);
    let from = scratch.open_write(&common::put_bytes(&scratch, &dir, "from", b"0123456789")).unwrap();
    let to = scratch.open_write(&common::put_bytes(&scratch, &dir, "to", b"abcdef")).unwrap();
    assert_eq!(to.copy_range(&from, 6, 2, 100).unwrap(), 4);
    assert_eq!(read_all(&to), b"ab6789");
    assert_eq!(to.copy_range(&from, 10, 0, 1).unwrap(), 0);
    assert_eq!(to.copy_range(&from, u64::MAX, 0, u64::MAX).unwrap(), 0);
    assert_eq!(to.copy_range(&from, 0, 0, 0).unwrap(), 0);
    assert_eq!(read_all(&to), b"ab6789");
}

/// A source whose seeks answer nonsense.
#[derive(Debug)]
struct Liar;

impl ReadAt for Liar {
    fn read_at(&self, buf: &mut [u8], _offset: u64) -> stratafs_core::Result<usize> {
        buf.fill(1);
        Ok(buf.len().min(3))
    }
    fn size(&self) -> stratafs_core::Result<u64> {
        Ok(10)
    }
    fn seek_data(&self, offset: u64) -> stratafs_core::Result<Option<u64>> {
        Ok(Some(offset.saturating_sub(5)))
    }
    fn seek_hole(&self, _offset: u64) -> stratafs_core::Result<Option<u64>> {
        Ok(Some(7))
    }
}

#[test]
fn fill_ends_whatever_the_source_says_and_takes_short_reads() {
    let scratch = MemScratch::new();
    let file = scratch.open_write(&put(&scratch, &root(&scratch), "f", Kind::File)).unwrap();
    assert_eq!(file.fill(&Liar, 10).unwrap(), Copied::Bytes(7));
    assert_eq!(read_all(&file), [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
    assert_eq!(file.fill(&Liar, 10).unwrap(), Copied::Bytes(7), "what an earlier call left is overwritten");
}
