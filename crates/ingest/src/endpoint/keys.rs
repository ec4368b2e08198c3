//! The endpoint's own secrets, kept across restarts.
//!
//! A device that sends to a server which was killed and came back gets a stateless reset: one packet that proves, with a
//! token derived from these keys, that its connection is gone. With new keys in every process it would have to wait for
//! its idle timeout instead.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::HandshakeTokenKey;

/// Bytes of the key that reset tokens are derived from, of the one that marks connection ids as ours, and of the one that
/// address tokens are sealed with. Files of before there was the third are still read.
const RESET_KEY: usize = 64;
const ID_KEY: usize = 8;
const TOKEN_KEY: usize = 64;

/// The secrets of the endpoint.
pub(super) struct Keys {
    reset: [u8; RESET_KEY],
    id: u64,
    token: [u8; TOKEN_KEY],
}

impl Keys {
    /// Reads the keys in `file`, which is made (readable by its owner only) if it does not exist.
    pub(super) fn load(file: &Path) -> io::Result<Self> {
        let mut keys = match fs::read(file) {
            Ok(keys) => keys,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        match keys.len() {
            0 => extend(file, &mut keys, RESET_KEY + ID_KEY + TOKEN_KEY)?,
            len if len == RESET_KEY + ID_KEY => extend(file, &mut keys, TOKEN_KEY)?,
            _ => {}
        }
        let Some((&reset, rest)) = keys.split_first_chunk() else { return Err(foreign()) };
        let Some((&id, token)) = rest.split_first_chunk() else { return Err(foreign()) };
        let token = token.try_into().map_err(|_| foreign())?;
        Ok(Self { reset, id: u64::from_le_bytes(id), token })
    }

    /// The endpoint's settings.
    pub(super) fn endpoint(&self) -> EndpointConfig {
        let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.reset);
        let mut config = EndpointConfig::new(Arc::new(reset));
        let id = self.id;
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id)));
        config
    }

    /// What proves that a client has been at its address before.
    pub(super) fn token(&self) -> Arc<dyn HandshakeTokenKey> {
        Arc::new(ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&self.token))
    }
}

/// Adds `bytes` fresh ones to the keys, in memory and in the file, which is replaced as a whole.
fn extend(file: &Path, keys: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    let known = keys.len();
    keys.resize(known + bytes, 0);
    getrandom::fill(&mut keys[known..]).map_err(io::Error::other)?;
    let new = file.with_extension("new");
    // One of a start that failed halfway may be there.
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    written.write_all(keys)?;
    written.sync_all()?;
    fs::rename(&new, file)
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a file of endpoint keys; remove it to get new ones")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_kept_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endpoint.keys");
        Keys::load(&file).unwrap();
        let first = fs::read(&file).unwrap();
        Keys::load(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), first);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, b"short").unwrap();
        assert!(Keys::load(&file).err().unwrap().to_string().contains("remove it"));
    }

    #[test]
    fn a_file_without_the_token_key_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("endpoint.keys");
        fs::write(&file, [7; RESET_KEY + ID_KEY]).unwrap();
        let keys = Keys::load(&file).unwrap();
        assert_eq!((keys.reset, keys.id), ([7; RESET_KEY], u64::from_le_bytes([7; ID_KEY])));
        assert_ne!(keys.token, [0; TOKEN_KEY]);
        assert_eq!(Keys::load(&file).unwrap().token, keys.token);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
