//! What the extensions say inside of `extended` messages (BEP 10).
//!
//! | file | subject |
//! |---|---|
//! | `handshake` | who speaks what, and facts about the sender (BEP 10, 21) |
//! | `metadata` | `ut_metadata`: the info dictionary, block by block (BEP 9) |
//! | `pex` | `ut_pex`: addresses of other peers (BEP 11) |
//!
//! An extension has a number of the receiver's choice: each side says in its handshake by which number it wants to be
//! told what. Ours are those of [`Extension::id`].

mod handshake;
mod metadata;
mod pex;
#[cfg(test)]
mod tests;

pub use handshake::ExtendedHandshake;
pub use metadata::{METADATA_BLOCK_LEN, MetadataMessage};
pub use pex::{MAX_PEX_PEERS, PexFlags, PexMessage};

/// Number of the extension protocol's own handshake.
pub const HANDSHAKE_ID: u8 = 0;
/// Longest dictionary of an extension that is read, in bytes.
pub const MAX_DICT_LEN: usize = 64 * 1024;

/// The extensions we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// `ut_metadata` (BEP 9).
    Metadata,
    /// `ut_pex` (BEP 11).
    Pex,
    /// `lt_donthave` (BEP 54).
    DontHave,
    /// `upload_only`: libtorrent's message beside the handshake's key of BEP 21.
    UploadOnly,
}

impl Extension {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Metadata, Self::Pex, Self::DontHave, Self::UploadOnly];

    /// What it is called in handshakes.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Metadata => b"ut_metadata",
            Self::Pex => b"ut_pex",
            Self::DontHave => b"lt_donthave",
            Self::UploadOnly => b"upload_only",
        }
    }

    /// The number by which we want to be sent it.
    pub fn id(self) -> u8 {
        self as u8 + 1
    }

    /// The extension that a message to us belongs to.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.id() == id)
    }
}

/// The numbers by which a peer wants to be sent extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds([u8; Extension::ALL.len()]);

impl ExtensionIds {
    /// The peer's number of an extension; `None` when it does not speak it (any more).
    pub fn get(&self, extension: Extension) -> Option<u8> {
        Some(self.0[extension as usize]).filter(|id| *id != 0)
    }

    /// Sets the number of an extension; 0 is none.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.0[extension as usize] = id;
    }

    /// Takes in what a further handshake has said: what it does not name stays.
    pub fn update(&mut self, handshake: &ExtendedHandshake) {
        for extension in Extension::ALL {
            if let Some(id) = handshake.ids[extension as usize] {
                self.set(extension, id);
            }
        }
    }
}

/// The payload of `lt_donthave` (BEP 54): a piece that its sender has no more.
pub fn encode_dont_have(index: u32) -> [u8; 4] {
    index.to_be_bytes()
}

/// Reads the payload of `lt_donthave`. `None` when it is not four bytes.
pub fn parse_dont_have(payload: &[u8]) -> Option<u32> {
    payload.try_into().map(u32::from_be_bytes).ok()
}

/// Reads the payload of `upload_only`: whether its sender does not download. `None` when it is not one byte.
pub fn parse_upload_only(payload: &[u8]) -> Option<bool> {
    match payload {
        [byte] => Some(*byte != 0),
        _ => None,
    }
}
