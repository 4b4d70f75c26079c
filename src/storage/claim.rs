//! One download at a time under a name in a folder: two would write into the same parts, and each take the other's for its own,
//! whether they are of one torrent or of two that have the same name.

use super::{Folder, StorageError};
use crate::digest::{Job, Sha1State, advance};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// While this is held, nobody else on this machine downloads into the folder under that name. The kernel takes it back from a program
/// that ends, however it does, and nothing is left in the folder.
#[derive(Debug)]
pub struct Claim {
    /// Nobody connects to it: that its name is taken is all.
    _name: Option<UnixListener>,
}

impl Claim {
    /// Claims the name in the folder, which is that of a torrent: its file's, or that of the folder that holds its files. Where the system has no such names (as where other containers write there, too), it
    /// goes without.
    ///
    /// # Errors
    /// When somebody else has claimed it.
    pub fn new(folder: &Folder, torrent: &str) -> Result<Self, StorageError> {
        let (device, inode) = folder.id()?;
        // Everybody on the machine sees the name: it is to tell nobody what is downloaded.
        let (mut name, what) = (Sha1State::new(), format!("{device} {inode} {torrent}"));
        advance(&mut [Job::new(&mut name, what.as_bytes())]);
        let name = format!("seedring {:02x?}", name.finish());
        let claimed = SocketAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name));
        match claimed {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let cause = "another seedring is at work on it, or on another torrent of that name";
                Err(StorageError::because("download", folder.display(&[torrent.to_owned()]), cause))
            }
            other => Ok(Self { _name: other.ok() }),
        }
    }
}
