//! What this process may do on its host.

use std::fs;

/// True when this process has `CAP_SYS_ADMIN` in the initial user namespace, which mounting what others may not
/// and `trusted.*` attributes take. Root inside a user namespace has neither.
#[must_use]
pub fn has_sys_admin() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    effective.is_some_and(|set| set >> CAP_SYS_ADMIN & 1 == 1) && is_initial_user_namespace()
}

/// The initial namespace maps all users to themselves, and no other can (user_namespaces(7)).
fn is_initial_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}
