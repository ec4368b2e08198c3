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

/// Bytes of the key that reset tokens are derived from, and of the one that marks connection ids as ours.
const RESET_KEY: usize = 64;
const ID_KEY: usize = 8;

/// The endpoint's settings with the keys in `file`, which is made (readable by its owner only) if it does not exist.
pub(super) fn endpoint_config(file: &Path) -> io::Result<EndpointConfig> {
    let keys = match fs::read(file) {
        Ok(keys) => keys,
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(file)?,
        Err(e) => return Err(e),
    };
    let Some((reset, id)) = keys.split_first_chunk::<RESET_KEY>() else { return Err(foreign()) };
    let id = u64::from_le_bytes(id.try_into().map_err(|_| foreign())?);
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset);
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id)));
    Ok(config)
}

fn create(file: &Path) -> io::Result<Vec<u8>> {
    let mut keys = vec![0; RESET_KEY + ID_KEY];
    getrandom::fill(&mut keys).map_err(io::Error::other)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(&keys)?;
    Ok(keys)
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
        endpoint_config(&file).unwrap();
        let first = fs::read(&file).unwrap();
        endpoint_config(&file).unwrap();
        assert_eq!(fs::read(&file).unwrap(), first);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, b"short").unwrap();
        assert!(endpoint_config(&file).unwrap_err().to_string().contains("remove it"));
    }
}
