//! The port of a proxy: open, or closed so that the system refuses whoever comes, and in both cases nobody else's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The port is not closed and opened again faster than its thread gets to it.
const OBEYED_WITHIN: Duration = Duration::from_secs(5);
const BACKLOG: u32 = 1024;

/// An order, and where it is answered.
type Order = (bool, mpsc::Sender<()>);

/// The side of the proxy's thread.
#[derive(Debug)]
pub(super) struct Door {
    port: u16,
    state: State,
    orders: UnboundedReceiver<Order>,
}

#[derive(Debug)]
enum State {
    Open(TcpListener),
    /// Bound and not listening: the port is ours, and connections are refused.
    Closed(TcpSocket),
    /// The port could not be bound again.
    Lost,
}

/// The side of who gives orders.
#[derive(Debug)]
pub(super) struct DoorKeeper(UnboundedSender<Order>);

impl DoorKeeper {
    /// Returns when it is so.
    pub(super) fn set_open(&self, open: bool) {
        let (done, wait) = mpsc::channel();
        if self.0.send((open, done)).is_ok() {
            let _ = wait.recv_timeout(OBEYED_WITHIN);
        }
    }
}

impl Door {
    /// Within a runtime.
    pub(super) fn open(port: u16) -> io::Result<(Self, DoorKeeper)> {
        let (sender, orders) = unbounded_channel();
        let state = State::Open(bound(port)?.listen(BACKLOG)?);
        Ok((Self { port, state, orders }, DoorKeeper(sender)))
    }

    /// The next client, whatever orders come meanwhile. An accept can fail for one client (it has gone already) without the
    /// port being lost.
    pub(super) async fn accept(&mut self) -> io::Result<TcpStream> {
        loop {
            let order = match &self.state {
                State::Open(listener) => tokio::select! {
                    biased;
                    order = self.orders.recv() => order,
                    accepted = listener.accept() => return accepted.map(|(client, _)| client),
                },
                State::Closed(_) | State::Lost => self.orders.recv().await,
            };
            let Some((open, done)) = order else { return std::future::pending().await };
            self.obey(open);
            let _ = done.send(());
        }
    }

    fn obey(&mut self, open: bool) {
        self.state = match (std::mem::replace(&mut self.state, State::Lost), open) {
            (State::Open(listener), false) => {
                drop(listener);
                bound(self.port).map_or(State::Lost, State::Closed)
            }
            (State::Closed(socket), true) => socket.listen(BACKLOG).map_or(State::Lost, State::Open),
            (State::Lost, true) => {
                bound(self.port).and_then(|it| it.listen(BACKLOG)).map_or(State::Lost, State::Open)
            }
            (as_it_is, _) => as_it_is,
        };
    }
}

fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections that are open, or just ended, keep the port otherwise.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}
