//! What a guest can reach: the interfaces that are linked, and what stands behind them.
//!
//! Nothing of this machine: no file, no socket, no name, no variable that was not given to it, no
//! standard input. Interfaces that programs bring along without using them are there, and have
//! nothing behind them: there is no directory to open, and who asks for a socket is refused.

use std::sync::Arc;

use http::HeaderName;
use wasmtime::component::{Component, InstancePre, Linker, Resource, ResourceTable};
use wasmtime::{Result, StoreContextMut, UpdateDeadline};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::sockets::network::IpAddressFamily;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::p2::{TcpSocket, UdpSocket, add_to_linker_proxy_interfaces_async};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::p2::add_only_http_to_linker_async;
use wasmtime_wasi_http::{
    Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::clock::{Clock, HasClock};
use super::limits::{Memory, RESOURCES_MAX};
use super::meter::{Exhausted, Meter, Verdict};
use super::outgoing::{self, Outbox};
use super::output::{self, Output, Stdio};
use crate::net::Alarms;

/// What of an answer's body a guest may write at once, and no more until that was taken.
const CHUNK_BYTES: usize = 64 << 10;

/// As the library names them; each stands for every version of 0.2.
const CREATE_TCP: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const CREATE_UDP: &str = "wasi:sockets/udp-create-socket@0.2.12";

/// One instance's side of the host.
pub struct Host {
    pub table: ResourceTable,
    pub wasi: WasiCtx,
    pub http: WasiHttpCtx,
    pub hooks: Hooks,
    pub config: Arc<WasiConfigVariables>,
    pub memory: Memory,
    pub meter: Arc<Meter>,
    pub alarms: Alarms,
    pub output: Output,
    pub outbox: Outbox,
}

impl Host {
    pub fn new(
        wasi: WasiCtx,
        config: Arc<WasiConfigVariables>,
        memory: Memory,
        meter: Arc<Meter>,
        alarms: Alarms,
        output: Output,
        outbox: Outbox,
    ) -> Host {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let (http, hooks) = (WasiHttpCtx::new(), Hooks::new());
        Host { table, wasi, http, hooks, config, memory, meter, alarms, output, outbox }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// What the library asks us about `wasi:http`.
pub struct Hooks {
    forbidden: ForbiddenHeaderFilter,
}

impl Hooks {
    fn new() -> Hooks {
        Hooks {
            forbidden: Arc::new(|name: &HeaderName| {
                wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS.contains(name)
            }),
        }
    }
}

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&self.forbidden)
    }

    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }
}

/// Links a component to what there is for it.
///
/// # Errors
/// It wants something else.
pub fn link(engine: &wasmtime::Engine, component: &Component) -> Result<InstancePre<Host>> {
    let mut linker = Linker::<Host>::new(engine);
    add_wasi(&mut linker)?;
    add_only_http_to_linker_async(&mut linker)?;
    // What we define otherwise than the library. Not before: it would define types twice.
    linker.allow_shadowing(true);
    let ours = &mut linker;
    clocks::monotonic_clock::add_to_linker::<Host, HasClock>(ours, |host| Clock {
        alarms: &host.alarms,
        table: &mut host.table,
    })?;
    output::link(ours, |host| Stdio { table: &mut host.table, output: &host.output })?;
    outgoing::link(ours)?;
    wasmtime_wasi_config::add_to_linker(ours, |host: &mut Host| WasiConfig::from(&*host.config))?;
    linker.instantiate_pre(component)
}

/// What programs bring along of WASI. The standard output and the monotonic clock are those of the
/// library, in whose place every caller puts ours.
///
/// # Errors
/// Something of it is there already.
pub(super) fn add_wasi<T: WasiView + 'static>(linker: &mut Linker<T>) -> Result<()> {
    add_to_linker_proxy_interfaces_async(linker)?;
    add_command_interfaces(linker)?;
    add_sockets(linker)
}

/// What programs bring along that were made for a command line.
fn add_command_interfaces<T: WasiView + 'static>(linker: &mut Linker<T>) -> Result<()> {
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    filesystem::types::add_to_linker::<T, WasiFilesystem>(linker, T::filesystem)?;
    random::insecure::add_to_linker::<T, WasiRandom>(linker, T::random)?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(linker, T::random)?;
    cli::environment::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::exit::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(linker, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(linker, T::cli)
}

/// What libraries bring along that know of networks. Nobody gets a socket, nor an answer about a name.
fn add_sockets<T: WasiView + 'static>(linker: &mut Linker<T>) -> Result<()> {
    sockets::instance_network::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<T, WasiSockets>(linker, &options, T::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::tcp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    sockets::udp::add_to_linker::<T, WasiSockets>(linker, T::sockets)?;
    linker.instance(CREATE_TCP)?.func_wrap("create-tcp-socket", refuse_socket::<T, TcpSocket>)?;
    linker.instance(CREATE_UDP)?.func_wrap("create-udp-socket", refuse_socket::<T, UdpSocket>)
}

fn refuse_socket<T: 'static, S: 'static>(
    _: StoreContextMut<'_, T>,
    (_,): (IpAddressFamily,),
) -> Result<(Result<Resource<S>, sockets::network::ErrorCode>,)> {
    Ok((Err(sockets::network::ErrorCode::AccessDenied),))
}

/// What is to be done when the epoch advances while a guest runs.
pub fn tick(store: StoreContextMut<'_, Host>) -> Result<UpdateDeadline> {
    let host = store.data();
    match host.meter.tick() {
        Verdict::GoOn => Ok(UpdateDeadline::Continue(1)),
        // Back through the event loop: one that woke itself would come before all others.
        Verdict::Yield => Ok(UpdateDeadline::YieldCustom(1, Box::pin(host.alarms.turn()))),
        Verdict::Exhausted => Err(Exhausted.into()),
    }
}
