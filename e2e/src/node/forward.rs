//! Ports here that lead to addresses there.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
};

use anyhow::{Context as _, anyhow};
use tokio::{
    io::copy_bidirectional,
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::namespaces::Entry;
use crate::wait::POLL_INTERVAL;

/// Carries connections into a node's network.
///
/// A socket belongs to the network in which it was made, whichever thread uses it: listeners are made here and given to
/// a thread that has moved there, whose own sockets lead on.
#[derive(Debug)]
pub(super) struct Forwarder {
    /// Present until we are dropped.
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
    known: Mutex<HashMap<String, SocketAddr>>,
}

#[derive(Debug)]
struct Order {
    listener: TcpListener,
    target: String,
}

impl Forwarder {
    pub(super) fn start(entry: &Entry) -> anyhow::Result<Self> {
        let (orders, received) = unbounded_channel();
        let (report, reported) = std::sync::mpsc::channel();
        let entry = entry.clone();
        let work = move || {
            // A runtime of its own: what the caller's one starts must stay outside, and it may end before we do.
            let runtime = entry.move_thread().and_then(|()| {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                builder.enable_all().build().context("cannot make a runtime")
            });
            match runtime {
                Ok(runtime) => {
                    let _ = report.send(Ok(()));
                    runtime.block_on(serve(received));
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("node-network".to_owned())
            .spawn(work)
            .context("cannot start a thread")?;
        reported.recv().map_err(|_| anyhow!("the thread for the node's network ended"))??;
        Ok(Self { orders: Some(orders), thread: Some(thread), known: Mutex::default() })
    }

    /// A port on our loopback interface that leads to `target`, the same at each call.
    pub(super) fn forward(&self, target: &str) -> anyhow::Result<SocketAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = known.get(target) {
            return Ok(*address);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        listener.set_nonblocking(true).context("cannot prepare a listener")?;
        let address = listener.local_addr().context("a listener without an address")?;
        let order = Order { listener, target: target.to_owned() };
        let orders = self.orders.as_ref().context("the forwarder has ended")?;
        orders.send(order).map_err(|_| anyhow!("the thread for the node's network ended"))?;
        known.insert(target.to_owned(), address);
        Ok(address)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

/// Ends, with all connections, when the sender of orders is dropped.
async fn serve(mut orders: UnboundedReceiver<Order>) {
    while let Some(Order { listener, target }) = orders.recv().await {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(accept(listener, target))),
            Err(error) => eprintln!("nothing is forwarded to {target}: {error}"),
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, target: String) {
    loop {
        match listener.accept().await {
            Ok((outer, _)) => {
                let target = target.clone();
                // A connection that fails is closed; its client sees that.
                tokio::spawn(async move { carry(outer, &target).await.ok() });
            }
            // Too many open files: some will be closed.
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

async fn carry(mut outer: TcpStream, target: &str) -> std::io::Result<()> {
    let mut inner = TcpStream::connect(target).await?;
    outer.set_nodelay(true)?;
    inner.set_nodelay(true)?;
    copy_bidirectional(&mut outer, &mut inner).await?;
    Ok(())
}
