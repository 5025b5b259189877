//! The other end: it answers every request on every connection with the same bytes, on the caller's own thread. With two
//! threads each call would put one to sleep and wake it, which costs more than what is measured, and never the same.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// 215 bytes of JSON, as the server's bench has them.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 215\r\n\r\n\
{\"id\":7,\"customer\":\"customer-7\",\"status\":\"paid\",\"cents\":1820,\"items\":[{\"sku\":\"a-71\",\"count\":1,\"cents\":170},\
{\"sku\":\"a-72\",\"count\":2,\"cents\":270},{\"sku\":\"a-73\",\"count\":3,\"cents\":370}],\"note\":\"leave it at the door,  \"}";

/// Starts it on this thread's runtime; it ends with that.
pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection));
        }
    });
    Ok(address)
}

/// Requests without a body, one at a time.
async fn answer(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let read = connection.read(&mut buffer[filled..]).await?;
        filled += read;
        if read == 0 {
            return Ok(());
        }
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            connection.write_all(ANSWER).await?;
            filled = 0;
        }
    }
}
