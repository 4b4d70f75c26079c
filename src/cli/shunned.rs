//! The options of all commands that look for peers: with whom to have nothing to do, and with how many of one host.

use super::Error;
use super::output::Output;
use crate::swarm::{IpFilter, UnreadLines};
use crate::wire::{GZIP_MAGIC, gunzip};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest list of addresses that is read, in bytes, as it is and unpacked.
const MOST_FILTER: u64 = 256 << 20;

/// Addresses to have nothing to do with, and most connections with one host, if the user has said so.
pub(super) type Shunned = (Option<Arc<IpFilter>>, Option<usize>);

#[derive(Debug, clap::Args)]
pub(super) struct ShunArgs {
    /// Connect to no more than this many peers of one host [default: 16, within private networks any number]
    #[arg(long, value_name = "COUNT", env = "SEEDRING_PEERS_PER_HOST", value_parser = clap::value_parser!(u32).range(1..))]
    peers_per_host: Option<u32>,

    /// Have nothing to do with the addresses in this file: a list as eMule or PeerGuardian write it, also packed with gzip, or nets as 10.0.0.0/8
    #[arg(long, value_name = "FILE", env = "SEEDRING_IP_FILTER")]
    ip_filter: Option<PathBuf>,
}

impl ShunArgs {
    /// What the user has said; reads the list of addresses.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub(super) fn read(&self, out: &Output) -> Result<Shunned, Error> {
        let most_of_host = self.peers_per_host.map(|most| most as usize);
        let Some(path) = &self.ip_filter else { return Ok((None, most_of_host)) };
        let (filter, unread) = read_filter(path)?;
        if let Some(unread) = unread {
            out.warn(&format!("{}: {unread}", path.display()));
        }
        Ok((Some(Arc::new(filter)), most_of_host))
    }
}

/// A list of addresses, and what could not be read of it.
fn read_filter(path: &Path) -> Result<(IpFilter, Option<UnreadLines>), Error> {
    let mut bytes = Vec::new();
    // What is no file has no length, and may never end.
    let read = File::open(path).and_then(|file| file.take(MOST_FILTER + 1).read_to_end(&mut bytes));
    read.map_err(Error::file("read", path))?;
    if bytes.len() as u64 > MOST_FILTER {
        return Err(Error::Other(format!("cannot read {}: it is longer than any list", path.display())));
    }
    if bytes.starts_with(&GZIP_MAGIC) {
        let unpacked = gunzip(&bytes, MOST_FILTER as usize);
        bytes = unpacked.map_err(|cause| Error::Other(format!("cannot read {}: {cause}", path.display())))?;
    }
    IpFilter::parse_list(&bytes)
        .map_err(|cause| Error::Other(format!("cannot use {}: {cause}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::fs;
    use std::io::Write;

    #[test]
    fn a_list_of_addresses_that_is_of_no_use_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_filter(&path).map_err(|error| error.to_string())
        };
        let (filter, unread) = read(b"10.0.0.0/8\nnonsense\n2001:db8::5-2001:db8::1\n").unwrap();
        assert!(filter.contains([10, 1, 1, 1].into()) && filter.len() == 1);
        assert!(unread.unwrap().to_string().starts_with("2 lines are passed over, the first of them line 2"));
        assert!(read(b"1.1.1.1\n").unwrap().1.is_none());
        assert!(read(b"nonsense\n").unwrap_err().contains("list: line 1 is no range"));
        assert!(read(b"BZh91AY").unwrap_err().contains("unpack it first"));
        assert!(read(b"\x1f\x8b\x08\0").unwrap_err().contains("cut off"));
        let endless = read_filter(Path::new("/dev/zero")).map_err(|error| error.to_string());
        assert!(endless.unwrap_err().contains("longer than"));
    }

    #[test]
    fn a_list_may_be_packed_with_gzip_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.dat");
        let packed = |bytes: &[u8]| {
            let mut encoder = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap();
            read_filter(&path).map_err(|error| error.to_string())
        };
        let (filter, unread) = packed(b"somebody:10.0.0.0-10.0.0.255\n").unwrap();
        assert!(filter.contains([10, 0, 0, 9].into()) && unread.is_none());
        // A small file that is a long list is read no further than a long file is.
        assert!(packed(&vec![b'\n'; MOST_FILTER as usize + 1]).unwrap_err().contains("longer than"));
    }
}
