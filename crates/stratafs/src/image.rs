//! [`Image`]: layers in their order. Cheap to clone; many containers share one.

use crate::{AnyLayer, Config, Container, DirLayer, LayerOptions, Result, Stack, View};
use std::path::Path;
use stratafs_mem::MemLayer;

/// An ordered list of read-only layers, the topmost first.
#[derive(Debug, Clone, Default)]
pub struct Image {
    layers: Vec<AnyLayer>,
}

/// Collects the layers of an [`Image`], from the topmost down.
#[derive(Debug, Default)]
#[must_use]
pub struct ImageBuilder {
    layers: Vec<AnyLayer>,
}

impl Image {
    /// Starts an image without layers.
    pub fn builder() -> ImageBuilder {
        ImageBuilder::default()
    }

    /// An image of directories, the topmost first, with overlayfs's whiteouts.
    ///
    /// # Errors
    /// A directory that is missing, is none, or cannot be opened.
    pub fn from_dirs(dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        dirs.into_iter().try_fold(Self::builder(), ImageBuilder::dir)?.build()
    }

    /// The layers, the topmost first.
    #[must_use]
    pub fn layers(&self) -> &[AnyLayer] {
        &self.layers
    }

    /// The merged view of the layers alone; every change is `EROFS`.
    ///
    /// # Errors
    /// For an image without layers, and what the layers say of their roots.
    pub fn view(&self) -> Result<Container> {
        let stack = Stack { layers: self.layers.clone(), scratch: None };
        Ok(Container::over(View::new(stack, Config::default())?))
    }
}

impl ImageBuilder {
    /// Adds a directory below what is there already.
    ///
    /// # Errors
    /// When it is missing, is none, or cannot be opened.
    pub fn dir(self, path: impl AsRef<Path>) -> Result<Self> {
        self.dir_with(path, &LayerOptions::default())
    }

    /// Adds a directory with options, such as which whiteouts it uses.
    ///
    /// # Errors
    /// As [`ImageBuilder::dir`].
    pub fn dir_with(self, path: impl AsRef<Path>, options: &LayerOptions) -> Result<Self> {
        Ok(self.layer(DirLayer::open(path.as_ref(), options)?))
    }

    /// Adds a layer in memory.
    pub fn mem(self, layer: MemLayer) -> Self {
        self.layer(layer)
    }

    /// Adds a layer of any backend.
    pub fn layer(mut self, layer: impl Into<AnyLayer>) -> Self {
        self.layers.push(layer.into());
        self
    }

    /// The image.
    ///
    /// # Errors
    /// `InvalidInput` for more layers than a stack takes ([`crate::LAYERS_MAX`]).
    pub fn build(self) -> Result<Image> {
        if self.layers.len() > crate::LAYERS_MAX {
            return Err(crate::Error::new(crate::ErrorKind::InvalidInput, "build image").because(format!(
                "{} layers, at most {}",
                self.layers.len(),
                crate::LAYERS_MAX
            )));
        }
        Ok(Image { layers: self.layers })
    }
}
