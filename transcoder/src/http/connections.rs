//! Connections, and how long they may take.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::guard::Peer;
use crate::CancellationToken;

/// How long a request's head may take, and so how long a connection is kept without any.
const HEAD_TIME: Duration = Duration::from_secs(20);

/// The largest head.
const LARGEST_HEAD: usize = 64 << 10;

/// Connections at once; others wait to be accepted.
const MOST_CONNECTIONS: usize = 1_024;

/// How long what is being answered has when the service is stopped.
const GRACE: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be accepted: there are too many files open, say.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers until told to stop.
pub(super) async fn accept(listener: TcpListener, router: Router, stop: &CancellationToken) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (router, stop, cut) = (router.clone(), stop.clone(), cut.clone());
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                () = answer(stream, Peer(peer), router, &stop) => {}
                () = cut.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(count = connections.len(), "connections are cut off");
        cut.cancel();
        connections.wait().await;
    }
}

async fn answer(stream: TcpStream, peer: Peer, router: Router, stop: &CancellationToken) {
    // Progress is told in small pieces.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
