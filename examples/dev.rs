use std::sync::Arc;
use warpdrive::*;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let io = match std::env::args().nth(2).as_deref() { Some("epoll") => net::Io::Epoll, _ => net::Io::Auto };
    let sources = config::Sources::load(Some(std::path::Path::new(&path))).unwrap();
    let loaded = match plan::load(&sources) { Ok(l) => l, Err(d) => { for d in d { eprintln!("{d}"); } return } };
    let plan = Arc::new(loaded.plan);
    let mut endpoints = vec![];
    for (i, u) in plan.upstreams.iter().enumerate() {
        let e: Vec<upstream::Endpoint> = u.instances.iter().map(|x| upstream::Endpoint { addresses: vec![match x { upstream::Instance::Host{host,port} => upstream::Address::Tcp(format!("{host}:{port}").parse().unwrap()), upstream::Instance::Socket(p) => upstream::Address::Unix(p.clone()) }].into() }).collect();
        endpoints.push(upstream::Endpoints { upstream: upstream::UpstreamId(i as u32), generation: 1, endpoints: e.into() });
    }
    let l = std::net::TcpListener::bind(plan.server.listen[0]).unwrap();
    eprintln!("listening on http://{}", l.local_addr().unwrap());
    let (tx, rx) = crossbeam_channel::bounded::<Vec<u8>>(64);
    std::thread::spawn(move || { use std::io::Write; let mut f = std::fs::File::create("/tmp/dev.log").unwrap(); while let Ok(b) = rx.recv() { f.write_all(&b).unwrap(); } });
    let h = worker::spawn(worker::Settings { index: 0, core: None, io, listeners: vec![l], plan: plan.clone(), endpoints, log: plan.log.enabled.then_some(tx), shared: Default::default() }).unwrap();
    eprintln!("{:?}", h.started.recv());
    h.thread.join().unwrap();
}
