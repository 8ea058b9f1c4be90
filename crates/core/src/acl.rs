//! POSIX access lists as Linux stores them in `system.posix_acl_access` and `system.posix_acl_default`: a u32
//! version 2, then entries of u16 tag, u16 permissions and u32 id, all little-endian (acl(5)). Invariant: a
//! value that does not read is treated as absent for checks and refused when it is set.

use crate::attr::Attr;
use crate::caller::Caller;

/// The attribute that holds an object's access list.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that holds what a directory's new entries inherit.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ace {
    tag: u16,
    perm: u16,
    id: u32,
}

fn parse(value: &[u8]) -> Option<Vec<Ace>> {
    let (version, rest) = value.split_first_chunk::<4>()?;
    let (entries, tail) = rest.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !tail.is_empty() {
        return None;
    }
    entries
        .iter()
        .map(|[t0, t1, p0, p1, id @ ..]| {
            let ace = Ace {
                tag: u16::from_le_bytes([*t0, *t1]),
                perm: u16::from_le_bytes([*p0, *p1]),
                id: u32::from_le_bytes(*id),
            };
            (matches!(ace.tag, USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER) && ace.perm <= 7)
                .then_some(ace)
        })
        .collect()
}

fn encode(aces: &[Ace]) -> Vec<u8> {
    let mut out = VERSION.to_le_bytes().to_vec();
    for ace in aces {
        out.extend(ace.tag.to_le_bytes());
        out.extend(ace.perm.to_le_bytes());
        out.extend(ace.id.to_le_bytes());
    }
    out
}

fn find(aces: &[Ace], tag: u16) -> Option<u32> {
    aces.iter().find(|a| a.tag == tag).map(|a| u32::from(a.perm))
}

/// What a list grants to a caller who does not own the object; `None` when the list does not read.
#[must_use]
pub fn granted(value: &[u8], caller: &Caller, attr: &Attr) -> Option<u32> {
    let aces = parse(value)?;
    let mask = find(&aces, MASK).unwrap_or(7);
    if let Some(ace) = aces.iter().find(|a| a.tag == USER && a.id == caller.uid) {
        return Some(u32::from(ace.perm) & mask);
    }
    let mut member = false;
    let mut perm = 0;
    for ace in &aces {
        let gid = match ace.tag {
            GROUP_OBJ => attr.gid,
            GROUP => ace.id,
            _ => continue,
        };
        if caller.in_group(gid) {
            member = true;
            perm |= u32::from(ace.perm);
        }
    }
    if member { Some(perm & mask) } else { find(&aces, OTHER) }
}

/// The permission bits that an access list stands for, and whether they say all of it, so that the list itself
/// need not be kept; `None` when it does not read.
#[must_use]
pub fn mode_of(value: &[u8]) -> Option<(u32, bool)> {
    let aces = parse(value)?;
    let group = find(&aces, MASK).or_else(|| find(&aces, GROUP_OBJ))?;
    let mode = (find(&aces, USER_OBJ)? << 6) | (group << 3) | find(&aces, OTHER)?;
    Some((mode, aces.len() == 3))
}

/// The list after chmod(2) to `mode`: owner, mask (or group) and others follow it.
#[must_use]
pub fn with_mode(value: &[u8], mode: u32) -> Option<Vec<u8>> {
    let mut aces = parse(value)?;
    let masked = find(&aces, MASK).is_some();
    for ace in &mut aces {
        let perm = match ace.tag {
            USER_OBJ => mode >> 6,
            GROUP_OBJ if !masked => mode >> 3,
            MASK => mode >> 3,
            OTHER => mode,
            _ => continue,
        };
        ace.perm = (perm & 7) as u16;
    }
    Some(encode(&aces))
}

/// What a new object gets from its directory's default list: its mode and, where the mode does not say all of
/// it, its own access list.
#[must_use]
pub fn inherit(default: &[u8], mode: u32) -> Option<(u32, Option<Vec<u8>>)> {
    let mut aces = parse(default)?;
    let masked = find(&aces, MASK).is_some();
    for ace in &mut aces {
        let allowed = match ace.tag {
            USER_OBJ => mode >> 6,
            GROUP_OBJ if !masked => mode >> 3,
            MASK => mode >> 3,
            OTHER => mode,
            _ => continue,
        };
        ace.perm &= (allowed & 7) as u16;
    }
    let value = encode(&aces);
    let (bits, complete) = mode_of(&value)?;
    Some((mode & !0o777 | bits, (!complete).then_some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(aces: &[(u16, u16, u32)]) -> Vec<u8> {
        encode(&aces.iter().map(|&(tag, perm, id)| Ace { tag, perm, id }).collect::<Vec<_>>())
    }

    #[test]
    fn damaged_lists_do_not_read() {
        for bad in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", b"\x02\0\0\0\x01\0\x07\0\0\0\0"] {
            assert!(parse(bad).is_none());
        }
    }

    #[test]
    fn a_mask_limits_named_users_and_stands_for_the_group_bits() {
        let acl = list(&[(1, 7, !0), (2, 7, 5), (4, 7, !0), (0x10, 4, !0), (0x20, 0, !0)]);
        assert_eq!(mode_of(&acl), Some((0o740, false)));
        let (mode, kept) = inherit(&acl, 0o666).unwrap();
        assert_eq!(mode, 0o640);
        assert_eq!(mode_of(&kept.unwrap()), Some((0o640, false)));
        assert_eq!(mode_of(&with_mode(&acl, 0o604).unwrap()), Some((0o604, false)));
    }
}
