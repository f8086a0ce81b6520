//! A peer to measure against: a reverse proxy made of monoio-http's server and client codecs, TCP in front, a Unix socket
//! behind, and a last-in first-out pool of idle upstream connections. It does what those codecs do and no more; it is not safe
//! to expose. Usage: `peer-monoio-http LISTEN_ADDRESS UPSTREAM_SOCKET`

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue, TE, TRAILER, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use monoio::io::sink::{Sink, SinkExt};
use monoio::io::stream::Stream;
use monoio::net::{ListenerOpts, TcpListener, TcpStream, UnixStream};
use monoio_http::common::body::{Body, StreamHint};
use monoio_http::common::error::HttpError;
use monoio_http::common::request::Request;
use monoio_http::h1::codec::decoder::FillPayload;
use monoio_http::h1::codec::{ClientCodec, ServerCodec};
use monoio_http::h1::payload::Payload;

const RING_ENTRIES: u32 = 1024;
const BACKLOG: i32 = 4096;

type Upstream = ClientCodec<UnixStream>;
type NoBody = Payload<Bytes, HttpError>;

struct Pool {
    socket: PathBuf,
    idle: RefCell<Vec<Upstream>>,
}

impl Pool {
    async fn lease(&self) -> std::io::Result<Upstream> {
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(upstream) => Ok(upstream),
            None => Ok(ClientCodec::new(UnixStream::connect(&self.socket).await?)),
        }
    }

    fn give_back(&self, upstream: Upstream) {
        self.idle.borrow_mut().push(upstream);
    }
}

fn remove_hop_by_hop(fields: &mut HeaderMap) {
    for name in [CONNECTION, TE, TRAILER, UPGRADE] {
        fields.remove(name);
    }
    fields.remove("keep-alive");
    fields.remove("proxy-connection");
}

async fn relay_exchange(
    downstream: &mut ServerCodec<TcpStream>,
    mut request: Request<Payload>,
    pool: &Pool,
    client: &HeaderValue,
) -> Result<(), HttpError> {
    remove_hop_by_hop(request.headers_mut());
    for name in ["x-forwarded-for", "x-real-ip"] {
        let name = HeaderName::from_static(name);
        request.headers_mut().insert(name, client.clone());
    }
    if request.body().stream_hint() != StreamHint::None {
        // The codec hands a body over only once it has read the whole of it.
        downstream.fill_payload().await?;
    }

    let mut upstream = pool.lease().await?;
    upstream.send_and_flush(request).await?;
    let Some(response) = upstream.next().await else {
        let mut refusal = Response::new(NoBody::None);
        *refusal.status_mut() = StatusCode::BAD_GATEWAY;
        return downstream.send_and_flush(refusal).await;
    };
    let (mut head, body) = response?.into_parts();
    let closes = head
        .headers
        .get(CONNECTION)
        .is_some_and(|value| value == "close");
    remove_hop_by_hop(&mut head.headers);
    let response = Response::from_parts(head, body.with_io(&mut upstream));
    downstream.send_and_flush(response).await?;
    if !closes {
        pool.give_back(upstream);
    }
    Ok(())
}

async fn serve_connection(
    socket: TcpStream,
    client: SocketAddr,
    pool: Rc<Pool>,
) -> Result<(), HttpError> {
    let client =
        HeaderValue::from_str(&client.ip().to_string()).expect("an address is a valid field value");
    let mut downstream = ServerCodec::new(socket);
    while let Some(request) = downstream.next().await {
        let request = request?;
        let closes = request
            .headers()
            .get(CONNECTION)
            .is_some_and(|value| value == "close");
        relay_exchange(&mut downstream, request, &pool, &client).await?;
        if closes {
            return Sink::<Response<NoBody>>::close(&mut downstream).await;
        }
    }
    Ok(())
}

async fn serve(listen: SocketAddr, socket: &Path) -> std::io::Result<()> {
    let options = ListenerOpts::new().reuse_port(false).backlog(BACKLOG);
    let listener = TcpListener::bind_with_config(listen, &options)?;
    let pool = Rc::new(Pool {
        socket: socket.to_owned(),
        idle: RefCell::default(),
    });
    loop {
        let (socket, client) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let pool = Rc::clone(&pool);
        monoio::spawn(async move {
            if let Err(error) = serve_connection(socket, client, pool).await {
                eprintln!("connection of {client}: {error}");
            }
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(socket)) = (arguments.next(), arguments.next()) else {
        return Err("usage: peer-monoio-http LISTEN_ADDRESS UPSTREAM_SOCKET".into());
    };
    let mut ring = io_uring::IoUring::builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(ring)
        .build()?;
    runtime.block_on(serve(listen.parse()?, Path::new(&socket)))?;
    Ok(())
}
