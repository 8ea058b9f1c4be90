//! As whom a command runs: an image's `User` (or `--user`), looked up in the files of the container, never in the
//! host's. The rules are those of Docker: a number is a number first; without a group the one of `passwd` counts, and
//! the groups that list the user come on top; with a group it is that one alone.

use std::fmt;

/// The largest id that the lookup takes, as in other runtimes; beyond it are the kernel's special values.
const ID_MAX: u32 = i32::MAX as u32;

/// Who runs the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory, where `passwd` names one.
    pub home: Option<String>,
}

impl User {
    /// True for root and root's group: all that exists in a user namespace made without privilege, where nobody chooses
    /// further groups.
    pub fn is_root(&self) -> bool {
        self.uid == 0 && self.gid == 0
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// A line of `passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Finds `asked` (`user`, `uid`, `user:group`, ...) in the text of the container's `passwd` and `group`; a text is
/// empty where the container has no such file.
///
/// # Errors
/// Which user or group is missing.
pub fn find(asked: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (who, of) = asked.split_once(':').map_or((asked, None), |(who, of)| (who, Some(of)));
    let who = if who.is_empty() { "0" } else { who };
    let number = id(who);
    let account = accounts(passwd).find(|account| match number {
        Some(uid) => account.uid == uid,
        None => account.name == who,
    });
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(format!("the container's /etc/passwd has no user \"{who}\"")),
    };
    let home = account.as_ref().map(|account| account.home).filter(|home| !home.is_empty());
    let mut user = User {
        uid,
        gid: account.as_ref().map_or(0, |account| account.gid),
        groups: Vec::new(),
        home: home.map(str::to_owned),
    };
    match of.filter(|of| !of.is_empty()) {
        Some(of) => {
            user.gid = match id(of) {
                Some(gid) => gid,
                None => groups(group)
                    .find(|(name, ..)| *name == of)
                    .map(|(_, gid, _)| gid)
                    .ok_or_else(|| format!("the container's /etc/group has no group \"{of}\""))?,
            };
        }
        None => {
            let Some(account) = account else { return Ok(user) };
            let member = |members: &str| members.split(',').any(|name| name == account.name);
            user.groups =
                groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid).collect();
            user.groups.sort_unstable();
            user.groups.dedup();
        }
    }
    Ok(user)
}

fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= ID_MAX)
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let home = fields.nth(1).unwrap_or_default();
        Some(Account { name, uid: id(uid)?, gid: id(gid)?, home })
    })
}

/// Name, number and members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, id(gid)?, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:\nbad line\n+::::::\nno:x:y:1::/:\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:7:a,web\ntty:x:5:web\nbroken\n";

    fn user(asked: &str) -> (u32, u32, Vec<u32>, String) {
        let User { uid, gid, groups, home } = find(asked, PASSWD, GROUP).unwrap();
        (uid, gid, groups, home.unwrap_or_default())
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_files_of_the_container() {
        assert_eq!(user("web"), (33, 34, vec![5, 7], "/var/www".into()));
        assert_eq!(user("33"), user("web"), "a number that has an account is that account");
        assert_eq!(user("web:logs"), (33, 7, vec![], "/var/www".into()), "an explicit group is alone");
        assert_eq!(user("web:99"), (33, 99, vec![], "/var/www".into()));
        assert_eq!(user("1000"), (1000, 0, vec![], String::new()));
        assert_eq!(user("1000:www"), (1000, 34, vec![], String::new()));
        assert_eq!(user(""), (0, 0, vec![], "/root".into()));
        assert_eq!(user(":7"), (0, 7, vec![], "/root".into()));
    }

    #[test]
    fn who_is_missing_is_named() {
        assert!(find("nobody", PASSWD, GROUP).unwrap_err().contains("\"nobody\""));
        assert!(find("web:nogroup", PASSWD, GROUP).unwrap_err().contains("\"nogroup\""));
        for odd in ["-1", "+5", "4294967295", "2147483648", "1.5"] {
            assert!(find(odd, PASSWD, GROUP).is_err(), "{odd}");
        }
        assert_eq!(find("5:6", "", "").unwrap().gid, 6, "numbers need no files");
    }
}
