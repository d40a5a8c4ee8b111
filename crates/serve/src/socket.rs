//! The socket of a client.

use tokio::io::Interest;
use tokio::net::TcpStream;

/// A socket and a second handle on it: while a statement is executed, nobody reads from the first.
pub(crate) fn twice(socket: TcpStream) -> std::io::Result<(TcpStream, TcpStream)> {
    let socket = socket.into_std()?;
    let watched = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, TcpStream::from_std(watched)?))
}

/// Waits until the client has closed its end.
pub(crate) async fn closed(socket: &TcpStream) {
    loop {
        match socket.ready(Interest::READABLE).await {
            Ok(ready) if ready.is_read_closed() => return,
            // There is data, which is not for us: wait for the next event.
            Ok(_) => _ = socket.try_io(Interest::READABLE, || Err::<(), _>(std::io::ErrorKind::WouldBlock.into())),
            Err(_) => return,
        }
    }
}
