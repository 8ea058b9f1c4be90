//! The command line of `strata fs`.

use clap::{Args, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use stratafs::store::ContainerName;

#[derive(Debug, Args)]
pub struct Fs {
    /// The container
    pub name: ContainerName,
    #[command(subcommand)]
    pub verb: FsVerb,
}

#[derive(Debug, Subcommand)]
pub enum FsVerb {
    /// List a directory, or show one file
    #[command(after_help = "Example: strata fs app ls -l /etc")]
    Ls {
        /// With type, mode, owner, size and time
        #[arg(short)]
        long: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// In the container
        #[arg(default_value = "/")]
        path: PathBuf,
    },
    /// Write files to standard output
    #[command(after_help = "Example: strata fs app cat /etc/motd | less")]
    Cat {
        /// In the container
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Show attributes; links are not followed
    #[command(after_help = "Example: strata fs app stat --json /etc/motd")]
    Stat {
        #[arg(long)]
        json: bool,
        /// In the container
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Copy into the container; `-` is standard input
    #[command(
        after_help = "Example: strata fs app put ./site.conf /etc/  (or: ... | strata fs app put - /etc/site.conf)"
    )]
    Put {
        /// A directory with everything in it
        #[arg(short)]
        recursive: bool,
        /// On the host
        from: PathBuf,
        /// In the container
        to: PathBuf,
    },
    /// Copy out of the container; `-` is standard output
    #[command(after_help = "Example: strata fs app get -r /var/log ./logs")]
    Get {
        /// A directory with everything in it
        #[arg(short)]
        recursive: bool,
        /// In the container
        from: PathBuf,
        /// On the host
        to: PathBuf,
    },
    /// Make directories
    #[command(after_help = "Example: strata fs app mkdir -p /srv/www/data")]
    Mkdir {
        /// Parents as well; no error when it exists
        #[arg(short)]
        parents: bool,
        /// In the container
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Remove files
    #[command(after_help = "Example: strata fs app rm -r /var/cache")]
    Rm {
        /// Directories with everything in them
        #[arg(short)]
        recursive: bool,
        /// No error for what is missing
        #[arg(short)]
        force: bool,
        /// In the container
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Remove empty directories
    #[command(after_help = "Example: strata fs app rmdir /srv/www")]
    Rmdir {
        /// In the container
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Rename
    #[command(after_help = "Example: strata fs app mv /etc/motd /etc/motd.old")]
    Mv {
        /// Do not replace
        #[arg(short = 'n', long)]
        no_replace: bool,
        /// Swap the two
        #[arg(long, conflicts_with = "no_replace")]
        exchange: bool,
        from: PathBuf,
        to: PathBuf,
    },
    /// Make a link
    #[command(after_help = "Example: strata fs app ln -s ../usr/bin/app /bin/app")]
    Ln {
        /// A symbolic one
        #[arg(short)]
        symbolic: bool,
        target: PathBuf,
        path: PathBuf,
    },
    /// Copy a file within the container
    #[command(after_help = "Example: strata fs app cp /etc/motd /etc/issue")]
    Cp { from: PathBuf, to: PathBuf },
    /// Set permission bits
    #[command(after_help = "Example: strata fs app chmod 0640 /etc/shadow")]
    Chmod {
        /// Octal, as in 0644
        #[arg(value_parser = octal)]
        mode: u32,
        /// In the container
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Set owner and group by number
    #[command(after_help = "Example: strata fs app chown 33:33 /srv/www")]
    Chown {
        /// Of links themselves
        #[arg(short = 'H', long)]
        no_follow: bool,
        /// UID, UID:GID or :GID
        #[arg(value_parser = owner)]
        owner: Owner,
        /// In the container
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Show and set extended attributes
    #[command(after_help = "Example: strata fs app xattr set /data user.origin upstream")]
    Xattr {
        #[command(subcommand)]
        verb: XattrVerb,
    },
    /// Print the target of a link
    #[command(after_help = "Example: strata fs app readlink /bin")]
    Readlink { path: PathBuf },
    /// Set times to now, making missing files
    #[command(after_help = "Example: strata fs app touch /etc/stamp")]
    Touch {
        /// In the container
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Set a file's size
    #[command(after_help = "Example: strata fs app truncate 0 /var/log/messages")]
    Truncate {
        /// Bytes
        size: u64,
        path: PathBuf,
    },
    /// Make a device (needs MAJOR and MINOR), fifo or socket
    #[command(after_help = "Example: strata fs app mknod /dev/null c 1 3 -m 0666")]
    Mknod {
        path: PathBuf,
        kind: NodeKind,
        #[arg(requires = "minor")]
        major: Option<u32>,
        minor: Option<u32>,
        /// Permission bits, octal
        #[arg(short, long, default_value = "0644", value_parser = octal)]
        mode: u32,
    },
}

impl FsVerb {
    /// True when the container stays as it is.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Ls { .. }
            | Self::Cat { .. }
            | Self::Stat { .. }
            | Self::Get { .. }
            | Self::Readlink { .. } => true,
            Self::Xattr { verb } => matches!(verb, XattrVerb::Ls { .. } | XattrVerb::Get { .. }),
            _ => false,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum XattrVerb {
    /// List the names
    #[command(after_help = "Example: strata fs app xattr ls /data")]
    Ls {
        #[arg(long)]
        json: bool,
        path: PathBuf,
    },
    /// Write a value to standard output, byte for byte
    #[command(after_help = "Example: strata fs app xattr get /data user.origin")]
    Get { path: PathBuf, name: OsString },
    /// Set a value
    #[command(after_help = "Example: strata fs app xattr set /data user.origin upstream")]
    Set { path: PathBuf, name: OsString, value: OsString },
    /// Remove one
    #[command(after_help = "Example: strata fs app xattr rm /data user.origin")]
    Rm { path: PathBuf, name: OsString },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum NodeKind {
    /// Character device
    C,
    /// Block device
    B,
    /// Fifo
    P,
    /// Socket
    S,
}

/// An owner to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err("an octal number up to 7777 is needed".into()),
    }
}

fn owner(text: &str) -> Result<Owner, String> {
    let number = |text: &str| match text {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| format!("\"{digits}\" is not a number")),
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
    let owner = Owner { uid: number(uid)?, gid: number(gid)? };
    if owner.uid.is_none() && owner.gid.is_none() {
        return Err("UID, UID:GID or :GID is needed".into());
    }
    Ok(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_modes_parse() {
        assert_eq!(owner("1:2").unwrap(), Owner { uid: Some(1), gid: Some(2) });
        assert_eq!(owner("1").unwrap(), Owner { uid: Some(1), gid: None });
        assert_eq!(owner(":2").unwrap(), Owner { uid: None, gid: Some(2) });
        assert!(owner(":").is_err() && owner("root").is_err() && owner("1:x").is_err());
        assert_eq!(octal("0755").unwrap(), 0o755);
        assert!(octal("9").is_err() && octal("10000").is_err() && octal("+7").is_err());
    }
}
