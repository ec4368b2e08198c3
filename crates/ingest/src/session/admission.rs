//! From a connection's first packet to a session, or to the reason why there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore_wire::{Code, Refuse, ServerSession, SessionLimits};
use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;

use super::{Session, close, control};
use crate::endpoint::Hub;
use crate::identity::{Denied, Identity};
use crate::writer::wall_time;

/// How long a client may take for the TLS handshake, and for reading why it was turned away.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A control stream that was opened before the handshake was complete. Nothing of it was read.
pub(super) type EarlyStreams = Option<(SendStream, RecvStream)>;

/// Serves one connection from its first packet to its end.
pub(crate) async fn serve(hub: Arc<Hub>, incoming: Incoming) {
    let remote = incoming.remote_address();
    let (connection, early) = match timeout(HANDSHAKE_TIMEOUT, establish(incoming)).await {
        Ok(Ok(established)) => established,
        failed => {
            hub.metrics.failed_handshakes.increment(1);
            let reason = failed.map_or("it took too long".to_owned(), |r| {
                r.err().map_or_else(String::new, |e| e.to_string())
            });
            if let Some(left_out) = hub.turned_away.admit(Instant::now()) {
                tracing::info!(%remote, reason, left_out, "a handshake failed");
            }
            return;
        }
    };
    match identify(&hub, &connection) {
        Ok(identity) => {
            let full = hub.verified.take(&identity.fingerprint);
            match &early {
                Some((_, recv)) if recv.is_0rtt() => hub.metrics.early_handshakes.increment(1),
                _ if full => hub.metrics.full_handshakes.increment(1),
                _ => hub.metrics.resumed_handshakes.increment(1),
            }
            tracing::debug!(%remote, name = %identity.name, role = identity.role.as_str(), "connected");
            control::run(hub, connection, early, Session::new(identity)).await;
        }
        Err(denied) => {
            hub.metrics.failed_handshakes.increment(1);
            if let Some(left_out) = hub.turned_away.admit(Instant::now()) {
                let (code, reason) = (denied.code.name(), &denied.message);
                tracing::info!(%remote, code, reason, left_out, "turned a connection away");
            }
            // An error here means that the client has gone by itself.
            let _ = timeout(HANDSHAKE_TIMEOUT, turn_away(&connection, early, &denied)).await;
            close(&connection, denied.code, &denied.message);
        }
    }
}

/// Completes the handshake, and says whether the client sent data ahead of that. Until it is complete the client may be
/// the recording of one, so such data is not even read before.
async fn establish(incoming: Incoming) -> Result<(Connection, EarlyStreams), ConnectionError> {
    let connecting = incoming.accept()?;
    let (connection, mut complete) = connecting.into_0rtt().expect("a server may always look for early data");
    let early = tokio::select! {
        biased;
        streams = connection.accept_bi() => {
            let streams = streams?;
            complete.await;
            Some(streams)
        }
        _ = &mut complete => None,
    };
    match connection.close_reason() {
        None => Ok((connection, early)),
        Some(reason) => Err(reason),
    }
}

fn identify(hub: &Hub, connection: &Connection) -> Result<Identity, Denied> {
    let Some(certificate) = certificate_of(connection) else {
        let message = "the client shows no certificate".to_owned();
        return Err(Denied { code: Code::NotEnrolled, message });
    };
    let identity = Identity::from_certificate(&certificate)?;
    identity.enrolment(&hub.registry, wall_time())?;
    Ok(identity)
}

/// What the client showed, in this connection or in the one whose session it resumed.
pub(super) fn certificate_of(connection: &Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// Says on the control stream why the connection is not taken, and waits until the client has it.
async fn turn_away(
    connection: &Connection,
    early: EarlyStreams,
    denied: &Denied,
) -> Result<(), quinn::WriteError> {
    let (mut send, _recv) = match early {
        Some(streams) => streams,
        None => connection.accept_bi().await?,
    };
    let mut machine = ServerSession::new(SessionLimits::default(), Duration::ZERO);
    let message = denied.message.clone();
    machine.refuse(Refuse { alias: None, code: denied.code, message, retry_after: None });
    send.write_all(&machine.take_control()).await?;
    // Neither can fail in a way that matters: the connection is about to be closed.
    let _ = send.finish();
    let _ = send.stopped().await;
    Ok(())
}
