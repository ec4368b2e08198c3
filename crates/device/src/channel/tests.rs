//! A spool whose disk fails.

use std::time::Duration;

use icecore_wire::{ColumnType, Field, Value};
use rcgen::{CertificateParams, KeyPair, SanType};

use super::*;
use crate::spool::class::Class;
use crate::{Config, Device, Identity};

fn device(dir: &std::path::Path) -> Device {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.subject_alt_names = vec![SanType::URI("icecore:device:a".try_into().unwrap())];
    let certificate = params.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let identity =
        Identity::from_pem(certificate.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap();
    // Nobody listens there.
    let config = Config::new("127.0.0.1:9", identity);
    Device::connect(config, Spool::Disk { dir: dir.to_owned(), max_bytes: 1 << 20 }).unwrap()
}

#[tokio::test]
async fn what_could_not_be_fsynced_is_never_sent_and_ends_the_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let device = device(dir.path());
    let (epoch, channel) = (device.epoch(), Arc::clone(device.channel()));
    let schema = Arc::new(Schema::new("s", 1, vec![Field::new("n", ColumnType::I64)]).unwrap());
    let mut recorder = device.recorder(schema);
    let now = std::time::Instant::now;

    recorder.row(1, &[Value::I64(1)]).await.unwrap();
    recorder.cut().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    assert!(channel.wait_until(deadline, || channel.outbox().is_disk_idle()).await);
    lock_files(channel.files.as_ref().unwrap()).fail_fsync = true;
    recorder.row(2, &[Value::I64(2)]).await.unwrap();
    recorder.cut().await.unwrap();
    assert!(channel.wait_until(deadline, || channel.outbox().failure().is_some()).await);

    let error = recorder.row(3, &[Value::I64(3)]).await.and(recorder.cut().await).unwrap_err();
    assert!(matches!(&error, RecordError::Spool(SpoolError::Io { what: "fsync", .. })), "{error}");
    assert!(error.to_string().contains(".spool"), "{error}");
    {
        let mut outbox = channel.outbox();
        let queue = outbox.queue(epoch).unwrap();
        queue.attachment = crate::spool::queue::Attachment::Attached(1);
        let mut out = Vec::new();
        queue.take(Class::Live, now(), usize::MAX, &mut out);
        assert_eq!(out.len(), 1, "the first batch alone");
    }
    device.close(Duration::ZERO).await.unwrap_err();
    drop((recorder, channel));
    let again = self::device(dir.path());
    assert_ne!(again.epoch(), epoch, "the spool was not closed cleanly");
}
