//! The floor of what a proxy can cost: bytes in, the same bytes out, with no HTTP at all. Every downstream connection gets an
//! upstream connection of its own, and each direction copies through one 16 KiB buffer on the ring that the product uses.
//!
//! Usage: `relay --listen ADDRESS --unix PATH`

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{ListenerOpts, TcpListener, TcpStream, UnixStream};
use warpdrive_perf::arguments::Arguments;

const BUFFER: usize = 16 * 1024;
const RING_ENTRIES: u32 = 1024;
const BACKLOG: i32 = 4096;

async fn copy(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRent) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let (count, filled) = from.read(buffer).await;
        if count? == 0 {
            return to.shutdown().await;
        }
        let (written, emptied) = to.write_all(filled).await;
        written?;
        buffer = emptied;
        buffer.clear();
    }
}

async fn join(downstream: TcpStream, socket: &Path) -> io::Result<()> {
    downstream.set_nodelay(true)?;
    let upstream = UnixStream::connect(socket).await?;
    let (from_downstream, to_downstream) = downstream.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    let upwards = monoio::spawn(copy(from_downstream, to_upstream));
    copy(from_upstream, to_downstream).await?;
    upwards.await
}

async fn serve(listen: SocketAddr, socket: &'static Path) -> io::Result<()> {
    let options = ListenerOpts::new().reuse_port(false).backlog(BACKLOG);
    let listener = TcpListener::bind_with_config(listen, &options)?;
    loop {
        let (downstream, _) = listener.accept().await?;
        monoio::spawn(async move {
            if let Err(error) = join(downstream, socket).await
                && error.kind() != io::ErrorKind::ConnectionReset
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                eprintln!("relay: {error}");
            }
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::from_env(&["listen", "unix"])?;
    let listen = arguments
        .value("listen")?
        .ok_or("--listen ADDRESS is missing")?;
    let socket = arguments.text("unix").ok_or("--unix PATH is missing")?;
    // Lives as long as the process, so that connections need not count references to it.
    let socket: &'static Path = Path::new(socket.to_owned().leak());

    let mut ring = io_uring::IoUring::builder();
    ring.setup_coop_taskrun().setup_single_issuer();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(ring)
        .build()?;
    Ok(runtime.block_on(serve(listen, socket))?)
}
