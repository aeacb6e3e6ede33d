//! Reading response bodies with a bound on their size.

use std::time::Duration;

use reqwest::Response;
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Phase, Result};

/// Reads a body to its end. One of more than `max` bytes is an error, because its beginning says nothing.
pub async fn read_whole(mut response: Response, max: usize) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    append(&mut body, &mut response, max + 1).await?;
    if body.len() > max {
        let limit = if max < 1 << 20 { format!("{} KB", max >> 10) } else { format!("{} MB", max >> 20) };
        let message = format!("the answer is larger than {limit} and was not read to its end");
        return Err(Error::new(ErrorKind::Protocol, message));
    }
    Ok(body)
}

/// Reads on after `body` until there are about `max` bytes, the body ends or breaks, or `limit` has passed. Used for error
/// documents, where what has arrived by then says enough.
pub async fn read_available(mut body: Vec<u8>, response: &mut Response, max: usize, limit: Duration) -> Vec<u8> {
    // Neither a late nor a broken body is worth another error: there is one already.
    let _ = timeout(limit, append(&mut body, response, max)).await;
    body
}

/// Reads and discards the rest in a background task: only then can the connection be used again. `held` is dropped at the end of the
/// body, when the service counts the request as over.
pub fn drain(mut response: Response, limit: Duration, held: impl Send + 'static) {
    tokio::spawn(async move {
        let _ = timeout(limit, async { while let Ok(Some(_)) = response.chunk().await {} }).await;
        drop((response, held));
    });
}

async fn append(body: &mut Vec<u8>, response: &mut Response, max: usize) -> Result<()> {
    while body.len() < max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(Error::from_reqwest(error, Phase::Body)),
        }
    }
    Ok(())
}
