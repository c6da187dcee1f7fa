//! `hyper ADDRESS`: hyper on one thread, with a service that does nothing but answer.

use std::convert::Infallible;
use std::error::Error;

use eserver_peers_http::{BODY, listen};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("hyper ADDRESS")?;
    let listener = listen(address.parse()?, false)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            // Without the second option each pipelined request costs a write of its own.
            let mut http = http1::Builder::new();
            http.pipeline_flush(true).half_close(true);
            let connection = http.serve_connection(TokioIo::new(socket), service_fn(answer));
            // A peer that goes away is its own business.
            tasks.spawn_local(async { connection.await.unwrap_or_default() });
        }
    })
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(BODY.as_bytes())));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    Ok(response)
}
