//! The command line of `strata image`, and of what makes archives of containers.

use super::Json;
use crate::help;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use stratafs::oci::image::{ConfigChange, Platform};
use stratafs::store::{ContainerName, ImageName};

#[derive(Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    pub verb: ImageVerb,
}

#[derive(Debug, Subcommand)]
pub enum ImageVerb {
    /// Take images from a file or directory into the store
    #[command(after_help = help::image::IMPORT)]
    Import(Import),
    /// List images
    #[command(after_help = help::image::LS)]
    Ls(Json),
    /// Show everything about an image
    #[command(after_help = help::image::INSPECT)]
    Inspect(ImageNamed),
    /// Remove names of images
    #[command(after_help = help::image::RM)]
    Rm {
        /// The images, by name
        #[arg(required = true, value_name = "IMAGE")]
        names: Vec<ImageName>,
    },
    /// Give an image another name
    #[command(after_help = help::image::TAG)]
    Tag {
        /// The image, by name or the beginning of its id
        image: String,
        /// The new name; an image that has it loses it
        name: ImageName,
    },
    /// Write an image for other tools
    #[command(after_help = help::image::EXPORT)]
    Export(ExportImage),
}

#[derive(Debug, Args)]
pub struct ImageNamed {
    /// The image, by name or the beginning of its id
    pub image: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// A layer archive, an image archive or a directory; `-` is an archive on standard input
    pub from: PathBuf,
    /// Name the image so [default: what the archive says, else the file's own name]
    #[arg(long, value_name = "NAME[:TAG]")]
    pub name: Option<ImageName>,
    /// Of an image for several systems, take this one [default: the host's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Read layers that are stored already too, and replace those that are damaged
    #[arg(long)]
    pub verify: bool,
    /// Print what happens as one JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ExportImage {
    /// The images, by name or the beginning of the id
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Write here; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Write a directory instead of one archive; to a layout that is there the images are added
    #[arg(long)]
    pub dir: bool,
    /// How layers are compressed
    #[arg(long, value_enum, default_value_t = Compression::Gzip)]
    pub compression: Compression,
    /// Replace a file that is there
    #[arg(long, conflicts_with = "dir")]
    pub force: bool,
    /// Print what happens as one JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Every tool reads it
    Gzip,
    /// Smaller and faster; not for the oldest tools
    Zstd,
    /// Not compressed
    None,
}

#[derive(Debug, Args)]
pub struct Commit {
    /// The container
    pub name: ContainerName,
    /// What the new image is called; an image that has the name loses it
    #[arg(long, value_name = "NAME[:TAG]")]
    pub image: ImageName,
    /// Say why, in the image's history
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
    /// Say who, in the image's history
    #[arg(long, value_name = "WHO")]
    pub author: Option<String>,
    /// Change what the image runs: ENV, CMD, ENTRYPOINT, WORKDIR, USER, LABEL, EXPOSE, VOLUME, STOPSIGNAL, as in a
    /// Dockerfile
    #[arg(long, short, value_name = "INSTRUCTION")]
    pub change: Vec<ConfigChange>,
    /// Print what happens as one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Of `export` and `layer`: an archive of a container.
#[derive(Debug, Args)]
pub struct Pack {
    /// The container
    pub name: ContainerName,
    /// Write here; `-` is standard output [default: -]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How the archive is compressed
    #[arg(long, value_enum, default_value_t = Compression::None)]
    pub compression: Compression,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// Print what happens as one JSON object a line
    #[arg(long, requires = "output")]
    pub json: bool,
}
